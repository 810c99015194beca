//! The optimized model's predictions against its parent's.

use serde::{Deserialize, Serialize};

use super::metrics::wilson;
use super::{Best, Cell, Column, Kind, Outcome, Row};

/// Comparison of optimized and parent predictions: one row for each image, sorted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// One row for each image, the unreadable ones too.
    pub rows: Vec<PredictionRow>,
    /// The aggregate.
    pub summary: PredictionsSummary,
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

impl Predictions {
    /// The report of sorted `rows`, of which `unreadable` ones hold no model's answer.
    pub(super) fn new(rows: Vec<PredictionRow>, unreadable: u64) -> Predictions {
        let images = rows.len() as u64 - unreadable;
        let measured = || rows.iter().filter_map(PredictionRow::prediction);
        let compared = measured().count() as u64;
        let same = measured().filter(|p| !p.erroneous).count() as u64;
        let interval = wilson(same, images);
        let summary = PredictionsSummary {
            images,
            agreement: same as f64 / images.max(1) as f64,
            low: interval.low,
            high: interval.high,
            erroneous: images - same,
            failed: images - compared,
            unreadable,
            mean_kl: (compared > 0).then(|| measured().map(|p| p.kl).sum::<f64>() / compared as f64),
        };
        Predictions { rows, summary }
    }

    /// The classes of parent and optimized model on the images that did not fail.
    pub fn classes(&self) -> impl Iterator<Item = (u32, u32)> {
        self.rows.iter().filter_map(|row| row.prediction().map(|p| (p.class_parent, p.class_optimized)))
    }

    /// The images on which the predicted classes differ, the largest KL(p‖s) first: what to look at first.
    pub fn changed(&self) -> Vec<(&PredictionRow, &Prediction)> {
        let mut changed: Vec<_> = self
            .rows
            .iter()
            .filter_map(|row| row.prediction().filter(|p| p.erroneous).map(|p| (row, p)))
            .collect();
        changed.sort_by(|a, b| b.1.kl.total_cmp(&a.1.kl).then_with(|| a.0.image.cmp(&b.0.image)));
        changed
    }
}
