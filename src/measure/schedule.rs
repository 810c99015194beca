//! When which model runs: warm-up, then rounds of turns until time is up or the answer is clear.
//!
//! Knows neither models nor clocks: both are handed in, so that tests can make time pass as they
//! like.

use std::time::Duration;

use super::MeasureError;
use super::latencies::Latencies;
use super::streams::Turn;
use crate::progress::Progress;

/// The longest turn, where inferences are short. A disturbance then spoils few rounds of many.
const LONGEST_TURN: Duration = Duration::from_millis(50);
/// The longest turn where inferences are so long that the first, which finds cold caches, would weigh too much.
const LONGEST_SLOW_TURN: Duration = Duration::from_millis(100);
/// Inferences of the slower model that should fit into a turn.
const WANTED_INFERENCES: u32 = 5;
/// The shortest turn that is asked for.
const SHORTEST_TURN: Duration = Duration::from_millis(5);
/// As many rounds as this should fit into the time, turns get shorter for it.
const WANTED_ROUNDS: u32 = 16;
/// Rounds that are always made, however long they take: without them there is no interval at all.
const LEAST_ROUNDS: usize = 3;
/// Rounds before which nothing is clear enough to stop early.
const EARLIEST_STOP: usize = 24;
/// Whether it is clear is asked every fourth round, later once in 4 ÷ this of all rounds so far: the answer takes as
/// long as there are rounds, and asking in step would take most of a long measurement.
const LOOKS_APART: usize = 64;
/// A warm-up has settled when the speed of each model changes by less than this between its turns.
const SETTLED: f64 = 0.03;

/// What to run in each round, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Number of models.
    pub models: usize,
    /// Whose turn it is in a round, such as `[0, 1, 1, 0]`. Every other round swaps first and last model,
    /// so that the turn after the pause between rounds is not always the same model's.
    pub order: &'static [usize],
    /// Time for warm-up and rounds together.
    pub budget: Duration,
}

/// What one model did in all rounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Track {
    /// Inferences per second of each round.
    pub per_second: Vec<f64>,
    /// The same, of the time in which the streams had their cores.
    pub own_per_second: Vec<f64>,
    /// Time of each inference.
    pub latencies: Latencies,
}

/// What all models did in all rounds.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// One entry per model.
    pub tracks: Vec<Track>,
    /// Finished rounds.
    pub rounds: usize,
    /// Measuring time over all streams.
    pub elapsed: Duration,
    /// Part of it in which streams waited for a core.
    pub waited: Duration,
    /// Share (0 to 1) of each round that the host of a virtual machine gave to somebody else.
    pub stolen: Vec<f64>,
    /// Whether streams stayed on their cores.
    pub pinned: bool,
}

impl Schedule {
    fn turn_length(&self, longest: Duration) -> Duration {
        let turns = WANTED_ROUNDS * u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        (self.budget / turns).clamp(SHORTEST_TURN, longest)
    }

    /// Runs warm-up and rounds. `clock` says how long it has been since the start, `turn` lets one
    /// model run for about the given time, and `clear` says whether the rounds so far are enough.
    ///
    /// # Errors
    /// Those of `turn`, and [`MeasureError::Cancelled`].
    pub(super) fn run(
        &self,
        clock: &dyn Fn() -> Duration,
        turn: &mut dyn FnMut(usize, Duration) -> Result<Turn, MeasureError>,
        clear: &dyn Fn(&Record) -> bool,
        progress: &dyn Progress,
    ) -> Result<Record, MeasureError> {
        let mut turn = |model, length| {
            if progress.cancelled() {
                return Err(MeasureError::Cancelled);
            }
            turn(model, length)
        };
        progress.step(0, WANTED_ROUNDS as usize, Some("warm-up"));
        let slowest = self.warm_up(clock, &mut turn)?;
        let length = self.turn_length((WANTED_INFERENCES * slowest).clamp(LONGEST_TURN, LONGEST_SLOW_TURN));
        let mut turn = |model| turn(model, length);

        let begin = clock();
        let mut record = Record {
            tracks: vec![Track::default(); self.models],
            rounds: 0,
            elapsed: Duration::ZERO,
            waited: Duration::ZERO,
            stolen: Vec::new(),
            pinned: true,
        };
        let mut next_look = EARLIEST_STOP;
        loop {
            self.round(&mut turn, &mut record)?;
            let per_round = (clock() - begin) / u32::try_from(record.rounds).unwrap_or(u32::MAX);
            let left = self.budget.saturating_sub(clock());
            let more = left.as_secs_f64() / per_round.as_secs_f64().max(1e-9);
            // Half a round over the time is nearer to it than half a round under.
            let over = record.rounds >= LEAST_ROUNDS && more < 0.5;
            let look = record.rounds >= next_look;
            if look {
                next_look = record.rounds + 4 * (record.rounds / LOOKS_APART).max(1);
            }
            let done = over || (look && clear(&record));
            let expected = (record.rounds + more.round() as usize).max(LEAST_ROUNDS);
            progress.step(record.rounds, if done { record.rounds } else { expected }, None);
            if done {
                return Ok(record);
            }
        }
    }

