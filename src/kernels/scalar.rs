//! The specification: what every tier computes, in plain Rust.
//!
//! With input scale `sx` and zero point `zx`, weight scale `sw[n]`, output scale `sy` and zero point `zy`, a
//! quantized product is
//!
//! ```text
//! sy (y − zy) = Σ sx (x − zx) · sw[n] w[n]  + b[n]
//!           y = rne(acc · sx·sw[n]/sy) + zy,   acc = bias[n] + Σ x·w[n],
//!     bias[n] = b[n]/(sx·sw[n]) − zx Σ w[n]
//! ```
//!
//! so the inner loop multiplies raw bytes, and the zero point of the input is in the bias. Accumulators are
//! i32 and wrap; a sum that can't exceed 2³¹ (fewer than 65 000 taps × channels) never does.

use super::layout::Product;
use super::offsets::{PAD, Windows};
use super::types::{Geometry, Output};

/// `clamp(rne(f32(acc) · mult) + zero_point, lo, hi)`, where rne rounds half to even.
#[inline(always)]
pub(super) fn requantize(acc: i32, mult: f32, zero_point: u8, lo: u8, hi: u8) -> u8 {
    let zero_point = i32::from(zero_point);
    // Whole numbers below 2²⁴ are exact in f32, so the zero point can move to the other side of the clamp.
    let (lo, hi) = ((i32::from(lo) - zero_point) as f32, (i32::from(hi) - zero_point) as f32);
    (to_i32(clamp((acc as f32 * mult).round_ties_even(), lo, hi)) + zero_point) as u8
}

/// `f32::clamp` without its assertion, which would keep loops from being vectorized; NaN stays NaN.
#[inline(always)]
pub(super) fn clamp(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}

/// A whole number within ±2²² as i32. A cast by `as` saturates, which would keep loops from being vectorized.
#[inline(always)]
pub(super) fn to_i32(v: f32) -> i32 {
    /// 1.5 · 2²³: added to `v`, it leaves `v` in the lowest bits of the significand.
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32
}

/// Σ x·w over the shorter of both, wrapping. A product fits in i16, which is what SSE2 multiplies.
fn dot(x: &[u8], w: &[i8]) -> i32 {
    x.iter().zip(w).fold(0i32, |sum, (&x, &w)| sum.wrapping_add(i32::from(i16::from(x) * i16::from(w))))
}

/// Where the rows of the left operand of a product lie.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Row `m` starts at `m · stride`; there is one tap.
    Strided(usize),
    /// Row `m` is the taps of window `m`.
    Indirect { windows: Windows<'a>, pad_row: &'a [u8] },
}

/// A product's weights `[n][taps][k]`, biases and factors as they came.
#[derive(Debug)]
pub(super) struct Gemm {
    taps: usize,
    k: usize,
    weights: Vec<i8>,
    bias: Vec<i32>,
    factors: Vec<f32>,
}

impl Gemm {
    pub(super) fn new(product: &Product<'_>) -> Gemm {
        let Product { taps, k, weights, bias, factors, .. } = *product;
        Gemm { taps, k, weights: weights.to_vec(), bias: bias.to_vec(), factors: factors.to_vec() }
    }

    /// Replaces the weights by bytes less 128; see [`GemmWeights::fill`](super::GemmWeights).
    pub(super) fn fill(&mut self, b: &[u8], steps: [usize; 2], input_zero_point: u8, factor: f32) {
        for (n, row) in self.weights.chunks_exact_mut(self.k).enumerate() {
            for (k, w) in row.iter_mut().enumerate() {
                *w = (i16::from(b[n * steps[0] + k * steps[1]]) - 128) as i8;
            }
            let sum = row.iter().fold(0i32, |sum, w| sum.wrapping_add(i32::from(*w)));
            self.bias[n] = sum.wrapping_mul(-i32::from(input_zero_point));
        }
        self.factors.fill(factor);
    }

