//! `calib8 compare`: any two ONNX models on a dataset.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::{columns, summary_text};
use crate::dataset::{DatasetSpec, Preprocess};
use crate::engine::{EngineName, Libraries};
use crate::project::atomic;
use crate::run::compare::{Comparison, Request, compare};
use crate::run::event_log::EventLog;
use crate::run::interrupt::Interrupt;
use crate::run::plan::Preprocessing;
use crate::run::summary::{ModelRole, PerformanceRow, Verdict};

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The reference, such as the FP32 model; a file, or the folder of a run
    pub first: PathBuf,
    /// The model to hold against it, such as an INT8 model from any tool
    pub second: PathBuf,
    /// Folder of images
    #[arg(long, value_name = "DIR")]
    pub dataset: PathBuf,
    /// `name index` on each line
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Class names, one per line
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// A preset, or the steps as in a run file: '{resize_short: 256, crop: 224, mean: [..], std: [..]}'
    #[arg(long, default_value = "imagenet-torchvision")]
    pub preprocess: String,
    /// Seconds of measuring for each model; 0 compares predictions only
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// What runs both models: builtin, onnxruntime or openvino
    #[arg(long, default_value = "builtin")]
    pub engine: EngineName,
    /// What runs the second model, if not the same: one file on two engines shows where they differ
    #[arg(long, value_name = "ENGINE")]
    pub second_engine: Option<EngineName>,
    /// ONNX Runtime's shared library or its folder; found if left out
    #[arg(long, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// OpenVINO's shared library or its folder; found if left out
    #[arg(long, value_name = "PATH")]
    pub openvino: Option<PathBuf>,
    /// Numbers of parallel streams to measure
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub streams: Vec<u16>,
    /// Numbers of threads that compute each inference of a stream together
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Vec<u16>,
    /// Batch sizes to measure
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: Vec<u16>,
    /// Write report.html, performance.json and the tables into this folder
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares the models; gives 0.
///
/// # Errors
/// A [`RunError`](crate::run::RunError), or the output folder can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let request = Request {
        first: model_of(&args.first),
        second: model_of(&args.second),
        dataset: DatasetSpec {
            path: args.dataset.clone(),
            labels: args.labels.clone(),
            classes: args.classes.clone(),
            subset: None,
        },
        preprocess: preprocess(&args.preprocess)?,
        seconds: args.seconds,
        threads: crate::project::host::cores(),
        engines: [args.engine, args.second_engine.unwrap_or(args.engine)],
        libraries: Libraries { onnxruntime: args.onnxruntime.clone(), openvino: args.openvino.clone() },
        streams: args.streams.iter().map(|n| usize::from(*n)).collect(),
        stream_threads: args.threads.iter().map(|n| usize::from(*n)).collect(),
        batch: args.batch.iter().map(|n| usize::from(*n)).collect(),
        output: args.output.clone(),
    };
    let interrupt = Interrupt::install().context("cannot listen to Ctrl-C")?;
    let log = EventLog::detached(vec![super::run::view(false)]);
    if let Some(folder) = &args.output {
        std::fs::create_dir_all(folder).with_context(|| format!("--output {}", folder.display()))?;
    }
    let comparison = compare(&request, &log, &interrupt)?;
    if let Some(folder) = &args.output {
        for (name, bytes) in &comparison.files {
            atomic::write(&folder.join(name), bytes)?;
        }
    }
    let text = if args.json { json(&comparison)? } else { text(&comparison, args.output.as_ref()) };
    super::print(&text)?;
    Ok(0)
}

/// The model file that is meant: of the folder of a run, its INT8 model.
fn model_of(path: &Path) -> PathBuf {
    let inside = path.join("model.int8.onnx");
    if inside.is_file() { inside } else { path.to_path_buf() }
}

fn preprocess(text: &str) -> anyhow::Result<Preprocess> {
    let steps: Preprocessing = serde_yaml::from_str(text).with_context(|| format!("--preprocess {text}"))?;
    steps.to_preprocess().map_err(|what| {
        anyhow!("--preprocess: {what}; known presets: {}", Preprocess::preset_names().join(", "))
    })
}

