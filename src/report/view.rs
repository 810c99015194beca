//! Which rows of a table are shown, and in which order.

use super::filter::Filter;
use super::{Cell, Sheet};

/// How a table is to be shown.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Rows that do not pass are not shown.
    pub filter: Option<Filter>,
    /// Only rows on which the optimized model does something wrong.
    pub only_erroneous: bool,
    /// The order; without one, that of the report: by image.
    pub sort: Option<Sort>,
}

/// An order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    /// Position of the column.
    pub column: usize,
    /// The smallest first.
    pub ascending: bool,
}

impl View {
    /// The numbers of the rows to show. Empty cells come last in either direction, classes with names are
    /// ordered by them, and equal rows stay in the order of the report.
    pub fn rows(&self, sheet: &Sheet) -> Vec<u32> {
        let shown = |row: &u32| {
            let row = *row as usize;
            (!self.only_erroneous || sheet.erroneous(row))
                && self.filter.as_ref().is_none_or(|filter| filter.passes(sheet, row))
        };
        let all = u32::try_from(sheet.len()).unwrap_or(u32::MAX);
        let mut rows: Vec<u32> = (0..all).filter(shown).collect();
        if let Some(sort) = self.sort {
            let places = places_of_classes(sheet.classes());
            rows = sorted(sheet, rows, sort, &places);
        }
        rows
    }
}

/// The place of each class in the order of their names, without regard to case.
fn places_of_classes(classes: &[String]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by_cached_key(|class| classes[*class].to_lowercase());
    let mut places = vec![0; classes.len()];
    for (place, class) in order.into_iter().enumerate() {
        places[class] = place;
    }
    places
}

/// The rows in order: one number for each, made once, so that sorting looks into no cell again. Texts alone are
/// compared as they are.
fn sorted(sheet: &Sheet, rows: Vec<u32>, sort: Sort, places: &[usize]) -> Vec<u32> {
    let cell = |row: u32| sheet.cell(row as usize, sort.column);
    let (mut filled, empty): (Vec<u32>, Vec<u32>) =
        rows.into_iter().partition(|row| cell(*row) != Cell::Empty);
    if let Some(Cell::Text(_)) = filled.first().map(|row| cell(*row)) {
        let text = |row: &u32| if let Cell::Text(text) = cell(*row) { text } else { "" };
        filled.sort_by(|a, b| {
            let order = text(a).cmp(text(b));
            if sort.ascending { order } else { order.reverse() }
        });
    } else {
        // A class without a name follows those that have one.
        let unnamed = |class: u32| places.len() as u64 + u64::from(class);
        let key = |row: u32| match cell(row) {
            Cell::Class(class) => places.get(class as usize).map_or(unnamed(class), |place| *place as u64),
            Cell::Count(count) => count,
            Cell::Number(number) => in_total_order(number),
            Cell::Flag(flag) => u64::from(flag),
            Cell::Text(_) | Cell::Empty => u64::MAX,
        };
        let mut keys: Vec<(u64, u32)> =
            filled.iter().map(|row| (if sort.ascending { key(*row) } else { !key(*row) }, *row)).collect();
        // Rows are in the order of the report before, so the number of the row keeps equal ones there.
        keys.sort_unstable();
        filled = keys.into_iter().map(|(_, row)| row).collect();
    }
    filled.extend(empty);
    filled
}

/// A number whose order as an integer is that of [`f64::total_cmp`].
fn in_total_order(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::super::{Outcome, Prediction, PredictionRow};
    use super::*;

    pub(super) fn row(image: usize, classes: Option<(u32, u32)>, confidence: f64) -> PredictionRow {
        let outcome = match classes {
            None => Outcome::Failed { failed: "truncated".into() },
            Some((parent, optimized)) => Outcome::Measured(Prediction {
                class_optimized: optimized,
                class_parent: parent,
                rank_of_parent_class: u64::from(parent != optimized),
                confidence_optimized: confidence,
                confidence_optimized_in_parent: confidence / 2.0,
                confidence_parent: 1.0 - confidence,
                margin: confidence / 2.0,
                kl: confidence * confidence,
                erroneous: parent != optimized,
                top5_parent: vec![(parent, 0.5)],
                top5_optimized: vec![(optimized, 0.5)],
            }),
        };
        PredictionRow { image: format!("{image:06}.png"), label: Some(0), outcome }
    }

    fn sheet() -> Sheet {
        let rows = [
            row(0, Some((0, 0)), 0.5),
            row(1, None, 0.0),
            row(2, Some((0, 1)), 0.25),
            row(3, Some((2, 1)), 0.5),
        ];
        Sheet::new(rows, ["Zebra", "ant", "Bee"].map(String::from).to_vec())
    }

    fn sorted(name: &str, ascending: bool) -> Vec<u32> {
        let sheet = sheet();
        let column = sheet.column(name).unwrap();
        View { sort: Some(Sort { column, ascending }), ..View::default() }.rows(&sheet)
    }

    #[test]
    fn empty_cells_come_last_and_equal_ones_stay() {
        assert_eq!(sorted("confidence", true), [2, 0, 3, 1]);
        assert_eq!(sorted("confidence", false), [0, 3, 2, 1]);
        assert_eq!(sorted("image", false), [3, 2, 1, 0]);
        assert_eq!(sorted("erroneous", true), [0, 2, 3, 1]);
    }

    #[test]
    fn classes_are_sorted_by_name() {
        assert_eq!(sorted("class", true), [2, 3, 0, 1]);
        assert_eq!(sorted("parent", true), [3, 0, 2, 1]);
    }

    #[test]
    fn only_erroneous_keeps_what_failed() {
        assert_eq!(View { only_erroneous: true, ..View::default() }.rows(&sheet()), [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn numbers_keep_their_order_as_integers(a: f64, b: f64) {
            prop_assert_eq!(in_total_order(a).cmp(&in_total_order(b)), a.total_cmp(&b));
        }

        #[test]
        fn any_order_is_a_permutation_of_the_rows_that_pass(
            cells in prop::collection::vec((prop::option::of((0u32..4, 0u32..4)), 0.0f64..1.0), 0..40),
            column in 0usize..12, ascending: bool, only_erroneous: bool,
        ) {
            let rows = cells.iter().enumerate().map(|(i, (classes, confidence))| row(i, *classes, *confidence));
            let sheet = Sheet::new(rows, vec!["b".into(), "a".into()]);
            let view = View { only_erroneous, sort: Some(Sort { column, ascending }), filter: None };
            let shown = view.rows(&sheet);
            let mut back = shown.clone();
            back.sort_unstable();
            let kept: Vec<u32> = (0..sheet.len() as u32)
                .filter(|row| !only_erroneous || sheet.erroneous(*row as usize)).collect();
            prop_assert_eq!(back, kept);
            let filled: Vec<bool> =
                shown.iter().map(|row| sheet.cell(*row as usize, column) != Cell::Empty).collect();
            prop_assert!(filled.is_sorted_by(|a, b| a >= b), "empty cells come last");
        }
    }
}