    /// Calls `store(m, n, acc, factor)` for each of the `m` rows and all channels.
    pub(super) fn run(
        &self,
        a: &[u8],
        rows: Rows<'_>,
        m: usize,
        mut store: impl FnMut(usize, usize, i32, f32),
    ) {
        let Gemm { taps, k, ref weights, ref bias, ref factors } = *self;
        for row in 0..m {
            let tap_row = |tap: usize| match rows {
                Rows::Strided(lda) => &a[row * lda..][..k],
                Rows::Indirect { windows, pad_row } => match windows.values[row * taps + tap] {
                    PAD => &pad_row[..k],
                    offset => &a[offset as usize..][..k],
                },
            };
            for (n, w) in weights.chunks_exact(taps * k).enumerate() {
                let sum = w
                    .chunks_exact(k)
                    .enumerate()
                    .fold(bias[n], |sum, (tap, w)| sum.wrapping_add(dot(tap_row(tap), w)));
                store(row, n, sum, factors[n]);
            }
        }
    }
}

/// Depthwise weights `[tap][channel]`, so that the inner loop runs over channels.
#[derive(Debug)]
pub(super) struct Depthwise {
    weights: Vec<i8>,
    bias: Vec<i32>,
    mult: Vec<f32>,
    input_zero_point: u8,
    zero_point: u8,
    lo: u8,
    hi: u8,
}

impl Depthwise {
    /// Weights arrive as `[channel][tap]`.
    pub(super) fn new(weights: &[i8], bias: &[i32], input_zero_point: u8, output: Output<'_>) -> Depthwise {
        let (channels, taps) = (bias.len(), weights.len() / bias.len());
        let by_tap = (0..taps).flat_map(|tap| (0..channels).map(move |c| weights[c * taps + tap]));
        let (zero_point, lo, hi) = match output {
            Output::U8 { zero_point, lo, hi, .. } => (zero_point, lo, hi),
            Output::F32 { .. } => (0, 0, 255),
        };
        let (weights, mult) = (by_tap.collect(), output.factors().to_vec());
        Depthwise { weights, bias: bias.to_vec(), mult, input_zero_point, zero_point, lo, hi }
    }

    /// One image; the padding is the input's zero point.
    pub(super) fn run(&self, x: &[u8], geometry: &Geometry, out: &mut [u8]) {
        let channels = self.bias.len();
        let mut sums = vec![0i32; channels];
        for (pixel, out) in out.chunks_exact_mut(channels).take(geometry.out_pixels()).enumerate() {
            let (oy, ox) = (pixel / geometry.out_width, pixel % geometry.out_width);
            sums.copy_from_slice(&self.bias);
            for (tap, weights) in self.weights.chunks_exact(channels).enumerate() {
                let (ky, kx) = (tap / geometry.kernel[1], tap % geometry.kernel[1]);
                if let (Some(y), Some(column)) = (geometry.row(oy, ky), geometry.column(ox, kx)) {
                    let x = &x[(y * geometry.width + column) * channels..][..channels];
                    for ((sum, &x), &w) in sums.iter_mut().zip(x).zip(weights) {
                        *sum = sum.wrapping_add(i32::from(x) * i32::from(w));
                    }
                } else {
                    let x = i32::from(self.input_zero_point);
                    for (sum, &w) in sums.iter_mut().zip(weights) {
                        *sum = sum.wrapping_add(x * i32::from(w));
                    }
                }
            }
            for ((out, &sum), &mult) in out.iter_mut().zip(&sums).zip(&self.mult) {
                *out = requantize(sum, mult, self.zero_point, self.lo, self.hi);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even() {
        let quarters = [(2, 0), (6, 2), (10, 2), (-2, 0), (-6, -2), (7, 2), (5, 1)];
        for (acc, want) in quarters {
            assert_eq!(requantize(acc, 0.25, 100, 0, 255), (100 + want) as u8, "{acc}/4");
        }
    }

    #[test]
    fn whole_numbers_convert_exactly() {
        for v in [0, 1, -1, 255, -255, 4_194_303, -4_194_304] {
            assert_eq!(to_i32(v as f32), v);
        }
        assert_eq!(to_i32(-0.0), 0);
    }

    #[test]
    fn results_saturate_at_every_width() {
        for (acc, mult) in [(i32::MAX, 1.0), (1, 1e30), (i32::MAX, f32::MAX), (40_000, 1.0), (1 << 30, 2.0)] {
            assert_eq!(requantize(acc, mult, 255, 0, 255), 255);
            assert_eq!(requantize(acc, mult, 0, 0, 200), 200);
            assert_eq!(requantize(-acc, mult, 255, 3, 255), 3);
        }
        assert_eq!(requantize(i32::MIN, f32::MAX, 255, 0, 255), 0);
    }
}
