//! Pieces put together, in any order: one for each thread in memory at a time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;

use super::piece::{self, Place};
use super::{ShardError, Shards, Step};
use crate::dataset::{self, Dataset};
use crate::progress::Progress;
use crate::project::hash;
use crate::quantize::{Placement, Statistics};
use crate::report::{Collector, Compare, Head, Kind, Piece};
use crate::run::fold::Phase;
use crate::run::plan::Plan;
use crate::run::stages::calibrate;
use crate::run::stages::checkpoint::Checkpoint;
use crate::run::stages::closing;
use crate::run::stages::prepare::Subject;
use crate::run::summary::HostSummary;
use crate::run::worker::StageError;

/// Shards that an error names.
const NAMED: usize = 5;

/// What the rows of a part of the images belong to.
pub(super) fn report_key(
    subject: &Subject,
    plan: &Plan,
    optimized: &str,
    head: Head,
    part: &Dataset,
) -> String {
    let kinds: Vec<&str> = plan.reports.iter().map(|kind: &Kind| kind.name()).collect();
    let text = format!(
        "{}\n{optimized}\n{:?}\n{}\n{head:?}\n{kinds:?}\n",
        subject.parent.sha256,
        subject.preprocess,
        plan.reports_engine.name()
    );
    let mut hash = hash::Hasher::default();
    hash.update(text.as_bytes());
    for item in part.items.iter() {
        // An unreadable file has no hash, and stays unreadable or changes the key.
        let line =
            format!("{} {:?} {}\n", item.name, item.label, dataset::sha256(&item.path).unwrap_or_default());
        hash.update(line.as_bytes());
    }
    hash.finish()
}

impl Shards {
    /// The statistics of all shards, as those of one run.
    ///
    /// # Errors
    /// A piece is missing, damaged, or of other inputs; or the user asked to stop.
    pub(in crate::run) fn statistics(
        &self,
        subject: &Subject,
        placement: &Placement,
        key: &str,
        progress: &dyn Progress,
    ) -> Result<Checkpoint, StageError> {
        let parts = self.parts(Step::Statistics, &subject.calibration)?;
        // Each thread sums up what it reads; sums of sums are the same to the last bit.
        let empty = || (Statistics::default(), Vec::<(usize, Vec<(String, String)>)>::new());
        let sums = self.fold(
            Step::Statistics,
            subject.threads(),
            progress,
            |shard| calibrate::key(subject, placement, &parts[shard]),
            empty,
            |(statistics, unreadable), shard, piece: Checkpoint| {
                statistics.merge(&piece.statistics);
                unreadable.push((shard, piece.unreadable));
            },
        )?;
        let mut statistics = Statistics::default();
        let mut unreadable = Vec::new();
        for (part, bad) in sums {
            statistics.merge(&part);
            unreadable.extend(bad);
        }
        unreadable.sort();
        let unreadable = unreadable.into_iter().flat_map(|(_, list)| list).collect();
        Ok(Checkpoint::new(key, subject.calibration.items.len(), unreadable, statistics))
    }

