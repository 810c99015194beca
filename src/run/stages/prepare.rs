//! Load and simplify the model, find the images, and see that they fit together.

use std::path::Path;

use ndarray::Array3;

use crate::dataset::{self, Dataset, DatasetSpec, PrefetchOptions, Preprocess, prefetch};
use crate::model::simplify::simplify;
use crate::model::{Dim, Model, ModelError, check};
use crate::progress::Progress;
use crate::quantize;
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::memory::{self, Allowance, Budget};
use crate::run::plan::Plan;
use crate::run::worker::{Desk, StageError};

/// What the run is about.
pub(in crate::run) struct Subject {
    /// The file of the plan, as it was read.
    pub source: Model,
    /// The same network, simplified and with every node named: what is measured and quantized.
    pub parent: Model,
    /// The images that reports are computed on.
    pub dataset: Dataset,
    /// The images to calibrate on.
    pub calibration: Dataset,
    pub preprocess: Preprocess,
    /// What of the memory the run may take, and the threads that leaves.
    pub memory: Allowance,
    /// A readable image of the calibration set, preprocessed.
    pub sample: Array3<f32>,
}

impl Subject {
    /// Threads that calibrate and report.
    pub fn threads(&self) -> usize {
        self.memory.threads
    }

    /// Class names by index; empty if there are none.
    pub fn classes(&self) -> &[String] {
        self.dataset.classes.as_deref().unwrap_or(&[])
    }

    /// At most `count` of the calibration images, spread evenly over them and preprocessed; those that can't
    /// be read are left out.
    pub fn some_calibration_images(&self, count: usize, threads: usize) -> Vec<Array3<f32>> {
        self.stream_calibration_images(count, threads).collect()
    }

    /// As [`some_calibration_images`](Subject::some_calibration_images), a few of them held at a time.
    pub fn stream_calibration_images<'a>(
        &'a self,
        count: usize,
        threads: usize,
    ) -> impl Iterator<Item = Array3<f32>> + Send + use<'a> {
        self.stream_images(&self.calibration.subset(count), threads)
    }

    /// The images of `part` that can be read and fit, preprocessed, a few of them held at a time.
    pub fn stream_images<'a>(
        &'a self,
        part: &Dataset,
        threads: usize,
    ) -> impl Iterator<Item = Array3<f32>> + Send + use<'a> {
        let loaded = prefetch(part, &self.preprocess, PrefetchOptions { threads, depth: 2 * threads });
        let readable = loaded.filter_map(|loaded| loaded.image.ok());
        readable.filter(|image| misfit(image, self.sample.shape()).is_none())
    }

    /// The readable calibration images, preprocessed, in order.
    pub fn calibration_images(&self) -> impl Iterator<Item = Array3<f32>> + '_ {
        let loaded =
            self.calibration.items.iter().filter_map(|i| dataset::load(&i.path, &self.preprocess).ok());
        loaded.filter(|image| misfit(image, self.sample.shape()).is_none())
    }
}

pub(in crate::run) fn run(desk: &Desk) -> Result<Subject, RunError> {
    desk.stage(Stage::Prepare, |progress| prepare(desk.plan, progress)).map(|(subject, _)| subject)
}

/// Steps that the progress counts.
const STEPS: usize = 4;

/// The work of the stage.
pub(in crate::run) fn prepare(plan: &Plan, progress: &dyn Progress) -> Result<Subject, StageError> {
    let subject = prepare_part(plan, progress)?;
    if plan.optimize.dataset.is_some() {
        warn_of_overlap(&subject.calibration, &subject.dataset, progress);
    }
    progress.step(STEPS, STEPS, None);
    Ok(subject)
}

/// As [`prepare`], for one of many tasks: what only warns, and reads all images for it, is left out.
pub(in crate::run) fn prepare_part(plan: &Plan, progress: &dyn Progress) -> Result<Subject, StageError> {
    progress.step(0, STEPS, Some("model"));
    let budget = Budget::of(plan);
    // Until it is known what the model takes, an image may have half.
    dataset::limit_decoding(budget.bytes / 2);
    let source = load_within(&plan.model.path, &budget)?;
    let parent = simplified(&source)?;

    progress.step(1, STEPS, Some("dataset"));
    let preprocess = plan.preprocess.to_preprocess()?;
    let (calibration, dataset) = datasets(plan)?;
    dataset.warnings.iter().for_each(|w| progress.warn(w));

    progress.step(2, STEPS, Some("preprocessing"));
    let sample = first_readable(&calibration, &preprocess)?;
    check_fit(&parent, &preprocess, &sample)?;
    let memory = memory::allow(plan, &source, &parent, sample.len(), budget)?;
    if memory.threads < plan.threads {
        progress.warn(&format!(
            "{} of {} threads are used, as more would take too much memory: {budget}",
            memory.threads, plan.threads
        ));
    }
    dataset::limit_decoding(memory.decoding);
    progress.step(3, STEPS, Some("overlap"));
    Ok(Subject { source, parent, dataset, calibration, preprocess, memory, sample })
}

