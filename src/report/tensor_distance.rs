//! The distance between the raw outputs of both models, softmax or not.

use serde::{Deserialize, Serialize};

use super::metrics::DistanceSums;
use super::{Cell, Column, Kind, Outcome, Row};

/// Tensor distance to the parent's outputs. Its rows, one for each image and output, those of unreadable images too,
/// are in its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// One aggregate for each output, in the model's order.
    pub per_output: Vec<DistanceSummary>,
}

/// The distance of one output on one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistanceRow {
    /// Path of the image relative to the dataset, with `/`.
    pub image: String,
    /// ONNX name of the output.
    pub output: String,
    /// The sums from which the distances follow, or why there are none.
    #[serde(flatten)]
    pub outcome: Outcome<Distance>,
}

/// The five distances; formulae in [`DistanceSums`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// Mean squared error.
    pub mse: f64,
    /// Mean squared error divided by the parent's mean square.
    pub nmse: Option<f64>,
    /// Signal to quantization noise ratio in decibels; `None` if infinite (equal outputs) or undefined.
    pub sqnr_db: Option<f64>,
    /// Cosine similarity.
    pub cosine: Option<f64>,
    /// Largest absolute difference of one element.
    pub max_abs: f64,
}

/// The distance of one output over all images: the distances of all their elements taken together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistanceSummary {
    /// ONNX name of the output.
    pub output: String,
    /// The pooled distances, over the images that did not fail.
    #[serde(flatten)]
    pub distance: Distance,
    /// Images that both models ran on.
    pub images: u64,
    /// Images among them on which this output holds NaN or infinity; they are not in the distances.
    pub failed: u64,
}

impl From<&DistanceSums> for Distance {
    fn from(sums: &DistanceSums) -> Self {
        Distance {
            mse: sums.mse(),
            nmse: sums.nmse(),
            sqnr_db: sums.sqnr_db(),
            cosine: sums.cosine(),
            max_abs: sums.max_abs,
        }
    }
}

impl DistanceRow {
    fn number(&self, get: fn(&Distance) -> Option<f64>) -> Cell<'_> {
        self.outcome.measured().and_then(get).map_or(Cell::Empty, Cell::Number)
    }
}

impl Row for DistanceRow {
    const KIND: Kind = Kind::TensorDistance;

    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("image", "image", "Image", |row| Cell::Text(&row.image)),
        Column::text("output", "output", "Output", |row| Cell::Text(&row.output)),
        Column::number("mse", "mse", "MSE", |row| row.number(|d| Some(d.mse))),
        Column::number("nmse", "nmse", "NMSE", |row| row.number(|d| d.nmse)),
        Column::number("sqnr_db", "sqnr", "SQNR (dB)", |row| row.number(|d| d.sqnr_db)),
        Column::number("cosine", "cosine", "Cosine", |row| row.number(|d| d.cosine)),
        Column::number("max_abs", "max_abs", "Max abs", |row| row.number(|d| Some(d.max_abs))),
        Column::text("failed", "failed", "Failed", |row| {
            row.outcome.failed().map_or(Cell::Empty, Cell::Text)
        }),
    ];

    fn image(&self) -> &str {
        &self.image
    }

    fn erroneous(&self) -> bool {
        self.outcome.failed().is_some()
    }
}