    /// Caches, allocator and clock frequency settle. At most a quarter of the time. Gives the time of one
    /// inference of the slower model.
    fn warm_up(
        &self,
        clock: &dyn Fn() -> Duration,
        turn: &mut dyn FnMut(usize, Duration) -> Result<Turn, MeasureError>,
    ) -> Result<Duration, MeasureError> {
        let mut speeds = vec![f64::NAN; self.models];
        loop {
            let mut settled = true;
            let mut slowest = Duration::ZERO;
            for (model, speed) in speeds.iter_mut().enumerate() {
                let done = turn(model, self.turn_length(LONGEST_SLOW_TURN))?;
                settled &= (done.per_second / *speed - 1.0).abs() < SETTLED;
                *speed = done.per_second;
                let inferences = u32::try_from(done.latencies_ms.len()).unwrap_or(u32::MAX);
                slowest = slowest.max(done.elapsed / inferences.max(1));
            }
            if settled || clock() >= self.budget / 4 {
                return Ok(slowest);
            }
        }
    }

    /// One round. A model's speed in it is that of its turns, weighted by their length: all its
    /// inferences ÷ all its time.
    fn round(
        &self,
        turn: &mut dyn FnMut(usize) -> Result<Turn, MeasureError>,
        record: &mut Record,
    ) -> Result<(), MeasureError> {
        let mut inferences = vec![0.0; self.models];
        let mut own = vec![0.0; self.models];
        let mut seconds = vec![0.0; self.models];
        let mut stolen = 0.0;
        for place in self.order {
            let model = if record.rounds.is_multiple_of(2) { *place } else { self.models - 1 - *place };
            let done = turn(model)?;
            let length = done.elapsed.as_secs_f64();
            inferences[model] += done.per_second * length;
            own[model] += done.per_second * length / done.own_per_second;
            seconds[model] += length;
            stolen += done.stolen * length;
            record.tracks[model].latencies.extend(&done.latencies_ms);
            record.elapsed += done.elapsed;
            record.waited += done.waited;
            record.pinned &= done.pinned;
        }
        record.stolen.push(stolen / seconds.iter().sum::<f64>());
        for (model, track) in record.tracks.iter_mut().enumerate() {
            track.per_second.push(inferences[model] / seconds[model]);
            track.own_per_second.push(inferences[model] / own[model]);
        }
        record.rounds += 1;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::progress::Silent;

    const ABBA: &[usize] = &[0, 1, 1, 0];

    /// A machine on which an inference of model `m` takes `time(m, now)`, and whose time passes only
    /// while it works.
    struct Machine<'a> {
        now: Cell<Duration>,
        time: &'a dyn Fn(usize, Duration) -> Duration,
        calls: RefCell<Vec<usize>>,
    }

    impl<'a> Machine<'a> {
        fn new(time: &'a dyn Fn(usize, Duration) -> Duration) -> Machine<'a> {
            Machine { now: Cell::default(), time, calls: RefCell::default() }
        }

        fn turn(&self, model: usize, length: Duration) -> Turn {
            self.calls.borrow_mut().push(model);
            let mut turn = Turn { pinned: true, ..Turn::default() };
            while turn.latencies_ms.is_empty() || turn.elapsed < length {
                let time = (self.time)(model, self.now.get());
                turn.latencies_ms.push(1e3 * time.as_secs_f64());
                turn.elapsed += time;
                self.now.set(self.now.get() + time);
            }
            turn.per_second = turn.latencies_ms.len() as f64 / turn.elapsed.as_secs_f64();
            turn.own_per_second = turn.per_second;
            turn
        }

        fn measure(&self, seconds: f64, clear: &dyn Fn(&Record) -> bool) -> Record {
            let schedule = Schedule { models: 2, order: ABBA, budget: Duration::from_secs_f64(seconds) };
            schedule
                .run(&|| self.now.get(), &mut |m, length| Ok(self.turn(m, length)), clear, &Silent)
                .unwrap()
        }
    }

