//! Forms of the parent that compute the same and may quantize better, and the corrections of biases: which of them are
//! worth what they take, by what held-out images say.

use super::recipe::{Kitchen, Recipe, Trial, in_words};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions};
use crate::model::{Model, Port};
use crate::progress::Progress;
use crate::quantize::{
    self, BiasCorrection, BiasShifts, Equalized, ObserveOptions, Options, Quantized, Score, Statistics,
};
use crate::run::worker::StageError;

/// With the fast correction a form may lose as many times what the best one loses, and still get the sequential one:
/// that makes more of some forms than of others.
const CLOSE: f64 = 1.5;
/// Images that a form is observed on, at most.
const OBSERVED: usize = 64;

/// A form of the parent, quantized.
pub(super) struct Form {
    pub options: Options,
    shifts: BiasShifts,
    quantized: Quantized,
    /// What the held-out images say of it, if they were asked.
    score: Option<Score>,
    /// The form and its statistics; absent for the parent as it is.
    source: Option<(Model, Statistics)>,
    /// The form for people.
    words: String,
}

impl Form {
    pub fn recipe(self) -> Recipe {
        let Form { options, shifts, quantized, source, .. } = self;
        Recipe { options, shifts, quantized, source }
    }
}

impl Kitchen<'_> {
    /// What equalizing the channels first makes of the parent, with the fast correction.
    pub fn equalized(
        &self,
        plain: &Options,
        trial: &Trial,
        progress: &dyn Progress,
    ) -> Result<Vec<Form>, StageError> {
        let fitted = &trial.fitted[..self.fitted_at_once(trial.fitted.len())?];
        let forms = quantize::equalize(self.parent, self.placement, fitted, self.threads, progress)?;
        if forms.is_empty() {
            progress.note("no channels can be equalized");
        }
        let judged = |form: Equalized| {
            let statistics = self.observe(&form.model, trial, progress)?;
            let kitchen = Kitchen { parent: &form.model, statistics: &statistics, ..*self };
            let options = kitchen.narrowed(plain.clone(), progress)?;
            let mut found = kitchen.fast(options, Some(trial), progress)?;
            let absorbed = match form.absorbed {
                0 => String::new(),
                absorbed => format!(", biases took a part of {absorbed}"),
            };
            found.words = format!("channels of {} tensors equalized{absorbed}", form.tensors);
            found.source = Some((form.model, statistics));
            Ok(found)
        };
        forms.into_iter().map(judged).collect()
    }

    /// The form of which the held-out images say that it loses least, each with the better one of the two corrections.
    /// Forms that are clearly behind another with the fast correction do not get the sequential one, which takes long.
    pub fn best(
        &self,
        plain: Form,
        forms: Vec<Form>,
        trial: &Trial,
        progress: &dyn Progress,
    ) -> Result<Recipe, StageError> {
        let mut all: Vec<Form> = std::iter::once(plain).chain(forms).collect();
        let loss = |form: &Form| form.score.map_or(f64::INFINITY, |score| score.loss);
        let least = all.iter().map(loss).fold(f64::INFINITY, f64::min);
        for form in all.iter_mut().filter(|form| loss(form) <= CLOSE * least) {
            let source = form.source.take();
            let kitchen = match &source {
                Some((parent, statistics)) => Kitchen { parent, statistics, ..*self },
                None => *self,
            };
            kitchen.correct(form, trial, progress)?;
            form.source = source;
        }
        // The first of equals, which is the simplest.
        let at = (0..all.len()).min_by(|a, b| loss(&all[*a]).total_cmp(&loss(&all[*b]))).unwrap_or_default();
        for (number, form) in all.iter().enumerate().filter(|(_, form)| form.source.is_some()) {
            progress.note(&format!("{}: {}", form.words, if number == at { "kept" } else { "not kept" }));
        }
        Ok(all.swap_remove(at).recipe())
    }

    /// Statistics of another form of the parent, over some images of a trial: factors move every range, so those
    /// of the parent say nothing.
    fn observe(
        &self,
        model: &Model,
        trial: &Trial,
        progress: &dyn Progress,
    ) -> Result<Statistics, StageError> {
        let images = trial.fitted.iter().cloned().chain(trial.judge.images()).take(OBSERVED);
        let total = (trial.fitted.len() + trial.judge.len()).min(OBSERVED);
        let names = |ports: Vec<Port>| ports.into_iter().map(|p| p.name).collect::<Vec<_>>();
        let extra_outputs = self.placement.observed(&names(model.inputs()), &names(model.outputs()));
        let session = Builtin.load(model, &LoadOptions { extra_outputs, ..LoadOptions::default() })?;
        let (threads, start) = (self.threads, Statistics::default());
        let options = ObserveOptions { threads, total, checkpoint_every: 0, peek: &|_| {} };
        Ok(quantize::observe(session.as_ref(), self.placement, images, start, options, progress, |_| {})?)
    }

    /// The form at hand with the fast correction, and what the held-out images say of it.
    pub fn fast(
        &self,
        options: Options,
        trial: Option<&Trial>,
        progress: &dyn Progress,
    ) -> Result<Form, StageError> {
        let quantized = self.quantize(&options, &BiasShifts::new())?;
        let score = trial.map(|trial| trial.judge.score(&quantized.model, progress)).transpose()?;
        let (shifts, words, source) = (BiasShifts::new(), String::new(), None);
        Ok(Form { options, shifts, quantized, score, source, words })
    }

    /// Gives `form`, which has the fast correction, the sequential one if the held-out images say that it helps.
    fn correct(&self, form: &mut Form, trial: &Trial, progress: &dyn Progress) -> Result<(), StageError> {
        let Some(before) = form.score.filter(|_| form.options.bias_correction == BiasCorrection::Sequential)
        else {
            return Ok(());
        };
        let images = &trial.fitted[..self.fitted_at_once(trial.fitted.len())?];
        let (parent, threads) = (self.parent, self.threads);
        let shifts = match quantize::sequential_shifts(
            parent,
            self.placement,
            &form.quantized,
            images,
            threads,
            progress,
        ) {
            Ok(shifts) => shifts,
            Err(error) if progress.cancelled() => return Err(error.into()),
            Err(error) => {
                progress.warn(&format!("bias correction sequential is not possible ({error}); fast is kept"));
                return Ok(());
            }
        };
        let corrected = self.quantize(&form.options, &shifts)?;
        let after = trial.judge.score(&corrected.model, progress)?;
        let helps = after.loss < before.loss;
        progress.note(&format!("bias correction fast: {}", in_words(&before)));
        progress.note(&format!(
            "bias correction sequential: {}; {}",
            in_words(&after),
            if helps { "kept" } else { "not kept" }
        ));
        if helps {
            (form.shifts, form.quantized, form.score) = (shifts, corrected, Some(after));
        }
        Ok(())
    }
}
