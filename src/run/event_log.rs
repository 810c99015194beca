//! The event log of a run at work: appended to `events.jsonl`, folded into `state.json`, told to
//! listeners.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::events::{Entry, Event, Stage};
use super::fold::State;
use crate::project::{ProjectError, atomic, time};

/// The shortest time between two progress entries of a stage, the last one aside.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// The same where many tasks write to one file system.
const SPARSE_INTERVAL: Duration = Duration::from_secs(1);

/// Someone who is told each entry as it is logged.
pub trait Listener: Send {
    /// A new entry.
    fn hear(&mut self, entry: &Entry);
}

/// The log of a run that is at work. Threads may share it.
pub struct EventLog {
    started: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    file: Option<File>,
    state_path: Option<PathBuf>,
    state: State,
    listeners: Vec<Box<dyn Listener>>,
    throttle: Throttle,
    write_error: Option<ProjectError>,
}

impl EventLog {
    /// Opens the log of a run directory, to append to it. A last line that a killed worker left
    /// unfinished is removed.
    ///
    /// # Errors
    /// The log can't be read or written.
    pub fn open(
        events: &Path,
        state: &Path,
        listeners: Vec<Box<dyn Listener>>,
    ) -> Result<Self, ProjectError> {
        let before = cut_torn_line(events).map_err(|source| ProjectError::write(events, source))?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(events)
            .map_err(|source| ProjectError::write(events, source))?;
        let state_path = Some(state.to_path_buf());
        Ok(Self::with(Inner {
            file: Some(file),
            state_path,
            state: State::of_log(&before),
            ..Inner::new(listeners)
        }))
    }

    /// As [`EventLog::open`], for one of many tasks that write to the same file system: progress comes at most once
    /// a second, and there is no `state.json` beside the log.
    ///
    /// # Errors
    /// As [`EventLog::open`].
    pub fn open_sparse(events: &Path, listeners: Vec<Box<dyn Listener>>) -> Result<Self, ProjectError> {
        let failed = |source| ProjectError::write(events, source);
        let before = cut_torn_line(events).map_err(failed)?;
        let file = OpenOptions::new().create(true).append(true).open(events).map_err(failed)?;
        let state = State::of_log(&before);
        let throttle = Throttle { interval: SPARSE_INTERVAL, ..Throttle::default() };
        Ok(Self::with(Inner { file: Some(file), state, throttle, ..Inner::new(listeners) }))
    }

    /// A log that is written nowhere: for tests and for commands that keep no run directory.
    pub fn detached(listeners: Vec<Box<dyn Listener>>) -> Self {
        Self::with(Inner::new(listeners))
    }

    fn with(inner: Inner) -> Self {
        EventLog { started: Instant::now(), inner: Mutex::new(inner) }
    }

    /// Logs an event. Progress may be held back for a moment; the last of a stage always comes.
    ///
    /// A log that can't be written does not stop the work: [`EventLog::write_error`] tells.
    pub fn emit(&self, event: Event) {
        let now = self.started.elapsed();
        let entry = Entry { time: time::now(), elapsed: now.as_secs_f64(), event };
        let mut inner = self.lock();
        for entry in inner.throttle.admit(entry, now) {
            inner.log(&entry);
        }
    }

    /// What the log amounts to so far.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// The first error of writing the log, which is then no longer written.
    pub fn write_error(&self) -> Option<String> {
        self.lock().write_error.as_ref().map(ToString::to_string)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The data stays usable if a listener panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn new(listeners: Vec<Box<dyn Listener>>) -> Self {
        Inner {
            file: None,
            state_path: None,
            state: State::default(),
            listeners,
            throttle: Throttle::default(),
            write_error: None,
        }
    }

    fn log(&mut self, entry: &Entry) {
        self.state.apply(entry);
        for listener in &mut self.listeners {
            listener.hear(entry);
        }
        if let Err(error) = self.write(entry) {
            self.file = None;
            self.state_path = None;
            self.write_error.get_or_insert(error);
        }
    }

    fn write(&mut self, entry: &Entry) -> Result<(), ProjectError> {
        if let Some(file) = &mut self.file {
            let write = |file: &mut File| -> io::Result<()> {
                let mut line = serde_json::to_vec(entry)?;
                line.push(b'\n');
                // One call, so that a line is cut only if the machine stops.
                file.write_all(&line)
            };
            write(file).map_err(|source| ProjectError::write(Path::new("events.jsonl"), source))?;
        }
        if let Some(path) = self.state_path.as_ref().filter(|_| !entry.event.is_momentary()) {
            let json = serde_json::to_vec_pretty(&self.state)
                .map_err(|error| ProjectError::write(path, error.into()))?;
            atomic::write(path, &json)?;
        }
        Ok(())
    }
}

/// Lets at most one progress entry of a stage through in an interval, and the last one.
struct Throttle {
    interval: Duration,
    last: Option<(Stage, Duration)>,
    pending: Option<Entry>,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { interval: PROGRESS_INTERVAL, last: None, pending: None }
    }
}

