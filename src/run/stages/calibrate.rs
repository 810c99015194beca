//! Statistics, ranges, correction: from the FP32 parent to the INT8 model on disk.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::baseline::Parent;
use super::cache::Cache;
use super::checkpoint::Checkpoint;
use super::held::Held;
use super::observing::Job;
use super::prepare::Subject;
use super::recipe::{self, Recipe};
use super::unreadable::{self, Set, Unreadable};
use crate::dataset::{self, Dataset};
use crate::model::Model;
use crate::progress::Progress;
use crate::project::{atomic, hash, host};
use crate::quantize::{
    self, BiasCorrection, LayerReport, Options, Placement, QuantizeError, Quantized, Statistics,
};
use crate::run::RunError;
use crate::run::events::{Event, Stage};
use crate::run::plan::Plan;
use crate::run::summary::CalibrationSummary;
use crate::run::worker::{Desk, StageError};

/// The shortest time between two looks at a tensor.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Name of the statistics so far.
pub(in crate::run) const CHECKPOINT_FILE: &str = "checkpoint";
/// Name of the model that is made.
pub(in crate::run) const MODEL_FILE: &str = "model.int8.onnx";

/// Puts together the statistics that shards have, into the run's checkpoint; gives its key.
pub(in crate::run) fn merge(desk: &Desk, subject: &Subject) -> Result<String, RunError> {
    let work = |progress: &dyn Progress| -> Result<String, StageError> {
        let placement = quantize::place(&subject.parent, &options(desk.plan))?;
        let key = key(subject, &placement, &subject.calibration);
        observe(desk, subject, &placement, &key, None, progress)?;
        Ok(key)
    };
    desk.stage(Stage::Statistics, work).map(|(key, _)| key)
}

/// The INT8 model and how it came about.
pub(in crate::run) struct Calibrated {
    pub model: Model,
    /// What became INT8.
    pub placement: Placement,
    pub statistics: Statistics,
    pub recipe: Recipe,
    pub summary: CalibrationSummary,
    /// Names of the calibration images that can't be read, and why.
    pub unreadable: Vec<(String, String)>,
}

impl Calibrated {
    /// The form of the parent that was quantized, and the statistics that belong to it.
    pub fn source<'a>(&'a self, subject: &'a Subject) -> (&'a Model, &'a Statistics) {
        match &self.recipe.source {
            Some((model, statistics)) => (model, statistics),
            None => (&subject.parent, &self.statistics),
        }
    }

    /// A row for each node of the FP32 model.
    pub fn layers(&self) -> &[LayerReport] {
        &self.recipe.quantized.layers
    }
}

pub(in crate::run) fn run(desk: &Desk, subject: &Subject, parent: &Parent) -> Result<Calibrated, RunError> {
    let options = options(desk.plan);
    let held = Held::new(&recipe::trial_part(subject));
    let tries = options.bias_correction != BiasCorrection::None;
    let observed = |progress: &dyn Progress| -> Result<(Placement, Checkpoint, bool), StageError> {
        let placement = quantize::place(&subject.parent, &options)?;
        let key = key(subject, &placement, &subject.calibration);
        let cache = Cache::of_user(desk.plan.optimize.cache, &key);
        let cached = || cache.read(subject.calibration.items.len(), progress);
        // Where shards were computed, they are what was asked for.
        if let Some(checkpoint) = desk.shards.is_none().then(cached).flatten() {
            atomic::write(&desk.directory.file(CHECKPOINT_FILE), &checkpoint.to_bytes()?)?;
            return Ok((placement, checkpoint, true));
        }
        let checkpoint = observe(desk, subject, &placement, &key, tries.then_some(&held), progress)?;
        cache.keep(&checkpoint, progress);
        Ok((placement, checkpoint, false))
    };
    let ((placement, checkpoint, from_cache), seconds) = desk.stage(Stage::Statistics, observed)?;
    unreadable::store(desk, listed(&checkpoint.unreadable))?;
    let statistics = checkpoint.statistics;
    let images = statistics.images() as usize;
    let summary = CalibrationSummary {
        images,
        seconds,
        images_per_second: images as f64 / seconds,
        peak_rss_bytes: host::peak_rss_bytes(),
        from_cache,
    };
    let recipe = recipe::run(desk, subject, parent, &placement, &statistics, &held, options)?;
    let model = write(desk, &recipe.quantized)?;
    Ok(Calibrated { model, placement, statistics, recipe, summary, unreadable: checkpoint.unreadable })
}

