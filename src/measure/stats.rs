//! The statistics of timings: medians, because a timing's errors all point one way.
//!
//! Every function takes plain numbers and is deterministic. Empty input gives NaN, never a panic.

use serde::{Deserialize, Serialize};

use super::SplitMix64;

/// How often an interval of this module covers the true value.
pub const CONFIDENCE: f64 = 0.95;

/// Resamples of the bootstrap. The 99 % interval of a dozen rounds leaves out but six in 10 000 at each end: with
/// fewer resamples its ends, and the verdict with them, would depend on the seed.
const RESAMPLES: usize = 10_000;

/// Median absolute deviation × this = standard deviation, for a normal distribution (1 ÷ Φ⁻¹(¾)).
const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// A median with its [`CONFIDENCE`] interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The middle value.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What the interval of a speed-up allows to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval lies above 1.
    Faster,
    /// The whole interval lies below 1.
    Slower,
    /// The interval includes 1.
    NotDistinguishable,
}

/// FPS of the optimized model ÷ FPS of its parent, with a [`CONFIDENCE`] interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The speed-up; above 1 the optimized model is faster.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// What that says.
    pub verdict: Verdict,
}

/// The `p`-th percentile (0 to 100) of values in ascending order, with linear interpolation between
/// the two nearest: type 7 of Hyndman and Fan, *Sample quantiles in statistical packages*, 1996,
/// which is also the default of NumPy. NaN if there are no values.
pub fn percentile(sorted: &[f64], p: f64) -> f64 {
    percentile_at(sorted.len(), p, |rank| sorted[rank])
}

/// As [`percentile`], of `count` values of which `value` gives the one of a rank in ascending order, from 0 on.
pub(super) fn percentile_at(count: usize, p: f64, value: impl Fn(usize) -> f64) -> f64 {
    let Some(last) = count.checked_sub(1) else { return f64::NAN };
    let position = (p / 100.0).clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (value(below), value((below + 1).min(last)));
    low + (high - low) * (position - below as f64)
}

/// The values in ascending order.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The middle value, or the mean of the two middle ones.
pub fn median(values: &[f64]) -> f64 {
    median_in_place(&mut values.to_vec())
}

fn median_in_place(values: &mut [f64]) -> f64 {
    let n = values.len();
    if n == 0 {
        return f64::NAN;
    }
    let (lower, &mut upper_middle, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return upper_middle;
    }
    let lower_middle = lower.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower_middle + (upper_middle - lower_middle) / 2.0
}

/// Which rounds to keep, given the share (0 to 1) of each that something took away: those that lost no more than
/// `slack` above the median. That is at least half of them, and all where every round lost alike; and as the
/// choice does not look at what was measured, it favours no result.
pub fn undisturbed(lost: &[f64], slack: f64) -> Vec<bool> {
    let most = median(lost) + slack;
    lost.iter().map(|share| *share <= most).collect()
}

/// Median absolute deviation from the median, unscaled.
pub fn mad(values: &[f64]) -> f64 {
    let middle = median(values);
    let mut deviations: Vec<f64> = values.iter().map(|v| (v - middle).abs()).collect();
    median_in_place(&mut deviations)
}

/// Standard deviation ÷ median, both estimated so that a few outliers do not matter:
/// 1.4826 · MAD ÷ median.
pub fn relative_spread(values: &[f64]) -> f64 {
    MAD_TO_SIGMA * mad(values) / median(values)
}

/// The median of independent values and where the true one lies.
///
/// The standard error of a median is √(π/2) · σ ÷ √n, with σ from the MAD, and Student's t with
/// n − 1 degrees of freedom makes up for a σ that few values give. One value has no interval: all
/// three numbers are that value.
pub fn median_interval(values: &[f64]) -> Interval {
    let median = median(values);
    if values.len() < 2 {
        return Interval { median, low: median, high: median };
    }
    let n = values.len() as f64;
    let error = (std::f64::consts::FRAC_PI_2 / n).sqrt() * MAD_TO_SIGMA * mad(values);
    let reach = student_t_975(values.len() - 1) * error;
    Interval { median, low: (median - reach).max(0.0), high: median + reach }
}

/// The 97.5th percentile of Student's t.
fn student_t_975(degrees: usize) -> f64 {
    student_t(degrees, [12.7062, 4.3027, 3.1824, 2.7764], 1.959_963_985)
}

/// The 99.5th percentile of Student's t.
fn student_t_995(degrees: usize) -> f64 {
    student_t(degrees, [63.6567, 9.9248, 5.8409, 4.6041], 2.575_829_304)
}

/// A percentile of Student's t, the 97.5th to 0.2 %, the 99.5th to 3 %: a table for the first degrees of
/// freedom, then from that of the normal distribution `z` by the expansion 26.7.5 of Abramowitz and Stegun, *Handbook of mathematical
/// functions*.
fn student_t(degrees: usize, first: [f64; 4], z: f64) -> f64 {
    if let Some(t) = first.get(degrees.saturating_sub(1)) {
        return *t;
    }
    let v = degrees as f64;
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v * v * v)
}

