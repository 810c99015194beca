//! What a run tells the world: entries of `events.jsonl`, one JSON object per line.
//!
//! A terminal, a test and a later reader of the file all see the same entries; what they show is the
//! fold of [`super::fold`] over them.

use serde::{Deserialize, Serialize};

use super::summary::GateResult;
pub use crate::quantize::Look;

/// A part of the work, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Load and simplify the model, find the images.
    Prepare,
    /// Run the parent once over some images.
    Baseline,
    /// Collect activation statistics.
    Statistics,
    /// Choose ranges and write the INT8 model.
    Quantize,
    /// Correct biases.
    Correct,
    /// Keep layers in FP32 until the drop holds: only with the method `accuracy_aware`.
    Tradeoff,
    /// Load what was written and compare it with the parent.
    Verify,
    /// Measure speed.
    Measure,
    /// Find what INT8 costs each layer.
    Sensitivity,
    /// Make the reports.
    Report,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Stage; 10] = [
        Stage::Prepare,
        Stage::Baseline,
        Stage::Statistics,
        Stage::Quantize,
        Stage::Correct,
        Stage::Tradeoff,
        Stage::Verify,
        Stage::Measure,
        Stage::Sensitivity,
        Stage::Report,
    ];

    /// Its word in logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Prepare => "prepare",
            Stage::Baseline => "baseline",
            Stage::Statistics => "statistics",
            Stage::Quantize => "quantize",
            Stage::Correct => "correct",
            Stage::Tradeoff => "tradeoff",
            Stage::Verify => "verify",
            Stage::Measure => "measure",
            Stage::Sensitivity => "sensitivity",
            Stage::Report => "report",
        }
    }

    /// What its progress counts.
    pub fn unit(self) -> &'static str {
        match self {
            Stage::Measure => "rounds",
            Stage::Prepare | Stage::Quantize => "steps",
            Stage::Correct => "tensors",
            Stage::Tradeoff => "layers",
            _ => "images",
        }
    }
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The worker began; a log that was resumed has several.
    Started {
        /// Name of the plan.
        plan: String,
        /// Version of calib8.
        version: String,
        /// Process of the worker.
        pid: u32,
        /// Machine of the worker.
        host: String,
    },
    /// A stage began.
    StageStarted {
        /// Which.
        stage: Stage,
    },
    /// A stage went on.
    Progress {
        /// Which.
        stage: Stage,
        /// Items that are finished.
        done: usize,
        /// Items in all.
        total: usize,
        /// Items per second since the stage began.
        rate: f64,
        /// Seconds left at this rate, once there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eta_seconds: Option<f64>,
        /// The item at work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A look at one tensor while statistics are collected; each look is at the next one.
    Observed(Look),
    /// A stage ended well.
    StageFinished {
        /// Which.
        stage: Stage,
        /// How long it took.
        seconds: f64,
    },
    /// Something the user should know; the work goes on.
    Warning {
        /// The stage in which it came up, if in one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
        /// What, and what to do.
        message: String,
    },
    /// What was found on the way and explains what is done next.
    Note {
        /// The stage that found it.
        stage: Stage,
        /// What.
        message: String,
    },
    /// A file took its place in the run directory.
    Artifact {
        /// Relative to the run directory.
        path: String,
        /// Its size.
        bytes: u64,
        /// Its hash, lowercase hexadecimal.
        sha256: String,
    },
    /// The key numbers; all of them are in `summary.json`.
    Result {
        /// FPS of optimized ÷ FPS of parent in the first setting that was measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        speedup: Option<f64>,
        /// Fraction of images on which both models agree.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agreement: Option<f64>,
        /// Drop of top-1 accuracy in percentage points.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drop: Option<f64>,
    },
    /// A gate was judged.
    Gate(GateResult),
    /// The run came to its end.
    Finished {
        /// How.
        status: Status,
        /// What the process exits with.
        exit_code: u8,
    },
    /// The run failed.
    Failed {
        /// What, where, and what to do.
        message: String,
    },
    /// The user stopped the run.
    Interrupted,
}

impl Event {
    /// Whether `state.json` may do without it until something of weight happens: a reader finds it behind
    /// the last other entry of the log.
    pub fn is_momentary(&self) -> bool {
        matches!(self, Event::Progress { .. } | Event::Observed(_) | Event::Warning { .. })
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All gates passed.
    Passed,
    /// A gate failed.
    GateFailed,
}

impl Status {
    /// The exit code that says so.
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Passed => 0,
            Status::GateFailed => 3,
        }
    }
}

/// An [`Event`] with its time: one line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// RFC 3339, UTC, to the millisecond.
    pub time: String,
    /// Monotonic seconds since this worker began.
    pub elapsed: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_flat_json_and_comes_back() {
        let event = Event::StageFinished { stage: Stage::Quantize, seconds: 1.25 };
        let entry = Entry { time: "2026-01-01T00:00:00.000Z".into(), elapsed: 0.0, event };
        let json = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            json,
            r#"{"time":"2026-01-01T00:00:00.000Z","elapsed":0.0,"event":"stage_finished","stage":"quantize","seconds":1.25}"#
        );
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
    }
}
