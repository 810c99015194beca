//! Rows as tables: one list of columns per report, from which CSV files, sorting and screens follow.

use std::cmp::Ordering;

use serde::Serialize;

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

impl Cell<'_> {
    /// The order in which a sorted table shows two filled cells of one column.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
            (Cell::Class(a), Cell::Class(b)) => a.cmp(b),
            (Cell::Count(a), Cell::Count(b)) => a.cmp(b),
            (Cell::Number(a), Cell::Number(b)) => a.total_cmp(b),
            (Cell::Flag(a), Cell::Flag(b)) => a.cmp(b),
            _ => Ordering::Equal,
        }
    }
}

/// One column of a report's table.
pub struct Column<R: 'static> {
    /// Its short name, as in the JSON rows.
    pub key: &'static str,
    /// Its heading, as in CSV files.
    pub title: &'static str,
    /// The cell of a row.
    pub cell: fn(&R) -> Cell<'_>,
    /// Whether its cells are classes, which have names.
    pub holds_classes: bool,
}

impl<R> Column<R> {
    /// A column of anything but classes.
    pub const fn new(key: &'static str, title: &'static str, cell: fn(&R) -> Cell<'_>) -> Self {
        Column { key, title, cell, holds_classes: false }
    }

    /// A column of [`Cell::Class`].
    pub const fn class(key: &'static str, title: &'static str, cell: fn(&R) -> Cell<'_>) -> Self {
        Column { key, title, cell, holds_classes: true }
    }
}

/// A row of one of the reports.
pub trait Row: Serialize + Sized + 'static {
    /// All columns, in the order of the CSV file.
    const COLUMNS: &'static [Column<Self>];

    /// Path of the image relative to the dataset, with `/`.
    fn image(&self) -> &str;

    /// Whether the optimized model does something wrong here: the *only erroneous* filter keeps the row.
    fn erroneous(&self) -> bool;

    /// The column of this short name.
    fn column(key: &str) -> Option<&'static Column<Self>> {
        Self::COLUMNS.iter().find(|column| column.key == key)
    }
}

/// Sorts by one column. Empty cells come last in either direction, and equal ones stay ordered by image.
pub fn sort_rows<R: Row>(rows: &mut [R], column: &Column<R>, ascending: bool) {
    rows.sort_by(|a, b| {
        let (left, right) = ((column.cell)(a), (column.cell)(b));
        let empty = (left == Cell::Empty).cmp(&(right == Cell::Empty));
        let value = left.order(&right);
        empty.then(if ascending { value } else { value.reverse() }).then_with(|| a.image().cmp(b.image()))
    });
}

/// The rows that the *only erroneous* filter keeps.
pub fn only_erroneous<R: Row>(rows: &[R]) -> impl Iterator<Item = &R> {
    rows.iter().filter(|row| row.erroneous())
}
