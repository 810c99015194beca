//! From statistics to the scale and zero point of an activation.

use serde::{Deserialize, Serialize};

use super::placement::Bounds;
use super::{Preset, RangeMethod, TensorStatistics, distribution};
use crate::model::function::Function;

/// Smallest scale: far below any real activation, far above where f32 products with it vanish.
const SMALLEST_SCALE: f32 = 1e-12;
/// Candidate ranges are this fraction of the full one, in steps of 1 / `PARTS`.
const PARTS: u32 = 64;
/// No candidate is narrower than this many parts: a quarter of the full range.
const FEWEST_PARTS: u32 = 16;

/// How one tensor is stored in u8: real value = (stored − zero point) · scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ActivationParameters {
    /// Real value of one step.
    pub scale: f32,
    /// Stored value of 0.
    pub zero_point: u8,
}

impl ActivationParameters {
    /// Parameters that cover `low..=high` and 0. Zero is always exactly representable.
    pub fn new(low: f32, high: f32, preset: Preset) -> ActivationParameters {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let scale = |range: f64, steps: f64| match (range / steps) as f32 {
            scale if scale >= SMALLEST_SCALE => scale,
            // A tensor that is always 0 is exact at any scale.
            0.0 => 1.0,
            _ => SMALLEST_SCALE,
        };
        if low == 0.0 {
            return ActivationParameters { scale: scale(high, 255.0), zero_point: 0 };
        }
        match preset {
            Preset::Performance => {
                ActivationParameters { scale: scale(high.max(-low), 127.0), zero_point: 128 }
            }
            Preset::Mixed => {
                let scale = scale(high - low, 255.0);
                let zero_point = (-low / f64::from(scale)).round_ties_even().clamp(0.0, 255.0);
                ActivationParameters { scale, zero_point: zero_point as u8 }
            }
        }
    }

    /// Smallest and largest real value that can be stored.
    pub fn range(&self) -> (f32, f32) {
        let zero = f32::from(self.zero_point);
        (-zero * self.scale, (255.0 - zero) * self.scale)
    }
}

/// The range of one tensor.
pub(super) fn choose(
    statistics: &TensorStatistics,
    method: RangeMethod,
    bounds: Bounds,
    preset: Preset,
) -> (f32, f32) {
    let extremes = statistics.extremes();
    let (low, high) = match method {
        RangeMethod::MinMax | RangeMethod::Mse => extremes,
        RangeMethod::MeanMinMax => statistics.mean_extremes(),
        RangeMethod::Percentile => distribution::percentile(statistics.histogram(), extremes),
        RangeMethod::Entropy => distribution::entropy(statistics.histogram(), extremes),
    };
    let (low, high) = match bounds {
        Bounds::Any => (low, high),
        Bounds::ZeroTo(limit) => (0.0, high.clamp(0.0, limit)),
    };
    if method == RangeMethod::Mse { least_squares(statistics, low, high, preset) } else { (low, high) }
}

/// The part of `low..=high` in which any of `functions` varies; all of it if there are none.
pub(super) fn varying(functions: &[Function], low: f32, high: f32) -> (f32, f32) {
    let parts = functions.iter().map(|f| f.varying_part(low, high));
    parts.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((low, high))
}

/// The range within `low..=high` with the least squared error of storing all values seen: a narrower
/// range rounds finer and clips more.
///
/// Both ends shrink together first; with zero points of their own choice each end then has a turn.
fn least_squares(statistics: &TensorStatistics, low: f32, high: f32, preset: Preset) -> (f32, f32) {
    let bins: Vec<(f64, f64)> = statistics
        .histogram()
        .bins()
        .map(|(from, to, count)| ((f64::from(from) + f64::from(to)) / 2.0, count as f64))
        .collect();
    let error = |(low, high): (f32, f32)| squared_error(&bins, ActivationParameters::new(low, high, preset));
    let best_of = |candidate: &dyn Fn(f32) -> (f32, f32)| {
        let errors =
            (FEWEST_PARTS..=PARTS).map(|part| candidate(part as f32 / PARTS as f32)).map(|r| (error(r), r));
        errors.min_by(|a, b| a.0.total_cmp(&b.0)).map_or((low, high), |best| best.1)
    };
    let mut range = best_of(&|share| (low * share, high * share));
    if preset == Preset::Mixed {
        range = best_of(&|share| (low * share, range.1));
        range = best_of(&|share| (range.0, high * share));
    }
    range
}

