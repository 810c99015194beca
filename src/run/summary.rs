//! `summary.json` and `manifest.json`: what other programs read. Numbers are not rounded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::events::{Stage, Status};
pub use super::performance::Agreement;
use super::performance::EngineRecord;
use super::plan::EngineName;
pub use crate::measure::{Interval, Latency, Verdict};
pub use crate::quantize::Ended;
pub use crate::report::{AnnotationsSummary, PredictionsSummary, ReportsSummary};

/// Name and version of the format of [`Summary`].
pub const SCHEMA: &str = "calib8/summary/1";

/// Name and version of the format of [`Manifest`].
pub const MANIFEST_SCHEMA: &str = "calib8/manifest/1";

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whether all gates passed.
    pub status: Status,
    /// The machine that speeds were measured on.
    pub host: HostSummary,
    /// The FP32 model.
    pub parent: ModelSummary,
    /// The INT8 model.
    pub optimized: ModelSummary,
    /// The calibration.
    pub calibration: CalibrationSummary,
    /// How long each stage took, in the order in which they were done.
    #[serde(default)]
    pub stages: Vec<StageSeconds>,
    /// Speed of each model in each setting.
    pub performance: Vec<PerformanceRow>,
    /// How much faster the optimized model is in each setting.
    pub speedup: Vec<Speedup>,
    /// The engines that were asked for, with the reason where one could not be measured.
    #[serde(default)]
    pub engines: Vec<EngineRecord>,
    /// The same on each kind of node of `performance.on`, in its order; the first is where `performance` was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPerformance>,
    /// What the method `accuracy_aware` found; absent with other methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tradeoff: Option<TradeoffSummary>,
    /// The accuracy reports.
    pub reports: ReportsSummary,
    /// The gates that were asked for.
    pub gates: Vec<GateResult>,
    /// What the user should know about these numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The machine that the numbers were measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSummary {
    /// Model name of the processor.
    pub cpu: String,
    /// Instruction sets that the kernels can use.
    pub isa: Vec<String>,
    /// Cores that the process may use.
    pub cores: usize,
}

/// Both models on one kind of node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostPerformance {
    /// The entry of `performance.on`.
    pub on: String,
    /// Name of the node that was taken.
    pub hostname: String,
    /// Its processor.
    pub host: HostSummary,
    /// Kernels that the built-in engine took.
    pub kernels: String,
    /// Speed of each model in each setting.
    pub performance: Vec<PerformanceRow>,
    /// How much faster the optimized model is in each setting.
    pub speedup: Vec<Speedup>,
    /// The engines that were asked for, with the reason where one could not be measured.
    pub engines: Vec<EngineRecord>,
    /// How often both models predict the same class there, on each engine; empty if they are no classifiers.
    #[serde(default)]
    pub agreement: Vec<Agreement>,
    /// What made the numbers doubtful.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl HostPerformance {
    /// FPS of a model in the setting of a speed-up.
    pub fn fps(&self, role: ModelRole, of: &Speedup) -> Option<f64> {
        let same = |row: &&PerformanceRow| {
            row.model == role && (row.engine, row.setting()) == (of.engine, of.setting())
        };
        self.performance.iter().find(same).map(|row| row.fps.median)
    }

    /// How often both models agree on an engine.
    pub fn agreement(&self, engine: EngineName) -> Option<&Agreement> {
        self.agreement.iter().find(|agreement| agreement.engine == engine)
    }
}

/// A model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// The optimized model's is relative to the run directory.
    pub path: String,
    /// Hash of the file, lowercase hexadecimal.
    pub sha256: String,
    /// Size of the file.
    pub bytes: u64,
    /// `fp32` or `int8`.
    pub precision: String,
    /// Layers with weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Layers among them that compute in INT8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantized_layers: Option<usize>,
}

/// How the calibration went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSummary {
    /// Images that were used.
    pub images: usize,
    /// How long the statistics took.
    pub seconds: f64,
    /// Images per second.
    pub images_per_second: f64,
    /// Most memory that the process held.
    pub peak_rss_bytes: u64,
    /// Whether an earlier run had left the statistics, so that no image was looked at for them.
    #[serde(default)]
    pub from_cache: bool,
}

/// The time of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// Which.
    pub stage: Stage,
    /// How long it took, without what an earlier worker had done of it.
    pub seconds: f64,
}

/// What the method `accuracy_aware` holds within its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropMetric {
    /// Points of top-1 accuracy against labels.
    Top1,
    /// Points of agreement with the parent, on a dataset without labels.
    Agreement,
}

