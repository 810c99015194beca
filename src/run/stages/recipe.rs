//! Which ranges, zero points and corrections: from the statistics to the INT8 model.
//!
//! What is not given by the plan is judged on calibration images that are held out: they count in the
//! ranges of activations, which all candidates share, but no correction is fitted on them. Nothing here
//! looks at the evaluated images or at labels.

use std::collections::BTreeSet;

use ndarray::Array3;
use serde::Serialize;

use super::baseline::Parent;
use super::held::Held;
use super::prepare::Subject;
use super::verify::head_of;
use crate::dataset::Dataset;
use crate::model::{Model, shapes};
use crate::progress::Progress;
use crate::quantize::{
    self, BiasCorrection, BiasShifts, Judge, Options, Placement, Preset, Quantized, RangeMethod, Score,
    Statistics,
};
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::plan::Method;
use crate::run::shards::{Kept, Step};
use crate::run::worker::{Desk, StageError};

/// Images that corrections are fitted on, at most.
const FITTED: usize = 32;
/// Images on which saturating sums are looked for.
const SATURATION_IMAGES: usize = 16;
/// Images that candidates are judged on, at most.
const HELD_OUT: usize = 64;
/// With fewer calibration images than this nothing is chosen by measurement.
pub(in crate::run) const FEWEST: usize = 16;
/// Bytes of images, and of activations while a correction is fitted, that are held at most: they do not
/// depend on the number of calibration images.
const MOST_BYTES: usize = 192 << 20;

/// How the INT8 model was made.
pub(in crate::run) struct Recipe {
    pub options: Options,
    /// Corrections of biases that were found by running the INT8 layers; empty if they were not kept.
    pub shifts: BiasShifts,
    pub quantized: Quantized,
    /// The parent in another form, and its statistics, if that was quantized in the parent's place.
    pub source: Option<(Model, Statistics)>,
}

impl Recipe {
    /// The recipe for people.
    pub fn in_words(&self) -> String {
        let correction = match self.options.bias_correction {
            BiasCorrection::Sequential if self.shifts.is_empty() => BiasCorrection::Fast,
            other => other,
        };
        let (preset, range) = (name(self.options.preset), name(self.options.range));
        let equalized = if self.source.is_some() { ", channels equalized" } else { "" };
        let narrow = match self.options.seven_bit.len() {
            0 => String::new(),
            layers => format!(", weights of 7 bits in {layers} layers"),
        };
        format!("preset {preset}, range {range}, bias correction {}{equalized}{narrow}", name(correction))
    }
}

/// The word of a choice in run files.
fn name(choice: impl Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}

