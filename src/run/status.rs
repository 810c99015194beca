//! How a run stands, seen from outside: what its log says, and whether somebody holds its lock.
//!
//! Cheap enough to ask for every run of a workspace several times a second: `state.json` holds the fold
//! up to the last event of weight, and what came after it is within the last bytes of the log.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::events::{Entry, Status};
use super::fold::{Phase, State};
use super::shards::{Progress, Shards};
use super::slurm;
use crate::project::lock::{Holder, RunLock};

/// How much of the end of a log is read. An entry has a few hundred bytes.
const END_OF_LOG: u64 = 8 << 10;
/// The shortest time between two looks at the logs of all shards.
const LOOK_AT_SHARDS_EVERY: Duration = Duration::from_secs(2);

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nobody has worked on it yet.
    Waiting,
    /// A worker is at it.
    Running,
    /// It was stopped, or its worker died; it can be taken up again.
    Interrupted,
    /// It failed: [`Phase::Failed`] says why.
    Failed,
    /// It came to its end.
    Finished(Status),
}

impl Standing {
    /// Its word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Waiting => "waiting",
            Standing::Running => "running",
            Standing::Interrupted => "interrupted",
            Standing::Failed => "failed",
            Standing::Finished(Status::Passed) => "finished",
            Standing::Finished(Status::GateFailed) => "gate failed",
        }
    }
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStatus {
    /// In a word.
    pub standing: Standing,
    /// What its log amounts to.
    pub state: State,
    /// Who works on it now.
    pub holder: Option<Holder>,
}

/// How the run in `directory` stands. A folder without a run is waiting.
pub fn of(directory: &Path) -> RunStatus {
    // In this order: a worker that ends between the two looks has told its end before it let go.
    let mut holder = RunLock::holder(directory);
    let state = state(directory);
    if holder.is_none() && state.phase == Phase::Running {
        // It may have begun between the two looks.
        holder = RunLock::holder(directory);
    }
    let status = RunStatus { standing: standing(&state, holder.as_ref()), state, holder };
    let unfinished = matches!(status.state.phase, Phase::Waiting | Phase::Running);
    match status.holder.is_none() && unfinished && Shards::are_in(directory) {
        true => in_shards(directory, status),
        false => status,
    }
}

/// A run in shards, which nobody holds between its merges: what its shards have logged, and on a cluster, whether
/// its jobs are at work or wait.
fn in_shards(directory: &Path, mut status: RunStatus) -> RunStatus {
    let Some(Progress { mut stage, working }) = progress(directory) else { return status };
    let begun = working > 0 || stage.done > 0;
    status.standing = match slurm::alive(directory) {
        Some(alive) if alive.running > 0 => Standing::Running,
        Some(alive) if alive.pending > 0 => {
            let reason = alive.reason.unwrap_or_else(|| "its turn".into());
            stage.detail =
                Some(format!("waits in the queue: {reason}; {}", stage.detail.unwrap_or_default()));
            Standing::Waiting
        }
        Some(_) => {
            if let Some(words) = slurm::unfinished(directory) {
                stage.detail = Some(format!("Slurm says: {words}; {}", stage.detail.unwrap_or_default()));
            }
            Standing::Interrupted
        }
        None if working > 0 => Standing::Running,
        None => Standing::Waiting,
    };
    if begun || status.state.phase == Phase::Running {
        status.state.phase = Phase::Running;
        status.state.stages.retain(|other| other.stage != stage.stage);
        status.state.stages.push(stage);
    }
    status
}

/// How far the shards are, not older than some seconds: all their logs are read for it, and a file system that
/// many share has other things to do.
fn progress(directory: &Path) -> Option<Progress> {
    type Known = HashMap<PathBuf, (Instant, Option<Progress>)>;
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((when, progress)) = known.get(directory)
        && when.elapsed() < LOOK_AT_SHARDS_EVERY
    {
        return progress.clone();
    }
    let progress = Shards::open(directory).ok().map(|shards| shards.progress());
    known.insert(directory.to_path_buf(), (Instant::now(), progress.clone()));
    progress
}

fn standing(state: &State, holder: Option<&Holder>) -> Standing {
    // A holder that is not the last to have spoken has just begun, whatever the log of the others says. One without
    // a name has not written it yet, or has taken it away and is about to let go: only the log tells which.
    let begins = holder.is_some_and(|holder| {
        holder.pid.is_some() && (holder.pid != state.pid || holder.host.as_ref() != Some(&state.host))
    });
    match &state.phase {
        _ if begins => Standing::Running,
        Phase::Waiting if holder.is_some() => Standing::Running,
        Phase::Waiting => Standing::Waiting,
        Phase::Running if holder.is_some() => Standing::Running,
        Phase::Running | Phase::Interrupted => Standing::Interrupted,
        Phase::Failed { .. } => Standing::Failed,
        Phase::Finished { status } => Standing::Finished(*status),
    }
}

