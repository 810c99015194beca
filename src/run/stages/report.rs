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
use crate::progress::Progress;
use crate::report::html::Thumbnail;
use crate::report::{Collector, Head, Kind, Reports, Row, write_csv, write_json};
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::worker::{Desk, StageError};

/// Changed images that get a picture on the page.
pub(in crate::run) const MAX_CARDS: usize = 48;
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
    let work = |progress: &dyn Progress| {
        let engine = desk.plan.reports_engine;
        let elsewhere = match engine {
            EngineName::Builtin => None,
            other => {
                let engine = other.open(&desk.plan.performance.libraries)?;
                let options = LoadOptions { streams: subject.threads(), ..LoadOptions::default() };
                let load = |model| engine.load(model, &options);
                Some([load(&subject.parent)?, load(&optimized.model)?])
            }
        };
        let [parent, second] = match &elsewhere {
            Some([parent, optimized]) => [parent.as_ref(), optimized.as_ref()],
            None => [parent.session.as_ref(), optimized.session.as_ref()],
        };
        let pair = Pair { parent, optimized: second, head: optimized.head, threads: subject.threads() };
        let total = subject.dataset.items.len();
        let share = desk.plan.dataset.max_unreadable;
        let allowed = unreadable::allowed(share, total);
        let kinds = &desk.plan.reports;
        let reports = evaluate(&pair, &subject.dataset, &subject.preprocess, kinds, allowed, progress)?;
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
        Ok(Evaluated { reports, thumbnails })
    };
    let (evaluated, _) = desk.stage(Stage::Report, work)?;
    for (name, bytes) in files(&evaluated.reports, subject.classes())
        .map_err(|e| RunError::Stage { stage: Stage::Report, source: e })?
    {
        desk.write(&name, &bytes)?;
    }
    Ok(evaluated)
}

/// Two loaded models to hold against each other.
pub(in crate::run) struct Pair<'a> {
    pub parent: &'a dyn Session,
    pub optimized: &'a dyn Session,
    /// What the first output means.
    pub head: Head,
    pub threads: usize,
}

/// Runs both models on each image of `dataset`; ends early once more than `allowed` can't be read.
pub(in crate::run) fn evaluate(
    pair: &Pair,
    dataset: &Dataset,
    preprocess: &Preprocess,
    kinds: &[Kind],
    allowed: usize,
    progress: &dyn Progress,
) -> Result<Reports, StageError> {
    let outputs = pair.parent.outputs().iter().map(|o| o.name.clone()).collect();
    let labels = dataset.items.iter().any(|i| i.label.is_some());
    let collector = Mutex::new(Collector::new(kinds, outputs, pair.head, labels));
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
            match image.and_then(|image| misfit(&image, shape).map_or(Ok(image), Err)) {
                Err(why) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
                    collector.push_failed(&item.name, item.label, &why.replace(&folder, ""));
                }
                Ok(image) => {
                    let input = [batch_of(&image, 1)?];
                    let (p, s) = (parent.run(&input)?, optimized.run(&input)?);
                    let p: Vec<&[f32]> = p.iter().map(|v| v.as_slice()).collect();
                    let s: Vec<&[f32]> = s.iter().map(|v| v.as_slice()).collect();
                    let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
                    collector.push(&item.name, item.label, &p, &s)?;
                }
            }
            progress.step(done.fetch_add(1, Ordering::Relaxed) + 1, total, Some(&item.name));
        }
        Ok(())
    };
    let results: Vec<Result<(), StageError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    results.into_iter().collect::<Result<(), _>>()?;
    let reports = collector.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
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
    Ok(reports)
}

/// Name and content of each report file.
pub(in crate::run) fn files(
    reports: &Reports,
    classes: &[String],
) -> Result<Vec<(String, Vec<u8>)>, StageError> {
    let mut files = Vec::new();
    if let Some(report) = &reports.predictions {
        tables(Kind::Predictions, &report.rows, classes, &mut files)?;
    }
    if let Some(report) = &reports.annotations {
        tables(Kind::Annotations, &report.rows, classes, &mut files)?;
    }
    if let Some(report) = &reports.tensor_distance {
        tables(Kind::TensorDistance, &report.rows, classes, &mut files)?;
    }
    Ok(files)
}

fn tables<R: Row>(
    kind: Kind,
    rows: &[R],
    classes: &[String],
    files: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), StageError> {
    let (mut csv, mut json) = (Vec::new(), Vec::new());
    write_csv(rows, classes, &mut csv)?;
    write_json(rows, &mut json)?;
    files.push((format!("{kind}.csv"), csv));
    files.push((format!("{kind}.json"), json));
    Ok(())
}

/// Pictures of the images whose class changed, the most changed first.
pub(in crate::run) fn thumbnails(reports: &Reports, dataset: &Dataset) -> BTreeMap<String, Thumbnail> {
    let changed = reports.predictions.iter().flat_map(|p| p.changed()).take(MAX_CARDS);
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
    changed.filter_map(|(row, _)| Some((row.image.clone(), picture(&row.image)?))).collect()
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
