//! What a disturbed machine does to the speed-up, on a made-up machine: how far the results of many measurements
//! of the same two models lie apart.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::SplitMix64;
use super::paired::ratio_of;
use super::schedule::Schedule;
use super::stats;
use super::streams::Turn;
use crate::progress::Silent;

/// Seconds of an inference of the parent and of the optimized model on the undisturbed machine.
const INFERENCE: [f64; 2] = [0.010, 0.004];
/// Seconds of each measurement.
const BUDGET: f64 = 20.0;
/// Measurements whose results are compared.
const TRIALS: u64 = 40;

/// What disturbs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Noise {
    /// The clock goes up and down by this share, in some seconds.
    drift: f64,
    /// Times in a second that another program takes the core, for 50 ms on average.
    bursts: f64,
    /// Whether the host of the virtual machine takes it, so that only its clock of 10 ms tells.
    stolen: bool,
}

struct Machine {
    noise: Noise,
    now: Cell<f64>,
    next_burst: Cell<f64>,
    phase: f64,
    period: f64,
    random: RefCell<SplitMix64>,
}

impl Machine {
    fn new(noise: Noise, seed: u64) -> Machine {
        let mut random = SplitMix64::new(seed);
        let (phase, period) = (std::f64::consts::TAU * random.unit(), 2.0 + 10.0 * random.unit());
        let next_burst = Cell::new(gap(&mut random, noise.bursts));
        Machine { noise, now: Cell::new(0.0), next_burst, phase, period, random: RefCell::new(random) }
    }

    /// Seconds of one inference, and how many of them it had no core.
    fn inference(&self, model: usize) -> (f64, f64) {
        let random = &mut *self.random.borrow_mut();
        let wave = (self.phase + std::f64::consts::TAU * self.now.get() / self.period).sin();
        let jitter = 0.02 * (random.unit() + random.unit() + random.unit() - 1.5);
        let work = INFERENCE[model] * (1.0 + jitter) * (1.0 + self.noise.drift * wave);
        let mut lost = 0.0;
        while self.next_burst.get() < self.now.get() + work {
            let length = gap(random, 20.0);
            lost += length;
            self.next_burst.set(self.next_burst.get() + length + gap(random, self.noise.bursts));
        }
        self.now.set(self.now.get() + work + lost);
        (work + lost, lost)
    }

    /// As a stream does it: the first inference is not timed.
    fn turn(&self, model: usize, length: Duration) -> Turn {
        self.inference(model);
        let (mut elapsed, mut lost, mut latencies_ms) = (0.0, 0.0, Vec::new());
        while elapsed < length.as_secs_f64() {
            let (time, without) = self.inference(model);
            elapsed += time;
            lost += without;
            latencies_ms.push(1e3 * time);
        }
        let inferences = latencies_ms.len() as f64;
        let ticks = (lost * 100.0).round() / 100.0;
        let (waited, stolen) = if self.noise.stolen { (0.0, ticks / elapsed) } else { (lost, 0.0) };
        Turn {
            per_second: inferences / elapsed,
            own_per_second: inferences / (elapsed - waited),
            latencies_ms,
            elapsed: Duration::from_secs_f64(elapsed),
            waited: Duration::from_secs_f64(waited),
            stolen,
            pinned: true,
        }
    }

    fn ratio(&self) -> f64 {
        let schedule = Schedule { models: 2, order: &[0, 1, 1, 0], budget: Duration::from_secs_f64(BUDGET) };
        let clock = || Duration::from_secs_f64(self.now.get());
        let mut turn = |model, length| Ok(self.turn(model, length));
        let record = schedule.run(&clock, &mut turn, &|_| false, &Silent);
        record.map_or(f64::NAN, |record| ratio_of(&record, 8).ratio)
    }

    /// Turns of 100 ms, all the time that passes, the median of the rounds' ratios.
    fn plain_ratio(&self) -> f64 {
        let mut ratios = Vec::new();
        while self.now.get() < BUDGET {
            let (mut inferences, mut seconds) = ([0.0; 2], [0.0; 2]);
            for place in [0, 1, 1, 0] {
                let model = if ratios.len() % 2 == 0 { place } else { 1 - place };
                let turn = self.turn(model, Duration::from_millis(100));
                inferences[model] += turn.latencies_ms.len() as f64;
                seconds[model] += turn.elapsed.as_secs_f64();
            }
            ratios.push(inferences[1] / seconds[1] / (inferences[0] / seconds[0]));
        }
        stats::median(&ratios)
    }
}

/// The time until something happens that happens `rate` times in a second.
fn gap(random: &mut SplitMix64, rate: f64) -> f64 {
    if rate > 0.0 { -(1.0 - random.unit()).ln() / rate } else { f64::INFINITY }
}

/// Standard deviation ÷ mean of the results, and the mean ÷ the truth.
fn spread(results: &[f64]) -> (f64, f64) {
    let n = results.len() as f64;
    let mean = results.iter().sum::<f64>() / n;
    let variance = results.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (variance.sqrt() / mean, mean / (INFERENCE[0] / INFERENCE[1]))
}

/// Spread with the plain way and with ours.
fn compared(noise: Noise) -> [f64; 2] {
    let results = |ratio: fn(&Machine) -> f64| -> Vec<f64> {
        (0..TRIALS).map(|seed| ratio(&Machine::new(noise, seed))).collect()
    };
    let [plain, ours] = [spread(&results(Machine::plain_ratio)), spread(&results(Machine::ratio))];
    assert!((ours.1 - 1.0).abs() < 0.002, "the truth is met: {}", ours.1);
    [plain.0, ours.0]
}

#[test]
fn a_drift_costs_less_with_short_turns() {
    let [plain, ours] = compared(Noise { drift: 0.15, bursts: 0.0, stolen: false });
    assert!(ours < 0.9 * plain, "{plain} {ours}");
}

#[test]
fn programs_that_take_the_core_for_a_while_cost_less_than_half() {
    let [plain, ours] = compared(Noise { drift: 0.15, bursts: 2.0, stolen: false });
    assert!(ours < 0.5 * plain, "{plain} {ours}");
}

#[test]
fn rounds_that_the_host_disturbed_do_not_count() {
    let [plain, ours] = compared(Noise { drift: 0.15, bursts: 2.0, stolen: true });
    assert!(ours < 0.6 * plain, "{plain} {ours}");
}
