//! Rows as tables: one list of columns per report, from which files, sorting, filters and screens follow.

use serde::Serialize;

use super::Kind;

/// What stands in one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// Words, such as a path.
    Text(&'a str),
    /// Index of a class.
    Class(u32),
    /// A whole number.
    Count(u64),
    /// A measured number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// There is no value: the image failed, or the number is undefined.
    Empty,
}

/// What the filled cells of a column hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// [`Cell::Text`].
    Text,
    /// [`Cell::Class`]: an index that may have a name.
    Class,
    /// [`Cell::Count`].
    Count,
    /// [`Cell::Number`].
    Number,
    /// [`Cell::Flag`].
    Flag,
}

/// How a column is called and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heading {
    /// Its name in the JSON rows.
    pub key: &'static str,
    /// Its name in filters and above narrow tables.
    pub short: &'static str,
    /// Its heading, as in CSV files.
    pub title: &'static str,
    /// What its filled cells hold.
    pub holds: Holds,
}

/// One column of a report's table.
pub struct Column<R: 'static> {
    /// Its names.
    pub heading: Heading,
    /// The cell of a row.
    pub cell: fn(&R) -> Cell<'_>,
}

impl<R> Column<R> {
    /// A column of [`Cell::Text`].
    pub const fn text(
        key: &'static str,
        short: &'static str,
        title: &'static str,
        cell: fn(&R) -> Cell<'_>,
    ) -> Self {
        Column { heading: Heading { key, short, title, holds: Holds::Text }, cell }
    }

    /// A column of [`Cell::Class`].
    pub const fn class(
        key: &'static str,
        short: &'static str,
        title: &'static str,
        cell: fn(&R) -> Cell<'_>,
    ) -> Self {
        Column { heading: Heading { key, short, title, holds: Holds::Class }, cell }
    }

    /// A column of [`Cell::Count`].
    pub const fn count(
        key: &'static str,
        short: &'static str,
        title: &'static str,
        cell: fn(&R) -> Cell<'_>,
    ) -> Self {
        Column { heading: Heading { key, short, title, holds: Holds::Count }, cell }
    }

    /// A column of [`Cell::Number`].
    pub const fn number(
        key: &'static str,
        short: &'static str,
        title: &'static str,
        cell: fn(&R) -> Cell<'_>,
    ) -> Self {
        Column { heading: Heading { key, short, title, holds: Holds::Number }, cell }
    }

    /// A column of [`Cell::Flag`].
    pub const fn flag(
        key: &'static str,
        short: &'static str,
        title: &'static str,
        cell: fn(&R) -> Cell<'_>,
    ) -> Self {
        Column { heading: Heading { key, short, title, holds: Holds::Flag }, cell }
    }
}

/// The five best classes of a model with their probabilities, the best first.
pub type Best = [(u32, f32)];

/// A row of one of the reports.
pub trait Row: Serialize + Sized + 'static {
    /// The report that it is of.
    const KIND: Kind;

    /// All columns, in the order of the CSV file.
    const COLUMNS: &'static [Column<Self>];

    /// Path of the image relative to the dataset, with `/`.
    fn image(&self) -> &str;

    /// Whether the optimized model does something wrong here: the *only erroneous* filter keeps the row.
    fn erroneous(&self) -> bool;

    /// The best classes of parent and optimized model, where the row keeps them.
    fn best(&self) -> Option<[&Best; 2]> {
        None
    }
}
