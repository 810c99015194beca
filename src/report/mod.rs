//! The three accuracy reports: image by image, what the optimized model does differently.
//!
//! The room knows no engine. Whoever runs the two models on an image hands their output vectors to
//! [`Compare::image`], and what comes of it to a [`Ledger`], in the order of names: it writes rows as they come and
//! keeps what they add up to, so that memory does not grow with the images. What several machines have seen goes
//! through a [`Collector`], which puts it in order. The bytes are the same either way.
//!
//! ```text
//! outputs of both models ── Compare::image ──> Ledger::add ──> Tables      *.csv, *.json
//!                                                │
//!                                                └── finish ──> Reports ──┬─> summary()      summary.json
//!                                                                         └─> html::render   report.html
//! *.json ── Sheet::read ──> Sheet ── View { filter, only erroneous, sort } ──> rows on a screen
//! ```
//!
//! Every number stays unrounded and every share is a fraction from 0 to 1; only [`html`] rounds and
//! speaks of per cent and points.

mod annotations;
mod collector;
mod compare;
mod confusion;
mod error;
mod files;
pub mod filter;
pub mod format;
pub mod html;
mod ledger;
pub mod metrics;
mod piece;
mod predictions;
mod reports;
mod rows;
mod scores;
mod sheet;
mod table;
mod tensor_distance;
mod view;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use annotations::AnnotationTotals;
pub use annotations::{Accuracy, Annotation, AnnotationRow, Annotations, AnnotationsSummary};
pub use collector::Collector;
pub use compare::Compare;
pub use confusion::{ConfusionPair, confusion};
pub use error::ReportError;
pub use files::{Format, write_sheet};
pub use ledger::Ledger;
pub use piece::{Entry, Piece, Seen};
use predictions::PredictionTotals;
pub use predictions::{MOST_CHANGED, Prediction, PredictionRow, Predictions, PredictionsSummary};
pub use reports::{Failed, LeftOut, MOST_FAILED, Reports, ReportsSummary, Unreadable};
#[cfg(test)]
pub(crate) use rows::Kept;
pub use rows::{Nowhere, Rows, Tables};
pub use sheet::Sheet;
pub use table::{Best, Cell, Column, Heading, Holds, Row};
pub use tensor_distance::{Distance, DistanceRow, DistanceSummary, Distances};
pub use view::{Sort, View};

/// One of the three reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The optimized model's predictions against its parent's.
    Predictions,
    /// Both models' predictions against the labels of the dataset.
    Annotations,
    /// The distance between the raw outputs of the two models.
    TensorDistance,
}

impl Kind {
    /// Its name in run files, in `summary.json`, and as the stem of its files.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Predictions => "predictions",
            Kind::Annotations => "annotations",
            Kind::TensorDistance => "tensor_distance",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the first output of a model means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// One score per class; softmax makes probabilities of them.
    Logits,
    /// One probability per class.
    Probabilities,
    /// Anything else: boxes, masks, an image.
    NotAClassifier,
}

/// How far the sum of probabilities may be from 1.
const PROBABILITY_TOLERANCE: f64 = 1e-3;

impl Head {
    /// Recognizes a head by its shape and by what the parent gave on the first images.
    ///
    /// `shape` is that of the first output without its batch dimension. A classifier has one
    /// dimension of at least 2, all others being 1 (`[1000]`, `[1, 1000]`, `[1000, 1, 1]`). Its values are
    /// probabilities if in all finite `samples` they lie in 0..=1 and sum to 1 ± 0.001; with
    /// no finite sample they are taken for logits. Give the parent's vectors: quantized probabilities
    /// may miss the sum.
    pub fn detect(shape: &[usize], samples: &[&[f32]]) -> Head {
        let mut long = shape.iter().filter(|&&dim| dim != 1);
        match (long.next(), long.next()) {
            (Some(&classes), None) if classes >= 2 => {}
            _ => return Head::NotAClassifier,
        }
        let mut finite = samples.iter().filter(|s| s.iter().all(|v| v.is_finite())).peekable();
        let any = finite.peek().is_some();
        let probabilities = finite.all(|sample| {
            let sum: f64 = sample.iter().copied().map(f64::from).sum();
            sample.iter().all(|v| (0.0..=1.0).contains(v)) && (sum - 1.0).abs() <= PROBABILITY_TOLERANCE
        });
        if any && probabilities { Head::Probabilities } else { Head::Logits }
    }
}

/// What came of one image in one report: its numbers, or why there are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome<T> {
    /// Both models gave finite outputs.
    Measured(T),
    /// The image could not be read, or an output holds NaN or infinity.
    Failed {
        /// The reason, in words.
        failed: String,
    },
}

impl<T> Outcome<T> {
    /// The numbers, unless the image failed.
    pub fn measured(&self) -> Option<&T> {
        match self {
            Outcome::Measured(value) => Some(value),
            Outcome::Failed { .. } => None,
        }
    }

    /// Why there are no numbers.
    pub fn failed(&self) -> Option<&str> {
        match self {
            Outcome::Measured(_) => None,
            Outcome::Failed { failed } => Some(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_recognized_by_shape_and_values() {
        let logits: &[f32] = &[2.0, -1.0, 0.5];
        let probabilities: &[f32] = &[0.2, 0.3, 0.5];
        let close: &[f32] = &[0.2, 0.3, 0.51];
        let nan: &[f32] = &[f32::NAN, 0.0, 0.0];
        assert_eq!(Head::detect(&[3], &[logits]), Head::Logits);
        assert_eq!(Head::detect(&[1, 3], &[probabilities]), Head::Probabilities);
        assert_eq!(Head::detect(&[3, 1, 1], &[probabilities, nan]), Head::Probabilities);
        assert_eq!(Head::detect(&[3], &[probabilities, logits]), Head::Logits);
        assert_eq!(Head::detect(&[3], &[close]), Head::Logits);
        assert_eq!(Head::detect(&[3], &[nan]), Head::Logits);
        assert_eq!(Head::detect(&[3], &[]), Head::Logits);
        assert_eq!(Head::detect(&[1], &[]), Head::NotAClassifier);
        assert_eq!(Head::detect(&[], &[]), Head::NotAClassifier);
        assert_eq!(Head::detect(&[21, 65, 65], &[]), Head::NotAClassifier);
    }

    #[test]
    fn kinds_have_the_names_of_the_run_file() {
        for kind in [Kind::Predictions, Kind::Annotations, Kind::TensorDistance] {
            assert_eq!(serde_json::to_value(kind).ok(), Some(serde_json::json!(kind.to_string())));
        }
    }
}
