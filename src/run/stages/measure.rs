//! Parent and optimized side by side, in every setting, then layer by layer.

use ndarray::Array3;
use serde::{Deserialize, Serialize};

use super::baseline::batch_of;
use super::prepare::Subject;
use super::verify::Optimized;
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions};
use crate::measure::{self, Conditions, LayerRow, Settings, Warning};
use crate::model::Model;
use crate::progress::Progress;
use crate::project::hash;
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::plan::EngineName;
use crate::run::summary::{ModelRole, PerformanceRow, Speedup};
use crate::run::worker::{Desk, StageError};

/// Share of a setting's time that the pass over single layers gets.
const LAYER_SHARE: f64 = 0.5;
/// Where the numbers are kept.
const FILE: &str = "performance.json";

/// What measuring gave. Written to `performance.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::run) struct Performance {
    /// What the numbers belong to: they stay valid where all of this is the same.
    #[serde(default)]
    key: String,
    pub rows: Vec<PerformanceRow>,
    pub speedup: Vec<Speedup>,
    pub warnings: Vec<Warning>,
    /// The host when measuring began.
    pub conditions: Option<Conditions>,
    pub layers: Vec<LayerRow>,
}

impl Performance {
    /// Nothing was measured.
    pub fn none() -> Performance {
        Performance {
            key: String::new(),
            rows: vec![],
            speedup: vec![],
            warnings: vec![],
            conditions: None,
            layers: vec![],
        }
    }
}

/// In which settings to measure.
pub(in crate::run) struct Matrix<'a> {
    pub streams: &'a [usize],
    pub batch: &'a [usize],
    /// For each model in each setting.
    pub seconds: f64,
    pub layers: bool,
}

pub(in crate::run) fn run(
    desk: &Desk,
    subject: &Subject,
    optimized: &Optimized,
) -> Result<Performance, RunError> {
    let plan = &desk.plan.performance;
    let matrix =
        Matrix { streams: &plan.streams, batch: &plan.batch, seconds: plan.seconds, layers: plan.layers };
    let work = |progress: &dyn Progress| {
        let key = key(desk, subject, optimized)?;
        let performance = match stored(desk, &key) {
            // A run that was stopped after it had measured.
            Some(performance) => performance,
            None => {
                let found = measure(&subject.parent, &optimized.model, &subject.sample, &matrix, progress)?;
                Performance { key, ..found }
            }
        };
        progress.warn(
            "FP32 operators without a kernel of ours run in tract, which is slower than the fastest FP32 engines: \
             where a model has many, judge by FPS as well",
        );
        let mut kinds = Vec::new();
        for warning in &performance.warnings {
            // Every setting sees the same machine: the first warning of a kind speaks for all.
            let kind = std::mem::discriminant(warning);
            if !kinds.contains(&kind) {
                kinds.push(kind);
                progress.warn(&warning.to_string());
            }
        }
        Ok(performance)
    };
    let (performance, _) = desk.stage(Stage::Measure, work)?;
    desk.write_json(FILE, &performance)?;
    let mut csv = Vec::new();
    measure::layers::write_csv(&mut csv, &performance.layers)
        .map_err(|e| RunError::stage(Stage::Measure, e))?;
    desk.write("layers.csv", &csv)?;
    Ok(performance)
}

/// A hash over both models, the settings, the machine and the version of calib8.
fn key(desk: &Desk, subject: &Subject, optimized: &Optimized) -> Result<String, StageError> {
    let settings = serde_json::to_string(&desk.plan.performance)?;
    let host = serde_json::to_string(&super::closing::host())?;
    let (parent, model) = (&subject.parent.sha256, &optimized.model.sha256);
    let text = format!("{}\n{parent}\n{model}\n{settings}\n{host}\n", env!("CARGO_PKG_VERSION"));
    Ok(hash::sha256_bytes(text.as_bytes()))
}

/// What an earlier worker of this run has measured, if it is there and belongs to `key`.
fn stored(desk: &Desk, key: &str) -> Option<Performance> {
    let bytes = std::fs::read(desk.directory.file(FILE)).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|found: &Performance| found.key == key)
}

/// Measures two models on one image in every setting of `matrix`.
pub(in crate::run) fn measure(
    parent: &Model,
    optimized: &Model,
    image: &Array3<f32>,
    matrix: &Matrix,
    progress: &dyn Progress,
) -> Result<Performance, StageError> {
    let mut performance = Performance::none();
    for batch in matrix.batch {
        let options = LoadOptions { batch: *batch, ..LoadOptions::default() };
        let sessions = [Builtin.load(parent, &options)?, Builtin.load(optimized, &options)?];
        let input = [batch_of(image, *batch)?];
        for streams in matrix.streams {
            let settings = Settings {
                streams: *streams,
                batch: *batch,
                seconds: 2.0 * matrix.seconds,
                ..Settings::default()
            };
            let [a, b] = [sessions[0].as_ref(), sessions[1].as_ref()];
            let paired = measure::compare(a, b, &input, &input, &settings, progress)?;
            for (model, timing) in [(ModelRole::Parent, &paired.a), (ModelRole::Optimized, &paired.b)] {
                performance.rows.push(PerformanceRow {
                    engine: EngineName::Builtin,
                    model,
                    streams: *streams,
                    threads: 1,
                    batch: *batch,
                    fps: timing.fps,
                    latency_ms: timing.latency_ms,
                });
            }
            let ratio = paired.ratio;
            performance.speedup.push(Speedup {
                engine: EngineName::Builtin,
                streams: *streams,
                batch: *batch,
                ratio: ratio.ratio,
                low: ratio.low,
                high: ratio.high,
                verdict: ratio.verdict,
            });
            performance.conditions.get_or_insert(paired.conditions);
            performance.warnings.extend(paired.warnings);
        }
        if matrix.layers && performance.layers.is_empty() {
            let pair = [(sessions[0].as_ref(), &input[..]), (sessions[1].as_ref(), &input[..])];
            let (a, b) =
                measure::layers::profile_pair(pair[0], pair[1], matrix.seconds * LAYER_SHARE, progress)?;
            performance.layers = measure::layers::join(&a, &b);
        }
    }
    Ok(performance)
}
