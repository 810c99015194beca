//! Weights to s8 and biases to s32, per output channel.

use ndarray::{ArrayD, Axis};

/// Largest magnitude of a stored bias: a quarter of i32, so that it and the products can be added.
const BIAS_MAX: f64 = (1u64 << 29) as f64;
/// Steps of the bias of a channel whose weights are all zero: more than f32 can tell apart.
const DEAD_CHANNEL_STEPS: f64 = (1u64 << 23) as f64;

/// How many bits a stored weight has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WeightBits {
    Eight,
    /// So that the products of two inputs fit into 16 bits together ([`saturation`](super::saturation)).
    Seven,
}

impl WeightBits {
    /// The number of bits.
    pub(super) fn count(self) -> u8 {
        match self {
            WeightBits::Eight => 8,
            WeightBits::Seven => 7,
        }
    }

    /// Largest magnitude of a stored weight. The most negative integer is not used, so that weights are symmetric.
    fn largest(self) -> f32 {
        match self {
            WeightBits::Eight => 127.0,
            WeightBits::Seven => 63.0,
        }
    }
}

/// Weights of a layer in s8: real value = stored · scale of its channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QuantizedWeights {
    /// Stored values, in the shape of the FP32 weights.
    pub values: ArrayD<i8>,
    /// One scale for each output channel.
    pub scales: Vec<f32>,
}

/// Quantizes `weights` symmetrically for each index of `axis`: the largest magnitude of a channel
/// becomes 127, or 63 with [`WeightBits::Seven`].
///
/// The scale is raised where the s32 bias (scale `x_scale · scale`) would not fit or the product of
/// scales would vanish; `bias` and `x_scale` are needed for this alone.
pub(super) fn quantize_weights(
    weights: &ArrayD<f32>,
    axis: usize,
    bias: Option<&[f32]>,
    x_scale: f32,
    bits: WeightBits,
) -> QuantizedWeights {
    let most = bits.largest();
    let scales: Vec<f32> = weights
        .axis_iter(Axis(axis))
        .enumerate()
        .map(|(channel, w)| {
            let largest = w.iter().fold(0f32, |m, v| m.max(v.abs()));
            let bias = bias.and_then(|b| b.get(channel)).copied().unwrap_or(0.0);
            weight_scale(largest / most, bias, x_scale)
        })
        .collect();
    let mut values = ArrayD::zeros(weights.shape());
    for ((from, mut to), scale) in
        weights.axis_iter(Axis(axis)).zip(values.axis_iter_mut(Axis(axis))).zip(&scales)
    {
        to.zip_mut_with(&from, |q, w| {
            *q = (w / scale).round_ties_even().clamp(-most, most) as i8;
        });
    }
    QuantizedWeights { values, scales }
}

/// `exact` is the scale that the weights alone ask for.
fn weight_scale(exact: f32, bias: f32, x_scale: f32) -> f32 {
    let (bias, x_scale) = (f64::from(bias.abs()), f64::from(x_scale));
    if exact == 0.0 {
        let scale = (bias / x_scale / DEAD_CHANNEL_STEPS) as f32;
        return if scale > 0.0 { scale.max(smallest(x_scale)) } else { 1.0 };
    }
    exact.max((bias / x_scale / BIAS_MAX) as f32).max(smallest(x_scale))
}

/// The smallest scale whose product with `x_scale` is a normal number.
fn smallest(x_scale: f64) -> f32 {
    (2.0 * f64::from(f32::MIN_POSITIVE) / x_scale).max(f64::from(f32::MIN_POSITIVE)) as f32
}

