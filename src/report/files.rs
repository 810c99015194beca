//! Rows as CSV, JSON and Markdown.

use std::io::{self, Write};

use serde::Serialize;

use super::format::class_name;
use super::table::{Heading, Holds};
use super::{Cell, ReportError, Sheet};
use crate::model::csv_field;

/// Rows as CSV after RFC 4180: UTF-8, CRLF line ends, a header line, unrounded numbers, `true` and `false`, nothing
/// in an empty cell.
///
/// `classes` are the names of the classes by index, or empty; with names, each class column gets a
/// further one with the name, after all others, so that the positions of the columns stay. Text that a
/// spreadsheet would run as a formula (beginning with `=`, `+`, `-`, `@`, tab or carriage return) gets a
/// leading apostrophe.
pub(super) struct Csv<'a> {
    headings: Vec<Heading>,
    classes: &'a [String],
    /// Columns of classes that have names.
    named: Vec<usize>,
}

impl<'a> Csv<'a> {
    pub(super) fn new(headings: Vec<Heading>, classes: &'a [String]) -> Csv<'a> {
        let is_named = |column: &usize| headings[*column].holds == Holds::Class && !classes.is_empty();
        let named = (0..headings.len()).filter(is_named).collect();
        Csv { headings, classes, named }
    }

    pub(super) fn head(&self, out: &mut impl Write) -> io::Result<()> {
        let titles = self.headings.iter().map(|heading| heading.title.to_string());
        let names = self.named.iter().map(|column| format!("{}, name", self.headings[*column].title));
        line(titles.chain(names).map(|title| csv_field(&title)), out)
    }

    /// A row, of which `cell` gives the cell of each column.
    pub(super) fn row<'c>(&self, cell: impl Fn(usize) -> Cell<'c>, out: &mut impl Write) -> io::Result<()> {
        let cells = (0..self.headings.len()).map(|column| plain(cell(column)));
        let names = self.named.iter().map(|column| match cell(*column) {
            Cell::Class(class) => {
                self.classes.get(class as usize).map_or_else(String::new, |name| csv_field(name))
            }
            _ => String::new(),
        });
        line(cells.chain(names), out)
    }
}

/// Writes row number `index` of a JSON array, one row a line.
pub(super) fn json_row(index: u64, row: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    out.write_all(if index == 0 { b"[\n" } else { b",\n" })?;
    serde_json::to_writer(&mut *out, row)?;
    Ok(())
}

/// Ends a JSON array of so many rows.
pub(super) fn json_end(rows: u64, out: &mut impl Write) -> io::Result<()> {
    out.write_all(if rows == 0 { b"[\n]\n" } else { b"\n]\n" })
}

/// A file format for a table as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// As a run writes it.
    Csv,
    /// A table of GitHub's Markdown, classes by name.
    Markdown,
    /// An array of objects whose keys are those of the columns, classes by index.
    Json,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 3] = [Format::Csv, Format::Markdown, Format::Json];

    /// The ending of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Markdown => "md",
            Format::Json => "json",
        }
    }
}

/// Writes these rows of a table, in this order.
///
/// # Errors
/// [`ReportError::Write`].
pub fn write_sheet(
    sheet: &Sheet,
    rows: &[u32],
    format: Format,
    out: &mut impl Write,
) -> Result<(), ReportError> {
    let cell = |row: usize, column: usize| sheet.cell(rows[row] as usize, column);
    let grid = Grid { headings: sheet.headings(), classes: sheet.classes(), rows: rows.len(), cell: &cell };
    let (what, written) = match format {
        Format::Csv => ("CSV table", csv(&grid, out)),
        Format::Markdown => ("Markdown table", markdown(&grid, out)),
        Format::Json => ("JSON table", json(&grid, out)),
    };
    written.map_err(|source| ReportError::Write { what: what.into(), source })
}

/// Rows and columns, wherever they lie.
struct Grid<'a> {
    headings: &'a [Heading],
    classes: &'a [String],
    rows: usize,
    cell: &'a dyn Fn(usize, usize) -> Cell<'a>,
}

impl Grid<'_> {
    fn object(&self, row: usize) -> serde_json::Map<String, serde_json::Value> {
        let value = |(column, heading): (usize, &Heading)| {
            let value = match (self.cell)(row, column) {
                Cell::Text(words) => words.into(),
                Cell::Class(class) => class.into(),
                Cell::Count(count) => count.into(),
                Cell::Number(number) => number.into(),
                Cell::Flag(flag) => flag.into(),
                Cell::Empty => serde_json::Value::Null,
            };
            (heading.key.to_string(), value)
        };
        self.headings.iter().enumerate().map(value).collect()
    }
}