    /// What all shards have seen, for the reports of `compare`.
    ///
    /// # Errors
    /// As [`Shards::statistics`].
    pub(in crate::run) fn reports(
        &self,
        subject: &Subject,
        plan: &Plan,
        optimized: &str,
        head: Head,
        compare: Compare,
        progress: &dyn Progress,
    ) -> Result<Collector, StageError> {
        let parts = self.parts(Step::Report, &subject.dataset)?;
        let collector = Mutex::new(Collector::new(compare));
        self.fold(
            Step::Report,
            subject.threads(),
            progress,
            |shard| report_key(subject, plan, optimized, head, &parts[shard]),
            || (),
            |(), _, piece: Piece| {
                collector.lock().unwrap_or_else(PoisonError::into_inner).absorb(piece);
            },
        )?;
        Ok(collector.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn parts(&self, step: Step, whole: &Dataset) -> Result<Vec<Dataset>, ShardError> {
        (0..self.cut(step).shards).map(|shard| self.part(step, shard, whole)).collect()
    }

    /// Reads all pieces of a step with `threads` threads, each of which has a sum of its own.
    fn fold<T: DeserializeOwned, S: Send>(
        &self,
        step: Step,
        threads: usize,
        progress: &dyn Progress,
        key: impl Fn(usize) -> String + Sync,
        empty: impl Fn() -> S + Sync,
        add: impl Fn(&mut S, usize, T) + Sync,
    ) -> Result<Vec<S>, StageError> {
        self.all_there(step)?;
        let shards = self.cut(step).shards;
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let failed: Mutex<Option<(usize, ShardError)>> = Mutex::new(None);
        let hosts: Mutex<BTreeSet<Vec<String>>> = Mutex::default();
        let work = || {
            let mut sum = empty();
            while !progress.cancelled() && failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                let shard = next.fetch_add(1, Ordering::Relaxed);
                if shard >= shards {
                    break;
                }
                match self.piece(step, shard, key(shard)) {
                    Ok((piece, host)) => {
                        hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host.isa);
                        add(&mut sum, shard, piece);
                    }
                    Err(error) => {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((shard, error));
                    }
                }
                progress.step(done.fetch_add(1, Ordering::Relaxed) + 1, shards, None);
            }
            sum
        };
        let sums: Vec<S> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads.clamp(1, shards)).map(|_| scope.spawn(work)).collect();
            handles.into_iter().map(|h| h.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
        });
        if let Some((_, error)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.into());
        }
        if progress.cancelled() {
            return Err("stopped".into());
        }
        warn_of_hosts(step, hosts.into_inner().unwrap_or_else(PoisonError::into_inner), progress);
        Ok(sums)
    }

    pub(super) fn piece<T: DeserializeOwned>(
        &self,
        step: Step,
        shard: usize,
        key: String,
    ) -> Result<(T, HostSummary), ShardError> {
        let place = Place { step, shard, shards: self.cut(step).shards, key };
        let again = self.again(step, shard);
        match piece::read(&self.file(step, shard, "piece"), &place, &again)? {
            Some(found) => Ok(found),
            // It was there a moment ago.
            None => self.all_there(step).and(Err(self.gone(step, shard))),
        }
    }

    fn gone(&self, step: Step, shard: usize) -> ShardError {
        ShardError::Missing { step, missing: 1, shards: self.cut(step).shards, list: self.again(step, shard) }
    }

    /// The command that runs a shard.
    pub(super) fn again(&self, step: Step, shard: usize) -> String {
        format!("calib8 shard run {} {} {shard}", self.directory().display(), step.name())
    }

    /// Whether each shard of a step has ended.
    pub(super) fn all_there(&self, step: Step) -> Result<(), ShardError> {
        let missing = self.missing(step);
        let Some(first) = missing.first() else { return Ok(()) };
        let how = |shard: &usize| match self.state(step, *shard).phase {
            Phase::Waiting => format!("{shard} (has not begun)"),
            Phase::Running => {
                let last = self
                    .last_words(step, *shard)
                    .map_or_else(String::new, |words| format!("; its last words: {words}"));
                format!("{shard} (is at work, or died without a word{last})")
            }
            Phase::Interrupted => format!("{shard} (was interrupted)"),
            Phase::Failed { message } => format!("{shard} (failed: {message})"),
            Phase::Finished { .. } => format!("{shard} (its result was removed)"),
        };
        let mut list = missing.iter().take(NAMED).map(how).collect::<Vec<_>>().join(", ");
        if missing.len() > NAMED {
            list += &format!(" and {} more", missing.len() - NAMED);
        }
        list += &format!("; run them, such as with `{}`, and merge again", self.again(step, *first));
        Err(ShardError::Missing { step, missing: missing.len(), shards: self.cut(step).shards, list })
    }
}