impl Throttle {
    /// What to log now that `entry` came at `now`.
    fn admit(&mut self, entry: Entry, now: Duration) -> Vec<Entry> {
        let Event::Progress { stage, done, total, .. } = entry.event else {
            if matches!(
                entry.event,
                Event::Warning { .. } | Event::Note { .. } | Event::Observed(_) | Event::Artifact { .. }
            ) {
                return vec![entry];
            }
            self.last = None;
            return self.pending.take().into_iter().chain([entry]).collect();
        };
        let early =
            self.last.is_some_and(|(last_stage, last)| last_stage == stage && now < last + self.interval);
        if early && done != total {
            self.pending = Some(entry);
            return Vec::new();
        }
        self.pending = None;
        self.last = Some((stage, now));
        vec![entry]
    }
}

/// Removes what stands behind the last newline, and gives the rest.
fn cut_torn_line(path: &Path) -> io::Result<String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |last| last + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    Ok(String::from_utf8_lossy(&bytes[..whole]).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn progress(stage: Stage, done: usize) -> Event {
        Event::Progress { stage, done, total: 100, rate: 1.0, eta_seconds: None, detail: None }
    }

    fn entry(event: Event) -> Entry {
        Entry { time: "2026-01-01T00:00:00.000Z".into(), elapsed: 0.0, event }
    }

    #[test]
    fn progress_is_thinned_but_the_last_of_a_stage_comes() {
        let mut throttle = Throttle::default();
        let ms = Duration::from_millis;
        let mut admit = |event, at| -> Vec<Event> {
            throttle.admit(entry(event), ms(at)).into_iter().map(|entry| entry.event).collect()
        };
        let stage = Stage::Statistics;
        assert_eq!(admit(progress(stage, 1), 0).len(), 1, "the first");
        assert_eq!(admit(progress(stage, 2), 50).len(), 0, "too soon");
        assert_eq!(admit(progress(stage, 3), 210).len(), 1, "late enough");
        assert_eq!(admit(progress(stage, 100), 220).len(), 1, "the total");
        assert_eq!(admit(progress(Stage::Verify, 1), 230).len(), 1, "another stage");
        assert_eq!(admit(progress(Stage::Verify, 2), 240).len(), 0);
        let end = Event::StageFinished { stage: Stage::Verify, seconds: 1.0 };
        assert_eq!(admit(end.clone(), 250), [progress(Stage::Verify, 2), end]);
    }

    #[test]
    fn a_log_is_appended_to_after_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let (events, state) = (folder.path().join("events.jsonl"), folder.path().join("state.json"));
        let first = EventLog::open(&events, &state, Vec::new()).unwrap();
        first.emit(Event::StageStarted { stage: Stage::Prepare });
        drop(first);
        OpenOptions::new().append(true).open(&events).unwrap().write_all(b"{\"time\":\"2026").unwrap();
        let second = EventLog::open(&events, &state, Vec::new()).unwrap();
        second.emit(Event::Interrupted);
        let text = fs::read_to_string(&events).unwrap();
        let lines: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(second.state(), State::of_log(&text));
        let stored: State = serde_json::from_str(&fs::read_to_string(&state).unwrap()).unwrap();
        assert_eq!(stored, second.state());
    }
}