    fn millis(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    #[test]
    fn fills_the_time_with_whole_rounds() {
        let time = |model: usize, _| millis([10.0, 4.0][model]);
        let machine = Machine::new(&time);
        let record = machine.measure(10.0, &|_| false);
        assert!((9.7..10.3).contains(&machine.now.get().as_secs_f64()), "{:?}", machine.now);
        assert!((44..=50).contains(&record.rounds), "{}", record.rounds);
        let rounds = &machine.calls.borrow()[machine.calls.borrow().len() - 4 * record.rounds..];
        assert!(rounds.chunks(8).all(|r| [0, 1, 1, 0, 1, 0, 0, 1].starts_with(r)), "{rounds:?}");
        assert!((record.tracks[0].per_second[3] - 100.0).abs() < 1e-6);
        assert!((record.tracks[1].per_second[3] - 250.0).abs() < 1e-6);
    }

    #[test]
    fn short_times_still_get_many_rounds() {
        let time = |_: usize, _| millis(1.0);
        let record = Machine::new(&time).measure(1.0, &|_| false);
        assert!(record.rounds >= 12, "{}", record.rounds);
    }

    #[test]
    fn slow_models_get_their_least_rounds() {
        let time = |_: usize, _| millis(2_000.0);
        let machine = Machine::new(&time);
        assert_eq!(machine.measure(1.0, &|_| false).rounds, LEAST_ROUNDS);
        assert_eq!(machine.calls.borrow().len(), 2 + 4 * LEAST_ROUNDS);
    }

    #[test]
    fn stops_when_it_is_clear() {
        let time = |_: usize, _| millis(5.0);
        let record = Machine::new(&time).measure(100.0, &|record| record.rounds >= 13);
        assert_eq!(record.rounds, 24);
    }

    #[test]
    fn warm_up_lasts_until_the_speed_is_steady() {
        // Three times slower at first, then steady after one second.
        let time = |_: usize, now: Duration| {
            millis(if now.as_secs_f64() < 1.0 { 15.0 - 10.0 * now.as_secs_f64() } else { 5.0 })
        };
        let record = Machine::new(&time).measure(10.0, &|_| false);
        let slow = record.tracks[0].per_second.iter().filter(|fps| **fps < 190.0).count();
        assert_eq!(slow, 0, "{:?}", record.tracks[0].per_second);
    }

    #[test]
    fn a_night_is_not_spent_on_asking_whether_it_is_clear() {
        let time = |model: usize, _: Duration| millis([20.0, 10.0][model]);
        let asked = RefCell::new(Vec::new());
        let record = Machine::new(&time).measure(20_000.0, &|record| {
            asked.borrow_mut().push(record.rounds);
            false
        });
        let asked = asked.into_inner();
        assert_eq!(asked[..4], [24, 28, 32, 36]);
        assert!(record.rounds > 10_000 && asked.len() < 200, "{} rounds, {}", record.rounds, asked.len());
    }

    /// A clock that slows down steadily hits both models alike, because of the order within a round.
    #[test]
    fn a_drift_cancels_within_a_round() {
        let time = |model: usize, now: Duration| millis([2.0, 1.0][model] * (1.0 + 0.1 * now.as_secs_f64()));
        let record = Machine::new(&time).measure(10.0, &|_| false);
        for (a, b) in record.tracks[0].per_second.iter().zip(&record.tracks[1].per_second) {
            assert!((b / a - 2.0).abs() < 0.01, "{}", b / a);
        }
    }

    #[test]
    fn stops_at_once_when_asked() {
        struct Stop;
        impl Progress for Stop {
            fn step(&self, _: usize, _: usize, _: Option<&str>) {}
            fn warn(&self, _: &str) {}
            fn cancelled(&self) -> bool {
                true
            }
        }
        let schedule = Schedule { models: 2, order: ABBA, budget: Duration::from_secs(1) };
        let result =
            schedule.run(&|| Duration::ZERO, &mut |_, _| panic!("nothing may run"), &|_| false, &Stop);
        assert!(matches!(result, Err(MeasureError::Cancelled)));
    }
}
