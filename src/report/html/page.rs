//! What the page is told.

use std::collections::BTreeMap;

use crate::report::Reports;

/// Everything on the page. Shares are fractions from 0 to 1; the page rounds.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// Name of the run.
    pub title: &'a str,
    /// When it was made, as it shall be read.
    pub made: &'a str,
    /// The FP32 model.
    pub parent: ModelFacts,
    /// The INT8 model.
    pub optimized: ModelFacts,
    /// Ratios with their intervals; the first one is the headline.
    pub speedup: Vec<Speedup>,
    /// Throughput and latency of every model and setting.
    pub performance: Vec<Performance>,
    /// Engines of which rows are missing, with the reason.
    pub unmeasured: Vec<Fact>,
    /// The setting with the most throughput for each model on each engine, within the latency limit.
    pub best: Vec<Best>,
    /// Load time and memory of each model on each engine.
    pub loads: Vec<Load>,
    /// Both models on several kinds of node, a row for each setting; empty where one was measured.
    pub hosts: Vec<Host>,
    /// Conditions of the run file, checked.
    pub gates: Vec<Gate>,
    /// Layers of both models, matched by name.
    pub layers: Vec<LayerRow>,
    /// Sets of layers in FP32 that were tried; empty where none were.
    pub tradeoff: &'a [TradeoffPoint],
    /// The accuracy reports.
    pub reports: &'a Reports,
    /// Names of the classes by index; may be empty.
    pub classes: &'a [String],
    /// Pictures of changed images, by the image's path. Those of the first [`Page::max_cards`] of
    /// [`Predictions::changed`](crate::report::Predictions::changed) are shown.
    pub thumbnails: &'a BTreeMap<String, Thumbnail>,
    /// How many changed images get a card; the rest is counted.
    pub max_cards: usize,
    /// How the model was calibrated: preset, method, images, time, memory.
    pub calibration: Vec<Fact>,
    /// How it was measured: host, cores, instruction set, threads, versions.
    pub measured: Vec<Fact>,
    /// What the user should know before trusting the numbers.
    pub warnings: &'a [String],
    /// Names of files beside the page, to link to.
    pub files: &'a [String],
}

/// What some layers in FP32 bring.
#[derive(Debug, Clone, PartialEq)]
pub struct TradeoffPoint {
    /// Names of the layers.
    pub fp32_layers: Vec<String>,
    /// Inferences per second, by the times of single layers.
    pub fps: f64,
    /// Percentage points that are lost.
    pub drop: f64,
    /// Mean KL divergence from the parent, in nats.
    pub kl: f64,
    /// Whether it was taken.
    pub taken: bool,
}

/// One of the two models.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts {
    /// File name or path.
    pub path: String,
    /// Number format, such as `fp32`.
    pub precision: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Layers that can be quantized, and those of them that are.
    pub quantized_layers: Option<(usize, usize)>,
}

/// Optimized over parent throughput at one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Speedup {
    /// Name of the engine.
    pub engine: String,
    /// Streams.
    pub streams: usize,
    /// Threads of each stream.
    pub threads: usize,
    /// Images of one inference.
    pub batch: usize,
    /// FPS of the optimized model over FPS of the parent.
    pub ratio: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Both models on a kind of node in one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// What the run file calls the kind.
    pub on: String,
    /// Name of the node.
    pub hostname: String,
    /// Its processor.
    pub cpu: String,
    /// Instruction set of the kernels.
    pub kernels: String,
    /// Cores.
    pub cores: usize,
    /// The ratio, and in which setting.
    pub speedup: Speedup,
    /// Images per second.
    pub parent_fps: Option<f64>,
    /// Images per second.
    pub optimized_fps: Option<f64>,
    /// Share of images, 0 to 1, on which both predict the same class there, and of how many.
    pub agreement: Option<(f64, u64)>,
}

/// Throughput and latency of one model at one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Performance {
    /// Name of the engine.
    pub engine: String,
    /// Whether this is the optimized model, else the parent.
    pub optimized: bool,
    /// Streams.
    pub streams: usize,
    /// Threads of each stream.
    pub threads: usize,
    /// Images of one inference.
    pub batch: usize,
    /// The number format that it really ran in; empty if not known.
    pub precision: String,
    /// Images per second, median.
    pub fps: f64,
    /// Lower end of the interval of the median.
    pub fps_low: f64,
    /// Upper end.
    pub fps_high: f64,
    /// Median latency of one inference in milliseconds.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// A setting in which a model has the most throughput.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// Name of the engine.
    pub engine: String,
    /// Whether this is the optimized model, else the parent.
    pub optimized: bool,
    /// Streams.
    pub streams: usize,
    /// Threads of each stream.
    pub threads: usize,
    /// Images of one inference.
    pub batch: usize,
    /// Images per second.
    pub fps: f64,
    /// 99th percentile of latency in milliseconds.
    pub p99_ms: f64,
    /// Whether that is within the limit.
    pub within_limit: bool,
}

/// What it takes to have a model ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Name of the engine.
    pub engine: String,
    /// Whether this is the optimized model, else the parent.
    pub optimized: bool,
    /// Milliseconds to load and to end the first inference.
    pub load_ms: f64,
    /// Memory that this takes.
    pub bytes: u64,
}

/// A condition of the run file.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Its key in the run file. `min_speedup`, `min_agreement` and `max_drop` (in percentage points)
    /// are worded; another name stands as it is.
    pub name: String,
    /// The limit.
    pub limit: f64,
    /// What was measured; `None` if it could not be.
    pub value: Option<f64>,
    /// Whether it holds.
    pub passed: bool,
}

/// One layer of either model or of both.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRow {
    /// Name of the ONNX node.
    pub name: String,
    /// What it does, such as `Conv`.
    pub kind: String,
    /// The parent's number format, such as `fp32`; empty if it has no such layer.
    pub precision_parent: String,
    /// The optimized model's.
    pub precision_optimized: String,
    /// Time of one inference in the parent, in microseconds.
    pub parent_us: Option<f64>,
    /// Time in the optimized model.
    pub optimized_us: Option<f64>,
    /// Multiply-accumulates of one inference; 0 where that is not the measure.
    pub macs: u64,
    /// Why it did not get faster; empty where it did.
    pub note: String,
    /// Signal to noise ratio of its result in INT8 when it alone is quantized, in dB.
    pub alone_db: Option<f64>,
    /// The same when all layers are.
    pub in_place_db: Option<f64>,
}

/// A small picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// Media type, such as `image/jpeg`.
    pub mime: &'static str,
    /// The encoded file.
    pub bytes: Vec<u8>,
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value, as it shall be read.
    pub value: String,
}