/// What is measured and quantized of the model of `plan`.
pub(in crate::run) fn parent_of(plan: &Plan) -> Result<Model, StageError> {
    simplified(&load_within(&plan.model.path, &Budget::of(plan))?)
}

fn simplified(source: &Model) -> Result<Model, StageError> {
    let mut parent = quantize::prepare(&simplify(source)?.model)?;
    parent.sha256.clone_from(&source.sha256);
    Ok(parent)
}

/// The images to calibrate on, and those that reports are computed on.
pub(in crate::run) fn datasets(plan: &Plan) -> Result<(Dataset, Dataset), StageError> {
    let dataset = Dataset::open(&DatasetSpec {
        path: plan.dataset.path.clone(),
        labels: plan.dataset.labels.clone(),
        classes: plan.dataset.classes.clone(),
        subset: None,
    })?;
    let calibration = match &plan.optimize.dataset {
        Some(own) => Dataset::open(&DatasetSpec {
            path: own.path.clone(),
            labels: None,
            classes: None,
            subset: Some(plan.optimize.subset_size),
        })?,
        None => dataset.subset(plan.optimize.subset_size),
    };
    Ok((calibration, dataset))
}

/// Reads a model and checks that it is one for images and of known operators.
pub(in crate::run) fn load(path: &Path) -> Result<Model, StageError> {
    usable(Model::load(path)?)
}

/// As [`load`], of a model that a run within `budget` can hold.
fn load_within(path: &Path, budget: &Budget) -> Result<Model, StageError> {
    let most = budget.largest_model();
    match Model::load_within(path, most) {
        Err(ModelError::TooLarge { bytes, .. }) => Err(memory::too_large(path, bytes, budget).into()),
        model => usable(model?.with_room(budget.room_for_constants())),
    }
}

fn usable(model: Model) -> Result<Model, StageError> {
    check::supported(&model)?;
    model.image_input()?;
    Ok(model)
}

fn warn_of_overlap(calibration: &Dataset, dataset: &Dataset, progress: &dyn Progress) {
    let same = dataset::overlap(calibration, dataset);
    if let Some(first) = same.first() {
        progress.warn(&format!(
            "{} of the {} evaluated images are also calibrated on (the first: {first}), which flatters the \
             result; keep the two sets apart",
            same.len(),
            dataset.items.len()
        ));
    }
}

/// The first image that can be decoded and preprocessed.
pub(in crate::run) fn first_readable(
    dataset: &Dataset,
    preprocess: &Preprocess,
) -> Result<Array3<f32>, StageError> {
    let mut first_error: Option<StageError> = None;
    for item in dataset.items.iter() {
        match dataset::load(&item.path, preprocess) {
            Ok(image) => return Ok(image),
            Err(error) => {
                first_error.get_or_insert_with(|| error.into());
            }
        }
    }
    let why = first_error.map_or_else(|| "it is empty".to_string(), |e| format!("the first: {e}"));
    Err(format!("{}: none of its {} images can be read ({why})", dataset.root.display(), dataset.items.len())
        .into())
}

/// Why a preprocessed image can't be fed to a model that takes the shape `expected` (channels, height,
/// width), if it can't. Without a crop or a size in the preprocessing, images keep sizes of their own.
pub(in crate::run) fn misfit(image: &Array3<f32>, expected: &[usize]) -> Option<String> {
    (image.shape() != expected).then(|| {
        format!(
            "preprocessing gives it the shape {:?}, the model takes {expected:?}; add `resize` or \
             `resize_short` and `crop` to preprocess, or leave the image out",
            image.shape()
        )
    })
}

/// Whether preprocessed images have the shape that the model takes.
pub(in crate::run) fn check_fit(
    model: &Model,
    preprocess: &Preprocess,
    sample: &Array3<f32>,
) -> Result<(), StageError> {
    let port = model.image_input()?;
    let wanted: Vec<usize> =
        port.dims.iter().skip(1).map(|d| if let Dim::Fixed(n) = d { *n } else { 0 }).collect();
    if wanted == sample.shape() {
        return Ok(());
    }
    let [channels, height, width] = wanted[..] else {
        return Err("the model's input is not an image".into());
    };
    let what = format!(
        "preprocessing gives images of {:?} (channels, height, width), but input '{}' of {} takes {wanted:?}",
        sample.shape(),
        port.name,
        model.path.display()
    );
    let hint = match (channels == preprocess.channels(), height == width) {
        (false, _) => {
            format!("set preprocess.color (rgb and bgr have 3 channels, y has 1; the model has {channels})")
        }
        (true, true) => {
            format!("set preprocess.crop to {height}, or preprocess.resize to [{width}, {height}]")
        }
        (true, false) => format!("set preprocess.resize to [{width}, {height}]"),
    };
    Err(format!("{what}; {hint}").into())
}