/// The bias in s32 and its scales, `x_scale · scale` of the channel's weights.
pub(super) fn quantize_bias(bias: &[f32], weight_scales: &[f32], x_scale: f32) -> (Vec<i32>, Vec<f32>) {
    let scales: Vec<f32> = weight_scales.iter().map(|s| x_scale * s).collect();
    let values = bias
        .iter()
        .zip(&scales)
        .map(|(b, s)| (f64::from(*b) / f64::from(*s)).round_ties_even() as i32)
        .collect();
    (values, scales)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use ndarray::{IxDyn, arr2};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_weight_of_each_channel_becomes_127() {
        let weights = arr2(&[[1.27f32, -0.5, 0.0], [0.0, 0.1, -2.54]]).into_dyn();
        let rows = quantize_weights(&weights, 0, None, 1.0, WeightBits::Eight);
        assert_eq!(rows.scales, [0.01, 0.02]);
        assert_eq!(rows.values.iter().copied().collect::<Vec<i8>>(), [127, -50, 0, 0, 5, -127]);
        let columns = quantize_weights(&weights, 1, None, 1.0, WeightBits::Eight);
        assert_eq!(columns.scales.len(), 3);
        assert_eq!(columns.values[[0, 0]], 127);
        assert_eq!(columns.values[[1, 2]], -127);
    }

    #[test]
    fn two_weights_of_seven_bits_fit_into_16_bits_with_any_inputs() {
        let weights = arr2(&[[1.0f32, 1.0, -1.0, -1.0]]).into_dyn();
        let narrow = quantize_weights(&weights, 0, None, 1.0, WeightBits::Seven);
        assert_eq!(narrow.values.iter().copied().collect::<Vec<i8>>(), [63, 63, -63, -63]);
        assert!(255 * (63 + 63) <= i32::from(i16::MAX));
    }

    #[test]
    fn a_dead_channel_keeps_its_bias() {
        let weights = ArrayD::zeros(IxDyn(&[2, 3]));
        let bias = [0.3f32, 0.0];
        let dead = quantize_weights(&weights, 0, Some(&bias), 0.02, WeightBits::Eight);
        assert!(dead.scales.iter().all(|s| *s > 0.0 && s.is_finite()));
        let (values, scales) = quantize_bias(&bias, &dead.scales, 0.02);
        assert!((values[0] as f32 * scales[0] - 0.3).abs() < 1e-6);
        assert_eq!(values[1], 0);
    }

    #[test]
    fn a_bias_that_would_overflow_raises_the_scale_of_its_channel_alone() {
        let weights = arr2(&[[1e-9f32, -1e-9], [1.0, 0.5]]).into_dyn();
        let bias = [100.0f32, 100.0];
        let raised = quantize_weights(&weights, 0, Some(&bias), 0.01, WeightBits::Eight);
        assert_eq!(raised.scales[1], 1.0 / 127.0);
        let (values, scales) = quantize_bias(&bias, &raised.scales, 0.01);
        assert!(values[0] > 1 << 28 && values[0] <= 1 << 30);
        assert!((f64::from(values[0]) * f64::from(scales[0]) - 100.0).abs() < 1e-4);
    }

    proptest! {
        #[test]
        fn weights_come_back_within_half_a_step(values in prop::collection::vec(-5f32..5.0, 24)) {
            let weights = ArrayD::from_shape_vec(IxDyn(&[4, 6]), values).unwrap();
            let quantized = quantize_weights(&weights, 0, None, 0.1, WeightBits::Eight);
            for (channel, scale) in quantized.scales.iter().enumerate() {
                for column in 0..6 {
                    let back = f32::from(quantized.values[[channel, column]]) * scale;
                    prop_assert!((back - weights[[channel, column]]).abs() <= scale * 0.50001);
                }
            }
        }

        #[test]
        fn biases_come_back_within_half_a_step_of_their_own_scale(
            bias in -1e3f32..1e3, weight in 1e-4f32..10.0, x_scale in 1e-6f32..1.0,
        ) {
            let weights = ArrayD::from_elem(IxDyn(&[1, 1]), weight);
            let quantized = quantize_weights(&weights, 0, Some(&[bias]), x_scale, WeightBits::Eight);
            let (values, scales) = quantize_bias(&[bias], &quantized.scales, x_scale);
            let back = f64::from(values[0]) * f64::from(scales[0]);
            prop_assert!((back - f64::from(bias)).abs() <= f64::from(scales[0]) * 0.50001);
            prop_assert!(scales[0].is_normal());
        }
    }
}
