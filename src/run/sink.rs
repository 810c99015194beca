//! A stage at work: what the rooms tell through [`Progress`] becomes events.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::event_log::EventLog;
use super::events::{Event, Stage};
use super::interrupt::Interrupt;
use crate::progress::Progress;

/// The listener of one stage. Made by [`Sink::start`], ended by [`Sink::finish`]; a stage that fails
/// is simply dropped.
pub struct Sink<'a> {
    log: &'a EventLog,
    interrupt: &'a Interrupt,
    stage: Stage,
    started: Instant,
    meter: Mutex<Meter>,
}

impl<'a> Sink<'a> {
    /// Begins a stage.
    pub fn start(log: &'a EventLog, interrupt: &'a Interrupt, stage: Stage) -> Self {
        log.emit(Event::StageStarted { stage });
        Sink { log, interrupt, stage, started: Instant::now(), meter: Mutex::default() }
    }

    /// Ends the stage well; gives the seconds it took.
    pub fn finish(self) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        self.log.emit(Event::StageFinished { stage: self.stage, seconds });
        seconds
    }
}

impl Progress for Sink<'_> {
    fn step(&self, done: usize, total: usize, detail: Option<&str>) {
        let reading = {
            let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
            meter.read(done, total, self.started.elapsed())
        };
        let Some((rate, eta_seconds)) = reading else { return };
        let detail = detail.map(str::to_string);
        self.log.emit(Event::Progress { stage: self.stage, done, total, rate, eta_seconds, detail });
    }

    fn warn(&self, message: &str) {
        self.log.emit(Event::Warning { stage: Some(self.stage), message: message.to_string() });
    }

    fn note(&self, message: &str) {
        self.log.emit(Event::Note { stage: self.stage, message: message.to_string() });
    }

    fn cancelled(&self) -> bool {
        self.interrupt.is_set()
    }
}

/// Rate and time left, from counts that may come from several threads and out of order.
#[derive(Debug, Default)]
struct Meter {
    /// Count and time at which this counting began.
    first: Option<(usize, Duration)>,
    total: usize,
    done: usize,
}

impl Meter {
    /// Items per second and seconds left; `None` for a count that a later one has overtaken.
    fn read(&mut self, done: usize, total: usize, now: Duration) -> Option<(f64, Option<f64>)> {
        if self.first.is_none() || total != self.total {
            // Work that begins to count something else begins a new measurement; items that were done
            // before, such as those of a run that is taken up again, are not part of the rate.
            *self = Meter { first: Some((done, now)), total, done };
        } else if done < self.done {
            return None;
        }
        self.done = done;
        let (first_done, first_time) = self.first?;
        let (items, seconds) =
            (done.saturating_sub(first_done), now.saturating_sub(first_time).as_secs_f64());
        if items == 0 || seconds <= 0.0 {
            return Some((0.0, None));
        }
        let rate = items as f64 / seconds;
        Some((rate, Some(total.saturating_sub(done) as f64 / rate)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::run::fold::Phase;

    #[test]
    fn rate_and_time_left_follow_from_counts() {
        let mut meter = Meter::default();
        let at = Duration::from_secs;
        assert_eq!(meter.read(0, 100, at(0)), Some((0.0, None)));
        assert_eq!(meter.read(20, 100, at(2)), Some((10.0, Some(8.0))));
        assert_eq!(meter.read(19, 100, at(3)), None, "overtaken");
        assert_eq!(meter.read(100, 100, at(5)), Some((20.0, Some(0.0))));
    }

    #[test]
    fn a_new_total_begins_a_new_measurement() {
        let mut meter = Meter::default();
        let at = Duration::from_secs;
        meter.read(50, 50, at(100));
        assert_eq!(meter.read(0, 10, at(100)), Some((0.0, None)));
        assert_eq!(meter.read(4, 10, at(102)), Some((2.0, Some(3.0))));
    }

    #[test]
    fn a_stage_tells_its_start_steps_warnings_and_end() {
        let log = EventLog::detached(Vec::new());
        let interrupt = Interrupt::default();
        let sink = Sink::start(&log, &interrupt, Stage::Statistics);
        sink.step(3, 7, Some("a.png"));
        sink.warn("dark image");
        assert!(!sink.cancelled());
        interrupt.set();
        assert!(sink.cancelled());
        assert_eq!(log.state().stages[0].done, 3);
        sink.finish();
        let state = log.state();
        assert!(state.stages[0].seconds.is_some());
        assert_eq!(state.warnings, ["dark image"]);
        assert_eq!(state.phase, Phase::Waiting);
    }
}
