//! How much faster is the optimized model? Both are timed in turns; see the head of this room.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::schedule::{Record, Schedule, Track};
use super::stats::{self, Interval, Ratio};
use super::streams::{Span, Subject, with_teams};
use super::warnings::{Seen, Warning};
use super::{Conditions, MeasureError, host};
use crate::engine::{Session, Value};
use crate::progress::Progress;

/// How long the host is watched before measuring starts.
const LOOK_AROUND: Duration = Duration::from_millis(300);

/// Share of a round that the host of a virtual machine may take above what it takes of the median round; one
/// tick of its clock, 10 ms, is 5 % of a round.
const STOLEN_SLACK: f64 = 0.02;

/// How to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Inferences that run at the same time, each on a thread and a core of its own.
    pub streams: usize,
    /// Threads that compute each inference together, each on a core of its own; the sessions must have been
    /// loaded with it.
    pub threads: usize,
    /// Images in one inference; the sessions must have been loaded with it.
    pub batch: usize,
    /// Time for warm-up and measuring together. At least three rounds are always made.
    pub seconds: f64,
    /// Measuring stops early once the width of the ratio's interval ÷ the ratio is at most this. 0 never
    /// stops early.
    pub narrow: f64,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { streams: 1, threads: 1, batch: 1, seconds: 10.0, narrow: 0.005, seed: 8 }
    }
}

impl Settings {
    fn check(&self) -> Result<(), MeasureError> {
        let refuse = |name, value: String, expected| Err(MeasureError::Setting { name, value, expected });
        if self.streams == 0 {
            return refuse("streams", "0".into(), "1 or more");
        }
        if self.threads == 0 {
            return refuse("threads", "0".into(), "1 or more");
        }
        if self.batch == 0 {
            return refuse("batch", "0".into(), "1 or more");
        }
        if !(self.seconds > 0.0 && self.seconds <= 86_400.0) {
            return refuse("seconds", self.seconds.to_string(), "a number above 0, up to a day");
        }
        if self.narrow.is_nan() || self.narrow < 0.0 {
            return refuse("narrow", self.narrow.to_string(), "0 or a small number such as 0.01");
        }
        Ok(())
    }
}

/// Percentiles of the time of one inference (of a whole batch), in milliseconds, to 0.05 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// How fast one model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Images per second of all streams together: the median of the rounds.
    pub fps: Interval,
    /// Over all timed inferences of all streams.
    pub latency_ms: Latency,
    /// Timed inferences.
    pub inferences: usize,
}

impl Timing {
    /// `kept` says which rounds count for the throughput; latencies are those of all, since a user meets all.
    fn of(track: &Track, kept: &[bool], batch: usize) -> Timing {
        let at = |p| track.latencies.percentile(p);
        let fps = images_per_second(track, batch);
        Timing {
            fps: stats::median_interval(&those(&fps, kept).collect::<Vec<_>>()),
            latency_ms: Latency { p50: at(50.0), p90: at(90.0), p99: at(99.0) },
            inferences: track.latencies.len(),
        }
    }
}

/// The values whose round is kept.
fn those<'a>(values: &'a [f64], kept: &'a [bool]) -> impl Iterator<Item = f64> + 'a {
    values.iter().zip(kept).filter(|(_, kept)| **kept).map(|(value, _)| *value)
}

fn images_per_second(track: &Track, batch: usize) -> Vec<f64> {
    track.per_second.iter().map(|n| n * batch as f64).collect()
}

/// Two models, timed in turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedResult {
    /// The parent.
    pub a: Timing,
    /// The optimized model.
    pub b: Timing,
    /// Speed-up of the optimized model: the median of the rounds' ratios, with the time in which streams waited
    /// for a core left out. That is not exactly the ratio of the two median FPS; [`stats::paired_ratio`] says
    /// why.
    pub ratio: Ratio,
    /// Rounds of four turns.
    pub rounds: usize,
    /// Rounds that do not count, because the host of the virtual machine took more of them than of others.
    pub left_out: usize,
    /// What makes the numbers doubtful.
    pub warnings: Vec<Warning>,
    /// The host when measuring began.
    pub conditions: Conditions,
}

/// One model, timed alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SingleResult {
    /// Its speed.
    pub timing: Timing,
    /// Rounds of one turn.
    pub rounds: usize,
    /// What makes the numbers doubtful.
    pub warnings: Vec<Warning>,
    /// The host when measuring began.
    pub conditions: Conditions,
}

