//! The optimized model's predictions against its parent's.

use serde::{Deserialize, Serialize};

use super::confusion::Confusions;
use super::metrics::wilson;
use super::{Best, Cell, Column, ConfusionPair, Kind, Outcome, Row};

/// Changed images that a report names; its rows hold all.
pub const MOST_CHANGED: usize = 48;

/// Comparison of optimized and parent predictions. Its rows, one for each image, are in its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// The aggregate.
    pub summary: PredictionsSummary,
    /// The images on which the predicted classes differ, the largest KL(p‖s) first: what to look at first. No more
    /// than [`MOST_CHANGED`].
    pub changed: Vec<PredictionRow>,
    /// How many there are in all.
    pub changed_count: u64,
    /// Which class became which, the most frequent pair first, then by class.
    pub confusions: Vec<ConfusionPair>,
}

/// What both models say about one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// Path relative to the dataset, with `/`.
    pub image: String,
    /// Class in the annotations, if the image has one.
    pub label: Option<u32>,
    /// The predictions, or why there are none.
    #[serde(flatten)]
    pub outcome: Outcome<Prediction>,
}

/// The predictions of both models for one image; s are the optimized model's probabilities, p the parent's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// argmax s.
    pub class_optimized: u32,
    /// argmax p.
    pub class_parent: u32,
    /// #{j : s\[j\] > s\[argmax p\]}, 0 = first.
    pub rank_of_parent_class: u64,
    /// s\[argmax s\].
    pub confidence_optimized: f64,
    /// s\[argmax p\].
    pub confidence_optimized_in_parent: f64,
    /// p\[argmax p\].
    pub confidence_parent: f64,
    /// s\[argmax s\] − s\[argmax p\].
    pub margin: f64,
    /// KL(p‖s) in nats.
    pub kl: f64,
    /// Whether the two classes differ.
    pub erroneous: bool,
    /// The parent's five best classes with their probabilities, the best first.
    pub top5_parent: Vec<(u32, f32)>,
    /// The optimized model's five best classes with their probabilities, the best first.
    pub top5_optimized: Vec<(u32, f32)>,
}

/// How far the predictions of both models agree. Shares are fractions from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionsSummary {
    /// Images that both models ran on.
    pub images: u64,
    /// Share of them on which both predict the same class.
    pub agreement: f64,
    /// Lower end of its 95 % Wilson interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Images on which they don't: the classes differ, or an output is not finite.
    pub erroneous: u64,
    /// Images among `erroneous` on which an output holds NaN or infinity.
    pub failed: u64,
    /// Images that could not be read; they are not among `images`.
    pub unreadable: u64,
    /// Mean of KL(p‖s) in nats over the images that did not fail; `None` if all did.
    pub mean_kl: Option<f64>,
}

impl PredictionRow {
    /// The predictions, unless the image failed.
    pub fn prediction(&self) -> Option<&Prediction> {
        self.outcome.measured()
    }

    fn number(&self, get: fn(&Prediction) -> f64) -> Cell<'_> {
        self.prediction().map_or(Cell::Empty, |p| Cell::Number(get(p)))
    }
}

impl Row for PredictionRow {
    const KIND: Kind = Kind::Predictions;

    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("image", "image", "Image", |row| Cell::Text(&row.image)),
        Column::class("class_optimized", "class", "Class predicted by optimized", |row| {
            row.prediction().map_or(Cell::Empty, |p| Cell::Class(p.class_optimized))
        }),
        Column::class("class_parent", "parent", "Class predicted by parent", |row| {
            row.prediction().map_or(Cell::Empty, |p| Cell::Class(p.class_parent))
        }),
        Column::count(
            "rank_of_parent_class",
            "rank",
            "Rank of parent's class in optimized predictions",
            |row| row.prediction().map_or(Cell::Empty, |p| Cell::Count(p.rank_of_parent_class)),
        ),
        Column::number(
            "confidence_optimized",
            "confidence",
            "Optimized confidence in its own class",
            |row| row.number(|p| p.confidence_optimized),
        ),
        Column::number(
            "confidence_optimized_in_parent",
            "in_parent",
            "Optimized confidence in parent's class",
            |row| row.number(|p| p.confidence_optimized_in_parent),
        ),
        Column::number("confidence_parent", "parent_confidence", "Parent confidence", |row| {
            row.number(|p| p.confidence_parent)
        }),
        Column::number("margin", "margin", "Margin", |row| row.number(|p| p.margin)),
        Column::number("kl", "kl", "KL(p‖s)", |row| row.number(|p| p.kl)),
        Column::flag("erroneous", "erroneous", "Erroneous", |row| {
            row.prediction().map_or(Cell::Empty, |p| Cell::Flag(p.erroneous))
        }),
        Column::class("label", "label", "Label", |row| row.label.map_or(Cell::Empty, Cell::Class)),
        Column::text("failed", "failed", "Failed", |row| {
            row.outcome.failed().map_or(Cell::Empty, Cell::Text)
        }),
    ];

    fn image(&self) -> &str {
        &self.image
    }

    fn erroneous(&self) -> bool {
        self.prediction().is_none_or(|p| p.erroneous)
    }

    fn best(&self) -> Option<[&Best; 2]> {
        self.prediction().map(|p| [&p.top5_parent[..], &p.top5_optimized[..]])
    }
}

