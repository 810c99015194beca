//! What makes a measurement doubtful. Each warning says what was seen and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Conditions;
use super::stats;

/// Spread of a model's rounds above which they are called noisy.
const NOISY: f64 = 0.05;
/// Share of the cores in use by others, above which they are called busy.
const BUSY: f64 = 0.1;
/// Share of time spent waiting for a core, or stolen by the host, that is worth a word.
const LOST: f64 = 0.02;
/// Share of the rounds that may be left out without a word; the result says how many in any case.
const MANY_LEFT_OUT: f64 = 0.1;
/// Highest ÷ lowest frequency above which the clock counts as changed.
const CLOCK_CHANGED: f64 = 1.05;
/// Below this many rounds, not even the smallest and the largest of them enclose the true median
/// with 95 % (1 − 2 · ½ⁿ).
const ENOUGH_ROUNDS: usize = 6;

/// Something that was seen and that makes a measurement doubtful.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Warning {
    /// The rounds of one model differ a lot.
    Noisy {
        /// Which model.
        model: String,
        /// 1.4826 · MAD ÷ median of the rounds' FPS.
        spread: f64,
    },
    /// Others used the cores just before.
    OtherLoad {
        /// Share (0 to 1) of the allowed cores' time.
        busy: f64,
        /// Load average over the last minute.
        load_average: Option<f64>,
    },
    /// The streams had to wait for others on their cores.
    Waited {
        /// Share (0 to 1) of the measuring time.
        share: f64,
    },
    /// The host of the virtual machine gave the cores to somebody else.
    Stolen {
        /// Share (0 to 1) of the measuring time.
        share: f64,
    },
    /// Rounds do not count, because the host of the virtual machine took more of them than of others.
    LeftOut {
        /// How many.
        left_out: usize,
        /// Of how many.
        rounds: usize,
    },
    /// The cores did not keep their frequency.
    FrequencyChanged {
        /// Lowest frequency seen between turns, in MHz.
        low_mhz: f64,
        /// Highest.
        high_mhz: f64,
        /// The governor, where the system tells.
        governor: Option<String>,
    },
    /// The cores were slowed down because they got hot.
    Throttled {
        /// How often.
        events: u64,
    },
    /// Streams share cores.
    FewerCores {
        /// Streams that were asked for.
        streams: usize,
        /// Threads of each.
        #[serde(default = "one")]
        threads: usize,
        /// Cores that this process may run on.
        cores: usize,
    },
    /// A cgroup grants less time than the streams want.
    CpuLimit {
        /// Streams that were asked for.
        streams: usize,
        /// Threads of each.
        #[serde(default = "one")]
        threads: usize,
        /// Cores' worth of time that are granted.
        limit: f64,
    },
    /// The system refused to keep streams on their cores.
    NotPinned,
    /// Too little time for a sound interval.
    FewRounds {
        /// Rounds that were finished.
        rounds: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        match self {
            Warning::Noisy { model, spread } => write!(
                f,
                "the speed of {model} varied by {} between rounds: close other programs, or measure longer \
                 (performance.seconds)",
                percent(*spread)
            ),
            Warning::OtherLoad { busy, load_average } => {
                write!(f, "other programs used {} of the cores before measuring", percent(*busy))?;
                if let Some(load) = load_average {
                    write!(f, " (load average {load:.2})")?;
                }
                f.write_str(": FPS is lower than on a quiet machine; the ratio suffers less")
            }
            Warning::Waited { share } => write!(
                f,
                "other programs held the measured cores for {} of the time: close them, or give calib8 cores \
                 of its own (taskset)",
                percent(*share)
            ),
            Warning::Stolen { share } => write!(
                f,
                "the host of this virtual machine took {} of the measured cores' time: FPS is lower than it \
                 could be; use a machine with dedicated cores",
                percent(*share)
            ),
            Warning::LeftOut { left_out, rounds } => write!(
                f,
                "{left_out} of {rounds} rounds do not count, because the host of this virtual machine took more of \
                 them than of the others; use a machine with dedicated cores"
            ),
            Warning::FrequencyChanged { low_mhz, high_mhz, governor } => {
                write!(f, "the clock went from {low_mhz:.0} to {high_mhz:.0} MHz while measuring")?;
                if let Some(governor) = governor.as_deref().filter(|name| *name != "performance") {
                    write!(f, " (governor {governor})")?;
                }
                f.write_str(
                    ": FPS depends on when it was measured, the ratio suffers less; set the governor to performance",
                )
            }
            Warning::Throttled { events } => write!(
                f,
                "the cores were slowed down {events} times because of heat: FPS is that of a hot machine; \
                 improve the cooling or measure shorter"
            ),
            Warning::FewerCores { streams, threads, cores } => write!(
                f,
                "{} share {cores} {}: their latency is that of waiting for one another; use at most {cores} ({})",
                wanting(*streams, *threads),
                if *cores == 1 { "core" } else { "cores" },
                if *threads > 1 { "performance.streams × performance.threads" } else { "performance.streams" }
            ),
            Warning::CpuLimit { streams, threads, limit } => write!(
                f,
                "a cgroup limits this process to {limit:.2} cores, {} {} more: pauses are part of the numbers; \
                 raise the limit (cpu.max) or use fewer {}",
                wanting(*streams, *threads),
                if *streams * *threads == 1 { "wants" } else { "want" },
                if *threads > 1 { "threads" } else { "streams" }
            ),
            Warning::NotPinned => f.write_str(
                "the system did not let streams be pinned to cores: they may move while they are timed, which \
                 adds noise",
            ),
            Warning::FewRounds { rounds } => write!(
                f,
                "only {rounds} rounds fitted into the time, too few for a sound interval: measure longer \
                 (performance.seconds)"
            ),
        }
    }
}

