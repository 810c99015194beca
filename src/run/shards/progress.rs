//! How far a run in shards is, from what each shard has logged.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Cut, Shards, Step};
use crate::run::events::Stage;
use crate::run::fold::{Phase, StageState};

/// A shard whose log has been silent for longer is not taken to be at work: it logs once a second while it is.
const SILENCE: Duration = Duration::from_secs(60);

/// How far a run in shards is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The step at work, as a stage: images done and in all, and in words how the shards stand.
    pub stage: StageState,
    /// Shards at work.
    pub working: usize,
}

impl Shards {
    /// How far the run is: in the first step that has shards without a result.
    pub fn progress(&self) -> Progress {
        let made = self.model_is_made();
        let unfinished = |step: &Step| step.needs_model() == made && !self.missing(*step).is_empty();
        let last = if made { Step::Report } else { Step::Statistics };
        let step = Step::ALL.into_iter().find(unfinished).unwrap_or(last);
        let cut @ Cut { shards, items: images } = self.cut(step);
        let missing = self.missing(step);
        let size = |shard: usize| cut.range(shard).len();
        let (mut working, mut failed, mut rate) = (0, 0, 0.0);
        let mut done = images - missing.iter().map(|shard| size(*shard)).sum::<usize>();
        for shard in &missing {
            let state = self.state(step, *shard);
            let stage = state.stages.iter().find(|stage| stage.stage == step.stage());
            // A node that measures counts something else, and is one item.
            let counts = step != Step::Performance;
            done += stage.filter(|_| counts).map_or(0, |stage| stage.done.min(size(*shard)));
            match state.phase {
                Phase::Running if recent(&self.file(step, *shard, "jsonl")) => {
                    working += 1;
                    rate += stage.filter(|_| counts).map_or(0.0, |stage| stage.rate);
                }
                Phase::Failed { .. } => failed += 1,
                _ => {}
            }
        }
        let mut detail = format!("{} of {shards} shards have ended", shards - missing.len());
        if working > 0 {
            detail += &format!(", {working} at work");
        }
        if failed > 0 {
            detail += &format!(", {failed} failed");
        }
        let left = images.saturating_sub(done) as f64;
        let eta_seconds = (rate > 0.0).then(|| left / rate);
        let stage: Stage = step.stage();
        let stage = StageState {
            stage,
            done,
            total: images,
            rate,
            eta_seconds,
            detail: Some(detail),
            seconds: None,
            reached: done as f64 / images.max(1) as f64,
        };
        Progress { stage, working }
    }
}

fn recent(log: &Path) -> bool {
    let changed = log.metadata().and_then(|metadata| metadata.modified());
    changed.is_ok_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|ago| ago < SILENCE))
}
