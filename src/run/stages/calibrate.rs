//! Statistics, ranges, correction: from the FP32 parent to the INT8 model on disk.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::baseline::Parent;
use super::cache::Cache;
use super::checkpoint::Checkpoint;
use super::prepare::{Subject, misfit};
use super::recipe::{self, Recipe};
use super::unreadable::{self, Set, Unreadable};
use crate::dataset::{self, Dataset, PrefetchOptions, prefetch};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions};
use crate::model::Model;
use crate::progress::Progress;
use crate::project::{atomic, hash, host};
use crate::quantize::{self, LayerReport, ObserveOptions, Options, Placement, Quantized, Statistics};
use crate::run::RunError;
use crate::run::events::{Event, Stage};
use crate::run::plan::Plan;
use crate::run::summary::CalibrationSummary;
use crate::run::worker::{Desk, StageError};

/// Images between two checkpoints.
const CHECKPOINT_EVERY: usize = 64;
/// The shortest time between two looks at a tensor.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Name of the statistics so far.
const CHECKPOINT_FILE: &str = "checkpoint";
/// Name of the model that is made.
pub(in crate::run) const MODEL_FILE: &str = "model.int8.onnx";

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
    /// A row for each node of the FP32 model.
    pub fn layers(&self) -> &[LayerReport] {
        &self.recipe.quantized.layers
    }
}

