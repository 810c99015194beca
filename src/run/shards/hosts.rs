//! Speeds on kinds of node: one shard for each that the run file names, run alone on a node of that kind.

use super::work::Task;
use super::{Shards, Step};
use crate::progress::Progress;
use crate::project::{atomic, hash};
use crate::run::performance::Performance;
use crate::run::plan::Plan;
use crate::run::stages::elsewhere;
use crate::run::stages::prepare::Subject;
use crate::run::summary::HostSummary;
use crate::run::worker::StageError;

/// What speeds belong to: the files, and how they are measured.
fn key(subject: &Subject, plan: &Plan, optimized: &str, entry: usize) -> Result<String, StageError> {
    let text = format!(
        "{}\n{optimized}\n{:?}\n{}\n{:?}\n",
        subject.parent.sha256,
        subject.preprocess,
        serde_json::to_string(&plan.performance)?,
        plan.performance.on.get(entry),
    );
    Ok(hash::sha256_bytes(text.as_bytes()))
}

impl Task<'_> {
    pub(super) fn performance(&self, subject: &Subject, progress: &dyn Progress) -> Result<(), StageError> {
        let (record, optimized) = self.optimized()?;
        let key = key(subject, self.plan, &record.sha256, self.shard)?;
        if self.is_there(&key, progress) {
            return Ok(());
        }
        let part = self.shards.file(Step::Performance, self.shard, "part");
        let start = Performance::read(&part).ok();
        let mut save = |found: &Performance| -> Result<(), StageError> {
            Ok(atomic::write(&part, &serde_json::to_vec(found)?)?)
        };
        let found = elsewhere::measure_here(
            self.plan,
            subject,
            (&optimized, record.head),
            start,
            &mut save,
            progress,
        )?;
        self.end(&key, &found)
    }
}

impl Shards {
    /// What was measured on each kind of node, in the order of the run file, and on which processor.
    ///
    /// # Errors
    /// A shard has not ended, or its piece is damaged or of other inputs.
    pub(in crate::run) fn performances(
        &self,
        subject: &Subject,
        plan: &Plan,
        optimized: &str,
    ) -> Result<Vec<(Performance, HostSummary)>, StageError> {
        self.all_there(Step::Performance)?;
        let shards = self.cut(Step::Performance).shards;
        let one =
            |shard: usize| Ok(self.piece(Step::Performance, shard, key(subject, plan, optimized, shard)?)?);
        (0..shards).map(one).collect()
    }
}
