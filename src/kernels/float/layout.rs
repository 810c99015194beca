//! Between NCHW and NHWC, and between f32 and u8.

use std::ops::Range;

use super::super::elementwise::per_tier;
use super::super::scalar::{clamp, to_i32};
use super::super::{Isa, span};

/// Pixels that are interleaved, and rows that are transposed at a time, so that both sides stay in the cache.
const BLOCK: usize = 16;

/// One NCHW image to NHWC with `pad = [top, left, bottom, right]` pixels of zeros around it.
///
/// `x` is `[channels][height][width]`, `out` is `[top + height + bottom][left + width + right][channels]`.
///
/// # Panics
/// A slice is shorter than its image.
pub fn nchw_to_nhwc(
    isa: Isa,
    x: &[f32],
    channels: usize,
    height: usize,
    width: usize,
    pad: [usize; 4],
    out: &mut [f32],
) {
    let x = &x[..span(channels, height * width, height * width)];
    let [top, left, bottom, right] = pad;
    let row = (left + width + right) * channels;
    let out = &mut out[..span(top + height + bottom, row, row)];
    if pad == [0; 4] {
        transpose(isa, x, channels, height * width, out);
        return;
    }
    out.fill(0.0);
    for y in 0..height {
        let x = &x[y * width..];
        let out = &mut out[(top + y) * row + left * channels..][..width * channels];
        let plane = height * width;
        per_tier!(isa, interleave(x: &[f32], plane: usize, channels: usize, out: &mut [f32]));
    }
}

/// One row of pixels; the channels of `x` are `plane` elements apart.
#[inline(always)]
fn interleave(x: &[f32], plane: usize, channels: usize, out: &mut [f32]) {
    if channels == 3 {
        interleave_three([x, &x[plane..], &x[2 * plane..]], out);
        return;
    }
    for (at, pixel) in out.chunks_exact_mut(channels).enumerate() {
        for (c, y) in pixel.iter_mut().enumerate() {
            *y = x[c * plane + at];
        }
    }
}

/// Three channels, the usual image: blocks of constant length become shuffles.
#[inline(always)]
fn interleave_three([a, b, c]: [&[f32]; 3], out: &mut [f32]) {
    let mut blocks = out.chunks_exact_mut(3 * BLOCK);
    let mut first = 0;
    for block in &mut blocks {
        let part =
            |plane: &[f32]| <[f32; BLOCK]>::try_from(&plane[first..first + BLOCK]).unwrap_or([0.0; BLOCK]);
        let planes = [part(a), part(b), part(c)];
        for (at, y) in block.iter_mut().enumerate() {
            *y = planes[at % 3][at / 3];
        }
        first += BLOCK;
    }
    for (at, y) in blocks.into_remainder().iter_mut().enumerate() {
        *y = [a, b, c][at % 3][first + at / 3];
    }
}

/// One NHWC image to NCHW: `x` is `[pixels][channels]`, `out` is `[channels][pixels]`.
///
/// # Panics
/// A slice is shorter than its image.
pub fn nhwc_to_nchw(isa: Isa, x: &[f32], channels: usize, pixels: usize, out: &mut [f32]) {
    let (x, out) = (&x[..channels * pixels], &mut out[..channels * pixels]);
    transpose(isa, x, pixels, channels, out);
}

/// `[rows][columns]` to `[columns][rows]`.
fn transpose(isa: Isa, x: &[f32], rows: usize, columns: usize, out: &mut [f32]) {
    if rows == 1 || columns == 1 {
        out.copy_from_slice(x);
        return;
    }
    isa.assert_supported();
    match isa.base() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni | Isa::Avx2 => {
            // SAFETY: `assert_supported` found these instructions on this machine; the callers cut both slices to the
            // matrix.
            #[allow(unsafe_code)]
            unsafe {
                squares::transpose(x, rows, columns, out);
            }
        }
        _ => transpose_part(x, 0..rows, rows, 0..columns, columns, out),
    }
}

/// As [`transpose`], of some rows and columns.
fn transpose_part(
    x: &[f32],
    some_rows: Range<usize>,
    rows: usize,
    some_columns: Range<usize>,
    columns: usize,
    out: &mut [f32],
) {
    for first in some_rows.clone().step_by(BLOCK) {
        let height = BLOCK.min(some_rows.end - first);
        for column in some_columns.clone() {
            for (r, y) in out[column * rows + first..][..height].iter_mut().enumerate() {
                *y = x[(first + r) * columns + column];
            }
        }
    }
}

