//! Bias correction: rounding weights and activations shifts the mean of a layer's output, and its bias can
//! take the shift back (Nagel et al. 2019, arXiv:1906.04721, 4.2).
//!
//! With the mean input E\[x\] per channel the *fast* correction (as NNCF's FastBiasCorrection) takes the shift as
//! Σ (W − Wq)·E\[x\], which needs no further inference. At the padded border the sum covers values that are not
//! there; the error of this is of the order of the border's share of the shift. The sequential one
//! ([`sequential`](super::sequential)) observes the shift instead.

use ndarray::{ArrayD, Axis};

use super::weights::QuantizedWeights;

/// Corrections larger than this share of the output's range are not trusted (NNCF's threshold is 2).
const LARGEST_SHARE_OF_RANGE: f64 = 2.0;

/// What to add to the bias of each output channel so that the mean output is the FP32 layer's, or `None`
/// where the means do not fit the weights or the result is not to be trusted.
///
/// `input_means` has one value for each input channel; `axis` counts the output channels of `weights`; all
/// other axes of a Conv weight are input channel (of the group), then kernel.
pub(super) fn bias_shift(
    weights: &ArrayD<f32>,
    quantized: &QuantizedWeights,
    axis: usize,
    input_means: &[f64],
    output_range: f32,
) -> Option<Vec<f32>> {
    let channels = weights.shape()[axis];
    let input_axis = usize::from(axis == 0);
    let per_group = *weights.shape().get(input_axis)?;
    if per_group == 0 || !input_means.len().is_multiple_of(per_group) {
        return None;
    }
    let groups = input_means.len() / per_group;
    if groups == 0 || !channels.is_multiple_of(groups) {
        return None;
    }
    let shift: Vec<f32> = (0..channels)
        .map(|channel| {
            let first = channel / (channels / groups) * per_group;
            let means = &input_means[first..][..per_group];
            let real = weights.index_axis(Axis(axis), channel);
            let stored = quantized.values.index_axis(Axis(axis), channel);
            let scale = f64::from(quantized.scales[channel]);
            // In C order the input channel is the slowest index, the kernel the faster ones.
            let kernel = (real.len() / per_group).max(1);
            let sum: f64 = real
                .iter()
                .zip(&stored)
                .enumerate()
                .map(|(at, (w, q))| means[at / kernel] * (f64::from(*w) - f64::from(*q) * scale))
                .sum();
            sum as f32
        })
        .collect();
    let limit = LARGEST_SHARE_OF_RANGE * f64::from(output_range);
    shift.iter().all(|s| f64::from(s.abs()) <= limit).then_some(shift)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use ndarray::IxDyn;

    use super::*;
    use crate::quantize::weights::{WeightBits, quantize_weights};

    fn weights(shape: &[usize], values: &[f32]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap()
    }

    #[test]
    fn the_shift_is_the_mean_output_that_rounding_lost() {
        let w = weights(&[1, 2, 1, 2], &[1.27, 0.004, 0.006, -0.6]);
        let quantized = quantize_weights(&w, 0, None, 1.0, WeightBits::Eight);
        let shift = bias_shift(&w, &quantized, 0, &[2.0, 10.0], 100.0).unwrap();
        // Rounded to steps of 0.01 the weights lose 0, 0.004, -0.004 and 0.
        assert!((shift[0] - (2.0 * 0.004 - 10.0 * 0.004)).abs() < 1e-6, "{shift:?}");
    }

    #[test]
    fn each_group_uses_its_own_inputs() {
        let w = weights(&[2, 1, 1, 2], &[1.27, 0.004, 1.27, 0.004]);
        let quantized = quantize_weights(&w, 0, None, 1.0, WeightBits::Eight);
        let shift = bias_shift(&w, &quantized, 0, &[1.0, 3.0], 100.0).unwrap();
        assert!((shift[1] / shift[0] - 3.0).abs() < 1e-4, "{shift:?}");
    }

    #[test]
    fn matmul_sums_over_its_first_axis() {
        let w = weights(&[2, 1], &[1.27, 0.004]);
        let quantized = quantize_weights(&w, 1, None, 1.0, WeightBits::Eight);
        let shift = bias_shift(&w, &quantized, 1, &[5.0, 1.0], 100.0).unwrap();
        assert!((shift[0] - 0.004).abs() < 1e-6);
    }

    #[test]
    fn wild_shifts_and_means_that_do_not_fit_are_refused() {
        let w = weights(&[1, 2], &[1.27, 0.004]);
        let quantized = quantize_weights(&w, 0, None, 1.0, WeightBits::Eight);
        assert!(bias_shift(&w, &quantized, 0, &[0.0, f64::NAN], 100.0).is_none());
        assert!(bias_shift(&w, &quantized, 0, &[0.0, 1e9], 100.0).is_none());
        assert!(bias_shift(&w, &quantized, 0, &[1.0, 1.0, 1.0], 100.0).is_none());
    }
}
