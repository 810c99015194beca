//! One piece of work: plan, events, worker, gates. The only way in which work is ever done.
//!
//! ```text
//! run file ── plan ── directory ── perform ── worker ── stages, each with a sink
//!                                     └── events ── events.jsonl ── fold ── what is shown
//!          launch: the same in a process of its own   tail, status: the same from outside
//! ```

pub mod compare;
pub mod directory;
mod error;
pub mod event_log;
pub mod events;
pub mod fit;
pub mod fold;
pub mod gates;
pub mod import;
pub mod interrupt;
pub mod launch;
pub mod memory;
pub mod package;
pub mod performance;
pub mod plan;
pub mod preview;
pub mod registry;
pub mod sink;
mod stages;
pub mod status;
pub mod summary;
pub mod tail;
pub mod turns;
pub mod worker;

pub use error::RunError;
pub use stages::load::Loaded;

use directory::RunDirectory;
use event_log::EventLog;
use events::Event;
use interrupt::Interrupt;
use plan::Plan;
use summary::Summary;

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
    log.emit(Event::Started {
        plan: plan.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        pid: std::process::id(),
        host: host::hostname(),
    });
    for message in plan.warnings().into_iter().chain(directory.warning()) {
        log.emit(Event::Warning { stage: None, message });
    }
    let result = worker::execute(plan, directory, log, interrupt);
    log.emit(match &result {
        Ok(Outcome { summary }) => {
            Event::Finished { status: summary.status, exit_code: summary.status.exit_code() }
        }
        Err(RunError::Interrupted) => Event::Interrupted,
        Err(error) => Event::Failed { message: error.to_string() },
    });
    result
}
