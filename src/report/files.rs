//! Rows as CSV, JSON and Markdown.

use std::io::{self, Write};

use serde::Serialize;

use super::format::class_name;
use super::table::{Heading, Holds};
use super::{Cell, ReportError, Row, Sheet};
use crate::model::csv_field;

/// Writes rows as CSV after RFC 4180: UTF-8, CRLF line ends, a header line, unrounded numbers, `true` and
/// `false`, nothing in an empty cell.
///
/// `classes` are the names of the classes by index, or empty; with names, each class column gets a
/// further one with the name, after all others, so that the positions of the columns stay. Text that a
/// spreadsheet would run as a formula (beginning with `=`, `+`, `-`, `@`, tab or carriage return) gets a
/// leading apostrophe.
///
/// # Errors
/// [`ReportError::Write`].
pub fn write_csv<R: Row>(rows: &[R], classes: &[String], out: &mut impl Write) -> Result<(), ReportError> {
    let headings: Vec<Heading> = R::COLUMNS.iter().map(|column| column.heading).collect();
    let cell = |row: usize, column: usize| (R::COLUMNS[column].cell)(&rows[row]);
    csv(&Grid { headings: &headings, classes, rows: rows.len(), cell: &cell }, out)
        .map_err(|source| ReportError::Write { what: "CSV table".into(), source })
}

/// Writes rows as a JSON array, one row a line, with every field of the row.
///
/// # Errors
/// [`ReportError::Write`].
pub fn write_json<R: Row>(rows: &[R], out: &mut impl Write) -> Result<(), ReportError> {
    json(rows.iter(), out).map_err(|source| ReportError::Write { what: "JSON table".into(), source })
}

/// A file format for a table as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// As [`write_csv`].
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
        Format::Json => ("JSON table", json((0..grid.rows).map(|row| grid.object(row)), out)),
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

fn json(rows: impl Iterator<Item = impl Serialize>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"[")?;
    for (index, row) in rows.enumerate() {
        out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &row)?;
    }
    out.write_all(b"\n]\n")
}

fn csv(grid: &Grid<'_>, out: &mut impl Write) -> io::Result<()> {
    let named: Vec<usize> = (0..grid.headings.len())
        .filter(|column| grid.headings[*column].holds == Holds::Class && !grid.classes.is_empty())
        .collect();
    let titles = grid.headings.iter().map(|heading| heading.title.to_string());
    let names = named.iter().map(|column| format!("{}, name", grid.headings[*column].title));
    line(titles.chain(names).map(|title| csv_field(&title)), out)?;
    for row in 0..grid.rows {
        let cells = (0..grid.headings.len()).map(|column| plain((grid.cell)(row, column)));
        let names = named.iter().map(|column| match (grid.cell)(row, *column) {
            Cell::Class(class) => {
                grid.classes.get(class as usize).map_or_else(String::new, |name| csv_field(name))
            }
            _ => String::new(),
        });
        line(cells.chain(names), out)?;
    }
    Ok(())
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
    use super::super::{Collector, Head, Kind, PredictionRow, Reports};
    use super::*;

    fn reports() -> Reports {
        let kinds = [Kind::Predictions, Kind::TensorDistance];
        let mut collector = Collector::new(&kinds, vec!["=prob".into()], Head::Probabilities, true);
        collector.push("=cmd()|' /C calc'!A0.jpg", Some(0), &[&[0.75, 0.25]], &[&[0.25, 0.75]]).unwrap();
        collector.push("odd \"name\", 1.png", None, &[&[0.5, 0.5]], &[&[0.5, 0.5]]).unwrap();
        collector.push("plain.png", Some(1), &[&[0.25, 0.75]], &[&[0.125, 0.875]]).unwrap();
        collector.push_failed("-1.jpg", None, "truncated, at byte 7");
        collector.finish()
    }

    fn csv_of<R: Row>(rows: &[R], classes: &[&str]) -> String {
        let classes: Vec<String> = classes.iter().map(|name| name.to_string()).collect();
        let mut out = Vec::new();
        write_csv(rows, &classes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn predictions_csv() {
        let csv = csv_of(&reports().predictions.unwrap().rows, &[]);
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
        let csv = csv_of(&reports().predictions.unwrap().rows, &["@tench, Tinca", "goldfish"]);
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
        let csv = csv_of(&reports().tensor_distance.unwrap().rows, &[]);
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
        let rows = reports().predictions.unwrap().rows;
        let mut out = Vec::new();
        write_json(&rows, &mut out).unwrap();
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), rows.len() + 2);
        assert_eq!(serde_json::from_slice::<Vec<PredictionRow>>(&out).unwrap(), rows);
        write_json::<PredictionRow>(&[], &mut Vec::new()).unwrap();
    }

    #[test]
    fn a_full_disk_is_an_error_that_says_what_to_do() {
        let mut small = [0u8; 10];
        let error =
            write_csv(&reports().predictions.unwrap().rows, &[], &mut small.as_mut_slice()).unwrap_err();
        assert!(error.to_string().contains("check the space"), "{error}");
    }

    #[test]
    fn a_table_as_it_is_shown() {
        let classes: Vec<String> = ["tench, Tinca", "gold|fish"].map(String::from).to_vec();
        let rows = reports().predictions.unwrap().rows;
        let sheet = Sheet::new(rows.clone(), classes.clone());
        let of = |rows: &[u32], format| {
            let mut out = Vec::new();
            write_sheet(&sheet, rows, format, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let mut whole = Vec::new();
        write_csv(&rows, &classes, &mut whole).unwrap();
        assert_eq!(of(&[0, 1, 2, 3], Format::Csv).as_bytes(), whole);
        insta::assert_snapshot!("markdown_as_shown", of(&[3, 0, 1], Format::Markdown));
        insta::assert_snapshot!("json_as_shown", of(&[3, 0], Format::Json));
        let back: Vec<serde_json::Value> = serde_json::from_str(&of(&[3, 0], Format::Json)).unwrap();
        assert_eq!((back.len(), &back[1]["failed"]), (2, &"truncated, at byte 7".into()));
    }
}
