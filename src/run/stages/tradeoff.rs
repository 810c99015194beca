//! The method `accuracy_aware`: layers go back to FP32 until the drop is within `max_drop`.
//!
//! Two sets of images take part. Calibration images say how harmful each layer is; images of the dataset,
//! which has the labels, say whether the drop holds, so the drop that is reached is a promise for these
//! images and not an estimate for others. What was judged is in `tradeoff.json` at once and the best
//! model so far in its place: a run that was stopped goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::baseline::Parent;
use super::calibrate::{self, Calibrated};
use super::prepare::{Subject, misfit};
use super::ranking::Bench;
use super::recipe::{Recipe, first_outputs};
use super::verify::head_of;
use crate::dataset::{PrefetchOptions, prefetch};
use crate::progress::Progress;
use crate::project::hash;
use crate::quantize::{
    self, Candidate, Ended, Judge, Kitchen, Placement, Point, QuantizeError, Quantized, Score,
};
use crate::report::Head;
use crate::report::html::TradeoffPoint;
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::plan::Method;
use crate::run::shards::Step;
use crate::run::summary::{DropMetric, TradeoffSummary};
use crate::run::worker::{Desk, StageError};

/// Bytes of the dataset's images that are held to judge candidates, at most.
const MOST_BYTES: usize = 512 << 20;
/// Name and version of the format of `tradeoff.json`.
const SCHEMA: &str = "calib8/tradeoff/1";
const FILE: &str = "tradeoff.json";

/// `tradeoff.json`: each set of layers in FP32 that was tried, for people to choose another one from, and
/// all that is needed to go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct File {
    schema: String,
    /// What the figures belong to: hash of the statistics' key and of the plan.
    key: String,
    metric: DropMetric,
    /// The largest drop asked for, in percentage points.
    limit: f64,
    /// Images of the dataset that candidates are judged on.
    images: usize,
    /// Microseconds of one inference with all layers in INT8, by the times of the layers.
    optimized_us: f64,
    ranking: Vec<Candidate>,
    points: Vec<FilePoint>,
    /// Index of the point that was taken; while the search goes on, of the best so far.
    best: Option<usize>,
    /// Why the search ended; absent while it goes on.
    ended: Option<Ended>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FilePoint {
    fp32_layers: Vec<String>,
    /// By the times of single layers, without the borders between INT8 and FP32.
    fps_estimated: f64,
    drop: f64,
    score: Score,
}

/// What the search found.
pub(in crate::run) struct Traded {
    pub summary: TradeoffSummary,
    /// All that was tried, for the page.
    pub points: Vec<TradeoffPoint>,
}

/// Keeps layers in FP32 if the plan asks for it; otherwise hands on what it got.
pub(in crate::run) fn run(
    desk: &Desk,
    subject: &Subject,
    parent: &Parent,
    calibrated: Calibrated,
) -> Result<(Calibrated, Option<Traded>), RunError> {
    if desk.plan.optimize.method != Method::AccuracyAware {
        return Ok((calibrated, None));
    }
    let work = |progress: &dyn Progress| search(desk, subject, parent, &calibrated, progress);
    let ((file, placement, quantized), _) = desk.stage(Stage::Tradeoff, work)?;
    desk.write_json(FILE, &file)?;
    let model = calibrate::write(desk, &quantized)?;
    let best = file.best.and_then(|best| file.points.get(best));
    let summary = best.map(|best| TradeoffSummary {
        metric: file.metric,
        limit: file.limit,
        drop: best.drop,
        images: file.images,
        fp32_layers: best.fp32_layers.clone(),
        candidates: file.ranking.len(),
        points: file.points.len(),
        ended: file.ended.unwrap_or(Ended::OutOfReach),
    });
    let point = |(at, point): (usize, &FilePoint)| TradeoffPoint {
        fp32_layers: point.fp32_layers.clone(),
        fps: point.fps_estimated,
        drop: point.drop,
        kl: point.score.loss,
        taken: file.best == Some(at),
    };
    let points = file.points.iter().enumerate().map(point).collect();
    let recipe = Recipe { quantized, ..calibrated.recipe };
    let traded = summary.map(|summary| Traded { summary, points });
    Ok((Calibrated { model, placement, recipe, ..calibrated }, traded))
}

