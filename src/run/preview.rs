//! What a run would be, without doing it: everything that can be checked is checked, and time and
//! memory are estimated from one inference.

use std::time::Instant;

use serde::Serialize;

use super::RunError;
use super::events::Stage;
use super::plan::{Auto, Count, Plan};
use super::stages::baseline::{batch_of, check_labels};
use super::stages::prepare::prepare;
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions};
use crate::progress::Silent;
use crate::quantize;

/// A row in each table and, for a changed image, a picture in the page.
const REPORT_BYTES_PER_IMAGE: u64 = 1_500;
/// The page itself, the event log, the checkpoint.
const FIXED_BYTES: u64 = 2_000_000;
/// Batch sizes that `auto` tries, as a rule.
const SIZES_OF_AUTO: usize = 4;
/// What observing costs beside the inference, as a factor.
const OBSERVING: f64 = 1.5;

/// A run as it would be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// Bytes of the parent model.
    pub model_bytes: u64,
    /// Images to calibrate on.
    pub calibration_images: usize,
    /// Images in the reports.
    pub dataset_images: usize,
    /// Nodes that become INT8.
    pub quantized_nodes: usize,
    /// Nodes that stay FP32, with the reason.
    pub left: Vec<(String, String)>,
    /// Time of one inference of the parent, in milliseconds.
    pub parent_ms: f64,
    /// Seconds that the run takes, roughly.
    pub seconds: f64,
    /// Memory that the run takes at most, roughly.
    pub memory_bytes: u64,
    /// Memory that it may take.
    pub memory_limit_bytes: u64,
    /// Threads that calibrate and report within that.
    pub threads: usize,
    /// Disk that the run takes, roughly.
    pub disk_bytes: u64,
}

/// Checks `plan` as its run would, and looks ahead. Writes nothing.
///
/// # Errors
/// What the run would fail with before its first image.
pub fn preview(plan: &Plan) -> Result<Preview, RunError> {
    let failed = |source| RunError::Stage { stage: Stage::Prepare, source };
    let subject = prepare(plan, &Silent).map_err(failed)?;
    let stage = |e: Box<dyn std::error::Error + Send + Sync>| failed(e);
    let options = quantize::Options {
        preset: plan.optimize.preset,
        ignored: plan.optimize.ignored_scope.clone(),
        ..quantize::Options::default()
    };
    let placement = quantize::place(&subject.parent, &options).map_err(|e| stage(e.into()))?;
    let session = Builtin.load(&subject.parent, &LoadOptions::default()).map_err(|e| stage(e.into()))?;
    check_labels(session.as_ref(), &subject.dataset).map_err(failed)?;
    let input = [batch_of(&subject.sample, 1).map_err(failed)?];
    let mut runner = session.spawn().map_err(|e| stage(e.into()))?;
    runner.run(&input).map_err(|e| stage(e.into()))?;
    let start = Instant::now();
    runner.run(&input).map_err(|e| stage(e.into()))?;
    let inference = start.elapsed().as_secs_f64();

    let (calibration, dataset) = (subject.calibration.items.len(), subject.dataset.items.len());
    let performance = &plan.performance;
    let sizes = performance.batch.iter().filter(|count| **count != Count::Word(Auto::Auto)).count();
    let tried = if sizes < performance.batch.len() { SIZES_OF_AUTO } else { 0 };
    let settings =
        performance.engines.len() * (performance.streams.len() * performance.threads.len() * sizes + tried);
    let measuring = 2.0 * performance.seconds * settings as f64;
    let images = calibration as f64 * OBSERVING + dataset as f64 * 2.0;
    let seconds = measuring + images * inference / subject.threads() as f64;
    Ok(Preview {
        model_bytes: subject.source.bytes,
        calibration_images: calibration,
        dataset_images: dataset,
        quantized_nodes: placement.nodes.len(),
        left: placement.left.into_iter().map(|n| (format!("{} ({})", n.name, n.op_type), n.reason)).collect(),
        parent_ms: inference * 1e3,
        seconds,
        memory_bytes: subject.memory.needs,
        memory_limit_bytes: subject.memory.budget.bytes,
        threads: subject.threads(),
        disk_bytes: subject.source.bytes / 3 + dataset as u64 * REPORT_BYTES_PER_IMAGE + FIXED_BYTES,
    })
}
