//! Ranges from the distribution of a tensor's values: percentile and entropy.
//!
//! Both read the histogram alone, whose counts merge exactly, so neither depends on how the images were
//! split or ordered. Within a bin, at most 6 % of its values wide, values count as spread evenly.

use super::Histogram;

/// Share of the values that the percentile leaves out, at both ends together: ONNX Runtime's 99.999 %.
const LEFT_OUT: f64 = 1e-5;
/// Equal parts of the distribution of magnitudes, and the fewest of them that an entropy range keeps.
const PARTS: usize = 2048;
const LEVELS: usize = 128;
/// Parts between two candidates.
const STRIDE: usize = 16;

/// The range within `extremes` that leaves out half of [`LEFT_OUT`] of the values at either end.
pub(super) fn percentile(histogram: &Histogram, extremes: (f32, f32)) -> (f32, f32) {
    let bins: Vec<(f64, f64, f64)> = clipped(histogram, extremes).collect();
    let total: f64 = bins.iter().map(|b| b.2).sum();
    let outside = total * LEFT_OUT / 2.0;
    let low = value_at(bins.iter().copied(), outside).unwrap_or(f64::from(extremes.0));
    let mirrored = bins.iter().rev().map(|(from, to, count)| (-to, -from, *count));
    let high = value_at(mirrored, outside).map_or(f64::from(extremes.1), |v| -v);
    if low <= high { (low as f32, high as f32) } else { extremes }
}

/// The value below which `below` of the counts of ascending `bins` (from, to, count) lie.
fn value_at(bins: impl Iterator<Item = (f64, f64, f64)>, below: f64) -> Option<f64> {
    let mut passed = 0.0;
    for (from, to, count) in bins {
        if passed + count > below {
            return Some(from + (to - from) * (below - passed) / count);
        }
        passed += count;
    }
    None
}

/// The range within `extremes`, both ends at the same distance from 0 at most, for which the distribution of
/// magnitudes and that of their stored values have the least KL divergence (Migacz, "8-bit inference with
/// TensorRT", GTC 2017).
pub(super) fn entropy(histogram: &Histogram, extremes: (f32, f32)) -> (f32, f32) {
    let limit = f64::from(extremes.1).max(-f64::from(extremes.0));
    if limit <= 0.0 {
        return extremes;
    }
    let counts = magnitudes(histogram, extremes, limit);
    let candidates = (LEVELS..=PARTS).step_by(STRIDE);
    let divergences = candidates.map(|kept| (divergence(&counts, kept), kept));
    let kept = divergences.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(PARTS, |best| best.1);
    let end = (limit * kept as f64 / PARTS as f64) as f32;
    (extremes.0.max(-end), extremes.1.min(end))
}

/// Counts of magnitudes in [`PARTS`] equal parts of `0..=limit`.
fn magnitudes(histogram: &Histogram, extremes: (f32, f32), limit: f64) -> Vec<f64> {
    let mut counts = vec![0.0; PARTS];
    let width = limit / PARTS as f64;
    for (from, to, count) in clipped(histogram, extremes) {
        let (from, to) = if from < 0.0 { (-to, -from) } else { (from, to) };
        let part = |value: f64| ((value / width) as usize).min(PARTS - 1);
        let (first, last) = (part(from), part(to));
        if first == last {
            counts[first] += count;
            continue;
        }
        for (at, slot) in counts.iter_mut().enumerate().take(last + 1).skip(first) {
            let start = from.max(at as f64 * width);
            let end = to.min((at + 1) as f64 * width);
            *slot += count * (end - start).max(0.0) / (to - from);
        }
    }
    // Zeros are stored exactly whatever the range. There are so many of them behind a Relu that they would
    // decide alone: as in TensorRT, their part counts as the next one does.
    counts[0] = counts[1];
    counts
}

/// KL divergence of the distribution whose magnitudes above `kept` parts are clipped, from that which
/// [`LEVELS`] steps can tell apart.
fn divergence(counts: &[f64], kept: usize) -> f64 {
    let beyond: f64 = counts[kept..].iter().sum();
    let clipped = |at: usize| counts[at] + if at + 1 == kept { beyond } else { 0.0 };
    let total: f64 = counts.iter().sum();
    let inside = total - beyond;
    let (mut sum, mut from) = (0.0, 0);
    for level in 1..=LEVELS {
        let to = level * kept / LEVELS;
        let part = &counts[from..to];
        let used = part.iter().filter(|c| **c > 0.0).count();
        let mean = part.iter().sum::<f64>() / used.max(1) as f64 / inside.max(f64::MIN_POSITIVE);
        for (at, &count) in counts.iter().enumerate().take(to).skip(from) {
            let p = clipped(at) / total.max(f64::MIN_POSITIVE);
            if p > 0.0 {
                // Only clipping puts values where none were: the last part may have none of its own.
                let q = if count > 0.0 { mean } else { 0.0 };
                sum += p * (p / q.max(1e-12)).ln();
            }
        }
        from = to;
    }
    sum
}

/// The bins (from, to, count), ascending, cut to `extremes`, which their outermost edges exceed.
fn clipped(histogram: &Histogram, (low, high): (f32, f32)) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
    let (low, high) = (f64::from(low), f64::from(high));
    histogram.bins().map(move |(from, to, count)| {
        let edge = |value: f32| f64::from(value).clamp(low.min(high), high);
        (edge(from), edge(to), count as f64)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    /// Values evenly over 0..1, and then `outliers`.
    fn histogram(values: usize, outliers: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        let even: Vec<f32> = (0..values).map(|i| (i as f32 + 0.5) / values as f32).collect();
        histogram.extend(&even);
        histogram.extend(outliers);
        histogram
    }

    #[test]
    fn a_percentile_leaves_out_the_rarest_values_only() {
        let range = percentile(&histogram(1_000_000, &[9.0, 9.0, -7.0]), (-7.0, 9.0));
        assert!((0.0..0.01).contains(&range.0), "{range:?}");
        assert!((0.99..1.01).contains(&range.1), "{range:?}");
        let few = percentile(&histogram(1000, &[9.0]), (0.0, 9.0));
        assert!(few.1 > 8.5, "one of 1000 is no rarity: {few:?}");
    }

    #[test]
    fn entropy_keeps_an_even_distribution_and_cuts_a_long_tail() {
        let whole = entropy(&histogram(1_000_000, &[]), (0.0, 1.0));
        assert!(whole.1 > 0.95, "{whole:?}");
        let cut = entropy(&histogram(1_000_000, &[-16.0, 16.0]), (-16.0, 16.0));
        assert!(cut.1 < 4.0 && cut.0 == -cut.1, "{cut:?}");
        let mut relu = histogram(1_000_000, &[]);
        relu.extend(&vec![0.0; 4_000_000]);
        let kept = entropy(&relu, (0.0, 1.0));
        assert!(kept.1 > 0.95, "zeros say nothing about the range: {kept:?}");
    }

    #[test]
    fn a_tensor_of_zeros_or_without_values_keeps_its_extremes() {
        let mut zeros = Histogram::default();
        zeros.extend(&[0.0; 8]);
        for found in [percentile(&zeros, (0.0, 0.0)), entropy(&zeros, (0.0, 0.0))] {
            assert_eq!(found, (0.0, 0.0));
        }
        assert_eq!(percentile(&Histogram::default(), (-1.0, 2.0)), (-1.0, 2.0));
    }
}