/// Layers that went back to FP32, and what that brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TradeoffSummary {
    /// What the drop is of.
    pub metric: DropMetric,
    /// The largest drop asked for, in percentage points.
    pub limit: f64,
    /// The drop on the images that candidates were judged on.
    pub drop: f64,
    /// Images of the dataset that candidates were judged on.
    pub images: usize,
    /// Names of the layers that were kept in FP32.
    pub fp32_layers: Vec<String>,
    /// Layers that could have been.
    pub candidates: usize,
    /// Sets of layers that were judged; `tradeoff.json` has them all.
    pub points: usize,
    /// Why the search ended.
    pub ended: Ended,
}

impl TradeoffSummary {
    /// The result in a sentence.
    pub fn in_words(&self) -> String {
        let metric = match self.metric {
            DropMetric::Top1 => "top-1",
            DropMetric::Agreement => "agreement",
        };
        let ended = match self.ended {
            Ended::WithinLimit => "",
            Ended::OutOfReach => "; the limit is out of reach",
            Ended::TimeBudget => "; the time budget ended the search",
        };
        let (layers, points) = (self.fp32_layers.len(), self.points);
        format!(
            "{layers} {} in FP32 for accuracy: {:.2} points of {metric} lost on {} images, limit {}; {points} \
             {} judged{ended}",
            if layers == 1 { "layer" } else { "layers" },
            self.drop,
            self.images,
            self.limit,
            if points == 1 { "set" } else { "sets" },
        )
    }
}

/// Which of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelRole {
    /// The FP32 model.
    Parent,
    /// The INT8 model.
    Optimized,
}

impl ModelRole {
    /// Its word in tables.
    pub fn name(self) -> &'static str {
        match self {
            ModelRole::Parent => "parent",
            ModelRole::Optimized => "optimized",
        }
    }
}

/// In what speed was measured, beside engine and model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// Parallel streams.
    pub streams: usize,
    /// Threads of each stream.
    pub threads: usize,
    /// Images of one inference.
    pub batch: usize,
}

/// `2 streams, batch 1`, or `1 stream × 4 threads, batch 1`.
impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let noun = if self.streams == 1 { "stream" } else { "streams" };
        write!(f, "{} {noun}", self.streams)?;
        if self.threads > 1 {
            write!(f, " × {} threads", self.threads)?;
        }
        write!(f, ", batch {}", self.batch)
    }
}

/// One thread per stream is what files that do not say it were measured with.
pub(super) fn one() -> usize {
    1
}

/// Speed of one model in one setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerformanceRow {
    /// What ran it.
    pub engine: EngineName,
    /// Which model.
    pub model: ModelRole,
    /// Parallel streams.
    pub streams: usize,
    /// Threads of each stream.
    pub threads: usize,
    /// Images of one inference.
    pub batch: usize,
    /// Images per second.
    pub fps: Interval,
    /// Milliseconds of one inference.
    pub latency_ms: Latency,
    /// The number format that most operators with weights or products really ran in, such as `int8`,
    /// `fp32` or `bf16`; empty where the engine does not tell.
    #[serde(default)]
    pub precision: String,
    /// How many of these operators ran in which format.
    #[serde(default)]
    pub precisions: BTreeMap<String, usize>,
}

impl PerformanceRow {
    /// In what it was measured.
    pub fn setting(&self) -> Setting {
        Setting { streams: self.streams, threads: self.threads, batch: self.batch }
    }
}

/// FPS of optimized ÷ FPS of parent in one setting, with a 95 % interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speedup {
    /// What ran both.
    pub engine: EngineName,
    /// Parallel streams.
    pub streams: usize,
    /// Threads of each stream.
    #[serde(default = "one")]
    pub threads: usize,
    /// Images of one inference.
    pub batch: usize,
    /// The ratio.
    pub ratio: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What that says.
    pub verdict: Verdict,
    /// Rounds that were measured; 0 where the file does not say.
    #[serde(default)]
    pub rounds: usize,
    /// Rounds of these that do not count, because the host of the virtual machine took the cores.
    #[serde(default)]
    pub left_out: usize,
}

impl Speedup {
    /// In what it was measured.
    pub fn setting(&self) -> Setting {
        Setting { streams: self.streams, threads: self.threads, batch: self.batch }
    }
}

/// A gate and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// Its key in the run file.
    pub name: String,
    /// The limit in the run file.
    pub limit: f64,
    /// What was measured, in the unit of the limit; absent if nothing could be.
    pub value: Option<f64>,
    /// Whether the gate holds.
    pub passed: bool,
    /// Why there is no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where the INT8 model comes from: the same inputs and version give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// Version of calib8.
    pub calib8: String,
    /// The machine.
    pub host: HostSummary,
    /// The plan after defaults.
    pub plan: serde_json::Value,
    /// Files that went in.
    pub inputs: Vec<FileRecord>,
    /// Files that came out, relative to the run directory.
    pub outputs: Vec<FileRecord>,
}

/// A file by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash, lowercase hexadecimal.
    pub sha256: String,
}
