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
use super::draft::{Draft, Written};
use super::event_log::EventLog;
use super::events::{Event, Stage};
use super::fold::StageState;
use super::interrupt::Interrupt;
use super::plan::{Method, Plan};
use super::shards::{Kept, Shards};
use super::sink::Sink;
use super::stages::baseline::Parent;
use super::stages::calibrate::Calibrated;
use super::stages::prepare::Subject;
use super::stages::recipe::Recipe;
use super::stages::tradeoff::Traded;
use super::stages::verify::Optimized;
use super::stages::{baseline, calibrate, closing, measure, prepare, report, sensitivity, tradeoff, verify};
use super::summary::StageSeconds;
use super::{Outcome, RunError};
use crate::progress::Progress;
use crate::project::{ProjectError, atomic, hash};

/// What every stage needs: the plan, and where to speak and write.
pub(super) struct Desk<'a> {
    pub plan: &'a Plan,
    pub directory: &'a RunDirectory,
    /// Where shards have looked at the images: what they found takes the place of looking at them here.
    pub shards: Option<&'a Shards>,
    pub log: &'a EventLog,
    pub interrupt: &'a Interrupt,
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

    /// Begins a file of the run directory that [`Desk::commit`] puts there.
    pub fn begin(&self, name: &str) -> Result<Draft, ProjectError> {
        Draft::create(self.directory.path(), name)
    }

    /// Puts a file into the run directory that was written piece by piece.
    pub fn commit(&self, draft: Draft) -> Result<(), RunError> {
        let Written { name, bytes, sha256 } = draft.commit()?;
        self.log.emit(Event::Artifact { path: name, bytes, sha256 });
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

/// Does the work of the plan. With shards, which must all have ended, no image is looked at for statistics and reports.
///
/// # Errors
/// A stage failed, or the user stopped the run; what was finished stays in the directory.
pub(super) fn execute(desk: &Desk) -> Result<Outcome, RunError> {
    let Made { subject, parent, calibrated, tradeoff, optimized } = make(desk)?;
    let measured = measure::run(desk, &subject, &optimized)?;
    let sensitivity = sensitivity::run(desk, &subject, &calibrated, &optimized, &measured.performance)?;
    let reports = report::run(desk, &subject, &parent, &optimized, &calibrated.unreadable)?;
    let results = closing::Results {
        calibrated: &calibrated,
        optimized: &optimized,
        measured: &measured,
        sensitivity: &sensitivity,
        tradeoff,
        evaluated: &reports,
    };
    let summary = closing::run(desk, &subject, &results)?;
    Ok(Outcome { summary })
}

/// Makes the INT8 model of the plan from what `shards`, those of the desk, found, and goes no further.
///
/// # Errors
/// As [`execute`].
pub(super) fn make_model(desk: &Desk, shards: &Shards) -> Result<(), RunError> {
    shards.forget_model()?;
    let Made { calibrated, tradeoff, optimized, .. } = make(desk)?;
    let fp32_layers = tradeoff.map_or_else(Vec::new, |traded| traded.summary.fp32_layers);
    shards.record_model(&optimized.model.sha256, optimized.head, fp32_layers, &kept(calibrated))
}

/// Puts the statistics of `shards`, those of the desk, together and goes as far as scoring candidates for the INT8
/// model needs: with `accuracy_aware` that is the model that layers are given back of.
///
/// # Errors
/// As [`execute`].
pub(super) fn prepare_candidates(desk: &Desk, shards: &Shards) -> Result<(), RunError> {
    shards.forget_model()?;
    shards.forget_statistics()?;
    let subject = prepare::run(desk)?;
    let parent = baseline::run(desk, &subject)?;
    let key = calibrate::merge(desk, &subject)?;
    let kept = match desk.plan.optimize.method {
        Method::AccuracyAware => Some(kept(calibrate::run(desk, &subject, &parent)?)),
        _ => None,
    };
    shards.record_statistics(&key, kept.as_ref())
}

fn kept(calibrated: Calibrated) -> Kept {
    let Recipe { options, shifts, source, .. } = calibrated.recipe;
    Kept { options, shifts, source }
}

/// What there is once the INT8 model is made.
struct Made {
    subject: Subject,
    parent: Parent,
    calibrated: Calibrated,
    tradeoff: Option<Traded>,
    optimized: Optimized,
}

fn make(desk: &Desk) -> Result<Made, RunError> {
    let subject = prepare::run(desk)?;
    let parent = match desk.shards.is_some_and(|s| s.model_is_made() || s.candidates_can_run()) {
        // It was looked at when the INT8 model was made.
        true => baseline::load(&subject)?,
        false => baseline::run(desk, &subject)?,
    };
    let calibrated = calibrate::run(desk, &subject, &parent)?;
    let (calibrated, tradeoff) = tradeoff::run(desk, &subject, &parent, calibrated)?;
    let optimized = verify::run(desk, &subject, &parent, &calibrated)?;
    Ok(Made { subject, parent, calibrated, tradeoff, optimized })
}
