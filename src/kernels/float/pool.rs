//! Pooling of one FP32 NHWC image.

use super::super::Isa;
use super::super::elementwise::per_tier;
use super::super::types::Geometry;

/// The largest value of each window and channel; padding never wins, and a window of padding alone gives −∞.
///
/// `x` is `[height][width][channels]`, `out` is `[out_height][out_width][channels]`.
///
/// # Panics
/// A slice is shorter than its image.
pub fn max_pool_f32(isa: Isa, x: &[f32], channels: usize, geometry: &Geometry, out: &mut [f32]) {
    geometry.assert_holds(channels, x.len(), 0, out.len());
    per_tier!(isa, max_windows(x: &[f32], channels: usize, geometry: &Geometry, out: &mut [f32]));
}

#[inline(always)]
fn max_windows(x: &[f32], channels: usize, geometry: &Geometry, out: &mut [f32]) {
    for (pixel, out) in out.chunks_exact_mut(channels).take(geometry.out_pixels()).enumerate() {
        out.fill(f32::NEG_INFINITY);
        each_pixel(geometry, channels, pixel, x, |x| {
            for (y, &x) in out.iter_mut().zip(x) {
                *y = if x > *y { x } else { *y };
            }
        });
    }
}

/// Calls `each` with the pixels under the window of output pixel `pixel`.
#[inline(always)]
fn each_pixel(geometry: &Geometry, channels: usize, pixel: usize, x: &[f32], mut each: impl FnMut(&[f32])) {
    let [rows, columns] = geometry.kernel;
    let (oy, ox) = (pixel / geometry.out_width, pixel % geometry.out_width);
    for y in (0..rows).filter_map(|ky| geometry.row(oy, ky)) {
        for column in (0..columns).filter_map(|kx| geometry.column(ox, kx)) {
            each(&x[(y * geometry.width + column) * channels..][..channels]);
        }
    }
}

/// The mean of each window and channel: the sum in order of the pixels, divided by the window's size if
/// `count_include_pad`, otherwise by the number of its pixels inside the image. A window of padding alone gives 0.
///
/// `x` is `[height][width][channels]`, `out` is `[out_height][out_width][channels]`.
///
/// # Panics
/// A slice is shorter than its image.
pub fn average_pool_f32(
    isa: Isa,
    x: &[f32],
    channels: usize,
    geometry: &Geometry,
    count_include_pad: bool,
    out: &mut [f32],
) {
    geometry.assert_holds(channels, x.len(), 0, out.len());
    per_tier!(isa, mean_of_windows(x: &[f32], channels: usize, geometry: &Geometry, count_include_pad: bool,
        out: &mut [f32]));
}

#[inline(always)]
fn mean_of_windows(
    x: &[f32],
    channels: usize,
    geometry: &Geometry,
    count_include_pad: bool,
    out: &mut [f32],
) {
    let [rows, columns] = geometry.kernel;
    for (pixel, out) in out.chunks_exact_mut(channels).take(geometry.out_pixels()).enumerate() {
        out.fill(0.0);
        let mut inside = 0;
        each_pixel(geometry, channels, pixel, x, |x| {
            inside += 1;
            for (y, &x) in out.iter_mut().zip(x) {
                *y += x;
            }
        });
        let count = if count_include_pad { rows * columns } else { inside.max(1) };
        out.iter_mut().for_each(|y| *y /= count as f32);
    }
}

/// The mean of each channel over all `pixels`: the sum in order of the pixels, divided by their number.
///
/// `x` is `[pixels][channels]`, `out` is `[channels]`.
///
/// # Panics
/// `x` is shorter than `pixels · channels`, or there are no channels or pixels.
pub fn global_average_pool_f32(isa: Isa, x: &[f32], pixels: usize, out: &mut [f32]) {
    assert!(pixels > 0 && !out.is_empty(), "a mean of nothing");
    let x = &x[..pixels * out.len()];
    per_tier!(isa, mean_of_pixels(x: &[f32], out: &mut [f32]));
}

#[inline(always)]
fn mean_of_pixels(x: &[f32], out: &mut [f32]) {
    let channels = out.len();
    out.fill(0.0);
    for x in x.chunks_exact(channels) {
        for (y, &x) in out.iter_mut().zip(x) {
            *y += x;
        }
    }
    let count = (x.len() / channels) as f32;
    out.iter_mut().for_each(|y| *y /= count);
}
