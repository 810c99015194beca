//! Which columns of a report are on the screen, and how a cell is written.

use ratatui::text::Line;

use crate::report::format::number;
use crate::report::{Cell, Kind, Sheet};
use crate::tui::theme::Theme;
use crate::tui::widgets::table::Column;

/// A column on the screen and the key of the report's column behind it.
pub type Shown = (&'static str, Column);

const PREDICTIONS: &[Shown] = &[
    ("image", Column::growing("Image", 16)),
    ("class_optimized", Column::growing("Optimized", 14)),
    ("class_parent", Column::growing("Parent", 14)),
    ("rank_of_parent_class", Column::number("Rank", 5, 2)),
    ("confidence_optimized", Column::number("Conf.", 6, 3)),
    ("confidence_optimized_in_parent", Column::number("In parent's", 12, 4)),
    ("confidence_parent", Column::number("Parent conf.", 13, 5)),
    ("label", Column::text("Label", 16, 6)),
    ("kl", Column::number("KL", 8, 7)),
    ("margin", Column::number("Margin", 7, 8)),
];

const ANNOTATIONS: &[Shown] = &[
    ("image", Column::growing("Image", 16)),
    ("class_optimized", Column::growing("Optimized", 14)),
    ("label", Column::growing("Label", 14)),
    ("change", Column::text("Change", 7, 1)),
    ("rank_of_label", Column::number("Rank", 5, 3)),
    ("class_parent", Column::text("Parent", 16, 6)),
    ("confidence_optimized", Column::number("Conf.", 6, 4)),
    ("confidence_optimized_in_label", Column::number("In label", 9, 5)),
    ("confidence_parent_in_label", Column::number("Parent in label", 16, 7)),
];

const DISTANCES: &[Shown] = &[
    ("image", Column::growing("Image", 16)),
    ("output", Column::text("Output", 12, 2)),
    ("sqnr_db", Column::number("SQNR dB", 9, 0)),
    ("cosine", Column::number("Cosine", 9, 0)),
    ("mse", Column::number("MSE", 10, 3)),
    ("nmse", Column::number("NMSE", 10, 4)),
    ("max_abs", Column::number("Max abs", 10, 1)),
];

/// The columns of a report from left to right.
pub fn of(kind: Kind) -> &'static [Shown] {
    match kind {
        Kind::Predictions => PREDICTIONS,
        Kind::Annotations => ANNOTATIONS,
        Kind::TensorDistance => DISTANCES,
    }
}

/// A row as it stands on the screen.
pub fn row(sheet: &Sheet, row: usize, theme: &Theme) -> Vec<Line<'static>> {
    let failed = sheet.value(row, "failed") != Cell::Empty;
    let erroneous = sheet.erroneous(row);
    let cell = |(key, _): &Shown| {
        let words = match sheet.value(row, key) {
            Cell::Empty if failed && *key == "class_optimized" => return Line::styled("failed", theme.worse),
            Cell::Empty => return Line::styled("–", theme.dim),
            cell => written(sheet, key, cell),
        };
        let style = match *key {
            "class_optimized" if erroneous => theme.worse,
            "change" if words == "gained" => theme.better,
            "change" => theme.worse,
            _ => theme.text,
        };
        Line::styled(words, style)
    };
    of(sheet.kind()).iter().map(cell).collect()
}

/// A cell in words.
pub fn written(sheet: &Sheet, key: &str, cell: Cell<'_>) -> String {
    match cell {
        Cell::Text(words) => words.to_string(),
        Cell::Class(class) => sheet.class_name(class),
        Cell::Count(count) => count.to_string(),
        Cell::Number(value) if key.starts_with("confidence") || key == "margin" => format!("{value:.2}"),
        Cell::Number(value) if key == "cosine" => format!("{value:.5}"),
        Cell::Number(value) if key == "sqnr_db" => format!("{value:.1}"),
        Cell::Number(value) => number(value),
        Cell::Flag(true) => "yes".to_string(),
        Cell::Flag(false) => "no".to_string(),
        Cell::Empty => String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_column_on_the_screen_is_one_of_the_report() {
        for kind in super::super::KINDS {
            let sheet = Sheet::read(kind, &b"[]"[..], Vec::new()).unwrap();
            for (key, column) in of(kind) {
                assert!(sheet.headings().iter().any(|heading| heading.key == *key), "{kind}: {key}");
                assert!(usize::from(column.width) > column.title.chars().count(), "{kind}: {key}");
            }
        }
    }
}
