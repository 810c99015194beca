//! Pooling of one FP32 NHWC image.

use super::super::Isa;
use super::super::elementwise::per_tier;
use super::super::types::Geometry;
#[cfg(target_arch = "x86_64")]
use super::Width;

/// The largest value of each window and channel; padding never wins, and a window of padding alone gives −∞.
///
/// `x` is `[height][width][channels]`, `out` is `[out_height][out_width][channels]`.
///
/// # Panics
/// A slice is shorter than its image.
pub fn max_pool_f32(isa: Isa, x: &[f32], channels: usize, geometry: &Geometry, out: &mut [f32]) {
    isa.assert_supported();
    geometry.assert_holds(channels, x.len(), 0, out.len());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the machine has `isa`, and so the vectors of its width; the slices hold the images.
    #[allow(unsafe_code)]
    unsafe {
        match Width::of(isa) {
            Width::One => max_windows(x, channels, geometry, out),
            Width::Eight => vectors::eight(x, channels, geometry, out),
            Width::Sixteen => vectors::sixteen(x, channels, geometry, out),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    max_windows(x, channels, geometry, out);
}

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

/// The largest values of a window, in registers for all its pixels.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod vectors {
    use std::arch::x86_64::{__m256, __m512};

    use super::super::vector::Vector;
    use super::Geometry;

    /// # Safety
    /// The machine has these instructions; `x` and `out` hold the images of `geometry`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    pub(super) unsafe fn sixteen(x: &[f32], channels: usize, geometry: &Geometry, out: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { all::<__m512>(x, channels, geometry, out) }
    }

    /// # Safety
    /// As [`sixteen`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn eight(x: &[f32], channels: usize, geometry: &Geometry, out: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { all::<__m256>(x, channels, geometry, out) }
    }

    /// Vectors that are in registers at a time.
    const VECTORS: usize = 4;

    /// # Safety
    /// As [`sixteen`], with the instructions of `V`.
    #[inline(always)]
    unsafe fn all<V: Vector>(x: &[f32], channels: usize, geometry: &Geometry, out: &mut [f32]) {
        for oy in 0..geometry.out_height {
            for ox in 0..geometry.out_width {
                let to = (oy * geometry.out_width + ox) * channels;
                let mut c = 0;
                while c < channels {
                    // SAFETY: the pixels of the window lie in the image, channels `c..` of it in a pixel.
                    unsafe {
                        let to = out.as_mut_ptr().add(to + c);
                        if channels - c >= VECTORS * V::LANES {
                            window::<V, VECTORS>(x, channels, geometry, (oy, ox), c, V::LANES, to);
                            c += VECTORS * V::LANES;
                        } else {
                            let count = (channels - c).min(V::LANES);
                            window::<V, 1>(x, channels, geometry, (oy, ox), c, count, to);
                            c += V::LANES;
                        }
                    }
                }
            }
        }
    }

    /// `count` lanes of each of `N` vectors of one window, from channel `c` on.
    ///
    /// # Safety
    /// These channels exist, the window too, and they can be written at `to`.
    #[inline(always)]
    unsafe fn window<V: Vector, const N: usize>(
        x: &[f32],
        channels: usize,
        geometry: &Geometry,
        (oy, ox): (usize, usize),
        c: usize,
        count: usize,
        to: *mut f32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut most = [V::splat(f32::NEG_INFINITY); N];
            for ky in 0..geometry.kernel[0] {
                let Some(y) = geometry.row(oy, ky) else { continue };
                for kx in 0..geometry.kernel[1] {
                    let Some(column) = geometry.column(ox, kx) else { continue };
                    let pixel = x.as_ptr().add((y * geometry.width + column) * channels + c);
                    for (j, most) in most.iter_mut().enumerate() {
                        *most = most.larger(V::load_part(pixel.add(j * V::LANES), count));
                    }
                }
            }
            for (j, most) in most.iter().enumerate() {
                most.store_part(to.add(j * V::LANES), count);
            }
        }
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