fn one() -> usize {
    1
}

/// `2 streams`, or `2 streams × 4 threads`.
fn wanting(streams: usize, threads: usize) -> String {
    let noun = if streams == 1 { "stream" } else { "streams" };
    if threads == 1 { format!("{streams} {noun}") } else { format!("{streams} {noun} × {threads} threads") }
}

/// What was seen around and during a measurement.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    /// The host before the start.
    pub conditions: &'a Conditions,
    /// Streams that ran at a time.
    pub streams: usize,
    /// Threads of each.
    pub threads: usize,
    /// Whether each stream has stayed on a core of its own.
    pub pinned: bool,
    /// Share (0 to 1) of their time for which the streams waited for a core.
    pub waited: f64,
    /// Share (0 to 1) of the measured cores' time that the hypervisor took.
    pub stolen: f64,
    /// How often the measured cores were slowed down because of heat.
    pub throttled: u64,
    /// Rounds that do not count because of what the hypervisor took.
    pub left_out: usize,
    /// Name of each model and the FPS of its rounds.
    pub models: &'a [(&'static str, Vec<f64>)],
}

impl Seen<'_> {
    /// All that is worth a warning, the graver first.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let mut found = Vec::new();
        let (streams, threads, cores) = (self.streams, self.threads, self.conditions.cores.len());
        let wanted = streams * threads;
        if wanted > cores {
            found.push(Warning::FewerCores { streams, threads, cores });
        }
        if let Some(limit) = self.conditions.cpu_limit.filter(|limit| *limit < wanted as f64) {
            found.push(Warning::CpuLimit { streams, threads, limit });
        }
        if self.waited > LOST && wanted <= cores {
            found.push(Warning::Waited { share: self.waited });
        }
        if self.stolen > LOST {
            found.push(Warning::Stolen { share: self.stolen });
        }
        let rounds = self.models.iter().map(|(_, fps)| fps.len()).min().unwrap_or(0);
        if self.left_out as f64 > MANY_LEFT_OUT * rounds as f64 {
            found.push(Warning::LeftOut { left_out: self.left_out, rounds });
        }
        if let Some((low_mhz, high_mhz)) = self.conditions.frequency_mhz
            && high_mhz > CLOCK_CHANGED * low_mhz
        {
            let governor = self.conditions.governor.clone();
            found.push(Warning::FrequencyChanged { low_mhz, high_mhz, governor });
        }
        if self.throttled > 0 {
            found.push(Warning::Throttled { events: self.throttled });
        }
        if let Some(busy) = self.conditions.busy_before.filter(|busy| *busy > BUSY) {
            let load_average = self.conditions.load_average.map(|[minute, ..]| minute);
            found.push(Warning::OtherLoad { busy, load_average });
        }
        if !self.pinned {
            found.push(Warning::NotPinned);
        }
        for (model, fps) in self.models {
            let spread = stats::relative_spread(fps);
            if spread > NOISY {
                found.push(Warning::Noisy { model: (*model).into(), spread });
            }
        }
        if rounds < ENOUGH_ROUNDS {
            found.push(Warning::FewRounds { rounds });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Conditions {
        Conditions {
            cores: vec![0, 1],
            cpu_limit: None,
            governor: None,
            load_average: Some([0.5, 0.4, 0.3]),
            busy_before: Some(0.01),
            frequency_mhz: Some((3_000.0, 3_010.0)),
            used: vec![0],
        }
    }

    fn warnings(conditions: &Conditions, streams: usize, waited: f64, fps: Vec<f64>) -> Vec<Warning> {
        let models = [("the parent", fps)];
        Seen {
            conditions,
            streams,
            threads: 1,
            pinned: true,
            waited,
            stolen: 0.0,
            throttled: 0,
            left_out: 0,
            models: &models,
        }
        .warnings()
    }

    fn steady() -> Vec<f64> {
        vec![100.0, 101.0, 99.0, 100.0, 100.5, 99.5]
    }

    #[test]
    fn a_quiet_machine_warns_of_nothing() {
        assert_eq!(warnings(&quiet(), 2, 0.0, steady()), []);
    }

    #[test]
    fn each_sign_has_its_warning() {
        assert_eq!(
            warnings(&quiet(), 4, 0.5, steady()),
            [Warning::FewerCores { streams: 4, threads: 1, cores: 2 }],
            "waiting for one another is what too many streams do"
        );
        let limited = Conditions { cpu_limit: Some(1.5), ..quiet() };
        assert_eq!(
            warnings(&limited, 2, 0.0, steady()),
            [Warning::CpuLimit { streams: 2, threads: 1, limit: 1.5 }]
        );
        assert_eq!(warnings(&limited, 1, 0.0, steady()), []);
        assert_eq!(warnings(&quiet(), 1, 0.4, steady()), [Warning::Waited { share: 0.4 }]);
        let busy = Conditions { busy_before: Some(0.5), ..quiet() };
        assert_eq!(
            warnings(&busy, 1, 0.0, steady()),
            [Warning::OtherLoad { busy: 0.5, load_average: Some(0.5) }]
        );
        let low = Conditions { frequency_mhz: Some((2_000.0, 3_000.0)), ..quiet() };
        let found = warnings(&low, 1, 0.0, steady());
        assert!(matches!(found[..], [Warning::FrequencyChanged { .. }]), "{found:?}");
        let conditions = quiet();
        let models = [("the parent", steady())];
        let seen = Seen {
            conditions: &conditions,
            streams: 1,
            threads: 1,
            pinned: false,
            waited: 0.0,
            stolen: 0.5,
            throttled: 3,
            left_out: 2,
            models: &models,
        };
        assert_eq!(
            seen.warnings(),
            [
                Warning::Stolen { share: 0.5 },
                Warning::LeftOut { left_out: 2, rounds: 6 },
                Warning::Throttled { events: 3 },
                Warning::NotPinned
            ]
        );
        let found = warnings(&quiet(), 1, 0.0, vec![100.0, 60.0, 90.0, 110.0, 70.0, 100.0]);
        assert!(matches!(found[..], [Warning::Noisy { .. }]), "{found:?}");
        assert_eq!(warnings(&quiet(), 1, 0.0, vec![100.0; 3]), [Warning::FewRounds { rounds: 3 }]);
    }

    #[test]
    fn messages_say_what_was_seen_and_what_to_do() {
        let said = Warning::FewerCores { streams: 4, threads: 1, cores: 2 }.to_string();
        assert!(said.contains("4 streams share 2 cores") && said.contains("performance.streams"), "{said}");
        let said = Warning::FewerCores { streams: 1, threads: 4, cores: 2 }.to_string();
        assert!(said.contains("1 stream × 4 threads share 2 cores"), "{said}");
        let said = Warning::Noisy { model: "the parent".into(), spread: 0.123 }.to_string();
        assert!(said.contains("the parent varied by 12 %") && said.contains("performance.seconds"), "{said}");
        let governor = Some("powersave".to_string());
        let said = Warning::FrequencyChanged { low_mhz: 800.0, high_mhz: 3_000.0, governor }.to_string();
        assert!(said.contains("from 800 to 3000 MHz") && said.contains("(governor powersave)"), "{said}");
        assert_eq!(serde_json::json!(Warning::NotPinned)["kind"], "not_pinned");
    }
}