fn search(
    desk: &Desk,
    subject: &Subject,
    parent: &Parent,
    calibrated: &Calibrated,
    progress: &dyn Progress,
) -> Result<(File, Placement, Quantized), StageError> {
    let started = Instant::now();
    let judge = judge(subject, parent, progress)?;
    let (source, statistics) = calibrated.source(subject);
    let Recipe { options, shifts, .. } = &calibrated.recipe;
    let bench = Bench { subject, source, statistics, options, shifts };
    let before = judge.score(&calibrated.model, progress)?;
    let metric = if before.top1.is_some() { DropMetric::Top1 } else { DropMetric::Agreement };
    if metric == DropMetric::Agreement {
        progress
            .note("the dataset has no labels, so max_drop is held in points of agreement with the parent");
    }
    let key = key(desk, calibrated)?;
    let limit = desk.plan.optimize.max_drop;
    let known = read(desk, &key);
    let out_of_time = || match desk.plan.optimize.time_budget_seconds {
        Some(budget) => started.elapsed().as_secs_f64() >= budget,
        None => false,
    };
    let file = match known {
        Some(file) => File { ended: None, ..file },
        None => {
            let within = before.drop().is_some_and(|drop| drop <= limit);
            let (optimized_us, ranking) = match within {
                true => (0.0, Vec::new()),
                false => {
                    let sharded = desk.shards.filter(|shards| shards.cut(Step::Candidates).shards > 0);
                    let known = sharded.map(|shards| shards.scores(subject, desk.plan)).transpose()?;
                    bench.rank(parent, calibrated, known, &out_of_time, progress)?
                }
            };
            let (schema, images) = (SCHEMA.to_string(), judge.len());
            let (points, best, ended) = (Vec::new(), None, None);
            File { schema, key, metric, limit, images, optimized_us, ranking, points, best, ended }
        }
    };
    let ranking = file.ranking.clone();
    let scores = file.points.iter().map(|p| (p.fp32_layers.clone(), p.score)).collect();
    let mut cook =
        Cook { desk, bench: &bench, judge: &judge, file, scores, out_of_time: &out_of_time, progress };
    let result = quantize::trade_off(&ranking, limit, &mut cook)?;
    let mut file = cook.file;
    file.points = result.points.iter().map(|p| file_point(p, file.optimized_us)).collect();
    (file.best, file.ended) = (Some(result.best), Some(result.ended));
    let best = &result.points[result.best];
    match result.ended {
        Ended::WithinLimit => {}
        Ended::OutOfReach => progress.warn(&format!(
            "accuracy_aware: no set of layers in FP32 that was tried keeps the drop within {limit} points; the \
             smallest is {:.2}",
            best.drop
        )),
        Ended::TimeBudget => progress.warn(&format!(
            "accuracy_aware: stopped by optimize.time_budget_seconds with a drop of {:.2} points (limit {limit})",
            best.drop
        )),
    }
    let (placement, quantized) = bench.make(&best.fp32_layers.iter().cloned().collect())?;
    Ok((file, placement, quantized))
}

