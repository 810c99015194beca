//! Both models against the labels of the dataset.

use serde::{Deserialize, Serialize};

use super::metrics::paired_drop;
use super::{Cell, Column, Kind, Outcome, Row};

/// Evaluation of both models against annotations. Its rows, one for each image that has a label and for each that
/// could not be read, are in its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotations {
    /// The aggregate.
    pub summary: AnnotationsSummary,
}

/// One image against its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnotationRow {
    /// Path relative to the dataset, with `/`.
    pub image: String,
    /// Class in the annotations; `None` only for an unreadable image without one.
    pub label: Option<u32>,
    /// Place of the label in the parent's order of classes, ties to the lowest index, 0 = right;
    /// `None` if its output is not finite.
    pub place_parent: Option<u64>,
    /// The same in the optimized model's order.
    pub place_optimized: Option<u64>,
    /// The predictions, or why there are none.
    #[serde(flatten)]
    pub outcome: Outcome<Annotation>,
}

/// The predictions of both models for a labelled image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Class predicted by the optimized model, argmax s.
    pub class_optimized: u32,
    /// Class predicted by the parent, argmax p.
    pub class_parent: u32,
    /// #{j : s\[j\] > s\[label\]}, 0 = first.
    pub rank_of_label: u64,
    /// s\[argmax s\].
    pub confidence_optimized: f64,
    /// s\[label\].
    pub confidence_optimized_in_label: f64,
    /// p\[label\].
    pub confidence_parent_in_label: f64,
    /// Whether the optimized model's class differs from the label.
    pub erroneous: bool,
}

/// Accuracy of one model, as fractions from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of images whose label is the predicted class.
    pub top1: f64,
    /// Share of images whose label is among the five best classes.
    pub top5: f64,
}

/// Accuracy of both models on the same images. All shares are fractions from 0 to 1; times 100, a drop is in
/// percentage points. An image on which a model's output is not finite counts as wrong for that model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnotationsSummary {
    /// Labelled images that both models ran on.
    pub images: u64,
    /// Accuracy of the parent.
    pub parent: Accuracy,
    /// Accuracy of the optimized model.
    pub optimized: Accuracy,
    /// Top-1 of the parent minus top-1 of the optimized model; positive is a loss.
    pub drop: f64,
    /// Lower end of its 95 % interval: see [`paired_drop`].
    pub drop_low: f64,
    /// Upper end.
    pub drop_high: f64,
    /// Images that only the parent gets right.
    pub lost: u64,
    /// Images that only the optimized model gets right.
    pub gained: u64,
    /// Images among `images` on which an output holds NaN or infinity.
    pub failed: u64,
    /// Images that could not be read; they are not among `images`.
    pub unreadable: u64,
    /// Images without a label, left out of this report.
    pub unlabelled: u64,
}

impl AnnotationRow {
    /// The predictions, unless the image failed.
    pub fn annotation(&self) -> Option<&Annotation> {
        self.outcome.measured()
    }

    /// What the optimization did to this image: `lost` (only the parent is right), `gained` (only the
    /// optimized model is), or `None`.
    pub fn change(&self) -> Option<&'static str> {
        match (self.place_parent == Some(0), self.place_optimized == Some(0)) {
            (true, false) => Some("lost"),
            (false, true) => Some("gained"),
            _ => None,
        }
    }

    fn number(&self, get: fn(&Annotation) -> f64) -> Cell<'_> {
        self.annotation().map_or(Cell::Empty, |a| Cell::Number(get(a)))
    }
}

impl Row for AnnotationRow {
    const KIND: Kind = Kind::Annotations;

    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("image", "image", "Image", |row| Cell::Text(&row.image)),
        Column::class("class_optimized", "class", "Class predicted by optimized", |row| {
            row.annotation().map_or(Cell::Empty, |a| Cell::Class(a.class_optimized))
        }),
        Column::class("label", "label", "Class in annotations", |row| {
            row.label.map_or(Cell::Empty, Cell::Class)
        }),
        Column::class("class_parent", "parent", "Class predicted by parent", |row| {
            row.annotation().map_or(Cell::Empty, |a| Cell::Class(a.class_parent))
        }),
        Column::count("rank_of_label", "rank", "Rank of annotated class in optimized predictions", |row| {
            row.annotation().map_or(Cell::Empty, |a| Cell::Count(a.rank_of_label))
        }),
        Column::number(
            "confidence_optimized",
            "confidence",
            "Optimized confidence in its own class",
            |row| row.number(|a| a.confidence_optimized),
        ),
        Column::number(
            "confidence_optimized_in_label",
            "in_label",
            "Optimized confidence in annotated class",
            |row| row.number(|a| a.confidence_optimized_in_label),
        ),
        Column::number(
            "confidence_parent_in_label",
            "parent_in_label",
            "Parent confidence in annotated class",
            |row| row.number(|a| a.confidence_parent_in_label),
        ),
        Column::flag("erroneous", "erroneous", "Erroneous", |row| {
            row.annotation().map_or(Cell::Empty, |a| Cell::Flag(a.erroneous))
        }),
        Column::text("change", "change", "Change", |row| row.change().map_or(Cell::Empty, Cell::Text)),
        Column::text("failed", "failed", "Failed", |row| {
            row.outcome.failed().map_or(Cell::Empty, Cell::Text)
        }),
    ];

    fn image(&self) -> &str {
        &self.image
    }

    fn erroneous(&self) -> bool {
        self.annotation().is_none_or(|a| a.erroneous)
    }
}

/// What [`AnnotationsSummary`] is made of, added up image by image.
#[derive(Debug, Default)]
pub(super) struct AnnotationTotals {
    parent: Hits,
    optimized: Hits,
    lost: u64,
    gained: u64,
    measured: u64,
}

/// Images whose label is the best class of a model, and among its five best.
#[derive(Debug, Default)]
struct Hits {
    top1: u64,
    top5: u64,
}

impl Hits {
    fn add(&mut self, place: Option<u64>) {
        let within = |k: u64| u64::from(place.is_some_and(|place| place < k));
        self.top1 += within(1);
        self.top5 += within(5);
    }
}

impl AnnotationTotals {
    /// Adds a labelled image that both models ran on.
    pub(super) fn add(&mut self, row: &AnnotationRow) {
        self.parent.add(row.place_parent);
        self.optimized.add(row.place_optimized);
        self.lost += u64::from(row.change() == Some("lost"));
        self.gained += u64::from(row.change() == Some("gained"));
        self.measured += u64::from(row.annotation().is_some());
    }

    /// The aggregate over `images` labelled images; `unreadable` ones hold no model's answer, and `unlabelled` ones
    /// have no row.
    pub(super) fn summary(&self, images: u64, unreadable: u64, unlabelled: u64) -> AnnotationsSummary {
        let share = |hits: u64| hits as f64 / images.max(1) as f64;
        let accuracy = |hits: &Hits| Accuracy { top1: share(hits.top1), top5: share(hits.top5) };
        let interval = paired_drop(self.lost, self.gained, images);
        AnnotationsSummary {
            images,
            parent: accuracy(&self.parent),
            optimized: accuracy(&self.optimized),
            drop: (self.lost as f64 - self.gained as f64) / images.max(1) as f64,
            drop_low: interval.low,
            drop_high: interval.high,
            lost: self.lost,
            gained: self.gained,
            failed: images - self.measured,
            unreadable,
            unlabelled,
        }
    }
}
