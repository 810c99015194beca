//! One shard: from its images to its piece.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gather::report_key;
use super::piece::{self, Place};
use super::{ModelRecord, ShardError, Shards, Step};
use crate::dataset::Dataset;
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions, Session};
use crate::model::Model;
use crate::progress::Progress;
use crate::project::{ProjectError, host};
use crate::quantize;
use crate::report::{Collector, Piece, Seen};
use crate::run::RunError;
use crate::run::directory::{DirectoryError, PLAN_FILE};
use crate::run::event_log::{EventLog, Listener};
use crate::run::events::{Event, Stage, Status};
use crate::run::interrupt::Interrupt;
use crate::run::plan::Plan;
use crate::run::sink::Sink;
use crate::run::stages::calibrate::{self, MODEL_FILE};
use crate::run::stages::checkpoint::Checkpoint;
use crate::run::stages::closing;
use crate::run::stages::observing::Job;
use crate::run::stages::prepare::{self, Subject};
use crate::run::stages::report::{Pair, compare_on, gather, sessions_elsewhere};
use crate::run::stages::unreadable::{self, Set, Unreadable};
use crate::run::worker::StageError;

/// The shortest time between two writes of what a shard has so far.
const KEEP_EVERY: Duration = Duration::from_secs(30);

/// Does the work of one shard of the run in `directory`, with `threads` threads; left out, as many as the plan
/// says and this process has cores. A piece that is there and fits is left as it is.
///
/// # Errors
/// There is no such shard, its work failed, or the user asked to stop; what was done by then is kept.
pub fn run(
    directory: &Path,
    step: Step,
    shard: usize,
    threads: Option<usize>,
    interrupt: &Interrupt,
    listeners: Vec<Box<dyn Listener>>,
) -> Result<(), RunError> {
    let directory = std::path::absolute(directory).map_err(|source| ProjectError::read(directory, source))?;
    let file = directory.join(PLAN_FILE);
    if !file.is_file() {
        return Err(DirectoryError::NoRun(directory).into());
    }
    let shards = Shards::open(&directory)?;
    let count = shards.cut(step).shards;
    if shard >= count {
        return Err(ShardError::NoSuchShard { step, shard, shards: count }.into());
    }
    let mut plan = Plan::load(&file, &[])?;
    plan.threads = threads.unwrap_or(plan.threads.min(host::cores())).max(1);
    let events = shards.file(step, shard, "jsonl");
    let folder = events.parent().unwrap_or(&directory);
    fs::create_dir_all(folder).map_err(|source| ProjectError::write(folder, source))?;
    let log = EventLog::open_sparse(&events, listeners)?;
    log.emit(Event::Started {
        plan: plan.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        pid: std::process::id(),
        host: host::hostname(),
    });
    let result = Task { shards: &shards, plan: &plan, step, shard, log: &log, interrupt }.work();
    log.emit(match &result {
        Ok(()) => Event::Finished { status: Status::Passed, exit_code: 0 },
        Err(RunError::Interrupted) => Event::Interrupted,
        Err(error) => Event::Failed { message: error.to_string() },
    });
    result
}

pub(super) struct Task<'a> {
    pub shards: &'a Shards,
    pub plan: &'a Plan,
    step: Step,
    pub shard: usize,
    log: &'a EventLog,
    interrupt: &'a Interrupt,
}

