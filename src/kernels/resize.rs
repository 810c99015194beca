//! Resizing of NHWC images by interpolation between at most two rows and two columns.

use super::Isa;
use super::elementwise::per_tier;
use super::scalar::{clamp, to_i32};

/// Where one row or column of the result comes from: `(1 − weight) · first + weight · second`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tap {
    /// The source before the position.
    pub first: usize,
    /// The source after it.
    pub second: usize,
    /// Share of the second one, from 0 to 1.
    pub weight: f32,
}

/// How interpolated bytes are stored: `clamp(rne((v − from) · ratio) + to, 0, 255)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rescale {
    /// Zero point of the source.
    pub from: u8,
    /// Scale of the source ÷ scale of the result; 1 leaves values as they are.
    pub ratio: f32,
    /// Zero point of the result.
    pub to: u8,
}

/// An element that can be interpolated.
trait Sample: Copy {
    fn value(self) -> f32;
}

impl Sample for u8 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

impl Sample for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

/// One u8 image: `x` is `[height][width][channels]`, `out` is `[rows][columns][channels]` for the taps `rows` and
/// `columns`. Taps of weight 0 copy, where the ratio is 1 and the zero points are the same.
///
/// # Panics
/// A tap lies outside the image, or a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn resize(
    isa: Isa,
    x: &[u8],
    width: usize,
    channels: usize,
    rows: &[Tap],
    columns: &[Tap],
    rescale: Rescale,
    out: &mut [u8],
) {
    let out = &mut out[..rows.len() * columns.len() * channels];
    let same = rescale.ratio == 1.0 && rescale.from == rescale.to;
    if same && rows.iter().chain(columns).all(|t| t.weight == 0.0) {
        return pick(x, width, channels, rows, columns, out);
    }
    per_tier!(isa, resize_bytes(x: &[u8], width: usize, channels: usize, rows: &[Tap], columns: &[Tap],
        rescale: Rescale, out: &mut [u8]));
}

/// As [`resize`], in FP32.
///
/// # Panics
/// As [`resize`].
pub fn resize_f32(
    isa: Isa,
    x: &[f32],
    width: usize,
    channels: usize,
    rows: &[Tap],
    columns: &[Tap],
    out: &mut [f32],
) {
    let out = &mut out[..rows.len() * columns.len() * channels];
    if rows.iter().chain(columns).all(|t| t.weight == 0.0) {
        return pick(x, width, channels, rows, columns, out);
    }
    per_tier!(isa, resize_floats(x: &[f32], width: usize, channels: usize, rows: &[Tap], columns: &[Tap],
        out: &mut [f32]));
}

fn pick<T: Copy>(x: &[T], width: usize, channels: usize, rows: &[Tap], columns: &[Tap], out: &mut [T]) {
    let taps = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
    for (pixel, (row, column)) in out.chunks_exact_mut(channels.max(1)).zip(taps) {
        pixel.copy_from_slice(&x[(row.first * width + column.first) * channels..][..channels]);
    }
}

#[inline(always)]
fn resize_bytes(
    x: &[u8],
    width: usize,
    channels: usize,
    rows: &[Tap],
    columns: &[Tap],
    rescale: Rescale,
    out: &mut [u8],
) {
    let Rescale { from, ratio, to } = rescale;
    let (from, to) = (f32::from(from), i32::from(to));
    let (lo, hi) = (-to as f32, (255 - to) as f32);
    interpolate(x, width, channels, rows, columns, out, |v| {
        (to_i32(clamp(((v - from) * ratio).round_ties_even(), lo, hi)) + to) as u8
    });
}

#[inline(always)]
fn resize_floats(x: &[f32], width: usize, channels: usize, rows: &[Tap], columns: &[Tap], out: &mut [f32]) {
    interpolate(x, width, channels, rows, columns, out, |v| v);
}

/// Columns first, then rows: `a + (b − a) · weight` each.
#[inline(always)]
fn interpolate<T: Sample>(
    x: &[T],
    width: usize,
    channels: usize,
    rows: &[Tap],
    columns: &[Tap],
    out: &mut [T],
    store: impl Fn(f32) -> T,
) {
    let taps = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
    for (pixel, (row, column)) in out.chunks_exact_mut(channels.max(1)).zip(taps) {
        let at = |y: usize, c: usize| &x[(y * width + c) * channels..][..channels];
        let (a, b) = (at(row.first, column.first), at(row.first, column.second));
        let (c, d) = (at(row.second, column.first), at(row.second, column.second));
        for ((((y, a), b), c), d) in pixel.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let above = (b.value() - a.value()).mul_add(column.weight, a.value());
            let below = (d.value() - c.value()).mul_add(column.weight, c.value());
            *y = store((below - above).mul_add(row.weight, above));
        }
    }
}
