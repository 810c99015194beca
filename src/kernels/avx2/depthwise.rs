//! Depthwise convolution, 16 channels at a time: the bytes of two taps are widened to 16 bits and interleaved,
//! so that `vpmaddwd` sums both taps of each channel exactly. Two forms:
//!
//! - *rows* ([`rows`]): strides 1 and 2, no dilation. Neighbouring pixels of a row are interleaved once, for all
//!   windows that they are part of.
//! - *windows*: anything else, each window on its own.

use std::arch::x86_64::*;

use super::super::buffer::Aligned;
use super::super::layout::{channel_of, put_i16};
use super::super::types::{Geometry, Output};
use super::super::windows::for_each_window;
use super::rows::Rows;
use super::{Bytes, LANES};

/// Vectors, and bytes, of a block.
const VECTORS: usize = 2;
pub(super) const BLOCK: usize = VECTORS * LANES;

/// Packed depthwise weights.
#[derive(Debug)]
pub(in super::super) struct Depthwise {
    channels: usize,
    /// Pairs of taps.
    pairs: usize,
    zero_point: u8,
    lo: u8,
    hi: u8,
    /// `[block][pair][vector][lane][2]` i16; the partner of a last odd tap is 0.
    weights: Aligned<i8>,
    bias: Aligned<i32>,
    mult: Aligned<f32>,
    /// One pixel of padding.
    padding: Aligned<u8>,
    rows: Rows,
}

impl Depthwise {
    /// Weights arrive as `[channel][tap]`.
    pub(in super::super) fn new(
        kernel: [usize; 2],
        weights: &[i8],
        bias: &[i32],
        input_zero_point: u8,
        output: Output<'_>,
    ) -> Depthwise {
        let (channels, taps) = (bias.len(), kernel[0] * kernel[1]);
        let (zero_point, lo, hi) = match output {
            Output::U8 { zero_point, lo, hi, .. } => (zero_point, lo, hi),
            Output::F32 { .. } => (0, 0, 255),
        };
        let (lanes, pairs) = (channels.next_multiple_of(BLOCK), taps.div_ceil(2));
        let mut packed = Depthwise {
            channels,
            pairs,
            zero_point,
            lo,
            hi,
            weights: Aligned::zeros(lanes * pairs * 4),
            bias: Aligned::zeros(lanes),
            mult: Aligned::zeros(lanes),
            padding: Aligned::zeros(lanes),
            rows: Rows::new(kernel, weights, channels, input_zero_point),
        };
        packed.padding.fill(input_zero_point);
        for lane in 0..lanes {
            let (block, in_block) = (lane / BLOCK, lane % BLOCK);
            let c = block * BLOCK + channel_of(VECTORS, LANES, in_block / LANES, in_block % LANES);
            if c >= channels {
                continue;
            }
            packed.bias[lane] = bias[c];
            packed.mult[lane] = output.factors()[c];
            for (pair, w) in weights[c * taps..][..taps].chunks(2).enumerate() {
                let at = ((block * pairs + pair) * BLOCK + in_block) * 4;
                put_i16(&mut packed.weights[at..], [w[0], w.get(1).copied().unwrap_or(0)]);
            }
        }
        packed
    }

    /// # Safety
    /// The machine has the tier's instructions; `x` holds the image and 15 more bytes; `out` holds the
    /// output; the kernel of `geometry` is the packed one.
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn run(&self, x: &[u8], geometry: &Geometry, out: &mut [u8]) {
        let bytes = Bytes::new(self.zero_point, self.lo, self.hi);
        let channels = self.channels;
        if Rows::fits(geometry) {
            // SAFETY: the caller's; biases and factors are in the order of two interleaved vectors.
            unsafe { self.rows.run(x, geometry, &self.bias, &self.mult, &bytes, out) };
            return;
        }
        // The partner of a last odd tap has zero weights, so any readable pixel will do.
        for_each_window(x, channels, geometry, self.padding.as_ptr(), self.pairs * 2, |pixel, taps| {
            let out = out[pixel * channels..][..channels].as_mut_ptr();
            for first in (0..channels).step_by(BLOCK) {
                let mut weights = self.weights[first * self.pairs * 4..].as_ptr();
                let bias = self.bias[first..].as_ptr();
                // SAFETY: a block reads 16 bytes at `first < channels` of a pixel, so at most 15 bytes after
                // it, and writes the channels that are left.
                unsafe {
                    let mut acc = [_mm256_load_si256(bias.cast()), _mm256_load_si256(bias.add(LANES).cast())];
                    for [tap0, tap1] in taps.as_chunks::<2>().0 {
                        let (x0, x1) = (widen(tap0.add(first)), widen(tap1.add(first)));
                        let pairs = [_mm256_unpacklo_epi16(x0, x1), _mm256_unpackhi_epi16(x0, x1)];
                        for (j, pairs) in pairs.into_iter().enumerate() {
                            let w = _mm256_load_si256(weights.add(32 * j).cast());
                            acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(pairs, w));
                        }
                        weights = weights.add(BLOCK * 4);
                    }
                    let mult = self.mult[first..].as_ptr();
                    bytes.store(&acc, mult, out.add(first), (channels - first).min(BLOCK));
                }
            }
        });
    }
}

/// 16 bytes as 16 u16.
///
/// # Safety
/// 16 bytes can be read at `from`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn widen(from: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(from.cast())) }
}
