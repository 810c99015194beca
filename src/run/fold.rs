//! From the log to what there is to show: a pure fold that the command line, the terminal UI and
//! the tests share.

use serde::{Deserialize, Serialize};

use super::events::{Entry, Event, Look, Stage, Status};
use super::summary::GateResult;

/// What a log amounts to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Name of the plan.
    pub plan: String,
    /// Process of the last worker.
    pub pid: Option<u32>,
    /// Machine of the last worker.
    pub host: String,
    /// Where the run stands.
    pub phase: Phase,
    /// The stages that were begun, in the order in which they were.
    pub stages: Vec<StageState>,
    /// The tensor that was looked at last, while statistics are collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<Look>,
    /// Warnings in order, none twice.
    pub warnings: Vec<String>,
    /// Files that are in place, by path relative to the run directory.
    pub artifacts: Vec<String>,
    /// Gates that were judged.
    pub gates: Vec<GateResult>,
    /// Monotonic seconds of the last worker at its last entry.
    pub elapsed: f64,
}

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Nothing has happened.
    #[default]
    Waiting,
    /// A worker began and has not said that it ended.
    Running,
    /// It came to its end.
    Finished {
        /// How.
        status: Status,
    },
    /// It failed.
    Failed {
        /// Why.
        message: String,
    },
    /// The user stopped it.
    Interrupted,
}

/// How far a stage is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageState {
    /// Which.
    pub stage: Stage,
    /// Items that are finished.
    pub done: usize,
    /// Items in all; 0 while unknown.
    pub total: usize,
    /// Items per second.
    pub rate: f64,
    /// Seconds left.
    pub eta_seconds: Option<f64>,
    /// The item at work.
    pub detail: Option<String>,
    /// How long it took, once it has ended.
    pub seconds: Option<f64>,
    /// The largest share of the items that was finished at a time: with the next round they are counted anew.
    #[serde(default)]
    pub reached: f64,
}

impl StageState {
    fn new(stage: Stage) -> Self {
        StageState {
            stage,
            done: 0,
            total: 0,
            rate: 0.0,
            eta_seconds: None,
            detail: None,
            seconds: None,
            reached: 0.0,
        }
    }
}

impl State {
    /// Folds a whole log. Lines that are no entry, such as one cut off at the end, are passed over.
    pub fn of_log(text: &str) -> State {
        let mut state = State::default();
        for entry in text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
            state.apply(&entry);
        }
        state
    }

    /// Takes one more entry in.
    pub fn apply(&mut self, entry: &Entry) {
        self.elapsed = entry.elapsed;
        match &entry.event {
            Event::Started { plan, pid, host, .. } => {
                self.plan.clone_from(plan);
                self.pid = Some(*pid);
                self.host.clone_from(host);
                self.phase = Phase::Running;
                // A worker that takes a run up again tells anew what it does and finds.
                self.stages.clear();
                self.gates.clear();
                self.look = None;
            }
            Event::StageStarted { stage } => {
                self.stages.retain(|state| state.stage != *stage);
                self.stages.push(StageState::new(*stage));
                self.look = self.look.take().filter(|_| *stage <= Stage::Quantize);
            }
            Event::Observed(look) => self.look = Some(look.clone()),
            Event::Progress { stage, done, total, rate, eta_seconds, detail } => {
                let state = self.stage(*stage);
                state.done = *done;
                state.total = *total;
                state.reached = state.reached.max(*done as f64 / (*total).max(1) as f64);
                state.rate = *rate;
                state.eta_seconds = *eta_seconds;
                state.detail.clone_from(detail);
            }
            Event::StageFinished { stage, seconds } => {
                let state = self.stage(*stage);
                state.seconds = Some(*seconds);
                state.eta_seconds = None;
                state.detail = None;
            }
            Event::Warning { message, .. } => push_new(&mut self.warnings, message),
            Event::Artifact { path, .. } => push_new(&mut self.artifacts, path),
            Event::Result { .. } | Event::Note { .. } => {}
            Event::Gate(gate) => self.gates.push(gate.clone()),
            Event::Finished { status, .. } => self.phase = Phase::Finished { status: *status },
            Event::Failed { message } => self.phase = Phase::Failed { message: message.clone() },
            Event::Interrupted => self.phase = Phase::Interrupted,
        }
    }

    /// The stage at work, if one is.
    pub fn active(&self) -> Option<&StageState> {
        self.stages.last().filter(|state| state.seconds.is_none() && self.phase == Phase::Running)
    }

    fn stage(&mut self, stage: Stage) -> &mut StageState {
        let index = self.stages.iter().position(|state| state.stage == stage).unwrap_or_else(|| {
            self.stages.push(StageState::new(stage));
            self.stages.len() - 1
        });
        &mut self.stages[index]
    }
}

