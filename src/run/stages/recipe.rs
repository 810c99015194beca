//! Which ranges, zero points and corrections: from the statistics to the INT8 model.
//!
//! What is not given by the plan is judged on calibration images that are held out: they count in the
//! ranges of activations, which all candidates share, but no correction is fitted on them. Nothing here
//! looks at the evaluated images or at labels.

use ndarray::Array3;
use serde::Serialize;

use super::baseline::Parent;
use super::prepare::Subject;
use super::verify::head_of;
use crate::model::shapes;
use crate::progress::Progress;
use crate::quantize::{
    self, BiasCorrection, BiasShifts, Judge, Options, Placement, Preset, Quantized, RangeMethod, Score,
    Statistics,
};
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::plan::Method;
use crate::run::worker::{Desk, StageError};

/// Images that corrections are fitted on, at most.
const FITTED: usize = 32;
/// Images that candidates are judged on, at most.
const HELD_OUT: usize = 64;
/// With fewer calibration images than this nothing is chosen by measurement.
const FEWEST: usize = 16;
/// Bytes of images, and of activations while a correction is fitted, that are held at most: they do not
/// depend on the number of calibration images.
const MOST_BYTES: usize = 192 << 20;

/// How the INT8 model was made.
pub(in crate::run) struct Recipe {
    pub options: Options,
    /// Corrections of biases that were found by running the INT8 layers; empty if they were not kept.
    pub shifts: BiasShifts,
    pub quantized: Quantized,
}

impl Recipe {
    /// The recipe for people.
    pub fn in_words(&self) -> String {
        let correction = match self.options.bias_correction {
            BiasCorrection::Sequential if self.shifts.is_empty() => BiasCorrection::Fast,
            other => other,
        };
        let (preset, range) = (name(self.options.preset), name(self.options.range));
        format!("preset {preset}, range {range}, bias correction {}", name(correction))
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
    options: Options,
) -> Result<Recipe, RunError> {
    let kitchen = Kitchen { subject, placement, statistics, threads: subject.threads() };
    let auto = desk.plan.optimize.method == Method::Auto;
    let measures = auto || options.bias_correction == BiasCorrection::Sequential;
    let quantize = |progress: &dyn Progress| -> Result<(Options, Quantized, Option<Trial>), StageError> {
        let trial = if measures { Trial::new(&kitchen, parent, progress)? } else { None };
        let options = match &trial {
            Some(trial) if auto => kitchen.search(&options, trial, progress)?,
            _ => options.clone(),
        };
        let plain = Options { bias_correction: BiasCorrection::None, ..options.clone() };
        let quantized = kitchen.quantize(&plain, &BiasShifts::new())?;
        Ok((options, quantized, trial))
    };
    let ((options, quantized, trial), _) = desk.stage(Stage::Quantize, quantize)?;
    if options.bias_correction == BiasCorrection::None {
        return finish(desk, Stage::Quantize, Recipe { options, shifts: BiasShifts::new(), quantized });
    }
    let correct = |progress: &dyn Progress| kitchen.correct(options, trial.as_ref(), progress);
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

/// What every candidate is made from.
struct Kitchen<'a> {
    subject: &'a Subject,
    placement: &'a Placement,
    statistics: &'a Statistics,
    threads: usize,
}

/// Images to fit on, and the judge with the others.
struct Trial {
    fitted: Vec<Array3<f32>>,
    judge: Judge,
}

impl Trial {
    /// `None` if there are too few images.
    fn new(kitchen: &Kitchen, parent: &Parent, progress: &dyn Progress) -> Result<Option<Trial>, StageError> {
        let subject = kitchen.subject;
        let image_bytes = subject.sample.len() * size_of::<f32>();
        let count = (MOST_BYTES / image_bytes.max(1)).clamp(FEWEST, FITTED + HELD_OUT);
        let images = subject.some_calibration_images(count, kitchen.threads);
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

impl Kitchen<'_> {
    fn quantize(&self, options: &Options, shifts: &BiasShifts) -> Result<Quantized, StageError> {
        Ok(quantize::quantize(&self.subject.parent, self.placement, self.statistics, options, shifts)?)
    }

    /// The preset and range that lose least on the held-out images, with the fast correction.
    fn search(&self, given: &Options, trial: &Trial, progress: &dyn Progress) -> Result<Options, StageError> {
        let presets = [Preset::Performance, Preset::Mixed];
        let candidates: Vec<Options> = presets
            .into_iter()
            .flat_map(|preset| RangeMethod::ALL.into_iter().map(move |range| (preset, range)))
            .map(|(preset, range)| Options { preset, range, ..given.clone() })
            .collect();
        let mut best: Option<(Score, Options)> = None;
        for (done, options) in candidates.iter().enumerate() {
            if progress.cancelled() {
                return Err("stopped".into());
            }
            let quantized = self.quantize(options, &BiasShifts::new())?;
            let score = trial.judge.score(&quantized.model, progress)?;
            let words = format!("preset {}, range {}", name(options.preset), name(options.range));
            progress.note(&format!("{words}: {}", in_words(&score)));
            progress.step(done + 1, candidates.len(), Some(&words));
            if best.as_ref().is_none_or(|(least, _)| score.loss < least.loss) {
                best = Some((score, options.clone()));
            }
        }
        Ok(best.map_or_else(|| given.clone(), |(_, options)| options))
    }

    /// The sequential correction if the held-out images say that it helps, else the fast one.
    fn correct(
        &self,
        options: Options,
        trial: Option<&Trial>,
        progress: &dyn Progress,
    ) -> Result<Recipe, StageError> {
        let fast = self.quantize(&options, &BiasShifts::new())?;
        let unmeasured =
            |quantized| Ok(Recipe { options: options.clone(), shifts: BiasShifts::new(), quantized });
        let trial = match trial {
            Some(trial) if options.bias_correction == BiasCorrection::Sequential => trial,
            _ => return unmeasured(fast),
        };
        let before = trial.judge.score(&fast.model, progress)?;
        let images = &trial.fitted[..self.fitted_at_once(trial.fitted.len())?];
        let (parent, threads) = (&self.subject.parent, self.threads);
        let shifts =
            match quantize::sequential_shifts(parent, self.placement, &fast, images, threads, progress) {
                Ok(shifts) => shifts,
                Err(error) if progress.cancelled() => return Err(error.into()),
                Err(error) => {
                    progress
                        .warn(&format!("bias correction sequential is not possible ({error}); fast is kept"));
                    return unmeasured(fast);
                }
            };
        let corrected = self.quantize(&options, &shifts)?;
        let after = trial.judge.score(&corrected.model, progress)?;
        progress.note(&format!("bias correction fast: {}", in_words(&before)));
        progress.note(&format!(
            "bias correction sequential: {}; {}",
            in_words(&after),
            if after.loss < before.loss { "kept" } else { "not kept" }
        ));
        if after.loss < before.loss {
            return Ok(Recipe { options, shifts, quantized: corrected });
        }
        unmeasured(fast)
    }

    /// Images whose activations fit into memory together: the largest tensors are alive at the same time.
    fn fitted_at_once(&self, images: usize) -> Result<usize, StageError> {
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
fn in_words(score: &Score) -> String {
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