/// The speed-up from rounds of `(FPS of the parent, FPS of the optimized model)`.
///
/// It is the median of the rounds' own ratios. What slows a whole round down cancels in its ratio,
/// where it would not in the ratio of the two medians: on a machine whose clock changes half way,
/// these may come from different halves. The interval is the bootstrap over whole rounds, with the
/// expanded percentiles of Hesterberg, *What teachers should know about the bootstrap*, 2015: with
/// few rounds the plain ones leave the true value out too often, and two equal models would be told
/// apart. The verdict asks more than the 95 % of the interval, which tells equal models apart once in 20
/// times: it is that of the 99 % interval of the same resamples, so that it can be
/// [`Verdict::NotDistinguishable`] although the interval just leaves 1 out.
pub fn paired_ratio(rounds: &[(f64, f64)], seed: u64) -> Ratio {
    let ratios: Vec<f64> = rounds.iter().map(|(parent, optimized)| optimized / parent).collect();
    let mut random = SplitMix64::new(seed);
    let mut resample = vec![0.0; ratios.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resample.fill_with(|| ratios.get(random.below(ratios.len())).copied().unwrap_or(f64::NAN));
            median_in_place(&mut resample)
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    let within = |quantile| {
        let outside = expanded_tail_percent(ratios.len(), quantile);
        (percentile(&medians, outside), percentile(&medians, 100.0 - outside))
    };
    let (low, high) = within(student_t_975);
    let (lowest, highest) = within(student_t_995);
    Ratio { ratio: median(&ratios), low, high, verdict: verdict(lowest, highest) }
}

/// The percentage of resamples to leave out at each end with `n` values: with the quantile t of Student's
/// distribution that `quantile` gives for n − 1 degrees of freedom, Φ(−√(n ÷ (n − 1)) · t), which is 2.5 for many
/// values and [`student_t_975`]. All are kept when there is but one value.
fn expanded_tail_percent(n: usize, quantile: fn(usize) -> f64) -> f64 {
    if n < 2 {
        return 0.0;
    }
    let widened = (n as f64 / (n - 1) as f64).sqrt() * quantile(n - 1);
    100.0 * normal_tail(widened)
}

/// P(Z > z) of a standard normal Z for z ≥ 0, to 10⁻⁷: 26.2.17 of Abramowitz and Stegun.
fn normal_tail(z: f64) -> f64 {
    const B: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let polynomial = B.iter().rev().fold(0.0, |sum, b| (sum + b) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * polynomial
}

/// What an interval from `low` to `high` of a speed-up says. NaN distinguishes nothing.
pub fn verdict(low: f64, high: f64) -> Verdict {
    if low > 1.0 {
        Verdict::Faster
    } else if high < 1.0 {
        Verdict::Slower
    } else {
        Verdict::NotDistinguishable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A standard normal number (Box and Muller).
    fn normal(random: &mut SplitMix64) -> f64 {
        (-2.0 * (1.0 - random.unit()).ln()).sqrt() * (std::f64::consts::TAU * random.unit()).cos()
    }

    #[test]
    fn percentiles_as_numpy_gives_them() {
        let values = [1.0, 2.0, 4.0, 8.0];
        for (p, expected) in [(0.0, 1.0), (25.0, 1.75), (50.0, 3.0), (90.0, 6.8), (100.0, 8.0)] {
            assert!((percentile(&values, p) - expected).abs() < 1e-12, "{p}");
        }
        assert!(percentile(&[], 50.0).is_nan());
    }

    #[test]
    fn median_and_mad_by_hand() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(mad(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), 1.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn student_t_agrees_with_its_table() {
        for (degrees, t) in
            [(1, 12.7062), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423), (1000, 1.9623)]
        {
            assert!((student_t_975(degrees) / t - 1.0).abs() < 2e-3, "{degrees}");
        }
        for (degrees, t) in [(1, 63.6567), (4, 4.6041), (5, 4.0321), (11, 3.1058), (30, 2.7500)] {
            assert!((student_t_995(degrees) / t - 1.0).abs() < 3e-2, "{degrees}");
        }
    }

    #[test]
    fn the_normal_tail_agrees_with_its_table() {
        for (z, tail) in [(0.0, 0.5), (1.0, 0.158_655_25), (1.959_963_985, 0.025), (3.0, 0.001_349_90)] {
            assert!((normal_tail(z) - tail).abs() < 1e-7, "{z}");
        }
    }

    #[test]
    fn verdicts() {
        assert_eq!(verdict(1.01, 1.2), Verdict::Faster);
        assert_eq!(verdict(0.8, 0.99), Verdict::Slower);
        assert_eq!(verdict(0.99, 1.01), Verdict::NotDistinguishable);
        assert_eq!(verdict(1.0, 1.2), Verdict::NotDistinguishable);
        assert_eq!(verdict(f64::NAN, f64::NAN), Verdict::NotDistinguishable);
        assert_eq!(serde_json::json!(Verdict::NotDistinguishable), "not_distinguishable");
    }

    /// A model against itself, 2000 times: the share of intervals that leave out the true ratio of 1
    /// is about 1 − CONFIDENCE, which is 100.
    #[test]
    fn equals_are_rarely_told_apart() {
        let mut random = SplitMix64::new(11);
        for n in [6, 12, 25] {
            let mut wrong = 0;
            for seed in 0..1_000 {
                let rounds: Vec<(f64, f64)> = (0..n)
                    .map(|_| {
                        let drift = 100.0 * (1.0 + 0.3 * random.unit());
                        let mut fps = || drift * (1.0 + 0.02 * normal(&mut random));
                        (fps(), fps())
                    })
                    .collect();
                wrong += usize::from(paired_ratio(&rounds, seed).verdict != Verdict::NotDistinguishable);
            }
            assert!((1..=45).contains(&wrong), "{n} rounds: {wrong} of 1000");
        }
    }

    #[test]
    fn the_interval_of_a_median_covers_it() {
        let mut random = SplitMix64::new(5);
        for n in [6, 12, 40] {
            let mut covered = 0;
            for _ in 0..2_000 {
                let values: Vec<f64> = (0..n).map(|_| 50.0 + normal(&mut random)).collect();
                let found = median_interval(&values);
                covered += usize::from(found.low <= 50.0 && 50.0 <= found.high);
            }
            assert!((1_820..=1_980).contains(&covered), "n {n}: {covered} of 2000");
        }
    }

    #[test]
    fn rounds_that_lost_more_than_others_are_left_out() {
        assert_eq!(undisturbed(&[0.0, 0.3, 0.0, 0.01, 0.0], 0.02), [true, false, true, true, true]);
        assert_eq!(undisturbed(&[0.5, 0.5, 0.5], 0.02), [true; 3], "all alike");
        assert!(undisturbed(&[], 0.02).is_empty());
    }

    #[test]
    fn a_clock_that_halves_does_not_move_the_ratio() {
        let rounds: Vec<(f64, f64)> =
            (0..20).map(|i| if i < 10 { (100.0, 250.0) } else { (50.0, 125.0) }).collect();
        let found = paired_ratio(&rounds, 0);
        assert_eq!((found.ratio, found.low, found.high), (2.5, 2.5, 2.5));
    }

    proptest! {
        #[test]
        fn percentiles_are_ordered_and_inside(values in prop::collection::vec(-1e9..1e9f64, 1..50), p in 0.0..100.0f64, q in 0.0..100.0f64) {
            let values = sorted(&values);
            let (p, q) = (p.min(q), p.max(q));
            prop_assert!(percentile(&values, p) <= percentile(&values, q));
            prop_assert!(values[0] <= percentile(&values, p));
            prop_assert!(percentile(&values, q) <= values[values.len() - 1]);
        }

        #[test]
        fn the_median_is_the_50th_percentile(values in prop::collection::vec(0.0..1e6f64, 1..50)) {
            let expected = percentile(&sorted(&values), 50.0);
            prop_assert!((median(&values) - expected).abs() <= 1e-9 * expected.abs());
        }

        #[test]
        fn mad_ignores_shift_and_sign(values in prop::collection::vec(-1e3..1e3f64, 1..50), shift in -1e3..1e3f64) {
            let moved: Vec<f64> = values.iter().map(|v| shift - v).collect();
            prop_assert!((mad(&values) - mad(&moved)).abs() < 1e-9);
        }

        #[test]
        fn a_ratio_lies_in_its_interval_and_repeats(rounds in prop::collection::vec((1.0..100.0f64, 1.0..100.0f64), 1..30), seed: u64) {
            let found = paired_ratio(&rounds, seed);
            prop_assert!(found.low <= found.ratio && found.ratio <= found.high);
            prop_assert_eq!(found, paired_ratio(&rounds, seed));
        }

        /// Turning parent and optimized round turns the ratio round.
        #[test]
        fn the_other_way_round_is_the_inverse(rounds in prop::collection::vec((1.0..100.0f64, 1.0..100.0f64), 1..15), seed: u64) {
            let rounds = if rounds.len() % 2 == 0 { &rounds[1..] } else { &rounds[..] };
            let swapped: Vec<(f64, f64)> = rounds.iter().map(|(a, b)| (*b, *a)).collect();
            let (forth, back) = (paired_ratio(rounds, seed), paired_ratio(&swapped, seed));
            prop_assert!((forth.ratio * back.ratio - 1.0).abs() < 1e-9);
        }

        /// An outlier in one round of nine moves neither median by more than its neighbours allow.
        #[test]
        fn one_wild_round_does_not_change_the_verdict(wild in 0.0001..1.0f64, seed: u64) {
            let mut rounds = vec![(100.0, 200.0); 12];
            rounds[4].1 *= wild;
            prop_assert_eq!(paired_ratio(&rounds, seed).verdict, Verdict::Faster);
        }
    }
}