/// What [`Predictions`] are made of, added up image by image.
#[derive(Debug)]
pub(super) struct PredictionTotals {
    compared: u64,
    same: u64,
    kl: f64,
    changed: Vec<PredictionRow>,
    changed_count: u64,
    confusions: Confusions,
}

impl Default for PredictionTotals {
    fn default() -> PredictionTotals {
        PredictionTotals {
            compared: 0,
            same: 0,
            // What sums of floating-point numbers begin with: 0.0 would lose the sign of a sum of -0.0.
            kl: -0.0,
            changed: Vec::new(),
            changed_count: 0,
            confusions: Confusions::default(),
        }
    }
}

impl PredictionTotals {
    /// Adds an image that both models ran on.
    pub(super) fn add(&mut self, row: PredictionRow) {
        let Some(prediction) = row.prediction() else { return };
        self.compared += 1;
        self.kl += prediction.kl;
        if !prediction.erroneous {
            self.same += 1;
            return;
        }
        self.confusions.add(prediction.class_parent, prediction.class_optimized);
        self.changed_count += 1;
        let kl = |row: &PredictionRow| row.prediction().map_or(0.0, |p| p.kl);
        let before = |other: &PredictionRow| {
            kl(&row).total_cmp(&kl(other)).then_with(|| other.image.cmp(&row.image)).is_le()
        };
        let at = self.changed.partition_point(before);
        if at < MOST_CHANGED {
            self.changed.truncate(MOST_CHANGED - 1);
            self.changed.insert(at, row);
        }
    }

    /// The report on `images` images that both models ran on, beside `unreadable` ones.
    pub(super) fn report(self, images: u64, unreadable: u64) -> Predictions {
        let interval = wilson(self.same, images);
        let summary = PredictionsSummary {
            images,
            agreement: self.same as f64 / images.max(1) as f64,
            low: interval.low,
            high: interval.high,
            erroneous: images - self.same,
            failed: images - self.compared,
            unreadable,
            mean_kl: (self.compared > 0).then(|| self.kl / self.compared as f64),
        };
        Predictions {
            summary,
            changed: self.changed,
            changed_count: self.changed_count,
            confusions: self.confusions.pairs(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn row(image: &str, kl: f64, erroneous: bool) -> PredictionRow {
        let outcome = Outcome::Measured(Prediction {
            class_optimized: u32::from(erroneous),
            class_parent: 0,
            rank_of_parent_class: 0,
            confidence_optimized: 0.5,
            confidence_optimized_in_parent: 0.5,
            confidence_parent: 0.5,
            margin: 0.0,
            kl,
            erroneous,
            top5_parent: Vec::new(),
            top5_optimized: Vec::new(),
        });
        PredictionRow { image: image.into(), label: None, outcome }
    }

    #[test]
    fn the_most_changed_images_are_kept_whatever_their_order() {
        // Every number up to 199 once, in an order that is none, and equal ones by name.
        let kl = |at: u64| (at * 77 % 200 / 2) as f64;
        let rows: Vec<PredictionRow> =
            (0..200).map(|at| row(&format!("{at:03}"), kl(at), at % 5 != 0)).collect();
        let mut all: Vec<PredictionRow> =
            rows.iter().filter(|r| r.prediction().unwrap().erroneous).cloned().collect();
        all.sort_by(|a, b| {
            let kl = |row: &PredictionRow| row.prediction().unwrap().kl;
            kl(b).total_cmp(&kl(a)).then_with(|| a.image.cmp(&b.image))
        });
        let mut totals = PredictionTotals::default();
        rows.into_iter().for_each(|row| totals.add(row));
        let report = totals.report(200, 3);
        assert_eq!(report.changed, all[..MOST_CHANGED]);
        assert_eq!(
            (report.changed_count, report.summary.erroneous, report.summary.unreadable),
            (160, 160, 3)
        );
        assert_eq!(report.confusions[0].count, 160);
    }
}