fn json(comparison: &Comparison) -> anyhow::Result<String> {
    let value = serde_json::json!({
        "schema": "calib8/comparison/1",
        "first": comparison.first,
        "second": comparison.second,
        "speedup": comparison.performance.speedup,
        "performance": comparison.performance.rows,
        "engines": comparison.performance.engines,
        "loads": comparison.performance.loads,
        "warnings": comparison.performance.warnings,
        "reports": comparison.reports.summary(),
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

/// What changed from the first model to the second, as a table.
fn changes(comparison: &Comparison) -> Vec<Vec<String>> {
    let cells = |name: String, a: String, b: String, ratio: Option<f64>| {
        vec![name, a, b, ratio.map_or(String::new(), |ratio| format!("× {ratio:.2}"))]
    };
    let mut rows = Vec::new();
    let (first, second) = (&comparison.first, &comparison.second);
    let over = |b: f64, a: f64| (a > 0.0).then(|| b / a);
    rows.push(cells(
        "size".into(),
        summary_text::bytes(first.bytes),
        summary_text::bytes(second.bytes),
        over(second.bytes as f64, first.bytes as f64),
    ));
    let performance = &comparison.performance;
    let of = |role: ModelRole| performance.rows.iter().filter(move |row| row.model == role);
    for (a, b) in of(ModelRole::Parent).zip(of(ModelRole::Optimized)) {
        let setting = match (a.streams, a.threads, a.batch) {
            (1, 1, 1) => String::new(),
            _ => format!(", {}", a.setting()),
        };
        let on = |row: &PerformanceRow| format!("{} {}", row.engine.name(), row.precision);
        rows.push(cells(format!("engine{setting}"), on(a), on(b), None));
        let mut number = |name: &str, a: f64, b: f64| {
            rows.push(cells(format!("{name}{setting}"), format!("{a:.2}"), format!("{b:.2}"), over(b, a)));
        };
        number("FPS", a.fps.median, b.fps.median);
        number("latency p50, ms", a.latency_ms.p50, b.latency_ms.p50);
        number("latency p99, ms", a.latency_ms.p99, b.latency_ms.p99);
    }
    let loads = |role: ModelRole| performance.loads.iter().find(move |load| load.model == role);
    if let (Some(a), Some(b)) = (loads(ModelRole::Parent), loads(ModelRole::Optimized)) {
        rows.push(cells(
            "load, ms".into(),
            format!("{:.1}", a.load_ms),
            format!("{:.1}", b.load_ms),
            over(b.load_ms, a.load_ms),
        ));
        rows.push(cells(
            "memory".into(),
            summary_text::bytes(a.peak_rss_bytes),
            summary_text::bytes(b.peak_rss_bytes),
            over(b.peak_rss_bytes as f64, a.peak_rss_bytes as f64),
        ));
    }
    rows
}

fn text(comparison: &Comparison, output: Option<&PathBuf>) -> String {
    let reports = comparison.reports.summary();
    let mut lines = vec![
        format!("first       {} ({})", comparison.first.path, comparison.first.precision),
        format!("second      {} ({})", comparison.second.path, comparison.second.precision),
        String::new(),
    ];
    lines.push(columns::table(&["", "FIRST", "SECOND", "CHANGE"], &changes(comparison)));
    lines.extend(comparison.performance.speedup.iter().map(|s| {
        let verdict = match s.verdict {
            Verdict::Faster => "faster",
            Verdict::Slower => "SLOWER",
            Verdict::NotDistinguishable => "not distinguishable",
        };
        format!(
            "speed       the second is {:.2} times as fast ({:.2} to {:.2}), {verdict}",
            s.ratio, s.low, s.high
        )
    }));
    lines.extend(reports.predictions.as_ref().map(|p| format!("agreement   {}", summary_text::agreement(p))));
    lines.extend(reports.annotations.as_ref().map(|a| format!("top-1       {}", summary_text::accuracy(a))));
    let distances = reports.tensor_distance.iter().flatten();
    lines.extend(distances.map(|d| format!("distance    {}", summary_text::distance(d))));
    lines.extend(reports.left_out.iter().map(|l| format!("left out    {}: {}", l.kind, l.reason)));
    lines.extend(output.map(|folder| format!("files       {}", folder.display())));
    super::sanitized(&(lines.join("\n") + "\n"))
}