/// Expected squared error, summed over a histogram of (value, count). Within the range, rounding to
/// steps of one scale errs by scale²/12 on average, but values that become 0 err by themselves.
fn squared_error(bins: &[(f64, f64)], parameters: ActivationParameters) -> f64 {
    let (from, to) = parameters.range();
    let (from, to, scale) = (f64::from(from), f64::from(to), f64::from(parameters.scale));
    let of_value = |value: f64| {
        if value < from || value > to {
            (value - value.clamp(from, to)).powi(2)
        } else if value.abs() < scale / 2.0 {
            value * value
        } else {
            scale * scale / 12.0
        }
    };
    bins.iter().map(|(value, count)| count * of_value(*value)).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Shown;

    #[test]
    fn performance_centres_signed_ranges_and_uses_all_steps_of_others() {
        let signed = ActivationParameters::new(-1.0, 12.7, Preset::Performance);
        assert_eq!((signed.zero_point, signed.scale), (128, 0.1));
        let positive = ActivationParameters::new(0.5, 25.5, Preset::Performance);
        assert_eq!((positive.zero_point, positive.scale), (0, 0.1));
        let negative = ActivationParameters::new(-2.54, -1.0, Preset::Performance);
        assert_eq!((negative.zero_point, negative.scale), (128, 0.02));
    }

    #[test]
    fn mixed_moves_the_zero_point() {
        let mixed = ActivationParameters::new(-0.55, 2.0, Preset::Mixed);
        assert_eq!((mixed.zero_point, mixed.scale), (55, 0.01));
        assert_eq!(ActivationParameters::new(-1.0, -0.5, Preset::Mixed).zero_point, 255);
    }

    #[test]
    fn a_tensor_of_zeros_or_of_dust_has_a_usable_scale() {
        assert_eq!(ActivationParameters::new(0.0, 0.0, Preset::Mixed).scale, 1.0);
        assert_eq!(ActivationParameters::new(0.0, 1e-38, Preset::Performance).scale, SMALLEST_SCALE);
    }

    #[test]
    fn bounds_hold_whatever_was_observed() {
        let mut statistics = TensorStatistics::default();
        statistics.observe(&Shown::in_order(&[2.0, 6.000_001], &[1, 2]), None);
        statistics.observe(&Shown::in_order(&[-4.0, 2.0], &[1, 2]), None);
        assert_eq!(
            choose(&statistics, RangeMethod::MinMax, Bounds::ZeroTo(6.0), Preset::Performance),
            (0.0, 6.0)
        );
        assert_eq!(
            choose(&statistics, RangeMethod::MinMax, Bounds::Any, Preset::Performance),
            (-4.0, 6.000_001)
        );
        assert_eq!(
            choose(&statistics, RangeMethod::MeanMinMax, Bounds::Any, Preset::Performance),
            (-1.0, 4.000_000_5)
        );
    }

    #[test]
    fn one_outlier_among_many_values_is_clipped_and_a_full_range_is_kept() {
        let uniform: Vec<f32> = (0..400_000).map(|i| i as f32 / 400_000.0).collect();
        let mut statistics = TensorStatistics::default();
        statistics.observe(&Shown::in_order(&uniform, &[1, uniform.len()]), None);
        let kept = choose(&statistics, RangeMethod::Mse, Bounds::Any, Preset::Performance);
        assert!(kept.1 > 0.95, "{kept:?}");
        statistics.observe(&Shown::in_order(&[-0.01, 4.0], &[1, 2]), None);
        for preset in [Preset::Performance, Preset::Mixed] {
            let clipped = choose(&statistics, RangeMethod::Mse, Bounds::Any, preset);
            assert!((0.9..3.5).contains(&clipped.1), "{clipped:?}");
        }
        assert_eq!(choose(&statistics, RangeMethod::Mse, Bounds::ZeroTo(0.5), Preset::Mixed).0, 0.0);
    }

    proptest! {
        #[test]
        fn every_method_gives_the_same_range_however_the_images_are_split(
            images in prop::collection::vec(prop::collection::vec(-50f32..80.0, 30), 2..9), cut in 1usize..8,
        ) {
            let seen = |images: &[Vec<f32>]| {
                let mut statistics = TensorStatistics::default();
                images.iter().for_each(|i| statistics.observe(&Shown::in_order(i, &[1, i.len()]), None));
                statistics
            };
            let (left, right) = images.split_at(cut.min(images.len() - 1));
            let mut merged = seen(right);
            merged.merge(&seen(left));
            let whole = seen(&images);
            let (low, high) = whole.extremes();
            for method in RangeMethod::ALL {
                let of = |statistics| choose(statistics, method, Bounds::Any, Preset::Mixed);
                prop_assert_eq!(of(&whole), of(&merged), "{:?}", method);
                let (from, to) = of(&whole);
                prop_assert!(low.min(0.0) <= from && from <= to && to <= high.max(0.0), "{:?}: {:?}", method, (from, to));
            }
        }

        #[test]
        fn the_range_is_covered_within_half_a_step(low in -1e4f32..1e4, span in 0f32..1e4, mixed: bool) {
            let high = low + span;
            let preset = if mixed { Preset::Mixed } else { Preset::Performance };
            let parameters = ActivationParameters::new(low, high, preset);
            prop_assert!(parameters.scale > 0.0 && parameters.scale.is_finite());
            let (from, to) = parameters.range();
            let slack = parameters.scale * 0.501;
            prop_assert!(from <= low.min(0.0) + slack && high.max(0.0) - slack <= to, "{low}..{high}: {parameters:?}");
        }
    }
}
