//! What a [`Collector`](super::Collector) gives in the end.

use serde::{Deserialize, Serialize};

use super::{
    Annotations, AnnotationsSummary, DistanceSummary, Distances, Kind, Predictions, PredictionsSummary,
};

/// A report that was asked for and can't be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Which one.
    pub kind: Kind,
    /// Why, in words.
    pub reason: String,
}

/// An image that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Path relative to the dataset, with `/`.
    pub image: String,
    /// Class in the annotations, if the image has one.
    pub label: Option<u32>,
    /// Why, in words.
    pub reason: String,
}

/// Images on which an output holds NaN or infinity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// How many there are, or outputs of them where there is no report on predictions.
    pub count: u64,
    /// The first by name, with the reason in words. No more than [`MOST_FAILED`].
    pub first: Vec<(String, String)>,
}

/// Images that [`Failed`] names; the rows of the reports hold all.
pub const MOST_FAILED: usize = 50;

impl Failed {
    pub(super) fn add(&mut self, image: &str, reason: Option<&str>) {
        let Some(reason) = reason else { return };
        self.count += 1;
        if self.first.len() < MOST_FAILED {
            self.first.push((image.to_string(), reason.to_string()));
        }
    }
}

/// The reports of one dataset. What was not asked for, or is among `left_out`, is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// Comparison of optimized and parent predictions.
    pub predictions: Option<Predictions>,
    /// Evaluation of both models against annotations.
    pub annotations: Option<Annotations>,
    /// Tensor distance to the parent's outputs.
    pub tensor_distance: Option<Distances>,
    /// Reports that can't be made, with the reason.
    pub left_out: Vec<LeftOut>,
    /// Images that could not be read, sorted by name.
    pub unreadable: Vec<Unreadable>,
    /// Images that could be read and on which an output is not finite.
    pub failed: Failed,
    /// Whether the model ends in logits, so that softmax made the probabilities of the reports.
    pub softmax_applied: bool,
}

/// `reports` of `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportsSummary {
    /// Comparison of optimized and parent predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PredictionsSummary>,
    /// Evaluation against annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<AnnotationsSummary>,
    /// Tensor distance, one entry for each output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_distance: Option<Vec<DistanceSummary>>,
    /// Reports that can't be made, with the reason.
    pub left_out: Vec<LeftOut>,
    /// Images that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Whether softmax made the probabilities of the reports.
    pub softmax_applied: bool,
}

impl Reports {
    /// Whether there is a report of this kind.
    pub fn made(&self, kind: Kind) -> bool {
        match kind {
            Kind::Predictions => self.predictions.is_some(),
            Kind::Annotations => self.annotations.is_some(),
            Kind::TensorDistance => self.tensor_distance.is_some(),
        }
    }

    /// The aggregates without the rows.
    pub fn summary(&self) -> ReportsSummary {
        ReportsSummary {
            predictions: self.predictions.as_ref().map(|report| report.summary.clone()),
            annotations: self.annotations.as_ref().map(|report| report.summary.clone()),
            tensor_distance: self.tensor_distance.as_ref().map(|report| report.per_output.clone()),
            left_out: self.left_out.clone(),
            unreadable: self.unreadable.clone(),
            softmax_applied: self.softmax_applied,
        }
    }
}