fn json(grid: &Grid<'_>, out: &mut impl Write) -> io::Result<()> {
    for row in 0..grid.rows {
        json_row(row as u64, &grid.object(row), out)?;
    }
    json_end(grid.rows as u64, out)
}

fn csv(grid: &Grid<'_>, out: &mut impl Write) -> io::Result<()> {
    let csv = Csv::new(grid.headings.to_vec(), grid.classes);
    csv.head(out)?;
    (0..grid.rows).try_for_each(|row| csv.row(|column| (grid.cell)(row, column), out))
}

fn markdown(grid: &Grid<'_>, out: &mut impl Write) -> io::Result<()> {
    let titles = grid.headings.iter().map(|heading| heading.title.to_string());
    table_line(titles, out)?;
    let right = |holds| matches!(holds, Holds::Count | Holds::Number);
    let rules = grid.headings.iter().map(|heading| if right(heading.holds) { "--:" } else { "---" });
    table_line(rules.map(String::from), out)?;
    for row in 0..grid.rows {
        let words = (0..grid.headings.len()).map(|column| match (grid.cell)(row, column) {
            Cell::Text(words) => escaped(words),
            Cell::Class(class) => escaped(&class_name(grid.classes, class)),
            other => plain(other),
        });
        table_line(words, out)?;
    }
    Ok(())
}

fn table_line(cells: impl Iterator<Item = String>, out: &mut impl Write) -> io::Result<()> {
    for cell in cells {
        write!(out, "| {cell} ")?;
    }
    out.write_all(b"|\n")
}

/// Words that stay in their cell and are no markup.
fn escaped(words: &str) -> String {
    let mut clean = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '\\' | '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '&' => clean.extend(['\\', c]),
            control if control.is_control() => clean.push(' '),
            other => clean.push(other),
        }
    }
    clean
}

fn line(cells: impl Iterator<Item = String>, out: &mut impl Write) -> io::Result<()> {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(cell.as_bytes())?;
    }
    out.write_all(b"\r\n")
}