/// Images of the dataset, spread evenly, as many as memory is set aside for.
fn judge(subject: &Subject, parent: &Parent, progress: &dyn Progress) -> Result<Judge, StageError> {
    let threads = subject.threads();
    let bytes = subject.sample.len() * size_of::<f32>();
    let part = subject.dataset.subset((MOST_BYTES / bytes.max(1)).max(1));
    let mut images = Vec::new();
    for loaded in prefetch(&part, &subject.preprocess, PrefetchOptions { threads, depth: 2 * threads }) {
        if progress.cancelled() {
            return Err("stopped".into());
        }
        let label = part.items[loaded.index].label;
        let fits = loaded.image.ok().filter(|image| misfit(image, subject.sample.shape()).is_none());
        images.extend(fits.map(|image| (image, label)));
    }
    if part.items.len() < subject.dataset.items.len() {
        progress.note(&format!(
            "candidates are judged on {} of the {} images of the dataset",
            images.len(),
            subject.dataset.items.len()
        ));
    }
    let head = head_of(parent.session.as_ref(), &first_outputs(parent, &images)?);
    if head == Head::NotAClassifier {
        return Err(
            "accuracy_aware counts predicted classes, and the model's first output is not a vector of \
                    class scores; use optimize.method: default, and sensitivity.csv to choose \
                    optimize.ignored_scope"
                .into(),
        );
    }
    Ok(Judge::new(parent.session.as_ref(), images, head, threads, progress)?)
}

/// The same model, images and plan give the same key, whatever the limit of time.
fn key(desk: &Desk, calibrated: &Calibrated) -> Result<String, StageError> {
    let mut plan = desk.plan.clone();
    plan.optimize.time_budget_seconds = None;
    let text = format!("{}\n{}\n{}", SCHEMA, plan.to_yaml()?, calibrated.model.sha256);
    Ok(hash::sha256_bytes(text.as_bytes()))
}

/// What an earlier worker left, if it belongs to this run.
fn read(desk: &Desk, key: &str) -> Option<File> {
    let bytes = std::fs::read(desk.directory.file(FILE)).ok()?;
    let file: File = serde_json::from_slice(&bytes).ok()?;
    (file.schema == SCHEMA && file.key == key).then_some(file)
}

fn file_point(point: &Point, optimized_us: f64) -> FilePoint {
    let us = optimized_us + point.given_up_us;
    FilePoint {
        fp32_layers: point.fp32_layers.clone(),
        fps_estimated: if us > 0.0 { 1e6 / us } else { 0.0 },
        drop: point.drop,
        score: point.score,
    }
}

/// Judges what the search asks for and puts it on disk.
struct Cook<'a> {
    desk: &'a Desk<'a>,
    bench: &'a Bench<'a>,
    judge: &'a Judge,
    file: File,
    /// What an earlier worker has judged.
    scores: BTreeMap<Vec<String>, Score>,
    out_of_time: &'a dyn Fn() -> bool,
    progress: &'a dyn Progress,
}

impl Kitchen for Cook<'_> {
    fn judge(&mut self, fp32_layers: &BTreeSet<String>) -> Result<Score, QuantizeError> {
        let names: Vec<String> = fp32_layers.iter().cloned().collect();
        if let Some(known) = self.scores.get(&names) {
            return Ok(*known);
        }
        let (_, quantized) = self.bench.make(fp32_layers)?;
        let score = self.judge.score(&quantized.model, self.progress)?;
        self.progress.note(&format!(
            "{} layers in FP32: drop {:.2} points, KL divergence {:.5}",
            names.len(),
            score.drop().unwrap_or(f64::NAN),
            score.loss
        ));
        self.scores.insert(names, score);
        Ok(score)
    }

    fn judged(&mut self, points: &[Point], best: usize, is_new_best: bool) -> Result<(), QuantizeError> {
        let optimized_us = self.file.optimized_us;
        self.file.points = points.iter().map(|p| file_point(p, optimized_us)).collect();
        self.file.best = Some(best);
        let failed = |error: RunError| QuantizeError::Store { what: error.to_string() };
        self.desk.write_json(FILE, &self.file).map_err(failed)?;
        if is_new_best {
            let (_, quantized) = self.bench.make(&points[best].fp32_layers.iter().cloned().collect())?;
            calibrate::write(self.desk, &quantized).map_err(failed)?;
        }
        Ok(())
    }

    fn out_of_time(&self) -> bool {
        (self.out_of_time)()
    }
}
