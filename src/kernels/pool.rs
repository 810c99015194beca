//! Pooling: windows of one NHWC image reduced to a pixel each.
//!
//! Plain functions compiled once per tier, as in [`elementwise`](super::elementwise).

use super::elementwise::per_tier;
use super::scalar::requantize;
use super::types::Geometry;
use super::{Isa, span};

/// Channels whose sums are kept in registers at a time.
const BLOCK: usize = 64;

/// The largest value of each window and channel; padding never wins, and a window of padding alone gives 0.
///
/// `x` is `[height][width][channels]`, `out` is `[out_height][out_width][channels]`.
///
/// # Panics
/// A slice is shorter than its image.
pub fn max_pool(isa: Isa, x: &[u8], channels: usize, geometry: &Geometry, out: &mut [u8]) {
    geometry.assert_holds(channels, x.len(), 0, out.len());
    per_tier!(isa, max_windows(x: &[u8], channels: usize, geometry: &Geometry, out: &mut [u8]));
}

#[inline(always)]
fn max_windows(x: &[u8], channels: usize, geometry: &Geometry, out: &mut [u8]) {
    let [rows, columns] = geometry.kernel;
    for (pixel, out) in out.chunks_exact_mut(channels).take(geometry.out_pixels()).enumerate() {
        let (oy, ox) = (pixel / geometry.out_width, pixel % geometry.out_width);
        out.fill(0);
        for y in (0..rows).filter_map(|ky| geometry.row(oy, ky)) {
            for column in (0..columns).filter_map(|kx| geometry.column(ox, kx)) {
                let x = &x[(y * geometry.width + column) * channels..][..channels];
                for (y, &x) in out.iter_mut().zip(x) {
                    *y = (*y).max(x);
                }
            }
        }
    }
}

/// The mean over all `pixels`, per channel: `y = clamp(rne(f32(Σ (x − zero_point_in)) · mult) + zero_point_out, 0,
/// 255)`. With `mult = input scale / (output scale · pixels)` this is `QLinearGlobalAveragePool`.
///
/// `x` is `[pixels][channels]`.
///
/// # Panics
/// A slice is too short, or `mult` is not finite or negative.
#[allow(clippy::too_many_arguments)]
pub fn global_average_pool(
    isa: Isa,
    x: &[u8],
    pixels: usize,
    channels: usize,
    zero_point_in: u8,
    mult: f32,
    zero_point_out: u8,
    out: &mut [u8],
) {
    assert!(mult.is_finite() && mult >= 0.0, "the factor of a mean is {mult}");
    let (x, out) = (&x[..span(pixels, channels, channels)], &mut out[..channels]);
    per_tier!(isa, mean_of_pixels(x: &[u8], zero_point_in: u8, mult: f32, zero_point_out: u8, out: &mut [u8]));
}

#[inline(always)]
fn mean_of_pixels(x: &[u8], zero_point_in: u8, mult: f32, zero_point_out: u8, out: &mut [u8]) {
    let channels = out.len();
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let mut sums = [0i32; BLOCK];
        for pixel in x.chunks_exact(channels) {
            add_to(&mut sums, &pixel[block * BLOCK..][..out.len()], zero_point_in);
        }
        for (y, sum) in out.iter_mut().zip(sums) {
            *y = requantize(sum, mult, zero_point_out, 0, 255);
        }
    }
}

/// `sums[c] += x[c] − zero_point`.
#[inline(always)]
fn add_to(sums: &mut [i32; BLOCK], x: &[u8], zero_point: u8) {
    let add = |sum: &mut i32, x: u8| *sum = sum.wrapping_add(i32::from(x) - i32::from(zero_point));
    if let Ok(x) = <&[u8; BLOCK]>::try_from(x) {
        sums.iter_mut().zip(x).for_each(|(sum, &x)| add(sum, x));
    } else {
        sums.iter_mut().zip(x).for_each(|(sum, &x)| add(sum, x));
    }
}

/// The mean of each window: `y = clamp(rne(f32(Σ (x − zero_point_in)) · (scale_ratio / f32(count))) +
/// zero_point_out, 0, 255)` with `scale_ratio = input scale / output scale`. Padding counts as zero; `count` is
/// the window's size if `count_include_pad`, otherwise the number of its pixels inside the image. A window
/// of padding alone gives `zero_point_out`.
///
/// `x` is `[height][width][channels]`, `out` is `[out_height][out_width][channels]`.
///
/// # Panics
/// A slice is too short, or `scale_ratio` is not finite or negative.
#[allow(clippy::too_many_arguments)]
pub fn average_pool(
    isa: Isa,
    x: &[u8],
    channels: usize,
    geometry: &Geometry,
    count_include_pad: bool,
    zero_point_in: u8,
    scale_ratio: f32,
    zero_point_out: u8,
    out: &mut [u8],
) {
    assert!(scale_ratio.is_finite() && scale_ratio >= 0.0, "the factor of a mean is {scale_ratio}");
    geometry.assert_holds(channels, x.len(), 0, out.len());
    per_tier!(isa, mean_of_windows(x: &[u8], channels: usize, geometry: &Geometry, count_include_pad: bool,
        zero_point_in: u8, scale_ratio: f32, zero_point_out: u8, out: &mut [u8]));
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn mean_of_windows(
    x: &[u8],
    channels: usize,
    geometry: &Geometry,
    count_include_pad: bool,
    zero_point_in: u8,
    scale_ratio: f32,
    zero_point_out: u8,
    out: &mut [u8],
) {
    let [rows, columns] = geometry.kernel;
    for (pixel, out) in out.chunks_exact_mut(channels).take(geometry.out_pixels()).enumerate() {
        let (oy, ox) = (pixel / geometry.out_width, pixel % geometry.out_width);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let mut sums = [0i32; BLOCK];
            let mut inside = 0;
            for y in (0..rows).filter_map(|ky| geometry.row(oy, ky)) {
                for column in (0..columns).filter_map(|kx| geometry.column(ox, kx)) {
                    let start = (y * geometry.width + column) * channels + block * BLOCK;
                    add_to(&mut sums, &x[start..][..out.len()], zero_point_in);
                    inside += 1;
                }
            }
            let count = if count_include_pad { rows * columns } else { inside.max(1) };
            let mult = scale_ratio / count as f32;
            for (y, sum) in out.iter_mut().zip(sums) {
                *y = requantize(sum, mult, zero_point_out, 0, 255);
            }
        }
    }
}
