//! Both models over every image of the dataset, into the accuracy reports and their files.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use image::imageops::{FilterType, thumbnail};
use image::{DynamicImage, RgbImage};

use super::baseline::{Parent, batch_of};
use super::calibrate;
use super::prepare::{Subject, misfit};
use super::unreadable::{self, Set, Unreadable};
use super::verify::Optimized;
use crate::dataset::{Dataset, PrefetchOptions, Preprocess, decode, prefetch};
use crate::engine::{EngineName, LoadOptions, Session};
use crate::model::Model;
use crate::progress::Progress;
use crate::report::html::Thumbnail;
use crate::report::{Compare, Head, Kind, Ledger, MOST_CHANGED, ReportError, Reports, Rows, Seen, Tables};
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::plan::Plan;
use crate::run::stages::warnings;
use crate::run::worker::{Desk, StageError};

/// Changed images that get a picture on the page.
pub(in crate::run) const MAX_CARDS: usize = MOST_CHANGED;
/// Longer side of such a picture, in pixels.
const THUMBNAIL_SIDE: u32 = 240;
const THUMBNAIL_QUALITY: u8 = 82;

/// The reports, and pictures of the images that changed.
pub(in crate::run) struct Evaluated {
    pub reports: Reports,
    pub thumbnails: BTreeMap<String, Thumbnail>,
}

pub(in crate::run) fn run(
    desk: &Desk,
    subject: &Subject,
    parent: &Parent,
    optimized: &Optimized,
    not_calibrated: &[(String, String)],
) -> Result<Evaluated, RunError> {
    let kinds = &desk.plan.reports;
    let compare = compare_on(parent.session.as_ref(), optimized.head, &subject.dataset, kinds);
    let work = |progress: &dyn Progress| {
        let total = subject.dataset.items.len();
        let share = desk.plan.dataset.max_unreadable;
        let allowed = unreadable::allowed(share, total);
        let mut tables = Tables::create(compare.kinds(), subject.classes(), |name| desk.begin(name))?;
        let reports = match desk.shards {
            Some(shards) => {
                let model = &optimized.model.sha256;
                let gathered =
                    shards.reports(subject, desk.plan, model, optimized.head, compare.clone(), progress)?;
                gathered.finish(&mut tables)?
            }
            None => {
                warnings::of_saturation(desk.plan, &[desk.plan.reports_engine], progress);
                let elsewhere = sessions_elsewhere(desk.plan, subject, &optimized.model)?;
                let [parent, second] = match &elsewhere {
                    Some([parent, optimized]) => [parent.as_ref(), optimized.as_ref()],
                    None => [parent.session.as_ref(), optimized.session.as_ref()],
                };
                let pair = Pair { parent, optimized: second, compare: &compare, threads: subject.threads() };
                evaluate(&pair, &subject.dataset, &subject.preprocess, &mut tables, allowed, progress)?
            }
        };
        tell_unreadable(&reports, &subject.dataset, progress)?;
        let own = reports.unreadable.iter().map(|u| Unreadable {
            set: Set::Dataset,
            image: u.image.clone(),
            reason: u.reason.clone(),
        });
        let mut found: Vec<Unreadable> = own.collect();
        let error = (found.len() > allowed && !progress.cancelled())
            .then(|| unreadable::too_many(&subject.dataset.root, &found, total, share));
        found.extend(calibrate::listed(not_calibrated));
        unreadable::store(desk, found)?;
        if let Some(error) = error {
            return Err(error);
        }
        let thumbnails = thumbnails(&reports, &subject.dataset);
        let files = tables.finish(|kind| reports.made(kind))?;
        Ok((Evaluated { reports, thumbnails }, files))
    };
    let ((evaluated, files), _) = desk.stage(Stage::Report, work)?;
    files.into_iter().try_for_each(|file| desk.commit(file))?;
    Ok(evaluated)
}

/// Two loaded models to hold against each other.
pub(in crate::run) struct Pair<'a> {
    pub parent: &'a dyn Session,
    pub optimized: &'a dyn Session,
    pub compare: &'a Compare,
    pub threads: usize,
}

/// Both models on the engine of the reports, where it is another one than the built-in engine.
///
/// # Errors
/// The engine is not found, or can't load a model.
pub(in crate::run) fn sessions_elsewhere(
    plan: &Plan,
    subject: &Subject,
    optimized: &Model,
) -> Result<Option<[Box<dyn Session>; 2]>, StageError> {
    match plan.reports_engine {
        EngineName::Builtin => Ok(None),
        other => {
            let engine = other.open(&plan.performance.libraries)?;
            let options = LoadOptions { streams: subject.threads(), ..LoadOptions::default() };
            let load = |model| engine.load(model, &options);
            Ok(Some([load(&subject.parent)?, load(optimized)?]))
        }
    }
}

/// The reports `kinds` on all of `dataset`.
pub(in crate::run) fn compare_on(
    parent: &dyn Session,
    head: Head,
    dataset: &Dataset,
    kinds: &[Kind],
) -> Compare {
    let outputs = parent.outputs().iter().map(|o| o.name.clone()).collect();
    Compare::new(kinds, outputs, head, dataset.items.iter().any(|i| i.label.is_some()))
}

/// Runs both models on each image of `dataset`, whose rows go to `rows`; ends early once more than `allowed` can't
/// be read.
pub(in crate::run) fn evaluate(
    pair: &Pair,
    dataset: &Dataset,
    preprocess: &Preprocess,
    rows: &mut dyn Rows,
    allowed: usize,
    progress: &dyn Progress,
) -> Result<Reports, StageError> {
    let queue = Mutex::new(InOrder {
        next: 0,
        waiting: BTreeMap::new(),
        ledger: Ledger::new(pair.compare.clone(), rows),
    });
    let take = |index, seen| Ok(queue.lock().unwrap_or_else(PoisonError::into_inner).take(index, seen)?);
    gather(pair, dataset, preprocess, allowed, progress, &take)?;
    Ok(queue.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?)
}

