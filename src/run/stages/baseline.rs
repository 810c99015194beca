//! Run the parent alone: it must load, fit its labels, and show its throughput.

use ndarray::{Array3, ArrayD, Axis, stack};

use super::prepare::Subject;
use crate::dataset::Dataset;
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions, Session, Value};
use crate::measure::{self, Settings, Timing};
use crate::progress::Progress;
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::fit;
use crate::run::worker::{Desk, StageError};

/// Time for the first impression of the parent's speed.
const SECONDS: f64 = 1.0;

/// The parent, loaded for batch 1.
pub(in crate::run) struct Parent {
    pub session: Box<dyn Session>,
}

pub(in crate::run) fn run(desk: &Desk, subject: &Subject) -> Result<Parent, RunError> {
    let work = |progress: &dyn Progress| measure_parent(subject, progress);
    desk.stage(Stage::Baseline, work).map(|((parent, _), _)| parent)
}

/// The parent, loaded and no more.
pub(in crate::run) fn load(subject: &Subject) -> Result<Parent, RunError> {
    loaded(subject).map_err(|source| RunError::Stage { stage: Stage::Baseline, source })
}

/// As [`load`], for a stage of another name.
pub(in crate::run) fn loaded(subject: &Subject) -> Result<Parent, StageError> {
    Ok(Parent { session: Builtin.load(&subject.parent, &LoadOptions::default())? })
}

/// Loads the parent, runs it, and says how fast it is with one stream.
pub(in crate::run) fn measure_parent(
    subject: &Subject,
    progress: &dyn Progress,
) -> Result<(Parent, Timing), StageError> {
    let session = Builtin.load(&subject.parent, &LoadOptions::default())?;
    check_labels(session.as_ref(), &subject.dataset)?;
    // A model that is no classifier says nothing about its preprocessing.
    let doubt = fit::doubt(session.as_ref(), &subject.parent, &subject.dataset, &subject.preprocess);
    if let Ok(Some(doubt)) = doubt {
        progress.warn(&doubt);
    }
    let settings = Settings { seconds: SECONDS, ..Settings::default() };
    let input = batch_of(&subject.sample, 1)?;
    let timing = measure::single(session.as_ref(), &[input], &settings, progress)?.timing;
    Ok((Parent { session }, timing))
}

/// Whether each label of `dataset` is a class of the model.
pub(in crate::run) fn check_labels(session: &dyn Session, dataset: &Dataset) -> Result<(), StageError> {
    match classes_of(session) {
        Some(classes) => Ok(dataset.check_labels(classes)?),
        None => Ok(()),
    }
}

/// The number of classes, if the first output is one score per class.
fn classes_of(session: &dyn Session) -> Option<usize> {
    let shape = &session.outputs().first()?.shape;
    let mut long = shape.iter().skip(1).filter(|d| **d != 1);
    match (long.next(), long.next()) {
        (Some(classes), None) => Some(*classes),
        _ => None,
    }
}

/// `image` (CHW) `batch` times, as NCHW.
pub(in crate::run) fn batch_of(image: &Array3<f32>, batch: usize) -> Result<Value, StageError> {
    let views = vec![image.view(); batch];
    let images: ArrayD<f32> = stack(Axis(0), &views)?.into_dyn();
    Ok(Value::from(images))
}
