//! A report's table in memory: columns instead of rows, whatever the report.
//!
//! A screen sorts, filters and draws the three reports in one way, so it holds them in one type. Values lie
//! column by column: 50 000 rows of the widest report, with the best classes of both models, take about
//! 10 MB, and sorting touches nothing but the column that it sorts by.

use std::fmt;
use std::io::Read;

use serde::de::{DeserializeOwned, DeserializeSeed, SeqAccess, Visitor};

use super::format::class_name;
use super::table::{Best, Column, Heading, Holds};
use super::{AnnotationRow, Cell, DistanceRow, Kind, PredictionRow, ReportError, Row};

/// Stands for an empty cell of class, since no model has so many.
const NO_CLASS: u32 = u32::MAX;
const NO_COUNT: u64 = u64::MAX;

/// The table of one report.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    kind: Kind,
    headings: Vec<Heading>,
    columns: Vec<Values>,
    erroneous: Vec<bool>,
    best: Option<[Ranking; 2]>,
    classes: Vec<String>,
}

/// The cells of one column.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    Text(Texts),
    Class(Vec<u32>),
    Count(Vec<u64>),
    /// NaN is empty: rows that hold it have failed.
    Number(Vec<f64>),
    Flag(Vec<Option<bool>>),
}

/// Many short texts in one; an empty one is an empty cell.
#[derive(Debug, Clone, Default, PartialEq)]
struct Texts {
    all: String,
    ends: Vec<usize>,
}

/// The best classes of one model on every image.
#[derive(Debug, Clone, Default, PartialEq)]
struct Ranking {
    all: Vec<(u32, f32)>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.all.push_str(text);
        self.ends.push(self.all.len());
    }

    fn get(&self, row: usize) -> &str {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start..self.ends[row]]
    }
}

impl Ranking {
    fn push(&mut self, best: &Best) {
        self.all.extend_from_slice(best);
        self.ends.push(self.all.len());
    }

    fn get(&self, row: usize) -> &Best {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start..self.ends[row]]
    }
}

impl Values {
    fn new(holds: Holds) -> Values {
        match holds {
            Holds::Text => Values::Text(Texts::default()),
            Holds::Class => Values::Class(Vec::new()),
            Holds::Count => Values::Count(Vec::new()),
            Holds::Number => Values::Number(Vec::new()),
            Holds::Flag => Values::Flag(Vec::new()),
        }
    }

    /// Adds a cell; one of another kind than the column's is an empty one.
    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Values::Text(texts), Cell::Text(text)) => texts.push(text),
            (Values::Text(texts), _) => texts.push(""),
            (Values::Class(classes), Cell::Class(class)) => classes.push(class),
            (Values::Class(classes), _) => classes.push(NO_CLASS),
            (Values::Count(counts), Cell::Count(count)) => counts.push(count),
            (Values::Count(counts), _) => counts.push(NO_COUNT),
            (Values::Number(numbers), Cell::Number(number)) => numbers.push(number),
            (Values::Number(numbers), _) => numbers.push(f64::NAN),
            (Values::Flag(flags), Cell::Flag(flag)) => flags.push(Some(flag)),
            (Values::Flag(flags), _) => flags.push(None),
        }
    }

    fn get(&self, row: usize) -> Cell<'_> {
        match self {
            Values::Text(texts) => match texts.get(row) {
                "" => Cell::Empty,
                text => Cell::Text(text),
            },
            Values::Class(classes) => match classes[row] {
                NO_CLASS => Cell::Empty,
                class => Cell::Class(class),
            },
            Values::Count(counts) => match counts[row] {
                NO_COUNT => Cell::Empty,
                count => Cell::Count(count),
            },
            Values::Number(numbers) => match numbers[row] {
                number if number.is_nan() => Cell::Empty,
                number => Cell::Number(number),
            },
            Values::Flag(flags) => flags[row].map_or(Cell::Empty, Cell::Flag),
        }
    }
}

impl Sheet {
    /// A table of `rows`, whose classes have these names by index, or none.
    pub fn new<R: Row>(rows: impl IntoIterator<Item = R>, classes: Vec<String>) -> Sheet {
        let mut sheet = Sheet::empty::<R>(classes);
        for row in rows {
            sheet.push(&row);
        }
        sheet
    }

    /// Reads the rows that [`Tables`](super::Tables) wrote as JSON, one at a time.
    ///
    /// # Errors
    /// [`ReportError::Stored`].
    pub fn read(kind: Kind, json: impl Read, classes: Vec<String>) -> Result<Sheet, ReportError> {
        match kind {
            Kind::Predictions => read::<PredictionRow>(json, classes),
            Kind::Annotations => read::<AnnotationRow>(json, classes),
            Kind::TensorDistance => read::<DistanceRow>(json, classes),
        }
    }

