//! One piece of work: plan, events, worker, gates. The only way in which work is ever done.
//!
//! ```text
//! run file ── plan ── directory ── perform ── worker ── stages, each with a sink
//!                                     └── events ── events.jsonl ── fold ── what is shown
//!          launch: the same in a process of its own   tail, status: the same from outside
//! ```

pub mod compare;
pub mod directory;
mod draft;
mod error;
pub mod event_log;
pub mod events;
pub mod fit;
pub mod fold;
pub mod gates;
pub mod history;
pub mod import;
pub mod interrupt;
pub mod launch;
pub mod memory;
pub mod package;
pub mod performance;
pub mod plan;
pub mod preview;
pub mod registry;
pub mod shards;
pub mod sink;
pub mod slurm;
mod stages;
pub mod status;
pub mod summary;
pub mod tail;
pub mod turns;
mod worker;

pub use error::RunError;
pub use stages::load::Loaded;

use directory::RunDirectory;
use event_log::EventLog;
use events::{Event, Stage};
use interrupt::Interrupt;
use plan::Plan;
use shards::{ShardError, Shards, Step};
use summary::Summary;
use worker::{Desk, StageError};

use crate::project::host;

/// What a run that came to its end gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What was written to `summary.json`.
    pub summary: Summary,
}

/// Runs `plan` in `directory`, and logs how it began and ended.
///
/// # Errors
/// A stage failed, or the user stopped the run; the log says so as well.
pub fn perform(
    plan: &Plan,
    directory: &RunDirectory,
    log: &EventLog,
    interrupt: &Interrupt,
) -> Result<Outcome, RunError> {
    begin(plan, directory, log);
    let result = worker::execute(&Desk { plan, directory, shards: None, log, interrupt });
    end(result.as_ref().map(Some), true, log);
    result
}

/// Puts together what the shards of a step found, and goes on as far as that leads: to the INT8 model after
/// [`Step::Statistics`], or where candidates are compared, after [`Step::Candidates`]; to the end of the run after
/// [`Step::Report`] and those beside it.
///
/// # Errors
/// A shard has not ended, its result can't be used, or as [`perform`].
pub fn merge(
    plan: &Plan,
    directory: &RunDirectory,
    shards: &Shards,
    step: Step,
    log: &EventLog,
    interrupt: &Interrupt,
) -> Result<Option<Outcome>, RunError> {
    begin(plan, directory, log);
    let desk = Desk { plan, directory, shards: Some(shards), log, interrupt };
    let result = match step {
        Step::Statistics if shards.cut(Step::Candidates).shards > 0 => {
            worker::prepare_candidates(&desk, shards).map(|()| None)
        }
        Step::Statistics | Step::Candidates => worker::make_model(&desk, shards).map(|()| None),
        Step::Report | Step::Sensitivity | Step::Performance => worker::execute(&desk).map(Some),
    };
    let result = match result {
        Ok(Some(outcome)) => shards.tidy().map(|()| Some(outcome)),
        Err(error) => Err(with_slurms_words(error, shards)),
        result => result,
    };
    end(result.as_ref().map(Option::as_ref), shards.model_is_made(), log);
    result
}

/// A shard that was killed by Slurm had no time to say why; Slurm has.
fn with_slurms_words(error: RunError, shards: &Shards) -> RunError {
    let missing = |source: &StageError| matches!(source.downcast_ref(), Some(ShardError::Missing { .. }));
    match error {
        RunError::Stage { stage, source } if missing(&source) => {
            let source = match slurm::unfinished(&shards.directory()) {
                Some(words) => format!("{source}. Slurm says: {words}").into(),
                None => source,
            };
            RunError::Stage { stage, source }
        }
        error => error,
    }
}

fn begin(plan: &Plan, directory: &RunDirectory, log: &EventLog) {
    log.emit(Event::Started {
        plan: plan.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        pid: std::process::id(),
        host: host::hostname(),
    });
    for message in plan.warnings().into_iter().chain(directory.warning()) {
        log.emit(Event::Warning { stage: None, message });
    }
}

fn end(result: Result<Option<&Outcome>, &RunError>, made: bool, log: &EventLog) {
    log.emit(match result {
        Ok(Some(Outcome { summary })) => {
            Event::Finished { status: summary.status, exit_code: summary.status.exit_code() }
        }
        Ok(None) if made => Event::Note {
            stage: Stage::Verify,
            message: "the INT8 model is made; the shards of the report can run".into(),
        },
        Ok(None) => Event::Note {
            stage: Stage::Statistics,
            message: "the statistics are put together; the shards of candidates can run".into(),
        },
        Err(RunError::Interrupted) => Event::Interrupted,
        Err(error) => Event::Failed { message: error.to_string() },
    });
}
