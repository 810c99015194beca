//! `calib8 history`: measurements of several runs and hosts side by side.

use std::path::PathBuf;

use anyhow::bail;

use super::columns::table;
use crate::run::history::{Measurement, find, read, sort};
use crate::run::summary::Verdict;

/// Characters of a hash that tell files apart for people.
const HASH: usize = 8;
/// Columns up to the host.
const BEFORE_KIND: usize = 7;

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

/// Prints the table; gives 0.
///
/// # Errors
/// A file can't be read, or none is found.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let mut lines = Vec::new();
    for file in find(&args.paths) {
        lines.extend(read(&file).map_err(anyhow::Error::msg)?);
    }
    lines.retain(|line| args.engine.is_none_or(|engine| line.engine == engine.name()));
    if lines.is_empty() {
        let paths: Vec<String> = args.paths.iter().map(|path| path.display().to_string()).collect();
        bail!("{}: no measurements found; give files performance.json or folders of runs", paths.join(", "));
    }
    sort(&mut lines);
    let text = if args.json {
        let value = serde_json::json!({"schema": "calib8/history/1", "measurements": lines});
        serde_json::to_string_pretty(&value)? + "\n"
    } else {
        page(&lines)
    };
    super::print(&text)?;
    Ok(0)
}

fn page(lines: &[Measurement]) -> String {
    let mut titles = vec![
        "RUN",
        "MODEL",
        "ENGINE",
        "STREAMS",
        "THREADS EACH",
        "BATCH",
        "HOST",
        "PROCESSOR",
        "CORES",
        "KERNELS",
        "MEASURED",
        "PARENT FPS",
        "OPTIMIZED FPS",
        "P99 MS",
        "SPEED-UP",
        "AGREEMENT",
    ];
    // Only runs that measured on several kinds of node have them.
    let kinds = lines.iter().any(|line| line.on.is_some());
    if kinds {
        titles.insert(BEFORE_KIND, "KIND OF NODE");
    }
    let mut rows = Vec::new();
    for line in lines {
        let mark = match line.verdict {
            Verdict::NotDistinguishable => " ?",
            _ => "",
        };
        let mut row = vec![
            line.name.clone(),
            line.optimized_sha256.chars().take(HASH).collect(),
            line.engine.to_string(),
            line.streams.to_string(),
            line.threads.to_string(),
            line.batch.to_string(),
            line.host.clone(),
            line.cpu.clone(),
            line.cores.to_string(),
            line.kernels.clone(),
            line.measured.chars().take("2026-03-01T12:34".len()).collect(),
            format!("{:.1}", line.parent.fps.median),
            format!("{:.1}", line.optimized.fps.median),
            format!("{:.2}", line.optimized.latency_ms.p99),
            format!("{:.2}{mark}", line.ratio),
            line.agreement.map_or("-".to_string(), |share| format!("{:.1} %", 100.0 * share)),
        ];
        if kinds {
            row.insert(BEFORE_KIND, line.on.clone().unwrap_or_else(|| "-".into()));
        }
        rows.push(row);
    }
    table(&titles, &rows)
}
