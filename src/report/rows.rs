//! Where the rows of the reports go while the reports are made.

use std::io::{self, Write};

use super::files::{Csv, json_end, json_row};
use super::{AnnotationRow, DistanceRow, Kind, PredictionRow, ReportError, Row};

/// Takes the rows of the reports in the order in which files hold them: sorted by image, the outputs of an image in
/// the model's order.
pub trait Rows: Send {
    /// A row of the report on predictions.
    ///
    /// # Errors
    /// [`ReportError::Row`], as of all of them.
    fn prediction(&mut self, row: &PredictionRow) -> Result<(), ReportError>;

    /// A row of the report on annotations.
    ///
    /// # Errors
    /// As of predictions.
    fn annotation(&mut self, row: &AnnotationRow) -> Result<(), ReportError>;

    /// A row of the report on distances.
    ///
    /// # Errors
    /// As of predictions.
    fn distance(&mut self, row: &DistanceRow) -> Result<(), ReportError>;
}

/// Takes rows that nobody asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl Rows for Nowhere {
    fn prediction(&mut self, _row: &PredictionRow) -> Result<(), ReportError> {
        Ok(())
    }
    fn annotation(&mut self, _row: &AnnotationRow) -> Result<(), ReportError> {
        Ok(())
    }
    fn distance(&mut self, _row: &DistanceRow) -> Result<(), ReportError> {
        Ok(())
    }
}

/// Writes each report as CSV and as JSON: an array of rows, one a line, with every field of the row.
pub struct Tables<'a, W> {
    tables: Vec<Table<'a, W>>,
}

struct Table<'a, W> {
    kind: Kind,
    csv: Csv<'a>,
    rows: u64,
    files: [W; 2],
}

impl<'a, W: Write + Send> Tables<'a, W> {
    /// Begins the files of the reports `kinds`; `classes` are the names of the classes, or empty. `create` begins
    /// the file of a name.
    ///
    /// # Errors
    /// Those of `create`.
    pub fn create<E>(
        kinds: &[Kind],
        classes: &'a [String],
        mut create: impl FnMut(&str) -> Result<W, E>,
    ) -> Result<Self, E> {
        let mut kinds = kinds.to_vec();
        kinds.sort_unstable();
        let table = |kind: Kind| {
            let headings = match kind {
                Kind::Predictions => headings::<PredictionRow>(),
                Kind::Annotations => headings::<AnnotationRow>(),
                Kind::TensorDistance => headings::<DistanceRow>(),
            };
            let files = [create(&format!("{kind}.csv"))?, create(&format!("{kind}.json"))?];
            Ok(Table { kind, csv: Csv::new(headings, classes), rows: 0, files })
        };
        Ok(Tables { tables: kinds.into_iter().map(table).collect::<Result<_, E>>()? })
    }

    /// The files of the reports that `kept` names, whole, in the order of [`Kind`].
    ///
    /// # Errors
    /// [`ReportError::Row`].
    pub fn finish(self, kept: impl Fn(Kind) -> bool) -> Result<Vec<W>, ReportError> {
        let mut files = Vec::new();
        for mut table in self.tables.into_iter().filter(|table| kept(table.kind)) {
            table.end().map_err(ReportError::Row)?;
            files.extend(table.files);
        }
        Ok(files)
    }

    pub(super) fn add<R: Row>(&mut self, row: &R) -> Result<(), ReportError> {
        let Some(table) = self.tables.iter_mut().find(|table| table.kind == R::KIND) else { return Ok(()) };
        table.add(row).map_err(ReportError::Row)
    }
}

fn headings<R: Row>() -> Vec<super::Heading> {
    R::COLUMNS.iter().map(|column| column.heading).collect()
}

impl<W: Write> Table<'_, W> {
    fn add<R: Row>(&mut self, row: &R) -> io::Result<()> {
        let [csv, json] = &mut self.files;
        if self.rows == 0 {
            self.csv.head(csv)?;
        }
        self.csv.row(|column| (R::COLUMNS[column].cell)(row), csv)?;
        json_row(self.rows, row, json)?;
        self.rows += 1;
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let [csv, json] = &mut self.files;
        if self.rows == 0 {
            self.csv.head(csv)?;
        }
        json_end(self.rows, json)
    }
}

impl<W: Write + Send> Rows for Tables<'_, W> {
    fn prediction(&mut self, row: &PredictionRow) -> Result<(), ReportError> {
        self.add(row)
    }
    fn annotation(&mut self, row: &AnnotationRow) -> Result<(), ReportError> {
        self.add(row)
    }
    fn distance(&mut self, row: &DistanceRow) -> Result<(), ReportError> {
        self.add(row)
    }
}

/// The rows of reports, for tests.
#[cfg(test)]
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Kept {
    pub predictions: Vec<PredictionRow>,
    pub annotations: Vec<AnnotationRow>,
    pub distances: Vec<DistanceRow>,
}

#[cfg(test)]
impl Rows for Kept {
    fn prediction(&mut self, row: &PredictionRow) -> Result<(), ReportError> {
        self.predictions.push(row.clone());
        Ok(())
    }
    fn annotation(&mut self, row: &AnnotationRow) -> Result<(), ReportError> {
        self.annotations.push(row.clone());
        Ok(())
    }
    fn distance(&mut self, row: &DistanceRow) -> Result<(), ReportError> {
        self.distances.push(row.clone());
        Ok(())
    }
}