impl Task<'_> {
    fn work(&self) -> Result<(), RunError> {
        let subject = self.stage(Stage::Prepare, |progress| prepare::prepare_part(self.plan, progress))?;
        let whole = match self.step {
            Step::Statistics => &subject.calibration,
            Step::Report => &subject.dataset,
            Step::Candidates => {
                return self.stage(Stage::Tradeoff, |progress| self.candidates(&subject, progress));
            }
            Step::Sensitivity => {
                return self.stage(Stage::Sensitivity, |progress| self.sensitivity(&subject, progress));
            }
            Step::Performance => {
                return self.stage(Stage::Measure, |progress| self.performance(&subject, progress));
            }
        };
        let part = self.shards.part(self.step, self.shard, whole)?;
        let share = self.plan.dataset.max_unreadable;
        // A shard alone can't tell whether they are too many of all; more than all may have are too many anyhow.
        let allowed = unreadable::allowed(share, whole.items.len());
        let bad = self.stage(self.step.stage(), |progress| match self.step {
            Step::Statistics => self.statistics(&subject, &part, allowed, progress),
            _ => self.report(&subject, &part, allowed, progress),
        })?;
        if bad.len() > allowed {
            let error = unreadable::too_many(&whole.root, &bad, whole.items.len(), share);
            return Err(RunError::Stage { stage: self.step.stage(), source: error });
        }
        Ok(())
    }

    fn stage<T>(
        &self,
        stage: Stage,
        work: impl FnOnce(&dyn Progress) -> Result<T, StageError>,
    ) -> Result<T, RunError> {
        let sink = Sink::start(self.log, self.interrupt, stage);
        let result = work(&sink);
        if let Err(error) = result {
            let nothing = matches!(error.downcast_ref(), Some(ShardError::NothingInTime));
            return Err(match self.interrupt.is_set() && !nothing {
                true => RunError::Interrupted,
                false => RunError::Stage { stage, source: error },
            });
        }
        if self.interrupt.is_set() {
            return Err(RunError::Interrupted);
        }
        sink.finish();
        result.map_err(|source| RunError::Stage { stage, source })
    }

    fn place(&self, key: &str) -> Place {
        Place {
            step: self.step,
            shard: self.shard,
            shards: self.shards.cut(self.step).shards,
            key: key.into(),
        }
    }

    /// Whether the piece is there, whole, and of these inputs.
    pub(super) fn is_there(&self, key: &str, progress: &dyn Progress) -> bool {
        let path = self.shards.file(self.step, self.shard, "piece");
        match piece::read::<serde::de::IgnoredAny>(&path, &self.place(key), "") {
            Ok(found) => {
                let there = found.is_some();
                if there {
                    progress.note("the result of this shard is there already");
                }
                there
            }
            Err(error) => {
                progress.warn(&format!("a result that is there is not used and computed anew: {error}"));
                false
            }
        }
    }

    /// Puts the piece in its place; what was kept on the way goes.
    pub(super) fn end(&self, key: &str, content: &impl serde::Serialize) -> Result<(), StageError> {
        let path = self.shards.file(self.step, self.shard, "piece");
        piece::write(&path, &self.place(key), &closing::host(), content)?;
        // Should this fail, it is a file too many, and nothing else.
        let _ = fs::remove_file(self.shards.file(self.step, self.shard, "part"));
        Ok(())
    }

    /// What a shard that was stopped fails with.
    fn stopped(&self, before: usize, after: usize) -> StageError {
        if self.interrupt.is_late() && after <= before {
            ShardError::NothingInTime.into()
        } else {
            "stopped".into()
        }
    }

    fn statistics(
        &self,
        subject: &Subject,
        part: &Dataset,
        allowed: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Unreadable>, StageError> {
        let placement = quantize::place(&subject.parent, &calibrate::options(self.plan))?;
        let key = calibrate::key(subject, &placement, part);
        if self.is_there(&key, progress) {
            return Ok(Vec::new());
        }
        let file = self.shards.file(self.step, self.shard, "part");
        let position = || Checkpoint::read(&file, &key).ok().flatten().map_or(0, |kept| kept.position);
        let before = position();
        let job = Job {
            subject,
            placement: &placement,
            dataset: part,
            key: &key,
            file: file.clone(),
            allowed,
            pause: KEEP_EVERY,
            peek: &|_| {},
            held: None,
        };
        let checkpoint = match job.observe(progress) {
            Err(_) if progress.cancelled() => return Err(self.stopped(before, position())),
            checkpoint => checkpoint?,
        };
        if progress.cancelled() {
            return Err(self.stopped(before, position()));
        }
        if checkpoint.unreadable.len() <= allowed {
            self.end(&key, &checkpoint)?;
        }
        Ok(calibrate::listed(&checkpoint.unreadable))
    }

    /// The INT8 model, and what is known of it.
    pub(super) fn optimized(&self) -> Result<(ModelRecord, Model), StageError> {
        let record = self.shards.model()?;
        let optimized = Model::load(&self.shards.directory().join(MODEL_FILE))?;
        match optimized.sha256 == record.sha256 {
            true => Ok((record, optimized)),
            false => Err(ShardError::NoModel { directory: self.shards.directory() }.into()),
        }
    }

    fn report(
        &self,
        subject: &Subject,
        part: &Dataset,
        allowed: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Unreadable>, StageError> {
        let (record, optimized) = self.optimized()?;
        let key = report_key(subject, self.plan, &record.sha256, record.head, part);
        if self.is_there(&key, progress) {
            return Ok(Vec::new());
        }
        let sessions = match sessions_elsewhere(self.plan, subject, &optimized)? {
            Some(sessions) => sessions,
            None => [load(&subject.parent)?, load(&optimized)?],
        };
        let [parent, second] = &sessions;
        let threads = subject.threads();
        let compare = compare_on(parent.as_ref(), record.head, &subject.dataset, &self.plan.reports);
        let pair = Pair { parent: parent.as_ref(), optimized: second.as_ref(), compare: &compare, threads };
        let mut start = Collector::new(compare.clone());
        let file = self.shards.file(self.step, self.shard, "part");
        match piece::read::<Piece>(&file, &self.place(&key), "") {
            Ok(Some((kept, _))) => start.absorb(kept),
            Ok(None) => {}
            Err(error) => progress.warn(&format!("what was kept of this shard is not used: {error}")),
        }
        let before = start.piece().images().count();
        let bad = start.piece().unreadable().len();
        let known: BTreeSet<String> = start.piece().images().map(str::to_string).collect();
        let rest = part.items.iter().filter(|item| !known.contains(&item.name)).cloned().collect();
        let rest = Dataset { items: rest, ..part.clone() };
        let here = closing::host();
        let keep = |collector: &Collector| -> Result<(), StageError> {
            Ok(piece::write(&file, &self.place(&key), &here, collector.piece())?)
        };
        let last = Mutex::new(Instant::now());
        let kept = |collector: &Collector| -> Result<(), StageError> {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() < KEEP_EVERY {
                return Ok(());
            }
            *last = Instant::now();
            keep(collector)
        };
        let allowed_now = allowed.saturating_sub(bad);
        let collector = Mutex::new(start);
        let take = |_, seen: Seen| {
            let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
            collector.add(seen);
            kept(&collector)
        };
        gather(&pair, &rest, &subject.preprocess, allowed_now, progress, &take)?;
        let gathered = collector.into_inner().unwrap_or_else(PoisonError::into_inner);
        if progress.cancelled() {
            keep(&gathered)?;
            return Err(self.stopped(before, gathered.piece().images().count()));
        }
        let piece = gathered.into_piece();
        let row = |u: &crate::report::Unreadable| Unreadable {
            set: Set::Dataset,
            image: u.image.clone(),
            reason: u.reason.clone(),
        };
        let bad: Vec<Unreadable> = piece.unreadable().iter().map(row).collect();
        if bad.len() <= allowed {
            self.end(&key, &piece)?;
        }
        Ok(bad)
    }
}

fn load(model: &Model) -> Result<Box<dyn Session>, StageError> {
    Ok(Builtin.load(model, &LoadOptions::default())?)
}
