//! The run file as it is written: keys, types and defaults. Its JSON Schema is made from these
//! structs. What needs the disk or other keys to be judged is in [`super::resolve`].

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use super::executor::ExecutorSection;
use super::hosts::Nodes;
use super::memory_limit::MemoryLimit;
use super::preprocessing::Preprocessing;
pub use crate::engine::EngineName;
pub use crate::quantize::{BiasCorrection, IgnoredScope, Preset, RangeMethod};
pub use crate::report::Kind as ReportKind;

/// A run of calib8: which model, which images, what to do, what must hold.
///
/// Paths are relative to the run file.
#[derive(Debug, Clone, PartialEq, DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Name of the run; the output goes to `out/<name>` unless `output` says otherwise.
    pub name: String,
    /// The trained FP32 model.
    pub model: ModelSection,
    /// How an image becomes the model's input.
    pub preprocess: Preprocessing,
    /// The images that reports and accuracy are computed on.
    pub dataset: DatasetSection,
    /// How to quantize.
    #[serde(default)]
    pub optimize: OptimizeSection,
    /// How to measure speed.
    #[serde(default)]
    pub performance: PerformanceSection,
    /// Which reports to make; all three if left out.
    #[serde(default = "all_reports")]
    pub reports: Vec<ReportKind>,
    /// Which engine predicts for the reports.
    #[serde(default = "builtin")]
    pub reports_engine: EngineName,
    /// What must hold; a gate that fails makes the exit code 3.
    #[serde(default)]
    pub gates: Gates,
    /// Threads for calibration and reports: a number, or auto for all cores.
    #[serde(default = "auto")]
    pub threads: Count,
    /// Memory that the run may take: bytes, or a number with a unit such as 8 GB; auto is 80 % of what the
    /// cgroup grants or the machine has. A run that can't fit is refused before it starts.
    #[serde(default)]
    pub memory_limit: MemoryLimit,
    /// The scheduler that spreads the run over a cluster; left out, the run is done on the machine that starts it.
    #[serde(default)]
    pub executor: Option<ExecutorSection>,
    /// Folder for everything the run makes.
    #[serde(default)]
    pub output: Option<String>,
}

/// The trained FP32 model.
#[derive(Debug, Clone, PartialEq, DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// An ONNX file.
    pub path: String,
}

/// The images that reports and accuracy are computed on.
#[derive(Debug, Clone, PartialEq, DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetSection {
    /// A folder of images (class folders count as labels) or an ImageNet list.
    pub path: String,
    /// Labels: `name index` per line.
    #[serde(default)]
    pub labels: Option<String>,
    /// Class names: line i + 1 names class i.
    #[serde(default)]
    pub classes: Option<String>,
    /// The share of images, here and among those to calibrate on, that may be unreadable: the run goes on without
    /// them, and stops when they are more.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default = "max_unreadable")]
    pub max_unreadable: f64,
}

/// One in ten: fewer are the ordinary damage of large collections, more are a sign of another mistake.
pub fn max_unreadable() -> f64 {
    0.1
}

/// How to quantize.
#[derive(Debug, Clone, PartialEq, DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizeSection {
    /// Images to calibrate on. Left out, they are taken from the dataset, with a warning.
    pub dataset: Option<CalibrationSection>,
    /// The number format to quantize to.
    pub precision: Precision,
    /// Quantize everything, or give back layers until accuracy holds.
    pub method: Method,
    /// Symmetric activations (performance) or any zero-point (mixed).
    pub preset: Preset,
    /// At most this many images to calibrate on.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub subset_size: u32,
    /// How the range of each activation is chosen from its statistics.
    pub range: RangeMethod,
    /// How to correct the mean error of each layer.
    pub bias_correction: BiasCorrection,
    /// Whether the channels of activations are brought to like ranges by rescaling weights, where
    /// calibration images that were held out say that it helps.
    pub equalization: bool,
    /// Whether layers whose sums would saturate in ONNX Runtime or OpenVINO on CPUs without VNNI get weights of 7
    /// bits. calib8's own engine is exact on every CPU, and loses a little by it.
    pub avoid_saturation: bool,
    /// For accuracy_aware: the largest drop on the dataset's images, in percentage points: of top-1
    /// accuracy with labels, of agreement with the parent without.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub max_drop: f64,
    /// For accuracy_aware: seconds after which the best so far is taken; without it the search ends by itself.
    #[schemars(range(min = 1.0, max = 604_800.0))]
    pub time_budget_seconds: Option<f64>,
    /// What to leave in FP32.
    pub ignored_scope: IgnoredScope,
    /// Whether statistics of the same model, images and preprocessing are taken from an earlier run, and
    /// kept for later ones.
    pub cache: bool,
}

