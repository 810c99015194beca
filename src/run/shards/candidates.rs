//! Candidates for the INT8 model, scored one by one: each is made from statistics that are there, and judged on the same
//! images by every shard. What follows from the scores is decided at the merge, as in a run in one piece.

use serde::{Deserialize, Serialize};

use super::work::Task;
use super::{Kept, ShardError, Shards, Step};
use crate::dataset::Dataset;
use crate::progress::Progress;
use crate::project::hash;
use crate::quantize::{self, BiasShifts, Score};
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::plan::{Method, Plan};
use crate::run::stages::checkpoint::Checkpoint;
use crate::run::stages::prepare::{self, Subject};
use crate::run::stages::{baseline, calibrate, ranking, recipe};
use crate::run::worker::StageError;

const FILE: &str = "candidates.json";

/// `candidates.json`: the statistics are put together.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    /// The key of the run's checkpoint.
    checkpoint: String,
}

/// A score as it is stored: JSON has no infinity, and the loss may be that.
#[derive(Debug, Serialize, Deserialize)]
struct Scored {
    score: Score,
    infinite: bool,
}

/// How many candidates a run of `plan` has. For `accuracy_aware` the model tells.
pub(super) fn count(plan: &Plan, calibration: &Dataset) -> Result<usize, RunError> {
    match plan.optimize.method {
        Method::Default => Ok(0),
        Method::Auto if calibration.items.len() < recipe::FEWEST => Ok(0),
        Method::Auto => Ok(recipe::candidates(&calibrate::options(plan)).len()),
        Method::AccuracyAware => {
            let failed = |source: StageError| RunError::Stage { stage: Stage::Prepare, source };
            let parent = prepare::parent_of(plan).map_err(failed)?;
            let placement = quantize::place(&parent, &calibrate::options(plan));
            Ok(ranking::nodes(&placement.map_err(|error| failed(error.into()))?).len())
        }
    }
}

fn key(subject: &Subject, plan: &Plan, checkpoint: &str, kept: Option<&Kept>) -> Result<String, StageError> {
    let mut text = format!(
        "candidates\n{}\n{checkpoint}\n{}\n",
        subject.parent.sha256,
        serde_json::to_string(&plan.optimize)?
    );
    if let Some(kept) = kept {
        text += &serde_json::to_string(&(&kept.options, &kept.shifts))?;
        text +=
            &kept.source.as_ref().map_or_else(String::new, |(model, _)| hash::sha256_bytes(&model.encode()));
    }
    Ok(hash::sha256_bytes(text.as_bytes()))
}

impl Task<'_> {
    pub(super) fn candidates(&self, subject: &Subject, progress: &dyn Progress) -> Result<(), StageError> {
        let Ready { checkpoint } = self.shards.ready()?;
        let kept = self.shards.base(self.plan, subject);
        let key = key(subject, self.plan, &checkpoint, kept.as_ref())?;
        if self.is_there(&key, progress) {
            return Ok(());
        }
        let too_early = || ShardError::NoStatistics { directory: self.shards.directory() };
        let file = self.shards.directory().join(calibrate::CHECKPOINT_FILE);
        let whole = Checkpoint::read(&file, &checkpoint)?.ok_or_else(too_early)?;
        let options = calibrate::options(self.plan);
        let placement = quantize::place(&subject.parent, &options)?;
        let parent = baseline::loaded(subject)?;
        let range = self.shards.cut(Step::Candidates).range(self.shard);
        let scores = match self.plan.optimize.method {
            Method::AccuracyAware => {
                let kept = kept.ok_or_else(too_early)?;
                let (source, statistics) = match &kept.source {
                    Some((model, statistics)) => (model, statistics),
                    None => (&subject.parent, &whole.statistics),
                };
                let (options, shifts): (_, &BiasShifts) = (&kept.options, &kept.shifts);
                let bench = ranking::Bench { subject, source, statistics, options, shifts };
                let nodes = ranking::nodes(&placement);
                bench.scores(&parent, nodes.get(range).unwrap_or_default(), progress)?
            }
            _ => recipe::scores(subject, &parent, &placement, &whole.statistics, &options, range, progress)?,
        };
        let stored = |score: Score| match score.loss.is_finite() {
            true => Scored { score, infinite: false },
            false => Scored { score: Score { loss: 0.0, ..score }, infinite: true },
        };
        let scores: Vec<Option<Scored>> = scores.into_iter().map(|score| score.map(stored)).collect();
        self.end(&key, &scores)
    }
}

impl Shards {
    /// Whether the statistics are put together and the candidates can be scored.
    pub fn candidates_can_run(&self) -> bool {
        self.folder.join(FILE).is_file()
    }

    /// The model that `accuracy_aware` gives layers back of; `auto` begins with none.
    fn base(&self, plan: &Plan, subject: &Subject) -> Option<Kept> {
        let gives_back = plan.optimize.method == Method::AccuracyAware;
        if gives_back { self.kept(plan, &subject.parent) } else { None }
    }

    fn ready(&self) -> Result<Ready, ShardError> {
        let path = self.folder.join(FILE);
        let Ok(bytes) = std::fs::read(&path) else {
            return Err(ShardError::NoStatistics { directory: self.directory() });
        };
        serde_json::from_slice(&bytes).map_err(|e| ShardError::Damaged { path, why: e.to_string() })
    }

    /// Takes down that the statistics with this key are in the run's checkpoint, and what was made of them.
    pub(in crate::run) fn record_statistics(
        &self,
        checkpoint: &str,
        kept: Option<&Kept>,
    ) -> Result<(), RunError> {
        if let Some(kept) = kept {
            self.keep(kept)?;
        }
        self.write(FILE, &Ready { checkpoint: checkpoint.into() })
    }

    /// Forgets statistics that are about to be put together anew, and what was made of them.
    pub(in crate::run) fn forget_statistics(&self) -> Result<(), RunError> {
        self.forget(FILE)?;
        self.forget(super::kept::RECIPE)
    }

    /// The scores of all candidates, in order; `None` of one that can't be made, and of all where too few images can be
    /// read to judge any.
    ///
    /// # Errors
    /// A shard has not ended, or its piece is damaged or of other inputs.
    pub(in crate::run) fn scores(
        &self,
        subject: &Subject,
        plan: &Plan,
    ) -> Result<Vec<Option<Score>>, StageError> {
        self.all_there(Step::Candidates)?;
        let Ready { checkpoint } = self.ready()?;
        let kept = self.base(plan, subject);
        let key = key(subject, plan, &checkpoint, kept.as_ref())?;
        let mut all = Vec::new();
        for shard in 0..self.cut(Step::Candidates).shards {
            let (scores, _) = self.piece::<Vec<Option<Scored>>>(Step::Candidates, shard, key.clone())?;
            all.extend(scores.into_iter().map(|scored| {
                let Scored { score, infinite } = scored?;
                Some(if infinite { Score { loss: f64::INFINITY, ..score } } else { score })
            }));
        }
        Ok(all)
    }
}
