//! Measurements of several runs and hosts side by side. A `performance.json` says on which host it was made, so one
//! that was copied from another machine stands beside those of this one.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::performance::Performance;
use super::summary::{ModelRole, PerformanceRow, Verdict};

/// How deep folders are searched.
const DEPTH: usize = 4;

/// One setting of one measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// The file.
    pub file: String,
    /// Name of the run.
    pub name: String,
    /// When: RFC 3339, UTC.
    pub measured: String,
    /// Name of the host.
    pub host: String,
    /// The kind of node that it was taken for (`performance.on`), if the run measured on several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Its processor.
    pub cpu: String,
    /// Its cores.
    pub cores: usize,
    /// Kernels of the built-in engine there; empty if the file is too old to say.
    pub kernels: String,
    /// Hash of the optimized model; empty if the file is too old to say.
    pub optimized_sha256: String,
    /// Name of the engine.
    pub engine: &'static str,
    /// Its version.
    pub version: Option<String>,
    /// Streams.
    pub streams: usize,
    /// Threads of each.
    pub threads: usize,
    /// Images of each inference.
    pub batch: usize,
    /// Speed of the parent.
    pub parent: PerformanceRow,
    /// Speed of the optimized model.
    pub optimized: PerformanceRow,
    /// How much faster the optimized model is.
    pub ratio: f64,
    /// Lower end of the 95 % interval of the ratio.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// The ratio in a word.
    pub verdict: Verdict,
    /// Share of some images, 0 to 1, on which both models predict the same class there, if that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// The files of `paths`, and those called `performance.json` in the folders among them; each once, in order.
pub fn find(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, DEPTH, &mut files);
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    files.dedup();
    files
}

/// What a file measured.
///
/// # Errors
/// It can't be read, or is no `performance.json`.
pub fn read(file: &Path) -> Result<Vec<Measurement>, String> {
    Ok(measurements(file, &Performance::read(file)?))
}

/// Puts the same model in the same setting together, hosts and days side by side.
pub fn sort(measurements: &mut [Measurement]) {
    measurements.sort_by(|a, b| key(a).cmp(&key(b)));
}

fn key(line: &Measurement) -> (&str, &str, &str, [usize; 3], &str, Option<&str>, &str) {
    let Measurement { name, optimized_sha256, engine, streams, threads, batch, host, on, measured, .. } =
        line;
    (name, optimized_sha256, engine, [*streams, *threads, *batch], host, on.as_deref(), measured)
}

fn search(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        // Links are not followed: they may lead in a circle.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            search(&path, depth - 1, files);
        } else if entry.file_name() == "performance.json" {
            files.push(path);
        }
    }
}

fn measurements(file: &Path, performance: &Performance) -> Vec<Measurement> {
    let host = performance.host.as_ref();
    let line = |speedup: &crate::run::summary::Speedup| {
        let row = |role: ModelRole| {
            let mut rows = performance.rows.iter().filter(|row| row.model == role);
            let same = |row: &&PerformanceRow| row.setting() == speedup.setting();
            rows.find(|row| row.engine == speedup.engine && same(row)).cloned()
        };
        let record = performance.engines.iter().find(|record| record.engine == speedup.engine);
        let agreement = performance.agreement.iter().find(|found| found.engine == speedup.engine);
        Some(Measurement {
            file: file.display().to_string(),
            name: performance.name.clone(),
            measured: performance.measured.clone(),
            host: host.map_or_else(|| "unknown".into(), |host| host.hostname.clone()),
            on: performance.on.clone(),
            cpu: host.map_or_else(|| "unknown".into(), |host| host.cpu.clone()),
            cores: host.map_or(0, |host| host.cores),
            kernels: performance.method.as_ref().map_or_else(String::new, |method| method.isa.clone()),
            optimized_sha256: performance.models.clone().unwrap_or_default().optimized_sha256,
            engine: speedup.engine.name(),
            version: record.and_then(|record| record.version.clone()),
            streams: speedup.streams,
            threads: speedup.threads,
            batch: speedup.batch,
            parent: row(ModelRole::Parent)?,
            optimized: row(ModelRole::Optimized)?,
            ratio: speedup.ratio,
            low: speedup.low,
            high: speedup.high,
            verdict: speedup.verdict,
            agreement: agreement.map(|found| found.agreement),
        })
    };
    performance.speedup.iter().filter_map(line).collect()
}