/// Times `parent` and `optimized` in turns and says how much faster the latter is.
///
/// The inputs have the shapes of each session's inputs, batch included. The pass counts rounds to
/// `progress`.
///
/// # Errors
/// A setting makes no sense, an engine failed, memory or threads can't be had, or the user stopped.
pub fn compare(
    parent: &dyn Session,
    optimized: &dyn Session,
    inputs_parent: &[Value],
    inputs_optimized: &[Value],
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<PairedResult, MeasureError> {
    let subjects = [
        Subject { name: "the parent", session: parent, inputs: inputs_parent },
        Subject { name: "the optimized model", session: optimized, inputs: inputs_optimized },
    ];
    let clear = |record: &Record| {
        let found = ratio_of(record, settings.seed);
        (found.high - found.low) / found.ratio <= settings.narrow
    };
    let (record, warnings, conditions) = measure(&subjects, &[0, 1, 1, 0], settings, &clear, progress)?;
    let kept = kept(&record);
    Ok(PairedResult {
        a: Timing::of(&record.tracks[0], &kept, settings.batch),
        b: Timing::of(&record.tracks[1], &kept, settings.batch),
        ratio: ratio_of(&record, settings.seed),
        rounds: record.rounds,
        left_out: left_out(&record),
        warnings,
        conditions,
    })
}

/// Times one model alone, for where there is nothing yet to compare it with.
///
/// # Errors
/// As [`compare`].
pub fn single(
    session: &dyn Session,
    inputs: &[Value],
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<SingleResult, MeasureError> {
    let subjects = [Subject { name: "the model", session, inputs }];
    let clear = |record: &Record| {
        let fps = stats::median_interval(&record.tracks[0].per_second);
        (fps.high - fps.low) / fps.median <= settings.narrow
    };
    let (record, warnings, conditions) = measure(&subjects, &[0], settings, &clear, progress)?;
    let timing = Timing::of(&record.tracks[0], &kept(&record), settings.batch);
    Ok(SingleResult { timing, rounds: record.rounds, warnings, conditions })
}

/// Which rounds count.
fn kept(record: &Record) -> Vec<bool> {
    stats::undisturbed(&record.stolen, STOLEN_SLACK)
}

fn left_out(record: &Record) -> usize {
    kept(record).iter().filter(|kept| !**kept).count()
}

/// The speed-up in the time that the streams had: a program that takes a core for a while hits the turns of
/// one model or the other by chance.
pub(super) fn ratio_of(record: &Record, seed: u64) -> Ratio {
    let kept = kept(record);
    let [parent, optimized] = [0, 1].map(|model| those(&record.tracks[model].own_per_second, &kept));
    let rounds: Vec<(f64, f64)> = parent.zip(optimized).collect();
    stats::paired_ratio(&rounds, seed)
}

fn measure(
    subjects: &[Subject<'_>],
    order: &'static [usize],
    settings: &Settings,
    clear: &dyn Fn(&Record) -> bool,
    progress: &dyn Progress,
) -> Result<(Record, Vec<Warning>, Conditions), MeasureError> {
    settings.check()?;
    let (mut conditions, cores) = host::observe(LOOK_AROUND);
    let wanted = settings.streams * settings.threads;
    let used = &cores[..wanted.min(cores.len())];
    // Streams that share cores wait for each other: that is part of their speed.
    let crowded = wanted > cores.len() || conditions.cpu_limit.is_some_and(|limit| limit < wanted as f64);
    conditions.used = used.to_vec();
    let mut clockwork = host::Clockwork::watch(used);
    let before = host::CpuClock::now();
    let schedule =
        Schedule { models: subjects.len(), order, budget: Duration::from_secs_f64(settings.seconds) };
    let record = with_teams(subjects, settings.streams, settings.threads, used, |streams| {
        let start = Instant::now();
        let mut clock = host::CpuClock::now();
        let mut turn = |subject, length| {
            let mut turn = streams.turn(subject, Span::For(length))?;
            let now = host::CpuClock::now();
            turn.stolen = now.stolen_since(&clock, used).unwrap_or(0.0);
            clock = now;
            if crowded {
                turn.own_per_second = turn.per_second;
            }
            clockwork.look();
            Ok(turn)
        };
        schedule.run(&|| start.elapsed(), &mut turn, clear, progress)
    })?;
    conditions.frequency_mhz = clockwork.range();
    let stolen = host::CpuClock::now().stolen_since(&before, used).unwrap_or(0.0);
    let fps = |track| images_per_second(track, settings.batch);
    let models: Vec<_> = subjects.iter().map(|s| s.name).zip(record.tracks.iter().map(fps)).collect();
    let seen = Seen {
        conditions: &conditions,
        streams: settings.streams,
        threads: settings.threads,
        pinned: record.pinned,
        waited: record.waited.as_secs_f64() / record.elapsed.as_secs_f64().max(1e-9),
        stolen,
        throttled: clockwork.throttled(),
        left_out: left_out(&record),
        models: &models,
    };
    let warnings = seen.warnings();
    Ok((record, warnings, conditions))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::measure::Verdict;
    use crate::measure::fake::Fake;
    use crate::measure::latencies::Latencies;
    use crate::progress::Silent;

    #[test]
    fn a_batch_counts_as_many_images() {
        let per_second = vec![10.0, 11.0, 12.0, 1.0];
        let mut latencies = Latencies::default();
        latencies.extend(&[90.0, 100.0, 80.0]);
        let track = Track { own_per_second: per_second.clone(), per_second, latencies };
        let timing = Timing::of(&track, &[true, true, true, false], 4);
        assert_eq!((timing.fps.median, timing.inferences), (44.0, 3));
        assert!((timing.latency_ms.p50 / 90.0 - 1.0).abs() < 1e-3, "{:?}", timing.latency_ms);
        assert!(timing.fps.low < 44.0 && 44.0 < timing.fps.high);
    }

    #[test]
    fn the_names_in_json_are_those_of_the_summary() {
        let fps = Interval { median: 1.0, low: 0.5, high: 1.5 };
        let timing = Timing { fps, latency_ms: Latency { p50: 1.0, p90: 2.0, p99: 3.0 }, inferences: 7 };
        let expected = serde_json::json!({
            "fps": {"median": 1.0, "low": 0.5, "high": 1.5},
            "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0},
            "inferences": 7,
        });
        assert_eq!(serde_json::to_value(timing).unwrap(), expected);
        let ratio = Ratio { ratio: 2.0, low: 1.9, high: 2.1, verdict: Verdict::Faster };
        let expected = serde_json::json!({"ratio": 2.0, "low": 1.9, "high": 2.1, "verdict": "faster"});
        assert_eq!(serde_json::to_value(ratio).unwrap(), expected);
    }

    #[test]
    fn both_models_run_in_every_stream() {
        let (parent, optimized) = (Fake::default(), Fake::default());
        let settings = Settings { streams: 2, seconds: 0.02, ..Settings::default() };
        let result = compare(&parent, &optimized, &[], &[], &settings, &Silent).unwrap();
        assert_eq!((parent.spawned(), optimized.spawned()), (2, 2));
        assert!(result.rounds >= 3 && result.a.inferences > 0 && result.b.inferences > 0);
        assert!(result.ratio.low <= result.ratio.ratio && result.ratio.ratio <= result.ratio.high);
        let alone = single(&parent, &[], &settings, &Silent).unwrap();
        assert!(alone.timing.fps.median > 0.0);
    }

    #[test]
    fn streams_have_the_threads_that_are_asked_for() {
        let fake = Fake::default();
        let settings = Settings { threads: 2, seconds: 0.02, ..Settings::default() };
        let result = single(&fake, &[], &settings, &Silent).unwrap();
        assert_eq!((fake.spawned(), fake.threads()), (1, 2));
        assert_eq!(result.conditions.used.len(), 2.min(result.conditions.cores.len()));
    }

    #[test]
    fn senseless_settings_are_refused() {
        let fake = Fake::default();
        let good = Settings::default();
        for (settings, name) in [
            (Settings { streams: 0, ..good.clone() }, "streams = 0"),
            (Settings { threads: 0, ..good.clone() }, "threads = 0"),
            (Settings { batch: 0, ..good.clone() }, "batch = 0"),
            (Settings { seconds: f64::NAN, ..good.clone() }, "seconds = NaN"),
            (Settings { seconds: -1.0, ..good.clone() }, "seconds = -1"),
            (Settings { narrow: -1.0, ..good }, "narrow = -1"),
        ] {
            let said = single(&fake, &[], &settings, &Silent).unwrap_err().to_string();
            assert!(said.contains(name), "{said}");
        }
    }
}
