//! Observe activations, choose ranges, correct, write the INT8 model.
//!
//! ```text
//! prepare ─> place ─> observe ─> quantize
//! (graph)    (graph)  (images)   (graph + statistics)
//! ```
//!
//! [`prepare`] gives the graph the form that quantizes best, [`place`] decides from the graph alone
//! which nodes become INT8, [`observe`] runs the FP32 model and keeps mergeable [`Statistics`], and
//! [`quantize`] writes a standard ONNX model in QDQ form: `QuantizeLinear`/`DequantizeLinear` around
//! the operators, in the arrangement that ONNX Runtime and OpenVINO fuse into INT8 kernels. The
//! same inputs give the same bytes, whatever the number of threads. [`sensitivity`] says what INT8
//! costs each layer.

mod correction;
mod cut;
mod distribution;
mod equalize;
mod error;
mod judge;
mod look;
mod observe;
mod pass;
mod placement;
mod prepare;
mod range;
mod saturation;
mod sensitivity;
mod sequential;
mod statistics;
mod survey;
#[cfg(test)]
mod testing;
mod threads;
mod tradeoff;
mod weights;
mod write;

pub use equalize::{Equalized, equalize};
pub use error::QuantizeError;
pub use judge::{Judge, Score, Top1};
pub use look::{Look, look};
pub use observe::{ObserveOptions, observe};
pub use placement::{Bounds, LeftNode, NodeKind, Placement, QuantizedNode, QuantizedTensor, place};
pub use prepare::prepare;
pub use range::ActivationParameters;
pub use saturation::{Saturation, saturation};
pub use sensitivity::{LayerNoise, LayerSensitivity, noises, sensitivity, summed};
pub use sequential::{BiasShifts, sequential_shifts};
pub use statistics::{Histogram, Statistics, TensorStatistics};
pub use tradeoff::{Candidate, Ended, Kitchen, Point, Tradeoff, trade_off};
pub use write::{LayerReport, Quantized, quantize};

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which zero points activations may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Symmetric: zero point 0 where the range is non-negative, 128 otherwise.
    #[default]
    Performance,
    /// Asymmetric: any zero point, so that all 256 steps lie inside the observed range.
    Mixed,
}

/// How the range of an activation is taken from its statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RangeMethod {
    /// The smallest and the largest value of all images.
    MinMax,
    /// The mean over the images of each image's smallest and largest value.
    MeanMinMax,
    /// The part of min-max whose squared error of rounding and clipping is least. On the seven
    /// classifiers it was measured on, neither `min_max` nor `mean_min_max` came nearer to the FP32
    /// model by KL divergence.
    #[default]
    Mse,
    /// The range without one value in 100 000: half of them below it, half above.
    Percentile,
    /// The part of min-max around 0 whose distribution changes least by storing it, by KL divergence.
    Entropy,
}

impl RangeMethod {
    /// All methods, the default first.
    pub const ALL: [RangeMethod; 5] = [
        RangeMethod::Mse,
        RangeMethod::MeanMinMax,
        RangeMethod::MinMax,
        RangeMethod::Percentile,
        RangeMethod::Entropy,
    ];
}

/// How the shift of a layer's mean output is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BiasCorrection {
    /// Biases stay.
    None,
    /// The bias takes up the mean error that rounding the weights makes, for the mean input.
    Fast,
    /// Layer after layer the bias takes up the mean error that weights and activations make, those of
    /// the layers before included; kept only if calibration images that it was not fitted on say that it
    /// helps, otherwise the fast correction is.
    #[default]
    Sequential,
}

/// Nodes that stay FP32 because the user said so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IgnoredScope {
    /// Names of nodes.
    pub names: Vec<String>,
    /// Operator types, such as `Add`.
    pub types: Vec<String>,
}

/// How to quantize.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// Zero points of activations.
    pub preset: Preset,
    /// Ranges of activations.
    pub range: RangeMethod,
    /// Correction of biases.
    pub bias_correction: BiasCorrection,
    /// What stays FP32.
    pub ignored: IgnoredScope,
    /// Layers, by name, whose weights have 7 bits.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub seven_bit: BTreeSet<String>,
}