    fn empty<R: Row>(classes: Vec<String>) -> Sheet {
        let headings: Vec<Heading> = R::COLUMNS.iter().map(|column| column.heading).collect();
        Sheet {
            kind: R::KIND,
            columns: headings.iter().map(|heading| Values::new(heading.holds)).collect(),
            headings,
            erroneous: Vec::new(),
            best: None,
            classes,
        }
    }

    fn push<R: Row>(&mut self, row: &R) {
        let cells = R::COLUMNS.iter().map(|column: &Column<R>| (column.cell)(row));
        for (values, cell) in self.columns.iter_mut().zip(cells) {
            values.push(cell);
        }
        let before = self.erroneous.len();
        if let (None, Some(_)) = (&self.best, row.best()) {
            let none = || Ranking { all: Vec::new(), ends: vec![0; before] };
            self.best = Some([none(), none()]);
        }
        if let Some(rankings) = &mut self.best {
            for (ranking, best) in rankings.iter_mut().zip(row.best().unwrap_or([&[], &[]])) {
                ranking.push(best);
            }
        }
        self.erroneous.push(row.erroneous());
    }

    /// Which report it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.erroneous.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.erroneous.is_empty()
    }

    /// Its columns from left to right.
    pub fn headings(&self) -> &[Heading] {
        &self.headings
    }

    /// The names of the classes by index; empty if they have none.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The position of the column with this key or short name, whatever the case.
    pub fn column(&self, name: &str) -> Option<usize> {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        self.headings.iter().position(|heading| is(heading.short) || is(heading.key))
    }

    /// One cell.
    pub fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        self.columns[column].get(row)
    }

    /// A cell by the key of its column; empty where there is no such column.
    pub fn value(&self, row: usize, key: &str) -> Cell<'_> {
        let column = self.headings.iter().position(|heading| heading.key == key);
        column.map_or(Cell::Empty, |column| self.cell(row, column))
    }

    /// Path of a row's image relative to the dataset.
    pub fn image(&self, row: usize) -> &str {
        match self.cell(row, 0) {
            Cell::Text(image) => image,
            _ => "",
        }
    }

    /// The first row of this image.
    pub fn find(&self, image: &str) -> Option<usize> {
        // Reports are sorted by image.
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.image(middle) < image { low = middle + 1 } else { high = middle }
        }
        (low < self.len() && self.image(low) == image).then_some(low)
    }

    /// Whether the optimized model does something wrong on this row.
    pub fn erroneous(&self, row: usize) -> bool {
        self.erroneous[row]
    }

    /// How many rows are erroneous.
    pub fn count_erroneous(&self) -> usize {
        self.erroneous.iter().filter(|erroneous| **erroneous).count()
    }

    /// The best classes of parent and optimized model, where the report keeps them.
    pub fn best(&self, row: usize) -> Option<[&Best; 2]> {
        self.best.as_ref().map(|[parent, optimized]| [parent.get(row), optimized.get(row)])
    }

    /// Classes of parent and optimized model on the rows that have both.
    pub fn class_pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..self.len()).filter_map(|row| {
            match (self.value(row, "class_parent"), self.value(row, "class_optimized")) {
                (Cell::Class(parent), Cell::Class(optimized)) => Some((parent, optimized)),
                _ => None,
            }
        })
    }

    /// The name of a class as people read it.
    pub fn class_name(&self, class: u32) -> String {
        class_name(&self.classes, class)
    }

    /// Bytes that the table holds, its names of classes aside.
    pub fn bytes(&self) -> usize {
        let column = |values: &Values| match values {
            Values::Text(texts) => texts.all.capacity() + 8 * texts.ends.capacity(),
            Values::Class(classes) => 4 * classes.capacity(),
            Values::Count(counts) => 8 * counts.capacity(),
            Values::Number(numbers) => 8 * numbers.capacity(),
            Values::Flag(flags) => flags.capacity(),
        };
        let ranking = |ranking: &Ranking| 8 * ranking.all.capacity() + 8 * ranking.ends.capacity();
        self.columns.iter().map(column).sum::<usize>()
            + self.best.iter().flatten().map(ranking).sum::<usize>()
            + self.erroneous.capacity()
    }
}

