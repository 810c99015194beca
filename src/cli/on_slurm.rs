//! `calib8 run --on slurm`: the same run, spread over a cluster.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::follow::{conclude, follow};
use super::run::{view, with_log};
use crate::project::host;
use crate::run::directory::{Existing, RunDirectory};
use crate::run::events::Event;
use crate::run::interrupt::Interrupt;
use crate::run::plan::{ExecutorSection, Plan};
use crate::run::shards::Shards;
use crate::run::slurm::{self, Jobs};
use crate::run::{RunError, status};

/// Cuts the run, submits its jobs, and shows it until it ends unless `detach` says otherwise; gives its exit code.
///
/// # Errors
/// The output folder is refused, jobs of this run are alive, Slurm refuses, or the run fails.
pub fn run(
    plan: &Plan,
    existing: Existing,
    executor: &ExecutorSection,
    detach: bool,
    json: bool,
) -> anyhow::Result<u8> {
    if slurm::alive(&plan.output).is_some_and(|alive| !alive.is_none()) {
        return Err(super::Usage(format!(
            "{}: jobs of this run are in the queue of Slurm; `calib8 cancel` takes them out, `calib8 attach` shows them",
            plan.output.display()
        ))
        .into());
    }
    let shards = Shards::plan(plan, existing, executor.shards as usize)?;
    let directory = shards.directory();
    // Told before there is a job, which would find the log in use.
    tell(
        &directory,
        Event::Started {
            plan: plan.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            host: host::hostname(),
        },
    )?;
    let jobs = match slurm::submit(plan, &shards, executor) {
        Ok(jobs) => jobs,
        Err(error) => {
            tell(&directory, Event::Failed { message: error.to_string() })?;
            return Err(error.into());
        }
    };
    if detach {
        super::print(&announcement(&directory, &jobs, json))?;
        return Ok(0);
    }
    let interrupt = Interrupt::install().context("cannot listen to Ctrl-C")?;
    let _ = write!(std::io::stderr(), "{}", announcement(&directory, &jobs, false));
    match follow(&directory, view(json).as_mut(), || interrupt.is_set())? {
        Some(status) => conclude(&directory, &status, json),
        None => {
            let text =
                format!("\nleft; the jobs go on, and `calib8 attach {}` shows them\n", directory.display());
            let _ = write!(std::io::stderr(), "{}", super::sanitized(&text));
            Ok(0)
        }
    }
}

/// Stops the jobs of a run; gives how many tasks were alive, `None` if it has none.
///
/// # Errors
/// Slurm refuses, or the log can't be written.
pub fn cancel(directory: &Path) -> anyhow::Result<Option<usize>> {
    let Some(tasks) = slurm::cancel(directory)? else { return Ok(None) };
    Ok(Some(tasks))
}

/// Says in the log that the jobs were stopped, which none of them may have been there to say.
///
/// # Errors
/// The log can't be written.
pub fn conclude_cancel(directory: &Path) -> anyhow::Result<()> {
    if status::of(directory).state.phase == crate::run::fold::Phase::Running {
        tell(directory, Event::Interrupted)?;
    }
    Ok(())
}

fn tell(directory: &Path, event: Event) -> Result<(), RunError> {
    let (directory, _) = RunDirectory::reopen(directory)?;
    with_log(&directory, None, |log| log.emit(event))
}

/// What is printed of a run that was submitted.
fn announcement(directory: &Path, jobs: &Jobs, json: bool) -> String {
    if json {
        let line = serde_json::json!({ "directory": directory, "jobs": jobs.jobs });
        return format!("{line}\n");
    }
    let list: Vec<String> = jobs
        .jobs
        .iter()
        .map(|job| format!("{} ({}, {} tasks)", job.id, job.what.name(), job.tasks))
        .collect();
    super::sanitized(&format!(
        "submitted to Slurm as {}; `calib8 attach {}` shows the run\n",
        list.join(", "),
        directory.display()
    ))
}
