//! 95 % intervals of a proportion and of the difference of two paired ones.
//!
//! A few hundred images are weak evidence, and a report that leaves that out misleads.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the standard normal distribution, for two-sided 95 % intervals.
pub const Z95: f64 = 1.959_963_984_540_054;

/// The ends of a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson score interval of `hits` among `n` (Wilson 1927), within 0..=1 even at 0 and n hits.
/// With `n` = 0 nothing is known: 0 to 1.
pub fn wilson(hits: u64, n: u64) -> Interval {
    if n == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (n, share) = (n as f64, hits as f64 / n as f64);
    let z2 = Z95 * Z95;
    let center = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // At the ends the formula gives exactly 0 and 1 but for the last bit.
    let low = if hits == 0 { 0.0 } else { (center - half).max(0.0) };
    let high = if hits as f64 == n { 1.0 } else { (center + half).min(1.0) };
    Interval { low, high }
}

/// Interval of the drop `(lost − gained) / n` between two models judged on the same `n` images, where
/// `lost` images are right only with the parent and `gained` ones only with the optimized model.
///
/// Adjusted Wald interval for matched proportions of Agresti and Min (Statistics in Medicine 24, 2005):
/// half an image is added to each cell of the 2×2 table, `d = (lost − gained) / (n + 2)`,
/// `variance = ((lost + gained + 1) − (lost − gained)² / (n + 2)) / (n + 2)²`. Unlike the plain normal interval
/// it does not collapse to a point when no image changed. Being fractions, the ends lie in −1..=1.
pub fn paired_drop(lost: u64, gained: u64, n: u64) -> Interval {
    let n = n as f64 + 2.0;
    let difference = lost as f64 - gained as f64;
    let discordant = lost as f64 + gained as f64 + 1.0;
    let half = Z95 * (discordant - difference * difference / n).max(0.0).sqrt() / n;
    Interval { low: (difference / n - half).max(-1.0), high: (difference / n + half).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 5e-4
    }

    #[test]
    fn wilson_of_27_in_28() {
        let Interval { low, high } = wilson(27, 28);
        assert!(close(low, 0.823) && close(high, 0.994), "{low} {high}");
    }

    #[test]
    fn wilson_stays_in_range() {
        assert_eq!(wilson(0, 10).low, 0.0);
        assert_eq!(wilson(10, 10).high, 1.0);
        assert!(wilson(10, 10).low < 0.75);
        assert_eq!(wilson(0, 0), Interval { low: 0.0, high: 1.0 });
        for n in [1, 3, 50, 100_000] {
            for hits in [0, 1, n / 2, n] {
                let Interval { low, high } = wilson(hits, n);
                let share = hits as f64 / n as f64;
                assert!(0.0 <= low && low <= share && share <= high && high <= 1.0, "{hits}/{n}");
            }
        }
    }

    #[test]
    fn paired_drop_holds_its_estimate_and_is_symmetric() {
        for (lost, gained, n) in [(0, 0, 1), (1, 0, 1), (3, 1, 300), (40, 2, 50), (50, 0, 50), (0, 7, 1000)] {
            let interval = paired_drop(lost, gained, n);
            let drop = (lost as f64 - gained as f64) / n as f64;
            assert!(interval.low <= drop && drop <= interval.high, "{lost} {gained} {n}");
            let mirrored = paired_drop(gained, lost, n);
            assert_eq!((mirrored.low, mirrored.high), (-interval.high, -interval.low));
        }
    }

    #[test]
    fn paired_drop_by_hand() {
        // d = 8/102, variance = (15 - 64/102) / 102^2
        let Interval { low, high } = paired_drop(11, 3, 100);
        assert!((low - 0.005_584).abs() < 1e-6 && (high - 0.151_279).abs() < 1e-6, "{low} {high}");
    }
}
