//! Filters that a user types, such as `class = "terrier" and rank > 0`.
//!
//! ```text
//! filter     = all { "or" all }
//! all        = one { "and" one }
//! one        = "not" one | "(" filter ")" | column operator value | column | words
//! operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
//! ```
//!
//! A column alone asks whether it is true or filled. Words that name no column are searched for in all texts
//! and names of classes. `~` asks whether the left holds the right; text is compared without regard to
//! case. `50%` is 0.5. An empty cell is neither equal, less nor greater.

mod parse;
mod token;

use std::cmp::Ordering;
use std::fmt;

use super::table::Holds;
use super::{Cell, Sheet};

/// A filter made for the columns and classes of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Test);

/// What a row is asked.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    Any(Vec<Test>),
    All(Vec<Test>),
    Not(Box<Test>),
    /// Whether the cell is true, or filled.
    Holds(usize),
    Number {
        column: usize,
        comparison: Comparison,
        value: f64,
    },
    Text {
        column: usize,
        comparison: Comparison,
        value: String,
    },
    Contains {
        column: usize,
        value: String,
    },
    /// Whether the cell holds one of these classes.
    Class {
        column: usize,
        classes: Vec<u32>,
    },
    Flag {
        column: usize,
        value: bool,
    },
    /// Whether a text, or the name of a class, holds these words.
    Search {
        words: String,
        classes: Vec<u32>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::Less => ordering.is_lt(),
            Comparison::AtMost => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::AtLeast => ordering.is_ge(),
        }
    }
}

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// What the user typed, on one line.
    pub text: String,
    /// Where the trouble begins, in characters.
    pub at: usize,
    /// How many characters it takes, at least 1.
    pub length: usize,
    /// What was found, what was expected, what to do.
    pub message: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        writeln!(f, "{}{}", " ".repeat(self.at), "^".repeat(self.length))?;
        f.write_str(&self.message)
    }
}

impl std::error::Error for FilterError {}

impl Filter {
    /// Reads a filter for `sheet`; `None` if nothing is asked.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str, sheet: &Sheet) -> Result<Option<Filter>, FilterError> {
        Ok(parse::parse(text, sheet)?.map(Filter))
    }

    /// Whether a row of the table that the filter was made for is shown.
    pub fn passes(&self, sheet: &Sheet, row: usize) -> bool {
        self.0.passes(sheet, row)
    }
}

impl Test {
    fn passes(&self, sheet: &Sheet, row: usize) -> bool {
        match self {
            Test::Any(tests) => tests.iter().any(|test| test.passes(sheet, row)),
            Test::All(tests) => tests.iter().all(|test| test.passes(sheet, row)),
            Test::Not(test) => !test.passes(sheet, row),
            Test::Holds(column) => match sheet.cell(row, *column) {
                Cell::Flag(flag) => flag,
                cell => cell != Cell::Empty,
            },
            Test::Number { column, comparison, value } => {
                let number = match sheet.cell(row, *column) {
                    Cell::Number(number) => number,
                    Cell::Count(count) => count as f64,
                    Cell::Class(class) => f64::from(class),
                    _ => return false,
                };
                number.partial_cmp(value).is_some_and(|ordering| comparison.holds(ordering))
            }
            Test::Text { column, comparison, value } => match sheet.cell(row, *column) {
                Cell::Text(text) => comparison.holds(text.to_lowercase().as_str().cmp(value)),
                _ => false,
            },
            Test::Contains { column, value } => match sheet.cell(row, *column) {
                Cell::Text(text) => text.to_lowercase().contains(value),
                _ => false,
            },
            Test::Class { column, classes } => match sheet.cell(row, *column) {
                Cell::Class(class) => classes.binary_search(&class).is_ok(),
                _ => false,
            },
            Test::Flag { column, value } => sheet.cell(row, *column) == Cell::Flag(*value),
            Test::Search { words, classes } => {
                (0..sheet.headings().len()).any(|column| match sheet.cell(row, column) {
                    Cell::Text(text) => text.to_lowercase().contains(words),
                    Cell::Class(class) => classes.binary_search(&class).is_ok(),
                    _ => false,
                })
            }
        }
    }
}

/// The names that a class goes by: its whole name and each of its synonyms.
fn names(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.trim().to_lowercase()).chain(name.split(',').map(|part| part.trim().to_lowercase()))
}

/// The classes one of whose names passes, in order.
fn classes_where(sheet: &Sheet, passes: impl Fn(&str) -> bool) -> Vec<u32> {
    let named = sheet.classes().iter().zip(0u32..);
    named.filter(|(name, _)| names(name).any(|name| passes(&name))).map(|(_, class)| class).collect()
}

/// What a column takes on its right, in words.
fn takes(holds: Holds) -> &'static str {
    match holds {
        Holds::Text => "text",
        Holds::Class => "the name or index of a class",
        Holds::Count | Holds::Number => "a number",
        Holds::Flag => "yes or no",
    }
}

#[cfg(test)]
mod tests;
