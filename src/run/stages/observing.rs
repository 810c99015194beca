//! Statistics of one list of images, kept on disk as they grow.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::checkpoint::Checkpoint;
use super::held::Held;
use super::prepare::{Subject, misfit};
use crate::dataset::{self, Dataset, PrefetchOptions, prefetch};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions};
use crate::model::Port;
use crate::progress::Progress;
use crate::project::atomic;
use crate::quantize::{self, ObserveOptions, Placement, QuantizeError, Statistics};
use crate::run::worker::StageError;

/// Images between two checkpoints.
const CHECKPOINT_EVERY: usize = 64;

/// What to collect statistics of.
pub(in crate::run) struct Job<'a> {
    pub subject: &'a Subject,
    pub placement: &'a Placement,
    /// The calibration images, or a part of them.
    pub dataset: &'a Dataset,
    /// What the statistics belong to.
    pub key: &'a str,
    /// Where the statistics so far are kept.
    pub file: PathBuf,
    /// No more images are taken once more than these can't be read.
    pub allowed: usize,
    /// The shortest time between two checkpoints.
    pub pause: Duration,
    /// Shown the statistics after every image, as [`ObserveOptions::peek`].
    pub peek: &'a (dyn Fn(&[&Statistics]) + Sync),
    /// Offered every image, for those who need some of them again.
    pub held: Option<&'a Held>,
}

impl Job<'_> {
    /// Goes on from the checkpoint if there is one. More unreadable images than allowed are no error here, and
    /// neither are images of which none can be read: the caller judges.
    ///
    /// # Errors
    /// Inference fails, the checkpoint can't be written, or the user asked to stop.
    pub fn observe(&self, progress: &dyn Progress) -> Result<Checkpoint, StageError> {
        let total = self.dataset.items.len();
        let start = self.start(progress);
        if start.position >= total && start.statistics.images() > 0 {
            return Ok(start);
        }
        let threads = self.subject.threads();
        let items = self.dataset.items.get(start.position..).unwrap_or_default().to_vec();
        let rest = Dataset { items: items.into(), ..self.dataset.clone() };
        let options = PrefetchOptions { threads, depth: 2 * threads };
        let images = Images {
            loaded: Mutex::new(prefetch(&rest, &self.subject.preprocess, options)),
            taken: AtomicUsize::new(start.position),
            unreadable: Mutex::new(start.unreadable),
            allowed: self.allowed,
            dataset: &rest,
            shape: self.subject.sample.shape(),
            held: self.held,
            progress,
        };
        let parent = &self.subject.parent;
        let names = |ports: Vec<Port>| ports.into_iter().map(|p| p.name).collect::<Vec<_>>();
        let extra_outputs = self.placement.observed(&names(parent.inputs()), &names(parent.outputs()));
        let session = Builtin.load(parent, &LoadOptions { extra_outputs, ..LoadOptions::default() })?;
        let options = ObserveOptions { threads, total, checkpoint_every: CHECKPOINT_EVERY, peek: self.peek };
        let mut write_error = None;
        let mut last = Instant::now();
        let save = |statistics: &Statistics| {
            if last.elapsed() < self.pause && !progress.cancelled() {
                return;
            }
            last = Instant::now();
            if let Err(error) = self.write(&images.checkpoint(self.key, statistics.clone())) {
                write_error.get_or_insert(error);
            }
        };
        let observed = quantize::observe(
            session.as_ref(),
            self.placement,
            images.iter(),
            start.statistics,
            options,
            progress,
            save,
        );
        if let Some(error) = write_error {
            return Err(error);
        }
        let statistics = match observed {
            Err(QuantizeError::NoImages) => Statistics::default(),
            observed => observed?,
        };
        Ok(images.checkpoint(self.key, statistics))
    }

    fn start(&self, progress: &dyn Progress) -> Checkpoint {
        match Checkpoint::read(&self.file, self.key) {
            Ok(Some(found)) => return found,
            Ok(None) => {}
            Err(why) => progress.warn(&format!(
                "{}: the checkpoint is not used, {why}; calibration starts anew",
                self.file.display()
            )),
        }
        Checkpoint::new(self.key, 0, Vec::new(), Statistics::default())
    }

    fn write(&self, checkpoint: &Checkpoint) -> Result<(), StageError> {
        Ok(atomic::write(&self.file, &checkpoint.to_bytes()?)?)
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
    held: Option<&'a Held>,
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
                    Ok(image) => {
                        if let Some(held) = self.held {
                            held.offer(&self.dataset.items[loaded.index].path, &image);
                        }
                        return Some(image);
                    }
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
