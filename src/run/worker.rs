//! The stages of a run.

use super::directory::RunDirectory;
use super::event_log::EventLog;
use super::events::Stage;
use super::interrupt::Interrupt;
use super::plan::Plan;
use super::{Outcome, RunError};

/// Does the work of `plan` in `directory`.
///
/// # Errors
/// A stage failed, or the user stopped the run.
pub fn execute(
    _plan: &Plan,
    _directory: &RunDirectory,
    _log: &EventLog,
    _interrupt: &Interrupt,
) -> Result<Outcome, RunError> {
    Err(RunError::stage(Stage::Prepare, "not built"))
}