pub(in crate::run) fn run(
    desk: &Desk,
    subject: &Subject,
    parent: &Parent,
    placement: &Placement,
    statistics: &Statistics,
    held: &Held,
    options: Options,
) -> Result<Recipe, RunError> {
    let avoids_saturation = desk.plan.optimize.avoid_saturation;
    let kitchen = Kitchen { avoids_saturation, ..Kitchen::new(subject, placement, statistics) };
    if let Some(Kept { options, shifts, source }) =
        desk.shards.and_then(|s| s.kept(desk.plan, &subject.parent))
    {
        let quantize = |_: &dyn Progress| match &source {
            Some((parent, statistics)) => {
                Kitchen { parent, statistics, ..kitchen }.quantize(&options, &shifts)
            }
            None => kitchen.quantize(&options, &shifts),
        };
        let (quantized, _) = desk.stage(Stage::Quantize, quantize)?;
        return finish(desk, Stage::Quantize, Recipe { options, shifts, quantized, source });
    }
    let equalizes = desk.plan.optimize.equalization;
    let auto = desk.plan.optimize.method == Method::Auto;
    let measures = auto
        || options.bias_correction == BiasCorrection::Sequential
        || equalizes && options.bias_correction != BiasCorrection::None;
    let quantize =
        |progress: &dyn Progress| -> Result<(Options, Option<Quantized>, Option<Trial>), StageError> {
            let images = || held.take().unwrap_or_else(|| trial_images(subject));
            let trial = if measures { Trial::new(&kitchen, parent, images(), progress)? } else { None };
            let options = match &trial {
                Some(trial) if auto => {
                    let sharded = desk.shards.filter(|shards| shards.cut(Step::Candidates).shards > 0);
                    let known = sharded.map(|shards| shards.scores(subject, desk.plan)).transpose()?;
                    kitchen.search(&options, trial, known, progress)?
                }
                _ => options.clone(),
            };
            let options = kitchen.narrowed(options, progress)?;
            let ready = options.bias_correction == BiasCorrection::None;
            let quantized = ready.then(|| kitchen.quantize(&options, &BiasShifts::new())).transpose()?;
            Ok((options, quantized, trial))
        };
    let ((options, quantized, trial), _) = desk.stage(Stage::Quantize, quantize)?;
    if let Some(quantized) = quantized {
        let recipe = Recipe { options, shifts: BiasShifts::new(), quantized, source: None };
        return finish(desk, Stage::Quantize, recipe);
    }
    let correct = |progress: &dyn Progress| -> Result<Recipe, StageError> {
        let Some(trial) = &trial else { return Ok(kitchen.fast(options, None, progress)?.recipe()) };
        // Side by side, since much of either, such as loading, is the work of one thread.
        let (plain, forms) = std::thread::scope(|scope| {
            let forms = equalizes.then(|| scope.spawn(|| kitchen.equalized(&options, trial, progress)));
            let plain = kitchen.fast(options.clone(), Some(trial), progress);
            let joined = forms.map(|forms| forms.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            (plain, joined)
        });
        let plain = plain?;
        let forms = match forms {
            Some(Err(error)) if !progress.cancelled() => {
                progress.warn(&format!("equalization is not possible ({error}), and is left out"));
                Vec::new()
            }
            Some(forms) => forms?,
            None => Vec::new(),
        };
        kitchen.best(plain, forms, trial, progress)
    };
    let (recipe, _) = desk.stage(Stage::Correct, correct)?;
    finish(desk, Stage::Correct, recipe)
}

/// Warnings come with the model that is kept.
fn finish(desk: &Desk, stage: Stage, recipe: Recipe) -> Result<Recipe, RunError> {
    for message in &recipe.quantized.warnings {
        desk.emit(crate::run::events::Event::Warning { stage: Some(stage), message: message.clone() });
    }
    Ok(recipe)
}

/// The presets and ranges that `auto` chooses from, in order.
pub(in crate::run) fn candidates(given: &Options) -> Vec<Options> {
    let presets = [Preset::Performance, Preset::Mixed];
    let pairs =
        presets.into_iter().flat_map(|preset| RangeMethod::ALL.into_iter().map(move |range| (preset, range)));
    pairs.map(|(preset, range)| Options { preset, range, ..given.clone() }).collect()
}

/// The scores of some of them, as the search would find them; none where too few images can be read to judge any.
pub(in crate::run) fn scores(
    subject: &Subject,
    parent: &Parent,
    placement: &Placement,
    statistics: &Statistics,
    given: &Options,
    some: std::ops::Range<usize>,
    progress: &dyn Progress,
) -> Result<Vec<Option<Score>>, StageError> {
    let kitchen = Kitchen::new(subject, placement, statistics);
    let Some(trial) = Trial::new(&kitchen, parent, trial_images(subject), progress)? else {
        return Ok(vec![None; some.len()]);
    };
    let all = candidates(given);
    let some = all.get(some).unwrap_or_default();
    let one = |(done, options): (usize, &Options)| {
        let score = kitchen.score(options, &trial, progress)?;
        progress.step(done + 1, some.len(), None);
        Ok(Some(score))
    };
    some.iter().enumerate().map(one).collect()
}

/// What every candidate is made from.
#[derive(Clone, Copy)]
pub(super) struct Kitchen<'a> {
    pub subject: &'a Subject,
    /// The form of the parent that is quantized, to which the statistics belong.
    pub parent: &'a Model,
    pub placement: &'a Placement,
    pub statistics: &'a Statistics,
    pub threads: usize,
    /// Whether layers whose sums saturate in 16 bits get narrower weights.
    pub avoids_saturation: bool,
}

/// Images to fit on, and the judge with the others.
pub(super) struct Trial {
    pub fitted: Vec<Array3<f32>>,
    pub judge: Judge,
}

impl Trial {
    /// `None` if there are too few images.
    fn new(
        kitchen: &Kitchen,
        parent: &Parent,
        images: Vec<Array3<f32>>,
        progress: &dyn Progress,
    ) -> Result<Option<Trial>, StageError> {
        if images.len() < FEWEST {
            progress.note(&format!(
                "{} calibration images are too few to hold some out, so nothing is chosen by measurement",
                images.len()
            ));
            return Ok(None);
        }
        let share = FITTED as f64 / (FITTED + HELD_OUT) as f64;
        let fits = (images.len() as f64 * share) as usize;
        let (mut fitted, mut held_out) = (Vec::new(), Vec::new());
        let total = images.len();
        for (at, image) in images.into_iter().enumerate() {
            // Every third or so, so that both parts are spread over the dataset.
            let is_fitted = (at + 1) * fits / total > at * fits / total;
            if is_fitted { fitted.push(image) } else { held_out.push((image, None)) }
        }
        let samples = first_outputs(parent, &held_out)?;
        let head = head_of(parent.session.as_ref(), &samples);
        let judge = Judge::new(parent.session.as_ref(), held_out, head, kitchen.threads, progress)?;
        Ok(Some(Trial { fitted, judge }))
    }
}

/// The calibration images that take part in a trial, those that can't be read included.
pub(in crate::run) fn trial_part(subject: &Subject) -> Dataset {
    subject.calibration.subset(most_images(subject.sample.len() * size_of::<f32>()))
}