/// Puts the model into the run directory.
pub(in crate::run) fn write(desk: &Desk, quantized: &Quantized) -> Result<Model, RunError> {
    let bytes = quantized.model.encode();
    desk.write(MODEL_FILE, &bytes)?;
    let mut model = quantized.model.clone();
    model.path = desk.directory.file(MODEL_FILE);
    model.sha256 = hash::sha256_bytes(&bytes);
    model.bytes = bytes.len() as u64;
    Ok(model)
}

/// What the plan says of how to quantize.
pub(in crate::run) fn options(plan: &Plan) -> Options {
    Options {
        preset: plan.optimize.preset,
        range: plan.optimize.range,
        bias_correction: plan.optimize.bias_correction,
        ignored: plan.optimize.ignored_scope.clone(),
        seven_bit: BTreeSet::new(),
    }
}

/// What statistics of `dataset` belong to: they may be used again only where all of this is the same.
pub(in crate::run) fn key(subject: &Subject, placement: &Placement, dataset: &Dataset) -> String {
    let mut text = format!("{}\n{:?}\n", subject.parent.sha256, subject.preprocess);
    for tensor in &placement.tensors {
        text += &format!("{} {:?}\n", tensor.name, tensor.channel_axis);
    }
    let mut hash = hash::Hasher::default();
    hash.update(text.as_bytes());
    for item in dataset.items.iter() {
        // An unreadable file has no hash, and stays unreadable or changes the key.
        let line = format!("{} {}\n", item.name, dataset::sha256(&item.path).unwrap_or_default());
        hash.update(line.as_bytes());
    }
    hash.finish()
}

/// Statistics of all calibration images: computed here, or put together from shards.
fn observe(
    desk: &Desk,
    subject: &Subject,
    placement: &Placement,
    key: &str,
    held: Option<&Held>,
    progress: &dyn Progress,
) -> Result<Checkpoint, StageError> {
    let total = subject.calibration.items.len();
    let share = desk.plan.dataset.max_unreadable;
    let allowed = unreadable::allowed(share, total);
    let file = desk.directory.file(CHECKPOINT_FILE);
    let known = Checkpoint::read(&file, key).ok().flatten();
    let checkpoint = match (known, desk.shards) {
        (Some(whole), _) if whole.position >= total && whole.statistics.images() > 0 => return Ok(whole),
        (_, Some(shards)) => shards.statistics(subject, placement, key, progress)?,
        (_, None) => {
            let looks = Looks::new(desk, placement);
            let peek = |parts: &[&Statistics]| looks.peek(parts);
            let dataset = &subject.calibration;
            let pause = Duration::ZERO;
            Job { subject, placement, dataset, key, file: file.clone(), allowed, pause, peek: &peek, held }
                .observe(progress)?
        }
    };
    let unreadable = &checkpoint.unreadable;
    if unreadable.len() > allowed && !progress.cancelled() {
        let found = listed(unreadable);
        unreadable::store(desk, found.clone())?;
        return Err(unreadable::too_many(&subject.calibration.root, &found, total, share));
    }
    if checkpoint.statistics.images() == 0 {
        return Err(QuantizeError::NoImages.into());
    }
    if let Some((name, why)) = unreadable.first() {
        progress.warn(&format!(
            "{} of {total} calibration images can't be read and were left out; the first: {name}: {why}",
            unreadable.len()
        ));
    }
    atomic::write(&file, &checkpoint.to_bytes()?)?;
    Ok(checkpoint)
}

/// Rows of the list of unreadable images.
pub(in crate::run) fn listed(unreadable: &[(String, String)]) -> Vec<Unreadable> {
    let row = |(image, reason): &(String, String)| Unreadable {
        set: Set::Calibration,
        image: image.clone(),
        reason: reason.clone(),
    };
    unreadable.iter().map(row).collect()
}

/// Shows one tensor after another while statistics are collected, one in [`LOOK_EVERY`].
struct Looks<'a> {
    desk: &'a Desk<'a>,
    placement: &'a Placement,
    options: Options,
    turn: Mutex<Turn>,
}

/// Which tensor is next, and when the last one was shown.
#[derive(Default)]
struct Turn {
    next: usize,
    last: Option<Instant>,
}

impl<'a> Looks<'a> {
    fn new(desk: &'a Desk<'a>, placement: &'a Placement) -> Looks<'a> {
        Looks { desk, placement, options: options(desk.plan), turn: Mutex::default() }
    }

    fn peek(&self, parts: &[&Statistics]) {
        // While one thread looks, the others have better things to do.
        let Ok(mut turn) = self.turn.try_lock() else { return };
        if turn.last.is_some_and(|last| last.elapsed() < LOOK_EVERY) {
            return;
        }
        if let Some(look) = quantize::look(self.placement, parts, &self.options, turn.next) {
            self.desk.emit(Event::Observed(look));
            turn.last = Some(Instant::now());
        }
        turn.next += 1;
    }
}
