//! `calib8 history`: measurements of several runs and hosts side by side.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde::Serialize;

use super::columns::table;
use crate::run::performance::Performance;
use crate::run::summary::{ModelRole, PerformanceRow, Verdict};

/// How deep folders are searched.
const DEPTH: usize = 4;
/// Characters of a hash that tell files apart for people.
const HASH: usize = 8;

/// Arguments of `calib8 history`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files performance.json, also of other hosts and under other names, or folders that hold some
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only this engine
    #[arg(long)]
    engine: Option<crate::engine::EngineName>,
    /// Print JSON (schema calib8/history/1)
    #[arg(long)]
    json: bool,
}

/// One setting of one measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Line {
    file: String,
    name: String,
    measured: String,
    host: String,
    cpu: String,
    cores: usize,
    /// Hash of the optimized model; empty if the file is too old to say.
    optimized_sha256: String,
    engine: &'static str,
    version: Option<String>,
    streams: usize,
    threads: usize,
    batch: usize,
    parent: PerformanceRow,
    optimized: PerformanceRow,
    ratio: f64,
    low: f64,
    high: f64,
    verdict: Verdict,
}

/// Prints the table; gives 0.
///
/// # Errors
/// A file can't be read, or none is found.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let mut files = Vec::new();
    for path in &args.paths {
        if path.is_dir() {
            find(path, DEPTH, &mut files);
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    files.dedup();
    let mut lines = Vec::new();
    for file in &files {
        let performance = Performance::read(file).map_err(anyhow::Error::msg)?;
        lines.extend(lines_of(file, &performance));
    }
    lines.retain(|line| args.engine.is_none_or(|engine| line.engine == engine.name()));
    if lines.is_empty() {
        let paths: Vec<String> = args.paths.iter().map(|path| path.display().to_string()).collect();
        bail!("{}: no measurements found; give files performance.json or folders of runs", paths.join(", "));
    }
    lines.sort_by(|a, b| key(a).cmp(&key(b)));
    let text = if args.json {
        let value = serde_json::json!({"schema": "calib8/history/1", "measurements": lines});
        serde_json::to_string_pretty(&value)? + "\n"
    } else {
        page(&lines)
    };
    super::print(&text)?;
    Ok(0)
}

/// The same model in the same setting comes together, hosts and days side by side.
fn key(line: &Line) -> (&str, &str, &str, [usize; 3], &str, &str) {
    let Line { name, optimized_sha256, engine, streams, threads, batch, host, measured, .. } = line;
    (name, optimized_sha256, engine, [*streams, *threads, *batch], host, measured)
}

fn find(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        // Links are not followed: they may lead in a circle.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            find(&path, depth - 1, files);
        } else if entry.file_name() == "performance.json" {
            files.push(path);
        }
    }
}

fn lines_of(file: &Path, performance: &Performance) -> Vec<Line> {
    let host = performance.host.as_ref();
    let line = |speedup: &crate::run::summary::Speedup| {
        let row = |role: ModelRole| {
            let mut rows = performance.rows.iter().filter(|row| row.model == role);
            let same = |row: &&PerformanceRow| row.setting() == speedup.setting();
            rows.find(|row| row.engine == speedup.engine && same(row)).cloned()
        };
        let record = performance.engines.iter().find(|record| record.engine == speedup.engine);
        Some(Line {
            file: file.display().to_string(),
            name: performance.name.clone(),
            measured: performance.measured.clone(),
            host: host.map_or_else(|| "unknown".into(), |host| host.hostname.clone()),
            cpu: host.map_or_else(|| "unknown".into(), |host| host.cpu.clone()),
            cores: host.map_or(0, |host| host.cores),
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
        })
    };
    performance.speedup.iter().filter_map(line).collect()
}

fn page(lines: &[Line]) -> String {
    let titles = [
        "RUN",
        "MODEL",
        "ENGINE",
        "STREAMS",
        "THREADS EACH",
        "BATCH",
        "HOST",
        "PROCESSOR",
        "CORES",
        "MEASURED",
        "PARENT FPS",
        "OPTIMIZED FPS",
        "P99 MS",
        "SPEED-UP",
    ];
    let mut rows = Vec::new();
    for line in lines {
        let mark = match line.verdict {
            Verdict::NotDistinguishable => " ?",
            _ => "",
        };
        rows.push(vec![
            line.name.clone(),
            line.optimized_sha256.chars().take(HASH).collect(),
            line.engine.to_string(),
            line.streams.to_string(),
            line.threads.to_string(),
            line.batch.to_string(),
            line.host.clone(),
            line.cpu.clone(),
            line.cores.to_string(),
            line.measured.chars().take("2026-03-01T12:34".len()).collect(),
            format!("{:.1}", line.parent.fps.median),
            format!("{:.1}", line.optimized.fps.median),
            format!("{:.2}", line.optimized.latency_ms.p99),
            format!("{:.2}{mark}", line.ratio),
        ]);
    }
    table(&titles, &rows)
}