pub(in crate::run) fn run(desk: &Desk, subject: &Subject, parent: &Parent) -> Result<Calibrated, RunError> {
    let options = options(desk.plan);
    let observed = |progress: &dyn Progress| -> Result<(Placement, Checkpoint, bool), StageError> {
        let placement = quantize::place(&subject.parent, &options)?;
        let key = key(subject, &placement);
        let cache = Cache::of_user(desk.plan.optimize.cache, &key);
        if let Some(checkpoint) = cache.read(subject.calibration.items.len(), progress) {
            atomic::write(&desk.directory.file(CHECKPOINT_FILE), &checkpoint.to_bytes()?)?;
            return Ok((placement, checkpoint, true));
        }
        let checkpoint = observe(desk, subject, &placement, &key, progress)?;
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
    let recipe = recipe::run(desk, subject, parent, &placement, &statistics, options)?;
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

fn options(plan: &Plan) -> Options {
    Options {
        preset: plan.optimize.preset,
        range: plan.optimize.range,
        bias_correction: plan.optimize.bias_correction,
        ignored: plan.optimize.ignored_scope.clone(),
    }
}

/// What statistics belong to: they may be used again only where all of this is the same.
fn key(subject: &Subject, placement: &Placement) -> String {
    let mut text = format!("{}\n{:?}\n", subject.parent.sha256, subject.preprocess);
    for tensor in &placement.tensors {
        text += &format!("{} {:?}\n", tensor.name, tensor.channel_axis);
    }
    for item in &subject.calibration.items {
        // An unreadable file has no hash, and stays unreadable or changes the key.
        text += &format!("{} {}\n", item.name, dataset::sha256(&item.path).unwrap_or_default());
    }
    hash::sha256_bytes(text.as_bytes())
}

fn observe(
    desk: &Desk,
    subject: &Subject,
    placement: &Placement,
    key: &str,
    progress: &dyn Progress,
) -> Result<Checkpoint, StageError> {
    let file = desk.directory.file(CHECKPOINT_FILE);
    let start = match Checkpoint::read(&file, key) {
        Ok(Some(found)) => found,
        Ok(None) => Checkpoint::new(key, 0, Vec::new(), Statistics::default()),
        Err(why) => {
            progress.warn(&format!(
                "{}: the checkpoint is not used, {why}; calibration starts anew",
                file.display()
            ));
            Checkpoint::new(key, 0, Vec::new(), Statistics::default())
        }
    };
    let total = subject.calibration.items.len();
    if start.position >= total && start.statistics.images() > 0 {
        return Ok(start);
    }
    let threads = subject.threads();
    let rest = Dataset {
        items: subject.calibration.items[start.position..].to_vec(),
        ..subject.calibration.clone()
    };
    let share = desk.plan.dataset.max_unreadable;
    let images = Images {
        loaded: Mutex::new(prefetch(
            &rest,
            &subject.preprocess,
            PrefetchOptions { threads, depth: 2 * threads },
        )),
        taken: AtomicUsize::new(start.position),
        unreadable: Mutex::new(start.unreadable),
        allowed: unreadable::allowed(share, total),
        dataset: &rest,
        shape: subject.sample.shape(),
        progress,
    };
    let names =
        |infos: &[crate::engine::TensorInfo]| infos.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
    let plain = Builtin.load(&subject.parent, &LoadOptions::default())?;
    let extra_outputs = placement.observed(&names(plain.inputs()), &names(plain.outputs()));
    let session = Builtin.load(&subject.parent, &LoadOptions { extra_outputs, ..LoadOptions::default() })?;
    let looks = Looks::new(desk, placement);
    let peek = |parts: &[&Statistics]| looks.peek(parts);
    let options = ObserveOptions { threads, total, checkpoint_every: CHECKPOINT_EVERY, peek: &peek };
    let mut write_error = None;
    let save = |statistics: &Statistics| {
        let checkpoint = images.checkpoint(key, statistics.clone());
        let written =
            checkpoint.to_bytes().map_err(StageError::from).and_then(|b| Ok(atomic::write(&file, &b)?));
        if let Err(error) = written {
            write_error.get_or_insert(error);
        }
    };
    let observed = quantize::observe(
        session.as_ref(),
        placement,
        images.iter(),
        start.statistics,
        options,
        progress,
        save,
    );
    if let Some(error) = write_error {
        return Err(error);
    }
    let unreadable = images.unreadable();
    if unreadable.len() > images.allowed && !progress.cancelled() {
        let found = listed(&unreadable);
        unreadable::store(desk, found.clone())?;
        return Err(unreadable::too_many(&subject.calibration.root, &found, total, share));
    }
    let statistics = observed?;
    if !unreadable.is_empty() {
        let (name, why) = &unreadable[0];
        progress.warn(&format!(
            "{} of {total} calibration images can't be read and were left out; the first: {name}: {why}",
            unreadable.len()
        ));
    }
    let checkpoint = images.checkpoint(key, statistics);
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

/// The readable images of a dataset in order, with the count of those taken.
struct Images<'a> {
    loaded: Mutex<dataset::Prefetch>,
    taken: AtomicUsize,
    unreadable: Mutex<Vec<(String, String)>>,
    /// No more images are taken once more than these can't be read.
    allowed: usize,
    dataset: &'a Dataset,
    /// Channels, height and width that the model takes.
    shape: &'a [usize],
    progress: &'a dyn Progress,
}

impl Images<'_> {
    fn iter(&self) -> impl Iterator<Item = ndarray::Array3<f32>> + Send + '_ {
        std::iter::from_fn(move || {
            loop {
                if self.progress.cancelled() || self.unreadable().len() > self.allowed {
                    return None;
                }
                let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).next()?;
                self.taken.fetch_add(1, Ordering::Relaxed);
                let image = loaded.image.map_err(|error| error.to_string());
                match image.and_then(|image| misfit(&image, self.shape).map_or(Ok(image), Err)) {
                    Ok(image) => return Some(image),
                    Err(why) => {
                        let name = self.dataset.items[loaded.index].name.clone();
                        let mut list = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
                        list.push((name, why));
                    }
                }
            }
        })
    }

    fn unreadable(&self) -> Vec<(String, String)> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn checkpoint(&self, key: &str, statistics: Statistics) -> Checkpoint {
        Checkpoint::new(key, self.taken.load(Ordering::Relaxed), self.unreadable(), statistics)
    }
}