impl Default for OptimizeSection {
    fn default() -> Self {
        OptimizeSection {
            dataset: None,
            precision: Precision::Int8,
            method: Method::Default,
            preset: Preset::Mixed,
            subset_size: 300,
            range: RangeMethod::default(),
            bias_correction: BiasCorrection::default(),
            equalization: true,
            avoid_saturation: false,
            max_drop: 1.0,
            time_budget_seconds: None,
            ignored_scope: IgnoredScope::default(),
            cache: true,
        }
    }
}

/// Images to calibrate on; labels are not needed.
#[derive(Debug, Clone, PartialEq, DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationSection {
    /// A folder of images or an ImageNet list.
    pub path: String,
}

/// The number format to quantize to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeriveDeserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 8-bit integers.
    Int8,
}

/// Quantize everything, or give back layers until accuracy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeriveDeserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Quantize everything that can be.
    Default,
    /// Try presets and ranges on a part of the calibration images and keep the best; `preset` and `range`
    /// are not read then.
    Auto,
    /// Give the worst layers back to FP32 until the drop holds.
    AccuracyAware,
}

/// How to measure speed.
#[derive(Debug, Clone, PartialEq, DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PerformanceSection {
    /// Which engines to measure.
    pub engines: Vec<EngineName>,
    /// Numbers of parallel streams to measure; auto is one per core.
    pub streams: Vec<Count>,
    /// Numbers of threads that compute each inference of a stream together, measured with each number of
    /// streams; auto is one per core. More than 1 is for latency.
    pub threads: Vec<Count>,
    /// Batch sizes to measure; auto doubles from 1 on for as long as that brings throughput.
    pub batch: Vec<Count>,
    /// Milliseconds that 99 of 100 inferences may take at most; the best setting within it is named.
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub latency_limit_ms: Option<f64>,
    /// Where the libraries of the engines are; what is left out is looked for.
    pub libraries: LibrariesSection,
    /// Seconds to measure each model in each setting.
    #[schemars(range(min = 0.1, max = 86_400.0))]
    pub seconds: f64,
    /// Whether to time each layer as well.
    pub layers: bool,
    /// Kinds of node to measure on, on each alone and the same two files, where a scheduler spreads the run; the first
    /// one's speeds are those of the run. Left out, they are measured where the run ends.
    pub on: Vec<Nodes>,
}

impl Default for PerformanceSection {
    fn default() -> Self {
        PerformanceSection {
            engines: vec![EngineName::Builtin],
            streams: vec![Count::Number(1), auto()],
            threads: vec![Count::Number(1)],
            batch: vec![Count::Number(1)],
            latency_limit_ms: None,
            libraries: LibrariesSection::default(),
            seconds: 10.0,
            layers: true,
            on: Vec::new(),
        }
    }
}

/// Where the libraries of the engines are: the shared library itself, its folder, or a Python environment
/// that has it.
#[derive(Debug, Clone, Default, PartialEq, DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LibrariesSection {
    /// ONNX Runtime.
    pub onnxruntime: Option<String>,
    /// OpenVINO.
    pub openvino: Option<String>,
}

/// All kinds of report.
pub fn all_reports() -> Vec<ReportKind> {
    vec![ReportKind::Predictions, ReportKind::Annotations, ReportKind::TensorDistance]
}

/// What must hold for exit code 0.
#[derive(Debug, Clone, Default, PartialEq, DeriveDeserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gates {
    /// FPS of optimized ÷ FPS of parent, in every setting that is measured.
    #[schemars(range(min = 0.0, max = 1000.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_speedup: Option<f64>,
    /// Fraction of images, 0 to 1, on which both models predict the same class.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_agreement: Option<f64>,
    /// Largest drop of top-1 accuracy against labels, in percentage points.
    #[schemars(range(min = 0.0, max = 100.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<f64>,
}

/// A number, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Count {
    /// This many.
    Number(#[schemars(range(min = 1, max = 1024))] u32),
    /// As many as the machine makes sensible.
    Word(Auto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// As many as the machine makes sensible: for streams and threads, one per core.
    Auto,
}

fn builtin() -> EngineName {
    EngineName::Builtin
}

/// One per core.
pub fn auto() -> Count {
    Count::Word(Auto::Auto)
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a whole number from 1 to 1024, or auto")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
                u32::try_from(value)
                    .map(Count::Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Count, E> {
                match value {
                    "auto" => Ok(auto()),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    /// Editors complete and check run files with the schema, so it must be that of this code.
    #[test]
    fn the_schema_that_is_checked_in_is_that_of_the_structs() {
        let schema = schemars::schema_for!(RunFile);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/run.schema.json");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == text, "config/run.schema.json is out of date: run the tests with UPDATE_SCHEMA=1");
    }
}