fn push_new(list: &mut Vec<String>, text: &str) {
    if !list.iter().any(|known| known == text) {
        list.push(text.to_string());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn log(events: Vec<Event>) -> String {
        let entries = events.into_iter().enumerate().map(|(second, event)| Entry {
            time: format!("2026-01-01T00:00:{second:02}.000Z"),
            elapsed: second as f64,
            event,
        });
        entries.map(|entry| serde_json::to_string(&entry).unwrap() + "\n").collect()
    }

    fn started() -> Event {
        Event::Started { plan: "demo".into(), version: "0".into(), pid: 7, host: "h".into() }
    }

    fn progress(done: usize) -> Event {
        Event::Progress {
            stage: Stage::Statistics,
            done,
            total: 300,
            rate: 50.0,
            eta_seconds: Some(4.0),
            detail: Some("a.png".into()),
        }
    }

    #[test]
    fn what_a_stage_reached_stays_when_it_counts_anew() {
        let text = log(vec![
            started(),
            Event::StageStarted { stage: Stage::Statistics },
            progress(200),
            progress(30),
        ]);
        let state = State::of_log(&text);
        assert_eq!(state.active().map(|s| (s.done, s.reached)), Some((30, 200.0 / 300.0)));
    }

    #[test]
    fn a_log_cut_in_the_middle_of_a_line_shows_what_was_whole() {
        let text = log(vec![
            started(),
            Event::StageStarted { stage: Stage::Prepare },
            Event::StageFinished { stage: Stage::Prepare, seconds: 1.5 },
            Event::StageStarted { stage: Stage::Statistics },
            progress(100),
            progress(200),
        ]);
        let whole = State::of_log(&text);
        assert_eq!(whole.active().map(|s| (s.stage, s.done)), Some((Stage::Statistics, 200)));
        let torn = State::of_log(&text[..text.len() - 20]);
        assert_eq!(torn.active().map(|s| s.done), Some(100));
        assert_eq!(torn.stages[0].seconds, Some(1.5));
        assert_eq!(torn.phase, Phase::Running);
    }

    #[test]
    fn a_run_that_is_taken_up_again_forgets_the_stages_of_the_first_worker() {
        let stage = Stage::Statistics;
        let first = vec![started(), Event::StageStarted { stage }, progress(100), Event::Interrupted];
        assert_eq!(State::of_log(&log(first.clone())).phase, Phase::Interrupted);
        let again = [first, vec![started(), Event::StageStarted { stage }]].concat();
        let state = State::of_log(&log(again));
        assert_eq!(state.phase, Phase::Running);
        assert_eq!(state.stages.len(), 1);
        assert_eq!(state.active().map(|s| s.done), Some(0));
    }

    #[test]
    fn the_last_look_at_a_tensor_is_shown_until_its_stages_are_over() {
        let look = |tensor: &str| {
            let (low, high) = (-1.0, 2.0);
            Event::Observed(Look {
                tensor: tensor.into(),
                images: 3,
                low,
                high,
                histogram: vec![1, 2],
                range: (low, high),
            })
        };
        let mut events =
            vec![started(), Event::StageStarted { stage: Stage::Statistics }, look("a"), look("b")];
        assert_eq!(State::of_log(&log(events.clone())).look.map(|look| look.tensor), Some("b".into()));
        events.push(Event::StageStarted { stage: Stage::Quantize });
        assert!(State::of_log(&log(events.clone())).look.is_some());
        events.push(Event::StageStarted { stage: Stage::Correct });
        assert_eq!(State::of_log(&log(events)).look, None);
    }

    #[test]
    fn the_end_is_kept_and_nothing_is_active_after_it() {
        let warning = Event::Warning { stage: None, message: "few images".into() };
        let state = State::of_log(&log(vec![
            started(),
            Event::StageStarted { stage: Stage::Report },
            warning.clone(),
            warning,
            Event::Artifact { path: "summary.json".into(), bytes: 3, sha256: "00".into() },
            Event::Finished { status: Status::GateFailed, exit_code: 3 },
        ]));
        assert_eq!(state.phase, Phase::Finished { status: Status::GateFailed });
        assert_eq!(state.active(), None);
        assert_eq!(state.warnings, ["few images"]);
        assert_eq!(state.artifacts, ["summary.json"]);
        assert_eq!(state.elapsed, 5.0);
    }

    #[test]
    fn lines_of_a_later_version_are_passed_over() {
        let text = log(vec![started()])
            + "{\"time\":\"x\",\"elapsed\":1,\"event\":\"sang\"}\n"
            + &log(vec![Event::Interrupted]);
        assert_eq!(State::of_log(&text).phase, Phase::Interrupted);
    }
}