fn read<R: Row + DeserializeOwned>(json: impl Read, classes: Vec<String>) -> Result<Sheet, ReportError> {
    let stored = |source| ReportError::Stored { kind: R::KIND, source };
    let mut deserializer = serde_json::Deserializer::from_reader(std::io::BufReader::new(json));
    let rows = Rows { sheet: Sheet::empty::<R>(classes), row: std::marker::PhantomData::<R> };
    let sheet = rows.deserialize(&mut deserializer).map_err(stored)?;
    deserializer.end().map_err(stored)?;
    Ok(sheet)
}

/// Takes rows into the sheet as they come, so that they are never all there at once.
struct Rows<R> {
    sheet: Sheet,
    row: std::marker::PhantomData<R>,
}

impl<'de, R: Row + DeserializeOwned> DeserializeSeed<'de> for Rows<R> {
    type Value = Sheet;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Sheet, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, R: Row + DeserializeOwned> Visitor<'de> for Rows<R> {
    type Value = Sheet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of the rows of the report {}", R::KIND)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<Sheet, A::Error> {
        while let Some(row) = rows.next_element::<R>()? {
            self.sheet.push(&row);
        }
        Ok(self.sheet)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::files::{json_end, json_row};
    use super::super::{Collector, Compare, Head, Kept, confusion};
    use super::*;

    pub(super) fn rows() -> Kept {
        let kinds = [Kind::Predictions, Kind::Annotations, Kind::TensorDistance];
        let compare = Compare::new(&kinds, vec!["prob".into()], Head::Probabilities, true);
        let mut collector = Collector::new(compare);
        collector.push("a.png", Some(0), &[&[0.75, 0.25]], &[&[0.25, 0.75]]).unwrap();
        collector.push("b.png", Some(1), &[&[0.25, 0.75]], &[&[0.125, 0.875]]).unwrap();
        collector.push("n.png", Some(1), &[&[0.25, 0.75]], &[&[f32::NAN, 0.5]]).unwrap();
        collector.push_failed("0.png", None, "truncated");
        collector.all().1
    }

    fn stored<R: Row + Clone>(rows: &[R]) -> (Sheet, Sheet) {
        let mut json = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            json_row(index as u64, row, &mut json).unwrap();
        }
        json_end(rows.len() as u64, &mut json).unwrap();
        let classes = vec!["tench, Tinca".to_string(), "goldfish".to_string()];
        (Sheet::read(R::KIND, &json[..], classes.clone()).unwrap(), Sheet::new(rows.to_vec(), classes))
    }

    #[test]
    fn what_a_run_stored_reads_back_as_it_was() {
        let rows = rows();
        let sheets = [stored(&rows.predictions), stored(&rows.annotations), stored(&rows.distances)];
        for (read, made) in sheets {
            assert_eq!((read.len(), read.kind()), (4, made.kind()));
            for row in 0..read.len() {
                assert_eq!(read.erroneous(row), made.erroneous(row));
                assert_eq!(read.best(row), made.best(row));
                for column in 0..read.headings().len() {
                    assert_eq!(read.cell(row, column), made.cell(row, column));
                }
            }
        }
    }

    #[test]
    fn cells_and_best_classes_are_those_of_the_rows() {
        let (sheet, _) = stored(&rows().predictions);
        let images: Vec<&str> = (0..4).map(|row| sheet.image(row)).collect();
        assert_eq!(images, ["0.png", "a.png", "b.png", "n.png"]);
        assert_eq!(sheet.value(1, "class_optimized"), Cell::Class(1));
        assert_eq!(sheet.value(0, "class_optimized"), Cell::Empty);
        assert_eq!(sheet.value(0, "failed"), Cell::Text("truncated"));
        assert_eq!(sheet.best(1).unwrap()[1], [(1, 0.75), (0, 0.25)]);
        assert_eq!(sheet.best(0).unwrap(), [&[][..], &[][..]]);
        assert_eq!((sheet.count_erroneous(), sheet.class_name(0)), (3, "tench".to_string()));
        assert_eq!((sheet.find("b.png"), sheet.find("c.png"), sheet.find("")), (Some(2), None, None));
        assert_eq!(sheet.column("RANK"), sheet.column("rank_of_parent_class"));
        let pairs = confusion(sheet.class_pairs());
        assert_eq!(pairs.len(), 1);
        assert_eq!((pairs[0].parent, pairs[0].optimized, pairs[0].count), (0, 1, 1));
    }

    #[test]
    fn a_file_that_is_no_table_is_refused_with_the_place() {
        for bad in ["{}", "[", "[{\"image\": 7}]", "[] []"] {
            let error = Sheet::read(Kind::Predictions, bad.as_bytes(), Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with("the stored rows of predictions can't be read: "), "{error}");
            assert!(error.contains("line 1"), "{error}");
        }
    }
}