/// Squares of eight rows and columns, which are shuffled in registers.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod squares {
    use std::arch::x86_64::*;

    /// Rows and columns of a square.
    const SIDE: usize = 8;

    /// # Safety
    /// The machine has AVX2; `x` and `out` hold `rows · columns` elements.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn transpose(x: &[f32], rows: usize, columns: usize, out: &mut [f32]) {
        let (whole_rows, whole_columns) = (rows / SIDE * SIDE, columns / SIDE * SIDE);
        for row in (0..whole_rows).step_by(SIDE) {
            for column in (0..whole_columns).step_by(SIDE) {
                // SAFETY: the square lies within both.
                unsafe {
                    let from = x.as_ptr().add(row * columns + column);
                    square(from, columns, out.as_mut_ptr().add(column * rows + row), rows);
                }
            }
        }
        super::transpose_part(x, 0..whole_rows, rows, whole_columns..columns, columns, out);
        super::transpose_part(x, whole_rows..rows, rows, 0..columns, columns, out);
    }

    /// One square, whose rows lie `from_step` and `to_step` elements apart.
    ///
    /// # Safety
    /// Eight rows of eight elements can be read and written.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn square(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        // SAFETY: the caller's.
        unsafe {
            let row = |r: usize| _mm256_loadu_ps(from.add(r * from_step));
            let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
            let [e, f, g, h] = [row(4), row(5), row(6), row(7)];
            // Pairs of rows, then fours, in each half; then the halves.
            let (ab, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let (ef, ef_high) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
            let (gh, gh_high) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
            let upper = [
                _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
                _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
            ];
            let lower = [
                _mm256_shuffle_ps::<0b01_00_01_00>(ef, gh),
                _mm256_shuffle_ps::<0b11_10_11_10>(ef, gh),
                _mm256_shuffle_ps::<0b01_00_01_00>(ef_high, gh_high),
                _mm256_shuffle_ps::<0b11_10_11_10>(ef_high, gh_high),
            ];
            for (r, (upper, lower)) in upper.into_iter().zip(lower).enumerate() {
                _mm256_storeu_ps(to.add(r * to_step), _mm256_permute2f128_ps::<0x20>(upper, lower));
                _mm256_storeu_ps(to.add((r + 4) * to_step), _mm256_permute2f128_ps::<0x31>(upper, lower));
            }
        }
    }
}

/// `q = clamp(rne(x / scale) + zero_point, 0, 255)`, the ONNX `QuantizeLinear`; NaN becomes the zero point.
///
/// # Panics
/// The slices differ in length.
pub fn quantize(isa: Isa, x: &[f32], scale: f32, zero_point: u8, out: &mut [u8]) {
    assert_eq!(x.len(), out.len(), "{} elements for {}", x.len(), out.len());
    per_tier!(isa, quantize_all(x: &[f32], scale: f32, zero_point: u8, out: &mut [u8]));
}

#[inline(always)]
fn quantize_all(x: &[f32], scale: f32, zero_point: u8, out: &mut [u8]) {
    let zero = i32::from(zero_point);
    let (lo, hi) = (-zero as f32, (255 - zero) as f32);
    for (q, &x) in out.iter_mut().zip(x) {
        let scaled = clamp((x / scale).round_ties_even(), lo, hi);
        let scaled = if scaled.is_nan() { 0.0 } else { scaled };
        *q = (to_i32(scaled) + zero) as u8;
    }
}

/// `x = (q − zero_point) · scale`, the ONNX `DequantizeLinear`.
///
/// # Panics
/// The slices differ in length.
pub fn dequantize(isa: Isa, q: &[u8], scale: f32, zero_point: u8, out: &mut [f32]) {
    assert_eq!(q.len(), out.len(), "{} elements for {}", q.len(), out.len());
    per_tier!(isa, dequantize_all(q: &[u8], scale: f32, zero_point: u8, out: &mut [f32]));
}

#[inline(always)]
fn dequantize_all(q: &[u8], scale: f32, zero_point: u8, out: &mut [f32]) {
    let zero = i32::from(zero_point);
    for (x, &q) in out.iter_mut().zip(q) {
        *x = (i32::from(q) - zero) as f32 * scale;
    }
}

/// Copies pixels of `channels` floats into pixels of `out_channels`, from channel `first` on.
///
/// # Panics
/// A slice is too short.
pub fn copy_channels_f32(
    x: &[f32],
    pixels: usize,
    channels: usize,
    out: &mut [f32],
    out_channels: usize,
    first: usize,
) {
    assert!(first + channels <= out_channels, "channels {first}.. + {channels} of {out_channels}");
    let (x, out) = (&x[..pixels * channels], &mut out[..pixels * out_channels]);
    for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(out_channels)) {
        out[first..first + channels].copy_from_slice(x);
    }
}
