//! Elementwise operations and layout changes.
//!
//! These are plain functions over slices, compiled once per tier: with wider vectors enabled the compiler
//! vectorizes them well enough that they are far from the time of the products, and equal results follow
//! from equal source.

use super::scalar::{clamp, to_i32};
use super::types::AddParams;
use super::{Isa, Team, span};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512_vnni};

/// Compiles the plain function `$body` once per tier and calls the copy for `$isa`.
macro_rules! per_tier {
    ($isa:expr, $body:ident($($arg:ident: $ty:ty),* $(,)?)) => {{
        let isa: Isa = $isa;
        isa.assert_supported();
        match isa.base() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => {
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
                fn tier($($arg: $ty),*) {
                    $crate::kernels::frame::align_frame();
                    $body($($arg),*)
                }
                // SAFETY: `assert_supported` found these instructions on this machine.
                #[allow(unsafe_code)]
                unsafe { tier($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                #[target_feature(enable = "avx2,fma")]
                fn tier($($arg: $ty),*) {
                    $crate::kernels::frame::align_frame();
                    $body($($arg),*)
                }
                // SAFETY: `assert_supported` found these instructions on this machine.
                #[allow(unsafe_code)]
                unsafe { tier($($arg),*) }
            }
            _ => $body($($arg),*),
        }
    }};
}
pub(super) use per_tier;

/// Quantizes one f32 NCHW image to u8 NHWC: `q = clamp(rne(x / scale) + zero_point, 0, 255)`, by a true
/// division as ONNX `QuantizeLinear` defines it; NaN becomes the zero point.
///
/// `x` is `[channels][height][width]`; `out` is `[top + height + bottom][left + width + right][c_stride]` for
/// `pad = [top, left, bottom, right]`. Padding pixels, and the channels from `channels` to `c_stride`, become
/// the zero point. With a team, its threads share the rows.
///
/// # Panics
/// `c_stride < channels`, or a slice is shorter than its image.
#[allow(clippy::too_many_arguments)]
pub fn quantize_nchw(
    isa: Isa,
    team: Option<&Team>,
    x: &[f32],
    channels: usize,
    height: usize,
    width: usize,
    scale: f32,
    zero_point: u8,
    c_stride: usize,
    pad: [usize; 4],
    out: &mut [u8],
) {
    assert!(channels > 0 && c_stride >= channels, "{channels} channels in {c_stride}");
    let plane = span(height, width, width);
    let x = &x[..span(channels, plane, plane)];
    let [top, left, bottom, right] = pad;
    let row = span(left + width + right, c_stride, c_stride);
    let out = &mut out[..span(top + height + bottom, row, row)];
    let rows = top + height + bottom;
    let each = rows.div_ceil(team.map_or(1, Team::threads));
    let parts: Vec<(usize, &mut [u8])> =
        (0..).step_by(each.max(1)).zip(out.chunks_mut((each * row).max(1))).collect();
    let work = |(first, out): (usize, &mut [u8])| {
        if pad != [0; 4] || c_stride > channels {
            out.fill(zero_point);
        }
        for (at, out) in out.chunks_exact_mut(row.max(1)).enumerate() {
            let Some(y) = (first + at).checked_sub(top).filter(|y| *y < height) else { continue };
            let (x, out) = (&x[y * width..], &mut out[left * c_stride..][..width * c_stride]);
            per_tier!(isa, quantize_row(x: &[f32], plane: usize, channels: usize, c_stride: usize,
                scale: f32, zero_point: u8, out: &mut [u8]));
        }
    };
    match team {
        Some(team) if parts.len() > 1 => team.each(parts, work),
        _ => parts.into_iter().for_each(work),
    }
}

/// One row of pixels; the channels of `x` are `plane` elements apart.
#[inline(always)]
fn quantize_row(
    x: &[f32],
    plane: usize,
    channels: usize,
    c_stride: usize,
    scale: f32,
    zero_point: u8,
    out: &mut [u8],
) {
    let (lo, hi) = (-f32::from(zero_point), 255.0 - f32::from(zero_point));
    let quantize = |x: f32| {
        let steps = (x / scale).round_ties_even();
        let steps = if steps.is_nan() { 0.0 } else { clamp(steps, lo, hi) };
        (to_i32(steps) + i32::from(zero_point)) as u8
    };
    if channels == 3 && c_stride == 4 {
        // Whole pixels at once: the loop vectorizes into stores of full lanes.
        let width = out.len() / 4;
        let (r, g, b) = (&x[..width], &x[plane..][..width], &x[2 * plane..][..width]);
        for (((pixel, &r), &g), &b) in out.as_chunks_mut::<4>().0.iter_mut().zip(r).zip(g).zip(b) {
            *pixel = u32::from_le_bytes([quantize(r), quantize(g), quantize(b), zero_point]).to_le_bytes();
        }
        return;
    }
    for c in 0..channels {
        for (pixel, &x) in out.chunks_exact_mut(c_stride).zip(&x[c * plane..]) {
            pixel[c] = quantize(x);
        }
    }
}

/// Dequantizes one u8 NHWC image to f32 NCHW: `(q − zero_point) · scale`.
///
/// `x` is `[pixels][channels]`, `out` is `[channels][pixels]`.
///
/// # Panics
/// A slice is shorter than its image.
pub fn dequantize_to_nchw(
    isa: Isa,
    x: &[u8],
    channels: usize,
    pixels: usize,
    scale: f32,
    zero_point: u8,
    out: &mut [f32],
) {
    let len = span(channels, pixels, pixels);
    let (x, out) = (&x[..len], &mut out[..len]);
    if len > 0 {
        per_tier!(isa, dequantize_planes(x: &[u8], channels: usize, pixels: usize, scale: f32,
            zero_point: u8, out: &mut [f32]));
    }
}

#[inline(always)]
fn dequantize_planes(x: &[u8], channels: usize, pixels: usize, scale: f32, zero_point: u8, out: &mut [f32]) {
    for (c, plane) in out.chunks_exact_mut(pixels).enumerate() {
        for (y, pixel) in plane.iter_mut().zip(x.chunks_exact(channels)) {
            *y = (i32::from(pixel[c]) - i32::from(zero_point)) as f32 * scale;
        }
    }
}

/// Adds two quantized tensors of `len` elements: with `ra`, `rb` and `k` of [`AddParams`],
/// `y = clamp(rne(fma(a, ra, fma(b, rb, k))), lo, hi)`.
///
/// The order of the two fused multiply-adds is ONNX Runtime's; the other order differs by one step here and
/// there.
///
/// # Panics
/// A slice is shorter than `len`, the parameters are not finite, a ratio is negative or `lo > hi`.
pub fn add(isa: Isa, a: &[u8], b: &[u8], len: usize, params: &AddParams, out: &mut [u8]) {
    params.assert_valid();
    let (a, b, out) = (&a[..len], &b[..len], &mut out[..len]);
    per_tier!(isa, add_elements(a: &[u8], b: &[u8], params: &AddParams, out: &mut [u8]));
}

#[inline(always)]
fn add_elements(a: &[u8], b: &[u8], params: &AddParams, out: &mut [u8]) {
    let AddParams { a_ratio, b_ratio, constant, lo, hi } = *params;
    let (lo, hi) = (f32::from(lo), f32::from(hi));
    for ((y, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let sum = f32::from(a).mul_add(a_ratio, f32::from(b).mul_add(b_ratio, constant));
        *y = to_i32(clamp(sum.round_ties_even(), lo, hi)) as u8;
    }
}

/// Adds `residual`, of as many elements, to `y`, where they are: [`add`] with `y` as the first operand unless the
/// residual is.
pub(super) fn add_in_place(isa: Isa, y: &mut [u8], residual: &[u8], params: &AddParams, is_first: bool) {
    per_tier!(isa, add_to_elements(y: &mut [u8], residual: &[u8], params: &AddParams, is_first: bool));
}

#[inline(always)]
fn add_to_elements(y: &mut [u8], residual: &[u8], params: &AddParams, is_first: bool) {
    let AddParams { a_ratio, b_ratio, constant, lo, hi } = *params;
    let (lo, hi) = (f32::from(lo), f32::from(hi));
    for (y, &residual) in y.iter_mut().zip(residual) {
        let (a, b) = if is_first { (residual, *y) } else { (*y, residual) };
        let sum = f32::from(a).mul_add(a_ratio, f32::from(b).mul_add(b_ratio, constant));
        *y = to_i32(clamp(sum.round_ties_even(), lo, hi)) as u8;
    }
}

/// `out[i] = table[x[i]]` for every element of `x`: any function of one quantized activation.
///
/// # Panics
/// `out` is shorter than `x`.
pub fn lookup(isa: Isa, table: &[u8; 256], x: &[u8], out: &mut [u8]) {
    isa.assert_supported();
    let out = &mut out[..x.len()];
    #[cfg(target_arch = "x86_64")]
    if isa.base() == Isa::Avx512Vnni && is_x86_feature_detected!("avx512vbmi") {
        // SAFETY: the instructions were found just now.
        #[allow(unsafe_code)]
        unsafe {
            avx512_vnni::lookup(table, x, out)
        };
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::Scalar {
        // SAFETY: `assert_supported` found the tier, and all but the plain one have AVX2.
        #[allow(unsafe_code)]
        unsafe {
            avx2::lookup(table, x, out)
        };
        return;
    }
    for (y, &x) in out.iter_mut().zip(x) {
        *y = table[usize::from(x)];
    }
}

/// Copies the `channels` bytes of each pixel of `x` to the channels from `out_channel` on of the pixels of
/// `out`, which are `out_stride` bytes apart, through `table` if there is one (a change of scale): one
/// operand of a concatenation.
///
/// # Panics
/// The channels don't fit in `out_stride`, or a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn copy_channels(
    isa: Isa,
    x: &[u8],
    pixels: usize,
    channels: usize,
    table: Option<&[u8; 256]>,
    out: &mut [u8],
    out_stride: usize,
    out_channel: usize,
) {
    let end = out_channel.checked_add(channels);
    assert!(channels > 0 && end <= Some(out_stride), "{channels} from {out_channel} in {out_stride}");
    if pixels == 0 {
        return;
    }
    let x = &x[..span(pixels, channels, channels)];
    let out = &mut out[out_channel..][..span(pixels, out_stride, channels)];
    for (x, out) in x.chunks_exact(channels).zip(out.chunks_mut(out_stride)) {
        match table {
            Some(table) => lookup(isa, table, x, out),
            None => out[..channels].copy_from_slice(x),
        }
    }
}
