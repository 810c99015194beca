//! `calib8 ps`: the runs that are known, wherever they were started.

use serde::Serialize;

use super::columns::table;
use super::progress_bar::duration;
use super::runs::{Known, known};
use crate::project::time::rfc3339;
use crate::run::events::Stage;
use crate::run::fold::StageState;
use crate::run::shards::Shards;
use crate::run::status::Standing;

/// Arguments of `ps`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the list.
///
/// # Errors
/// Standard output can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let runs = known();
    let text = if args.json {
        let runs: Vec<Row> = runs.iter().map(row).collect();
        serde_json::to_string_pretty(&serde_json::json!({ "schema": "calib8/runs/1", "runs": runs }))? + "\n"
    } else if runs.is_empty() {
        "no runs are known: calib8 run FILE.yaml makes one\n".to_string()
    } else {
        let rows: Vec<Vec<String>> = runs.iter().map(cells).collect();
        table(&["STATUS", "NAME", "PROCESS", "AT", "FOLDER"], &rows)
    };
    super::print(&text)?;
    Ok(0)
}

/// A run, for programs.
#[derive(Debug, Serialize)]
struct Row<'a> {
    directory: &'a std::path::Path,
    name: &'a str,
    status: &'static str,
    pid: Option<u32>,
    host: &'a str,
    stage: Option<Stage>,
    done: Option<usize>,
    total: Option<usize>,
    rate: Option<f64>,
    eta_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    elapsed_seconds: f64,
    changed: Option<String>,
}

fn row(run: &Known) -> Row<'_> {
    let state = &run.status.state;
    let active = state.active();
    Row {
        directory: &run.directory,
        name: &state.plan,
        status: run.status.standing.name(),
        pid: run.status.holder.as_ref().and_then(|holder| holder.pid),
        host: &state.host,
        stage: active.map(|stage| stage.stage),
        done: active.map(|stage| stage.done),
        total: active.map(|stage| stage.total),
        rate: active.map(|stage| stage.rate),
        eta_seconds: active.and_then(|stage| stage.eta_seconds),
        detail: active.and_then(|stage| stage.detail.as_deref()).filter(|_| Shards::are_in(&run.directory)),
        elapsed_seconds: state.elapsed,
        changed: run.changed.map(rfc3339),
    }
}

fn cells(run: &Known) -> Vec<String> {
    let state = &run.status.state;
    let process = run.status.holder.as_ref().map_or("-".into(), |holder| match (holder.pid, &holder.host) {
        (Some(pid), Some(host)) if *host != crate::project::host::hostname() => format!("{pid}@{host}"),
        (Some(pid), _) => pid.to_string(),
        _ => "?".into(),
    });
    // Of a run in shards this says how its jobs stand, of another which image it is at.
    let waits = matches!(run.status.standing, Standing::Waiting | Standing::Interrupted)
        && Shards::are_in(&run.directory);
    let at = match state.active().or(state.stages.last()) {
        Some(StageState { stage, done, total, detail: Some(detail), .. }) if waits => {
            format!("{} {done}/{total}, {detail}", stage.name())
        }
        Some(stage) if stage.total > 0 && stage.seconds.is_none() => {
            let left = stage.eta_seconds.map_or(String::new(), |left| format!(", {} left", duration(left)));
            format!("{} {}/{}{left}", stage.stage.name(), stage.done, stage.total)
        }
        Some(stage) => stage.stage.name().into(),
        None => "-".into(),
    };
    let name = if state.plan.is_empty() { "-".into() } else { state.plan.clone() };
    vec![run.status.standing.name().into(), name, process, at, run.directory.display().to_string()]
}
