//! The times of any number of inferences in memory that does not grow.
//!
//! A night of measuring a model of 20 µs makes a billion of them. They are counted in bins as wide as 1/1024 of a
//! power of two, so the middle of a bin is at most 1 part in 2048 (0.05 %) from every value in it, which is
//! less than a clock and a machine add to any latency.

use super::stats::percentile_at;

/// Bits of the mantissa that tell bins apart; with the exponent above them they are the top of an `f64`, which for
/// positive numbers rise as the numbers do.
const MANTISSA_BITS: u32 = 10;
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - MANTISSA_BITS;

/// The least and the greatest time that has a bin of its own, in milliseconds: a tenth of a nanosecond and 12 days.
/// What lies outside counts in the nearest.
const LEAST_MS: f64 = 1e-7;
const MOST_MS: f64 = 1e9;

/// How often each time occurred: 430 kB, of which only the pages that are counted in are ever touched.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { counts: vec![0; bin(MOST_MS) + 1].into(), total: 0 }
    }
}

impl Latencies {
    /// Adds times in milliseconds.
    pub fn extend(&mut self, times_ms: &[f64]) {
        for ms in times_ms {
            self.counts[bin(*ms)] += 1;
        }
        self.total += times_ms.len() as u64;
    }

    /// How many were added.
    pub fn len(&self) -> usize {
        self.total as usize
    }

    /// The `p`-th percentile (0 to 100), in milliseconds: that of the values in the middle of their bins. NaN if
    /// there are none.
    pub fn percentile(&self, p: f64) -> f64 {
        percentile_at(self.len(), p, |rank| self.value(rank as u64))
    }

    /// The value of this rank in ascending order, 0 being the least.
    fn value(&self, rank: u64) -> f64 {
        let mut below = 0;
        let found = self.counts.iter().position(|count| {
            below += count;
            below > rank
        });
        found.map_or(f64::NAN, middle)
    }
}

fn bits(ms: f64) -> usize {
    (ms.to_bits() >> SHIFT) as usize
}

fn bin(ms: f64) -> usize {
    // `max` takes the bound where the time is no number, which `clamp` would hand on.
    bits(ms.max(LEAST_MS).clamp(LEAST_MS, MOST_MS)) - bits(LEAST_MS)
}

fn middle(bin: usize) -> f64 {
    let edge = |at: usize| f64::from_bits(((at + bits(LEAST_MS)) as u64) << SHIFT);
    (edge(bin) + edge(bin + 1)) / 2.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::SplitMix64;
    use super::super::stats::{percentile, sorted};
    use super::*;

    /// What the head of this file promises, and rounding.
    const ERROR: f64 = 1.0 / 2048.0 + 1e-12;

    fn of(times: &[f64]) -> Latencies {
        let mut latencies = Latencies::default();
        times.chunks(7).for_each(|chunk| latencies.extend(chunk));
        latencies
    }

    #[test]
    fn percentiles_are_those_of_the_values_within_the_error() {
        let mut random = SplitMix64::new(3);
        let mut unit = || random.unit();
        type Unit<'a> = &'a mut dyn FnMut() -> f64;
        type Draw = fn(Unit) -> f64;
        let distributions: [(&str, Draw); 6] = [
            ("uniform", |unit| 1.0 + unit()),
            ("narrow", |unit| 0.020 + 1e-6 * unit()),
            ("exponential", |unit| -5.0 * (1.0 - unit()).ln()),
            ("heavy tail", |unit| 0.5 / (1.0 - unit()).powf(0.8)),
            ("two peaks", |unit| if unit() < 0.9 { 2.0 + 0.1 * unit() } else { 11.0 + unit() }),
            ("few values", |unit| [0.001, 0.002, 3.0][(3.0 * unit()) as usize]),
        ];
        for (name, draw) in distributions {
            for count in [1, 2, 3, 10, 999, 50_000] {
                let times: Vec<f64> = (0..count).map(|_| draw(&mut unit)).collect();
                let (found, exact) = (of(&times), sorted(&times));
                assert_eq!(found.len(), count);
                for p in [0.0, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
                    let (found, exact) = (found.percentile(p), percentile(&exact, p));
                    assert!((found / exact - 1.0).abs() <= ERROR, "{name}, {count}, {p}: {found} {exact}");
                }
            }
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_number_of_values_and_every_value_has_a_bin() {
        let mut latencies = Latencies::default();
        assert!(size_of_val(&*latencies.counts) < 450_000);
        let hour = 3.6e6;
        let edges = [
            0.0,
            -0.0,
            5e-324,
            f64::MIN_POSITIVE / 2.0,
            1e-9,
            LEAST_MS,
            1.0,
            1e3,
            hour,
            24.0 * hour,
            MOST_MS,
            1e12,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -1.0,
            f64::NAN,
            -f64::NAN,
        ];
        latencies.extend(&edges);
        // Numbers of any bits: of every exponent, and many that are none.
        let mut random = SplitMix64::new(5);
        let mut any = [0.0; 4096];
        for _ in 0..256 {
            any.fill_with(|| f64::from_bits(random.next_u64()));
            latencies.extend(&any);
        }
        assert_eq!(latencies.len(), edges.len() + 256 * any.len());
        assert_eq!(latencies.counts.iter().sum::<u64>(), latencies.len() as u64);
        assert!(latencies.percentile(0.0) < 2e-7 && latencies.percentile(100.0) > 9.9e8);
        // A night more, as if they had been added one by one.
        latencies.counts[bin(0.02)] += 1_000_000_000_000;
        latencies.total += 1_000_000_000_000;
        assert!((latencies.percentile(50.0) / 0.02 - 1.0).abs() <= ERROR);
    }

    #[test]
    fn without_values_there_is_no_percentile() {
        assert!(Latencies::default().percentile(50.0).is_nan());
    }
}
