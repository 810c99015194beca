//! `calib8 compare`: any two ONNX models on a dataset.

use std::path::PathBuf;

use anyhow::{Context, anyhow};

use super::summary_text;
use crate::dataset::{DatasetSpec, Preprocess};
use crate::project::atomic;
use crate::run::compare::{Comparison, Request, compare};
use crate::run::event_log::EventLog;
use crate::run::interrupt::Interrupt;
use crate::run::plan::Preprocessing;

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The reference, such as the FP32 model
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
    /// Write report.html and the tables into this folder
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
        first: args.first.clone(),
        second: args.second.clone(),
        dataset: DatasetSpec {
            path: args.dataset.clone(),
            labels: args.labels.clone(),
            classes: args.classes.clone(),
            subset: None,
        },
        preprocess: preprocess(&args.preprocess)?,
        seconds: args.seconds,
        threads: crate::project::host::cores(),
    };
    let interrupt = Interrupt::install().context("cannot listen to Ctrl-C")?;
    let log = EventLog::detached(vec![super::run::view(false)]);
    let comparison = compare(&request, &log, &interrupt)?;
    if let Some(folder) = &args.output {
        std::fs::create_dir_all(folder).with_context(|| format!("--output {}", folder.display()))?;
        for (name, bytes) in &comparison.files {
            atomic::write(&folder.join(name), bytes)?;
        }
    }
    let text = if args.json { json(&comparison)? } else { text(&comparison, args.output.as_ref()) };
    super::print(&text)?;
    Ok(0)
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
        "speedup": comparison.speedup,
        "reports": comparison.reports.summary(),
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn text(comparison: &Comparison, output: Option<&PathBuf>) -> String {
    let reports = comparison.reports.summary();
    let mut lines = vec![
        format!(
            "first       {} ({}, {})",
            comparison.first.path,
            comparison.first.precision,
            summary_text::bytes(comparison.first.bytes)
        ),
        format!(
            "second      {} ({}, {})",
            comparison.second.path,
            comparison.second.precision,
            summary_text::bytes(comparison.second.bytes)
        ),
    ];
    lines.extend(comparison.speedup.iter().map(|s| {
        format!("speed       the second is {:.2} times as fast ({:.2} to {:.2})", s.ratio, s.low, s.high)
    }));
    lines.extend(reports.predictions.as_ref().map(|p| format!("agreement   {}", summary_text::agreement(p))));
    lines.extend(reports.annotations.as_ref().map(|a| format!("top-1       {}", summary_text::accuracy(a))));
    let distances = reports.tensor_distance.iter().flatten();
    lines.extend(distances.map(|d| format!("distance    {}", summary_text::distance(d))));
    lines.extend(reports.left_out.iter().map(|l| format!("left out    {}: {}", l.kind, l.reason)));
    lines.extend(output.map(|folder| format!("files       {}", folder.display())));
    super::sanitized(&(lines.join("\n") + "\n"))
}
