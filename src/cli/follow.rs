//! A run in another process, shown as if it were this one.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;

use super::{run, summary_text};
use crate::project::lock::RunLock;
use crate::project::time;
use crate::run::RunError;
use crate::run::event_log::Listener;
use crate::run::events::{Entry, Event};
use crate::run::fold::{Phase, StageState};
use crate::run::slurm;
use crate::run::status::{self, RunStatus, Standing};
use crate::run::summary::Summary;
use crate::run::tail::EventTail;

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Tells `listener` what the worker in `directory` logs, from the beginning of the last worker on, until
/// it ends; gives how the run stands then. `leaves` is asked between looks; `None` if it said so.
///
/// # Errors
/// The log can't be read.
pub fn follow(
    directory: &Path,
    listener: &mut dyn Listener,
    mut leaves: impl FnMut() -> bool,
) -> anyhow::Result<Option<RunStatus>> {
    let mut tail = EventTail::new(directory);
    let mut before: Option<Vec<Entry>> = Some(Vec::new());
    let mut shards = ShardsSeen::default();
    loop {
        // In this order: what a worker said before it let go is in the log by the next look.
        let held = RunLock::holder(directory).is_some();
        let works = held || slurm::alive(directory).is_some_and(|alive| !alive.is_none());
        let news = tail.poll()?;
        match &mut before {
            Some(entries) => entries.extend(news.entries),
            None => news.entries.iter().for_each(|entry| listener.hear(entry)),
        }
        if news.more {
            continue;
        }
        if let Some(entries) = before.take() {
            let start = entries.iter().rposition(|entry| matches!(entry.event, Event::Started { .. }));
            entries[start.unwrap_or(0)..].iter().for_each(|entry| listener.hear(entry));
        }
        if !works {
            return Ok(Some(status::of(directory)));
        }
        if !held {
            shards.tell(directory, listener);
        }
        if leaves() {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// How far shards on other machines were when it was last told.
#[derive(Default)]
struct ShardsSeen(Option<StageState>);

impl ShardsSeen {
    /// Tells what is new as if it were of one worker.
    fn tell(&mut self, directory: &Path, listener: &mut dyn Listener) {
        let state = status::of(directory).state;
        let Some(stage) = state.active().filter(|stage| self.0.as_ref() != Some(stage)) else { return };
        let tell = |event| Entry { time: time::now(), elapsed: state.elapsed, event };
        if self.0.as_ref().is_none_or(|seen| seen.stage != stage.stage) {
            listener.hear(&tell(Event::StageStarted { stage: stage.stage }));
        }
        let StageState { stage, done, total, rate, eta_seconds, detail, .. } = stage.clone();
        listener.hear(&tell(Event::Progress {
            stage,
            done,
            total,
            rate,
            eta_seconds,
            detail: detail.clone(),
        }));
        self.0 = state.active().cloned();
    }
}

/// `summary.json` of a run that came to its end.
///
/// # Errors
/// It can't be read.
pub fn summary(directory: &Path) -> anyhow::Result<Summary> {
    let path = directory.join("summary.json");
    let bytes = std::fs::read(&path).map_err(|source| crate::project::ProjectError::read(&path, source))?;
    serde_json::from_slice(&bytes).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// Prints how a run ended, as `calib8 run` does; gives its exit code.
///
/// # Errors
/// How it failed, if it did.
pub fn conclude(directory: &Path, status: &RunStatus, json: bool) -> anyhow::Result<u8> {
    match status.standing {
        Standing::Finished(result) => {
            if !json {
                let text =
                    summary_text::render(&summary(directory)?, &status.state.plan, directory, run::width());
                super::print(&super::sanitized(&text))?;
            }
            Ok(result.exit_code())
        }
        Standing::Interrupted if status.state.phase == Phase::Interrupted => {
            Err(RunError::Interrupted.into())
        }
        _ => Err(anyhow!(what_happened(directory, status))),
    }
}

/// Why a run did not come to its end.
pub fn what_happened(directory: &Path, status: &RunStatus) -> String {
    match &status.state.phase {
        Phase::Failed { message } => message.clone(),
        Phase::Interrupted => "interrupted".into(),
        Phase::Waiting => format!("{}: the run has not begun", directory.display()),
        _ if slurm::Jobs::of(directory).is_some() => {
            let words = slurm::unfinished(directory);
            let words = words.map_or_else(String::new, |words| format!(" ({words})"));
            format!(
                "{}: its jobs have left Slurm's queue without ending the run{words}; `calib8 run FILE.yaml --on slurm \
                 --resume` submits what is missing",
                directory.display()
            )
        }
        _ => format!(
            "{}: its worker died without a word; `calib8 run {} --resume` goes on",
            directory.display(),
            directory.join("run.yaml").display()
        ),
    }
}