/// Images on their way into a ledger, which wants them in the order of the dataset: those that were done before one
/// that comes earlier. They are as many as other threads do while one looks at an image.
struct InOrder<'a> {
    next: usize,
    waiting: BTreeMap<usize, Seen>,
    ledger: Ledger<'a>,
}

impl InOrder<'_> {
    fn take(&mut self, index: usize, seen: Seen) -> Result<(), ReportError> {
        self.waiting.insert(index, seen);
        while let Some(seen) = self.waiting.remove(&self.next) {
            self.ledger.add(seen)?;
            self.next += 1;
        }
        Ok(())
    }

    /// The reports of what was taken; where the work ended early, images are missing before others.
    fn finish(mut self) -> Result<Reports, ReportError> {
        self.waiting.into_values().try_for_each(|seen| self.ledger.add(seen))?;
        Ok(self.ledger.finish())
    }
}

/// Runs both models on each image of `dataset` and hands what comes of it to `take`, with its place in the dataset;
/// ends early once more than `allowed` can't be read.
pub(in crate::run) fn gather(
    pair: &Pair,
    dataset: &Dataset,
    preprocess: &Preprocess,
    allowed: usize,
    progress: &dyn Progress,
    take: &(dyn Fn(usize, Seen) -> Result<(), StageError> + Sync),
) -> Result<(), StageError> {
    let threads = pair.threads.max(1);
    let images = Mutex::new(prefetch(dataset, preprocess, PrefetchOptions { threads, depth: 2 * threads }));
    // Reports name images relative to the dataset, so that they do not differ between machines.
    let folder = format!("{}/", dataset.root.display());
    let done = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let total = dataset.items.len();
    let shape = pair.parent.inputs().first().map_or(&[][..], |i| i.shape.get(1..).unwrap_or(&[]));
    let work = || -> Result<(), StageError> {
        let (mut parent, mut optimized) = (pair.parent.spawn()?, pair.optimized.spawn()?);
        while !progress.cancelled() && failed.load(Ordering::Relaxed) <= allowed {
            let Some(loaded) = images.lock().unwrap_or_else(PoisonError::into_inner).next() else { break };
            let item = &dataset.items[loaded.index];
            let image = loaded.image.map_err(|error| error.to_string());
            let seen = match image.and_then(|image| misfit(&image, shape).map_or(Ok(image), Err)) {
                Err(why) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    Compare::unreadable(&item.name, item.label, &why.replace(&folder, ""))
                }
                Ok(image) => {
                    let input = [batch_of(&image, 1)?];
                    let (p, s) = (parent.run(&input)?, optimized.run(&input)?);
                    let p: Vec<&[f32]> = p.iter().map(|v| v.as_slice()).collect();
                    let s: Vec<&[f32]> = s.iter().map(|v| v.as_slice()).collect();
                    pair.compare.image(&item.name, item.label, &p, &s)?
                }
            };
            take(loaded.index, seen)?;
            progress.step(done.fetch_add(1, Ordering::Relaxed) + 1, total, Some(&item.name));
        }
        Ok(())
    };
    let results: Vec<Result<(), StageError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    results.into_iter().collect()
}

/// Says which images of `dataset` can't be read.
///
/// # Errors
/// None can.
pub(in crate::run) fn tell_unreadable(
    reports: &Reports,
    dataset: &Dataset,
    progress: &dyn Progress,
) -> Result<(), StageError> {
    let total = dataset.items.len();
    if let Some(first) = reports.unreadable.first() {
        progress.warn(&format!(
            "{} of {total} images can't be read and count in no report; the first: {}: {}",
            reports.unreadable.len(),
            first.image,
            first.reason
        ));
    }
    if !progress.cancelled() && reports.unreadable.len() == total {
        return Err(format!("{}: none of its {total} images can be read", dataset.root.display()).into());
    }
    Ok(())
}

/// Pictures of the images whose class changed, the most changed first.
pub(in crate::run) fn thumbnails(reports: &Reports, dataset: &Dataset) -> BTreeMap<String, Thumbnail> {
    let changed = reports.predictions.iter().flat_map(|p| &p.changed).take(MAX_CARDS);
    let picture = |name: &str| -> Option<Thumbnail> {
        let item = dataset.items.iter().find(|i| i.name == name)?;
        let image = decode(&item.path).ok()?;
        let mut bytes = Vec::new();
        let small = DynamicImage::ImageRgb8(shrink(&image));
        let encoder =
            image::codecs::jpeg::JpegEncoder::new_with_quality(Cursor::new(&mut bytes), THUMBNAIL_QUALITY);
        small.write_with_encoder(encoder).ok()?;
        Some(Thumbnail { mime: "image/jpeg", bytes })
    };
    changed.filter_map(|row| Some((row.image.clone(), picture(&row.image)?))).collect()
}

fn shrink(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let longer = width.max(height).max(1);
    if longer <= THUMBNAIL_SIDE {
        return image.clone();
    }
    let scale = |side: u32| (u64::from(side) * u64::from(THUMBNAIL_SIDE) / u64::from(longer)).max(1) as u32;
    if longer > 4 * THUMBNAIL_SIDE {
        return thumbnail(image, scale(width), scale(height));
    }
    image::imageops::resize(image, scale(width), scale(height), FilterType::Triangle)
}