fn plain(cell: Cell<'_>) -> String {
    match cell {
        Cell::Text(words) => csv_field(words),
        Cell::Class(class) => class.to_string(),
        Cell::Count(count) => count.to_string(),
        Cell::Number(number) => number.to_string(),
        Cell::Flag(flag) => flag.to_string(),
        Cell::Empty => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Collector, Compare, Head, Kept, Kind, PredictionRow, Row, Tables};
    use super::*;

    fn rows() -> Kept {
        let kinds = [Kind::Predictions, Kind::TensorDistance];
        let compare = Compare::new(&kinds, vec!["=prob".into()], Head::Probabilities, true);
        let mut collector = Collector::new(compare);
        collector.push("=cmd()|' /C calc'!A0.jpg", Some(0), &[&[0.75, 0.25]], &[&[0.25, 0.75]]).unwrap();
        collector.push("odd \"name\", 1.png", None, &[&[0.5, 0.5]], &[&[0.5, 0.5]]).unwrap();
        collector.push("plain.png", Some(1), &[&[0.25, 0.75]], &[&[0.125, 0.875]]).unwrap();
        collector.push_failed("-1.jpg", None, "truncated, at byte 7");
        collector.all().1
    }

    /// The CSV and the JSON file of rows.
    fn written<R: Row>(classes: &[String], rows: &[R]) -> [String; 2] {
        let mut tables = Tables::create(&[R::KIND], classes, |_| Ok::<_, ()>(Vec::new())).unwrap();
        rows.iter().for_each(|row| tables.add(row).unwrap());
        let files = tables.finish(|_| true).unwrap();
        let texts: Vec<String> = files.into_iter().map(|file| String::from_utf8(file).unwrap()).collect();
        texts.try_into().unwrap()
    }

    fn csv_of<R: Row>(rows: &[R], classes: &[&str]) -> String {
        let classes: Vec<String> = classes.iter().map(|name| name.to_string()).collect();
        let [csv, _] = written(&classes, rows);
        csv
    }

    #[test]
    fn predictions_csv() {
        let csv = csv_of(&rows().predictions, &[]);
        assert_eq!(csv.matches("\r\n").count(), 5);
        insta::assert_snapshot!(csv.replace("\r\n", "\n"), @r#"
        Image,Class predicted by optimized,Class predicted by parent,Rank of parent's class in optimized predictions,Optimized confidence in its own class,Optimized confidence in parent's class,Parent confidence,Margin,KL(p‖s),Erroneous,Label,Failed
        '-1.jpg,,,,,,,,,,,"truncated, at byte 7"
        '=cmd()|' /C calc'!A0.jpg,1,0,1,0.75,0.25,0.75,0.5,0.5493061443340548,true,0,
        "odd ""name"", 1.png",0,0,0,0.5,0.5,0.5,0,0,false,,
        plain.png,1,1,0,0.875,0.875,0.75,0,0.05767378526954259,false,1,
        "#);
    }

    #[test]
    fn class_names_are_further_columns() {
        let csv = csv_of(&rows().predictions, &["@tench, Tinca", "goldfish"]);
        insta::assert_snapshot!(csv.replace("\r\n", "\n"), @r#"
        Image,Class predicted by optimized,Class predicted by parent,Rank of parent's class in optimized predictions,Optimized confidence in its own class,Optimized confidence in parent's class,Parent confidence,Margin,KL(p‖s),Erroneous,Label,Failed,"Class predicted by optimized, name","Class predicted by parent, name","Label, name"
        '-1.jpg,,,,,,,,,,,"truncated, at byte 7",,,
        '=cmd()|' /C calc'!A0.jpg,1,0,1,0.75,0.25,0.75,0.5,0.5493061443340548,true,0,,goldfish,"'@tench, Tinca","'@tench, Tinca"
        "odd ""name"", 1.png",0,0,0,0.5,0.5,0.5,0,0,false,,,"'@tench, Tinca","'@tench, Tinca",
        plain.png,1,1,0,0.875,0.875,0.75,0,0.05767378526954259,false,1,,goldfish,goldfish,goldfish
        "#);
    }

    #[test]
    fn tensor_distance_csv() {
        let csv = csv_of(&rows().distances, &[]);
        insta::assert_snapshot!(csv.replace("\r\n", "\n"), @r#"
        Image,Output,MSE,NMSE,SQNR (dB),Cosine,Max abs,Failed
        '-1.jpg,'=prob,,,,,,"truncated, at byte 7"
        '=cmd()|' /C calc'!A0.jpg,'=prob,0.25,0.8,0.9691001300805642,0.6,0.5,
        "odd ""name"", 1.png",'=prob,0,0,,1,0,
        plain.png,'=prob,0.015625,0.05,13.010299956639813,0.9838699100999074,0.125,
        "#);
    }

    #[test]
    fn text_that_looks_like_a_formula_is_disarmed() {
        for bad in ["=1", "+1", "-1", "@x", "\tx", "\r=x"] {
            assert!(plain(Cell::Text(bad)).trim_start_matches('"').starts_with('\''), "{bad:?}");
        }
        assert_eq!(plain(Cell::Number(-0.5)), "-0.5");
        assert_eq!(plain(Cell::Text("a=b")), "a=b");
        assert_eq!(plain(Cell::Text("two\nlines")), "\"two\nlines\"");
    }

    #[test]
    fn json_reads_back_as_the_same_rows() {
        let rows = rows().predictions;
        let [_, json] = written(&[], &rows);
        assert_eq!(json.lines().count(), rows.len() + 2);
        assert_eq!(serde_json::from_str::<Vec<PredictionRow>>(&json).unwrap(), rows);
        assert_eq!(written::<PredictionRow>(&[], &[])[1], "[\n]\n");
    }

    #[test]
    fn a_full_disk_is_an_error_that_says_what_to_do() {
        let (sheet, mut small) = (Sheet::new(rows().predictions, Vec::new()), [0u8; 10]);
        let error = write_sheet(&sheet, &[0], Format::Csv, &mut small.as_mut_slice()).unwrap_err();
        assert!(error.to_string().contains("check the space"), "{error}");
    }

    #[test]
    fn a_table_as_it_is_shown() {
        let classes: Vec<String> = ["tench, Tinca", "gold|fish"].map(String::from).to_vec();
        let rows = rows().predictions;
        let sheet = Sheet::new(rows.clone(), classes.clone());
        let of = |rows: &[u32], format| {
            let mut out = Vec::new();
            write_sheet(&sheet, rows, format, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(&[0, 1, 2, 3], Format::Csv), written(&classes, &rows)[0]);
        insta::assert_snapshot!("markdown_as_shown", of(&[3, 0, 1], Format::Markdown));
        insta::assert_snapshot!("json_as_shown", of(&[3, 0], Format::Json));
        let back: Vec<serde_json::Value> = serde_json::from_str(&of(&[3, 0], Format::Json)).unwrap();
        assert_eq!((back.len(), &back[1]["failed"]), (2, &"truncated, at byte 7".into()));
    }
}
