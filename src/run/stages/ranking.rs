//! How harmful each INT8 layer is, and what it saves: what `accuracy_aware` begins with. Each layer is scored alone, so
//! shards can do it.

use std::collections::BTreeSet;

use super::baseline::{Parent, batch_of};
use super::calibrate::Calibrated;
use super::prepare::Subject;
use super::recipe::first_outputs;
use super::verify::head_of;
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions};
use crate::measure::{self, layers};
use crate::model::Model;
use crate::progress::Progress;
use crate::quantize::{
    self, BiasShifts, Candidate, Judge, NodeKind, Options, Placement, QuantizeError, Quantized, Score,
    Statistics,
};
use crate::run::worker::StageError;

/// Calibration images that say how harmful a layer is.
const RANKED_ON: usize = 32;
/// Seconds for the times of single layers.
const TIMING_SECONDS: f64 = 1.0;

/// Names of the layers that can go back to FP32, in graph order.
pub(in crate::run) fn nodes(placement: &Placement) -> Vec<String> {
    let nodes = placement.nodes.iter().filter(|node| node.kind != NodeKind::Move);
    nodes.map(|node| node.name.clone()).collect()
}

/// Makes candidates: the statistics are there, so none is calibrated again.
pub(in crate::run) struct Bench<'a> {
    pub subject: &'a Subject,
    /// The form of the parent that is quantized, and what belongs to it.
    pub source: &'a Model,
    pub statistics: &'a Statistics,
    pub options: &'a Options,
    pub shifts: &'a BiasShifts,
}

impl Bench<'_> {
    /// The INT8 model with these layers in FP32.
    pub fn make(&self, fp32_layers: &BTreeSet<String>) -> Result<(Placement, Quantized), QuantizeError> {
        let mut options = self.options.clone();
        options.ignored.names.extend(fp32_layers.iter().cloned());
        let placement = quantize::place(self.source, &options)?;
        let mut quantized =
            quantize::quantize(self.source, &placement, self.statistics, &options, self.shifts)?;
        for layer in quantized.layers.iter_mut().filter(|l| fp32_layers.contains(&l.node)) {
            layer.reason = "kept in FP32 for accuracy".into();
        }
        Ok((placement, quantized))
    }

    fn judge(&self, parent: &Parent, progress: &dyn Progress) -> Result<Judge, StageError> {
        let threads = self.subject.threads();
        let images = self.subject.some_calibration_images(RANKED_ON, threads);
        let images: Vec<_> = images.into_iter().map(|image| (image, None)).collect();
        let head = head_of(parent.session.as_ref(), &first_outputs(parent, &images)?);
        Ok(Judge::new(parent.session.as_ref(), images, head, threads, progress)?)
    }

    /// The score of the model with `node` alone in FP32; `None` if there is no INT8 model without it.
    fn without(
        &self,
        node: &str,
        judge: &Judge,
        progress: &dyn Progress,
    ) -> Result<Option<Score>, StageError> {
        match self.make(&BTreeSet::from([node.to_string()])) {
            Ok((_, quantized)) => Ok(Some(judge.score(&quantized.model, progress)?)),
            Err(QuantizeError::NothingToQuantize { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The scores of the models with one of `nodes` alone in FP32.
    pub fn scores(
        &self,
        parent: &Parent,
        nodes: &[String],
        progress: &dyn Progress,
    ) -> Result<Vec<Option<Score>>, StageError> {
        let judge = self.judge(parent, progress)?;
        let one = |(done, node): (usize, &String)| {
            let score = self.without(node, &judge, progress)?;
            progress.step(done + 1, nodes.len(), Some(node));
            Ok(score)
        };
        nodes.iter().enumerate().map(one).collect()
    }

    /// How harmful each INT8 layer is, and what it saves; and the time of an inference. Layers are scored here unless
    /// their scores are known.
    pub fn rank(
        &self,
        parent: &Parent,
        calibrated: &Calibrated,
        known: Option<Vec<Option<Score>>>,
        out_of_time: &dyn Fn() -> bool,
        progress: &dyn Progress,
    ) -> Result<(f64, Vec<Candidate>), StageError> {
        let judge = self.judge(parent, progress)?;
        let optimized = Builtin.load(&calibrated.model, &LoadOptions::default())?;
        let input = [batch_of(&self.subject.sample, 1)?];
        let pair = [(parent.session.as_ref(), &input[..]), (optimized.as_ref(), &input[..])];
        let (fp32, int8) = layers::profile_pair(pair[0], pair[1], TIMING_SECONDS, &Quiet(progress))?;
        let time = |times: &[measure::LayerTime], node: &str| -> f64 {
            times.iter().filter(|t| t.name == node).map(|t| t.median_us).sum()
        };
        let all = judge.score(&calibrated.model, progress)?.loss;
        let nodes = nodes(&calibrated.placement);
        let mut ranking = Vec::new();
        for (done, node) in nodes.iter().enumerate() {
            let score = match &known {
                Some(scores) => scores.get(done).copied().flatten(),
                None if out_of_time() => {
                    progress.note(&format!(
                        "the time budget ended after {done} of {} layers were ranked",
                        nodes.len()
                    ));
                    break;
                }
                None => self.without(node, &judge, progress)?,
            };
            let Some(score) = score else { continue };
            let saved_us = time(&fp32, node) - time(&int8, node);
            ranking.push(Candidate { node: node.clone(), harm: all - score.loss, saved_us });
            progress.step(done + 1, nodes.len(), Some(node));
        }
        Ok((int8.iter().map(|t| t.median_us).sum(), ranking))
    }
}

/// Progress of a part whose own count would only confuse.
struct Quiet<'a>(&'a dyn Progress);

impl Progress for Quiet<'_> {
    fn step(&self, _done: usize, _total: usize, _detail: Option<&str>) {}
    fn warn(&self, message: &str) {
        self.0.warn(message);
    }
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