/// Images of so many bytes, preprocessed, that take part in a trial at most.
pub(in crate::run) fn most_images(image_bytes: usize) -> usize {
    (MOST_BYTES / image_bytes.max(1)).clamp(FEWEST, FITTED + HELD_OUT)
}

/// Those of them that can be read, preprocessed.
fn trial_images(subject: &Subject) -> Vec<Array3<f32>> {
    subject.stream_images(&trial_part(subject), subject.threads()).collect()
}

/// The parent's first output for a few images.
pub(in crate::run) fn first_outputs(
    parent: &Parent,
    images: &[(Array3<f32>, Option<u32>)],
) -> Result<Vec<Vec<f32>>, StageError> {
    const IMAGES: usize = 4;
    let mut runner = parent.session.spawn()?;
    let mut samples = Vec::new();
    for (image, _) in images.iter().take(IMAGES) {
        let outputs = runner.run(&[super::baseline::batch_of(image, 1)?])?;
        samples.extend(outputs.first().map(|v| v.as_slice().to_vec()));
    }
    Ok(samples)
}

impl<'a> Kitchen<'a> {
    fn new(subject: &'a Subject, placement: &'a Placement, statistics: &'a Statistics) -> Kitchen<'a> {
        let threads = subject.threads();
        Kitchen { subject, parent: &subject.parent, placement, statistics, threads, avoids_saturation: false }
    }

    pub fn quantize(&self, options: &Options, shifts: &BiasShifts) -> Result<Quantized, StageError> {
        Ok(quantize::quantize(self.parent, self.placement, self.statistics, options, shifts)?)
    }

    /// The preset and range that lose least on the held-out images, with the fast correction; judged here but for what
    /// is known.
    fn search(
        &self,
        given: &Options,
        trial: &Trial,
        known: Option<Vec<Option<Score>>>,
        progress: &dyn Progress,
    ) -> Result<Options, StageError> {
        let candidates = candidates(given);
        let mut best: Option<(Score, Options)> = None;
        for (done, options) in candidates.iter().enumerate() {
            let score = match known.as_ref().and_then(|scores| scores.get(done).copied().flatten()) {
                Some(score) => score,
                None => self.score(options, trial, progress)?,
            };
            let words = format!("preset {}, range {}", name(options.preset), name(options.range));
            progress.note(&format!("{words}: {}", in_words(&score)));
            progress.step(done + 1, candidates.len(), Some(&words));
            if best.as_ref().is_none_or(|(least, _)| score.loss < least.loss) {
                best = Some((score, options.clone()));
            }
        }
        Ok(best.map_or_else(|| given.clone(), |(_, options)| options))
    }

    /// `options` with weights of 7 bits where those of 8 saturate, if that is to be avoided.
    pub fn narrowed(&self, options: Options, progress: &dyn Progress) -> Result<Options, StageError> {
        if !self.avoids_saturation {
            return Ok(options);
        }
        let options = Options { seven_bit: BTreeSet::new(), ..options };
        let images = self.subject.some_calibration_images(SATURATION_IMAGES, self.threads);
        let quantized = self.quantize(&options, &BiasShifts::new())?;
        let found = quantize::saturation(&quantized, self.placement, &images, self.threads, progress)?;
        progress.note(&match found.len() {
            0 => "no sum of two products saturates: all weights have 8 bits".to_string(),
            layers => format!("sums of two products saturate in {layers} layers: their weights have 7 bits"),
        });
        Ok(Options { seven_bit: found.into_keys().collect(), ..options })
    }

    fn score(&self, options: &Options, trial: &Trial, progress: &dyn Progress) -> Result<Score, StageError> {
        if progress.cancelled() {
            return Err("stopped".into());
        }
        let quantized = self.quantize(options, &BiasShifts::new())?;
        Ok(trial.judge.score(&quantized.model, progress)?)
    }

    /// Images whose activations fit into memory together: the largest tensors are alive at the same time.
    pub fn fitted_at_once(&self, images: usize) -> Result<usize, StageError> {
        const ALIVE: usize = 3;
        let shapes = shapes::infer(&self.subject.parent, 1)?;
        let sizes = self.placement.tensors.iter().filter_map(|t| shapes.get(&t.name));
        let mut sizes: Vec<usize> = sizes.map(|s| s.iter().product::<usize>() * size_of::<f32>()).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let bytes: usize = sizes.iter().take(ALIVE).sum();
        Ok((MOST_BYTES / bytes.max(1)).clamp(2, images.max(2)).min(images))
    }
}

/// A score for the log.
pub(super) fn in_words(score: &Score) -> String {
    match score.agreement {
        Some(agreement) => format!(
            "KL divergence {:.5}, agreement {:.1} % on {} held-out images",
            score.loss,
            100.0 * agreement,
            score.images
        ),
        None => format!("noise ÷ signal {:.2e} on {} held-out images", score.loss, score.images),
    }
}