/// Says where shards came from machines with different instruction sets.
fn warn_of_hosts(step: Step, mut isas: BTreeSet<Vec<String>>, progress: &dyn Progress) {
    isas.insert(closing::host().isa);
    if isas.len() > 1 {
        let kinds: Vec<String> = isas.iter().map(|isa| isa.join(" ")).collect();
        progress.warn(&format!(
            "the shards of {} were computed on {} kinds of processor ({}): FP32 kernels may round differently on \
             them, so the results may differ in their last bits from those of one machine",
            step.name(),
            kinds.len(),
            kinds.join("; ")
        ));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::super::{Cut, SCHEMA, ShardPlan};
    use super::*;
    use crate::progress::Silent;
    use crate::project::host as machine;

    /// Statistics of a network of `tensors` tensors with 100 channels each, unlike those of another seed.
    fn statistics(tensors: usize, seed: usize) -> Statistics {
        let tensor = |at: usize| {
            let histogram: Vec<(usize, usize)> =
                (0..600).map(|bin| (1500 + bin, (bin * 7 + at + seed) % 1000 + 1)).collect();
            let means: Vec<String> =
                (0..100).map(|c| format!("{}", (c + 1) * (seed + 1) * 281_474_976_710)).collect();
            let tensor = serde_json::json!({
                "images": 50, "minimum": -1.0 - seed as f64, "maximum": 2.5, "sum_of_minima": "-281474976710656",
                "sum_of_maxima": "703687441776640", "images_not_finite": 0, "channel_means": means,
                "histogram": histogram,
            });
            (format!("tensor_{at}"), tensor)
        };
        let tensors: serde_json::Map<_, _> = (0..tensors).map(tensor).collect();
        serde_json::from_value(serde_json::json!({ "images": 50, "tensors": tensors })).unwrap()
    }

    fn shards(folder: &Path, count: usize) -> Shards {
        let cut = Cut { shards: count, items: 50 * count };
        let version = env!("CARGO_PKG_VERSION").to_string();
        let none = Cut::default();
        let plan = ShardPlan {
            schema: SCHEMA.into(),
            version,
            statistics: cut,
            candidates: none,
            report: cut,
            sensitivity: none,
            performance: none,
        };
        Shards { folder: folder.join("shards"), plan }
    }

    /// Writes the pieces of `count` shards; gives the shards.
    fn pieces(folder: &Path, count: usize, tensors: usize) -> Shards {
        let shards = shards(folder, count);
        let host = closing::host();
        for shard in 0..count {
            let path = shards.file(Step::Statistics, shard, "piece");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let place =
                Place { step: Step::Statistics, shard, shards: count, key: format!("key of {shard}") };
            piece::write(&path, &place, &host, &statistics(tensors, shard)).unwrap();
        }
        shards
    }

    fn merged(shards: &Shards, threads: usize) -> Statistics {
        let key = |shard| format!("key of {shard}");
        let add = |sum: &mut Statistics, _: usize, piece: Statistics| sum.merge(&piece);
        let sums = shards.fold(Step::Statistics, threads, &Silent, key, Statistics::default, add).unwrap();
        let mut whole = Statistics::default();
        sums.iter().for_each(|sum| whole.merge(sum));
        whole
    }

    #[test]
    fn pieces_merge_to_the_same_on_any_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let shards = pieces(folder.path(), 12, 3);
        let mut expected = Statistics::default();
        (0..12).rev().for_each(|shard| expected.merge(&statistics(3, shard)));
        for threads in [1, 2, 5, 40] {
            assert_eq!(merged(&shards, threads), expected, "{threads} threads");
        }
    }

    /// `cargo test --release a_thousand -- --ignored --nocapture` prints what `ARCHITECTURE.md` says of it.
    #[test]
    #[ignore = "a measurement"]
    fn a_thousand_pieces() {
        for count in [100, 1000] {
            let folder = tempfile::tempdir().unwrap();
            let shards = pieces(folder.path(), count, 60);
            let bytes = shards.file(Step::Statistics, 0, "piece").metadata().unwrap().len();
            machine::reset_peak_rss();
            let (before, start) = (machine::rss_bytes(), Instant::now());
            let images = merged(&shards, machine::cores()).images();
            let seconds = start.elapsed().as_secs_f64();
            let more = machine::peak_rss_bytes().saturating_sub(before) as f64 / 1e6;
            assert_eq!(images, 50 * count as u64);
            println!("{count} pieces of {bytes} bytes: {seconds:.2} s, {more:.0} MB above the start");
        }
    }
}
