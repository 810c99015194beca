//! One tensor while statistics are collected, as people look at it.

use serde::{Deserialize, Serialize};

use super::range::{self, ActivationParameters};
use super::{Options, Placement, Statistics};

/// Bars of the histogram.
const BARS: usize = 32;

/// What is known of one tensor so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Its name.
    pub tensor: String,
    /// Images that were seen.
    pub images: u64,
    /// Smallest value.
    pub low: f32,
    /// Largest value.
    pub high: f32,
    /// How many values lie in each of equal parts of `low..=high`; a single one if all values are the same.
    pub histogram: Vec<u64>,
    /// Smallest and largest value that u8 would hold, were the range chosen now and for this tensor alone.
    pub range: (f32, f32),
}

/// A look at the tensor with the given number, counted around, whose statistics are in parts. `None` if nothing
/// can be said of it.
pub fn look(placement: &Placement, parts: &[&Statistics], options: &Options, number: usize) -> Option<Look> {
    let tensor = placement.tensors.get(number.checked_rem(placement.tensors.len())?)?;
    let mut statistics = Statistics::default();
    for part in parts.iter().filter_map(|part| part.tensor(&tensor.name)) {
        statistics.entry(&tensor.name).merge(part);
    }
    let found = statistics.finite(&tensor.name).ok()?;
    let (low, high) = found.extremes();
    let (from, to) = range::choose(found, options.range, tensor.bounds, options.preset);
    let range = ActivationParameters::new(from, to, options.preset).range();
    Some(Look {
        tensor: tensor.name.clone(),
        images: found.images(),
        low,
        high,
        histogram: bars(found.histogram().bins(), low, high),
        // Adding 0 turns -0 into 0.
        range: (range.0 + 0.0, range.1 + 0.0),
    })
}

/// Counts of bins with edges of their own (lower edge, upper edge, count), shared out to equal parts of
/// `low..=high`.
fn bars(bins: impl Iterator<Item = (f32, f32, u64)>, low: f32, high: f32) -> Vec<u64> {
    let (low, high) = (f64::from(low), f64::from(high));
    let width = (high - low) / BARS as f64;
    if width <= 0.0 || !width.is_finite() {
        return vec![bins.map(|(_, _, count)| count).sum()];
    }
    let mut bars = [0f64; BARS];
    for (from, to, count) in bins {
        let (from, to) = (f64::from(from).clamp(low, high), f64::from(to).clamp(low, high));
        let at = |value: f64| (((value - low) / width) as usize).min(BARS - 1);
        if to <= from {
            bars[at(from)] += count as f64;
            continue;
        }
        for (part, bar) in bars.iter_mut().enumerate().take(at(to) + 1).skip(at(from)) {
            let start = low + part as f64 * width;
            let overlap = (to.min(start + width) - from.max(start)).max(0.0);
            *bar += count as f64 * overlap / (to - from);
        }
    }
    bars.map(|bar| bar.round() as u64).to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::quantize::statistics::Histogram;

    fn of(values: &[f32]) -> Vec<u64> {
        let mut histogram = Histogram::default();
        histogram.extend(values);
        let low = values.iter().copied().fold(f32::MAX, f32::min);
        let high = values.iter().copied().fold(f32::MIN, f32::max);
        bars(histogram.bins(), low, high)
    }

    #[test]
    fn bars_of_even_values_are_even_and_lose_nothing_that_matters() {
        let values: Vec<f32> = (0..=64_000).map(|i| i as f32 / 1000.0 - 32.0).collect();
        let bars = of(&values);
        assert_eq!(bars.len(), BARS);
        let sum: u64 = bars.iter().sum();
        assert!(sum.abs_diff(values.len() as u64) <= BARS as u64, "{sum}");
        assert!(bars.iter().all(|bar| (1500..2500).contains(bar)), "{bars:?}");
    }

    #[test]
    fn values_at_one_spot_are_one_bar() {
        assert_eq!(of(&[3.0; 7]), [7]);
        let bars = of(&[0.0, 0.0, 0.0, 8.0]);
        assert_eq!((bars[0], bars[BARS - 1]), (3, 1));
    }
}
