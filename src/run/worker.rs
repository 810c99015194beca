//! The walk of a run through its stages.
//!
//! ```text
//! prepare ─> baseline ─> statistics ─> quantize ─> correct ─> (tradeoff) ─> verify ─> measure ─> sensitivity ─> report ─> summary
//! ```
//!
//! Each stage is a function of what the stages before it made; this file only hands things on and
//! puts files into the run directory.

use serde::Serialize;

use super::directory::RunDirectory;
use super::event_log::EventLog;
use super::events::{Event, Stage};
use super::fold::StageState;
use super::interrupt::Interrupt;
use super::plan::Plan;
use super::sink::Sink;
use super::stages::{baseline, calibrate, closing, measure, prepare, report, sensitivity, tradeoff, verify};
use super::summary::StageSeconds;
use super::{Outcome, RunError};
use crate::progress::Progress;
use crate::project::{atomic, hash};

/// What every stage needs: the plan, and where to speak and write.
pub(super) struct Desk<'a> {
    pub plan: &'a Plan,
    pub directory: &'a RunDirectory,
    log: &'a EventLog,
    interrupt: &'a Interrupt,
}

/// What a stage fails with: the error of the room that did the work.
pub(super) type StageError = Box<dyn std::error::Error + Send + Sync>;

impl Desk<'_> {
    /// Runs one stage; gives its result and the seconds it took.
    pub fn stage<T>(
        &self,
        stage: Stage,
        work: impl FnOnce(&dyn Progress) -> Result<T, StageError>,
    ) -> Result<(T, f64), RunError> {
        let sink = Sink::start(self.log, self.interrupt, stage);
        let result = work(&sink);
        // A cancelled room returns an error of its own, which is no failure.
        if self.interrupt.is_set() {
            return Err(RunError::Interrupted);
        }
        match result {
            Ok(value) => Ok((value, sink.finish())),
            Err(source) => Err(RunError::Stage { stage, source }),
        }
    }

    /// Puts a file into the run directory.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunError> {
        atomic::write(&self.directory.file(name), bytes)?;
        let sha256 = hash::sha256_bytes(bytes);
        self.log.emit(Event::Artifact { path: name.into(), bytes: bytes.len() as u64, sha256 });
        Ok(())
    }

    /// Puts a value into the run directory as indented JSON.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RunError> {
        let mut json = serde_json::to_vec_pretty(value).map_err(|e| RunError::stage(Stage::Report, e))?;
        json.push(b'\n');
        self.write(name, &json)
    }

    /// Warnings of all stages so far.
    pub fn warnings(&self) -> Vec<String> {
        self.log.state().warnings
    }

    /// The time of each stage that has ended.
    pub fn stages(&self) -> Vec<StageSeconds> {
        let stages = self.log.state().stages;
        let ended = |s: &StageState| Some(StageSeconds { stage: s.stage, seconds: s.seconds? });
        stages.iter().filter_map(ended).collect()
    }

    pub fn emit(&self, event: Event) {
        self.log.emit(event);
    }
}

/// Does the work of `plan` in `directory`.
///
/// # Errors
/// A stage failed, or the user stopped the run; what was finished stays in the directory.
pub fn execute(
    plan: &Plan,
    directory: &RunDirectory,
    log: &EventLog,
    interrupt: &Interrupt,
) -> Result<Outcome, RunError> {
    let desk = Desk { plan, directory, log, interrupt };
    let subject = prepare::run(&desk)?;
    let parent = baseline::run(&desk, &subject)?;
    let calibrated = calibrate::run(&desk, &subject, &parent)?;
    let (calibrated, tradeoff) = tradeoff::run(&desk, &subject, &parent, calibrated)?;
    let optimized = verify::run(&desk, &subject, &parent, &calibrated)?;
    let performance = measure::run(&desk, &subject, &optimized)?;
    let sensitivity = sensitivity::run(&desk, &subject, &calibrated, &optimized, &performance)?;
    let reports = report::run(&desk, &subject, &parent, &optimized, &calibrated.unreadable)?;
    let results = closing::Results {
        calibrated: &calibrated,
        optimized: &optimized,
        performance: &performance,
        sensitivity: &sensitivity,
        tradeoff,

        evaluated: &reports,
    };
    let summary = closing::run(&desk, &subject, &results)?;
    Ok(Outcome { summary })
}