/// The fold of the log in `directory`.
fn state(directory: &Path) -> State {
    let log = directory.join("events.jsonl");
    let stored = fs::read(directory.join("state.json")).ok();
    match stored.and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok()) {
        Some(mut state) => {
            let end = end_of(&log).unwrap_or_default();
            let entries: Vec<Entry> =
                end.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
            let known = entries.iter().rposition(|entry| !entry.event.is_momentary());
            entries[known.map_or(0, |last| last + 1)..].iter().for_each(|entry| state.apply(entry));
            state
        }
        None => State::of_log(&String::from_utf8_lossy(&fs::read(&log).unwrap_or_default())),
    }
}

fn end_of(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END_OF_LOG)))?;
    let mut bytes = Vec::new();
    file.take(END_OF_LOG).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::project::host;
    use crate::project::lock::LOCK_FILE;
    use crate::run::event_log::EventLog;
    use crate::run::events::{Event, Stage};

    fn log(folder: &Path) -> EventLog {
        EventLog::open(&folder.join("events.jsonl"), &folder.join("state.json"), Vec::new()).unwrap()
    }

    fn started(pid: u32) -> Event {
        Event::Started { plan: "demo".into(), version: "0".into(), pid, host: host::hostname() }
    }

    fn progress(done: usize, total: usize) -> Event {
        let stage = Stage::Statistics;
        Event::Progress { stage, done, total, rate: 1.0, eta_seconds: None, detail: None }
    }

    #[test]
    fn a_run_is_running_only_while_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of(folder.path()).standing, Standing::Waiting);
        let lock = RunLock::take(folder.path()).unwrap();
        assert_eq!(of(folder.path()).standing, Standing::Running, "before its first word");
        let log = log(folder.path());
        log.emit(started(std::process::id()));
        assert_eq!(of(folder.path()).standing, Standing::Running);
        drop(lock);
        assert_eq!(of(folder.path()).standing, Standing::Interrupted, "its worker died");
        log.emit(Event::Failed { message: "full disk".into() });
        let status = of(folder.path());
        assert_eq!(status.standing, Standing::Failed);
        assert_eq!(status.state.phase, Phase::Failed { message: "full disk".into() });
    }

    #[test]
    fn the_end_counts_while_its_teller_still_holds_the_lock_and_not_when_another_begins() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RunLock::take(folder.path()).unwrap();
        let log = log(folder.path());
        log.emit(started(std::process::id()));
        log.emit(Event::Finished { status: Status::Passed, exit_code: 0 });
        assert_eq!(of(folder.path()).standing, Standing::Finished(Status::Passed));
        log.emit(started(1));
        log.emit(Event::Interrupted);
        assert_eq!(of(folder.path()).standing, Standing::Running, "this process took it up again");
        drop(lock);
        assert_eq!(of(folder.path()).standing, Standing::Interrupted);
    }

    #[test]
    fn the_end_counts_also_while_its_teller_lets_go_of_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RunLock::take(folder.path()).unwrap();
        // What stands there between taking away the name and letting go.
        fs::write(folder.path().join(LOCK_FILE), "").unwrap();
        assert_eq!(of(folder.path()).standing, Standing::Running, "before its first word");
        let log = log(folder.path());
        log.emit(started(std::process::id()));
        assert_eq!(of(folder.path()).standing, Standing::Running);
        log.emit(Event::Finished { status: Status::Passed, exit_code: 0 });
        assert_eq!(of(folder.path()).standing, Standing::Finished(Status::Passed));
        drop(lock);
        assert_eq!(of(folder.path()).standing, Standing::Finished(Status::Passed));
    }

    #[test]
    fn progress_after_the_last_state_is_seen_and_so_is_a_log_without_a_state() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        log.emit(started(1));
        log.emit(Event::StageStarted { stage: Stage::Statistics });
        for total in 1..200 {
            // A total that is reached is never held back.
            log.emit(progress(total, total));
        }
        log.emit(Event::Warning { stage: None, message: "dark".into() });
        let whole = log.state();
        assert_eq!(of(folder.path()).state, whole);
        fs::remove_file(folder.path().join("state.json")).unwrap();
        assert_eq!(of(folder.path()).state, whole);
        fs::write(folder.path().join("state.json"), "{\"plan\":").unwrap();
        assert_eq!(of(folder.path()).state, whole, "a damaged state");
    }
}
