//! FP32 depthwise convolution: each channel has a filter of its own.
//!
//! `out[y][x][c] = clamp(bias[c] + Σ_tap x[tap][c] · w[tap][c], lo, hi)`, a chain of fused multiply-adds in order
//! of taps; padding takes part as 0. Lanes run over channels.

#[cfg(target_arch = "x86_64")]
use super::super::frame::align_frame;
use super::super::types::Geometry;
use super::super::{Isa, buffer::Aligned};
#[cfg(target_arch = "x86_64")]
use super::Width;
use super::{super::scalar, SLACK_FLOATS};

/// The weights of an FP32 depthwise convolution, packed for one tier.
#[derive(Debug)]
pub struct FloatDepthwise {
    isa: Isa,
    channels: usize,
    kernel: [usize; 2],
    lo: f32,
    hi: f32,
    /// Floats from one tap's weights to the next: channels and a vector more, so that whole vectors can be loaded.
    stride: usize,
    /// `[tap][stride]`.
    weights: Aligned<f32>,
    bias: Aligned<f32>,
}

/// The widest vector.
const MOST_LANES: usize = 16;

impl FloatDepthwise {
    /// Packs the weights `[channels][kernel rows · kernel columns]` for `isa`; outputs are limited to `lo..=hi`.
    ///
    /// # Panics
    /// A size is 0, a slice has another length than these sizes ask for, `lo > hi` or one is NaN, or this machine
    /// lacks `isa`.
    pub fn pack(
        isa: Isa,
        channels: usize,
        kernel: [usize; 2],
        weights: &[f32],
        bias: &[f32],
        lo: f32,
        hi: f32,
    ) -> FloatDepthwise {
        isa.assert_supported();
        assert!(channels > 0 && kernel[0] > 0 && kernel[1] > 0, "empty: {channels} channels of {kernel:?}");
        let count = kernel[0].checked_mul(kernel[1]).and_then(|taps| taps.checked_mul(channels));
        assert_eq!(Some(weights.len()), count, "weights must be [{channels}][{kernel:?}]");
        assert_eq!(bias.len(), channels, "one bias per channel");
        assert!(lo <= hi, "the output range {lo}..={hi} is empty");
        let (taps, stride) = (kernel[0] * kernel[1], channels + MOST_LANES);
        let (mut packed, mut biases) = (Aligned::zeros(taps * stride), Aligned::zeros(stride));
        for (at, w) in weights.iter().enumerate() {
            packed[at % taps * stride + at / taps] = *w;
        }
        biases[..channels].copy_from_slice(bias);
        FloatDepthwise { isa, channels, kernel, lo, hi, stride, weights: packed, bias: biases }
    }

    /// The tier that these weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Convolves one image: `x` is `[height][width][channels]` and slack, `out` is
    /// `[out_height][out_width][channels]`.
    ///
    /// # Panics
    /// `geometry` has another kernel than the weights, or a slice is too short for it.
    pub fn run(&self, x: &[f32], geometry: &Geometry, out: &mut [f32]) {
        assert_eq!(geometry.kernel, self.kernel, "the weights were packed for another kernel");
        geometry.assert_holds(self.channels, x.len(), SLACK_FLOATS, out.len());
        #[cfg(target_arch = "x86_64")]
        match Width::of(self.isa) {
            Width::One => self.scalar(x, geometry, out),
            width => vectors::run(width, self, x, geometry, out),
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.scalar(x, geometry, out);
    }

    fn scalar(&self, x: &[f32], geometry: &Geometry, out: &mut [f32]) {
        let channels = self.channels;
        for (pixel, out) in out.chunks_exact_mut(channels).take(geometry.out_pixels()).enumerate() {
            let (oy, ox) = (pixel / geometry.out_width, pixel % geometry.out_width);
            out.copy_from_slice(&self.bias[..channels]);
            geometry.taps(oy, ox, |tap, at| {
                let weights = &self.weights[tap * self.stride..][..channels];
                for (c, (sum, w)) in out.iter_mut().zip(weights).enumerate() {
                    let x = at.map_or(0.0, |at| x[at * channels + c]);
                    *sum = x.mul_add(*w, *sum);
                }
            });
            out.iter_mut().for_each(|y| *y = scalar::clamp(*y, self.lo, self.hi));
        }
    }
}

/// Vectors of channels. Windows of 3 × 3 slide over blocks of output pixels whose weights stay in registers: each
/// loaded input serves up to three windows of two output rows. Other windows, and those that reach over the left
/// or right edge, are computed one by one.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod vectors {
    use std::arch::x86_64::{__m256, __m512};
    use std::cell::RefCell;

    use super::super::vector::Vector;
    use super::*;

    thread_local! {
        /// A row of zeros, for windows that reach over the upper or lower edge.
        static ZEROS: RefCell<Aligned<f32>> = RefCell::new(Aligned::zeros(0));
    }

    /// Convolves one image on a machine with vectors of `width`; `geometry.assert_holds` passed for the slices.
    pub(super) fn run(
        width: Width,
        weights: &FloatDepthwise,
        x: &[f32],
        geometry: &Geometry,
        out: &mut [f32],
    ) {
        ZEROS.with_borrow_mut(|zeros| {
            zeros.grow(weights.channels * geometry.width.max(1) + SLACK_FLOATS);
            // SAFETY: `pack` checked the machine, `assert_holds` the slices; a row of zeros is as long as a row of
            // the image, with slack.
            unsafe {
                match width {
                    Width::Sixteen => sixteen(weights, x, geometry, zeros, out),
                    _ => eight(weights, x, geometry, zeros, out),
                }
            }
        });
    }

    /// # Safety
    /// As [`all`], with `V`'s instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
    unsafe fn sixteen(
        weights: &FloatDepthwise,
        x: &[f32],
        geometry: &Geometry,
        zeros: &[f32],
        out: &mut [f32],
    ) {
        align_frame();
        // SAFETY: the caller's.
        unsafe { all::<__m512>(weights, x, geometry, zeros, out) }
    }

    /// # Safety
    /// As [`sixteen`].
    #[target_feature(enable = "avx2,fma")]
    unsafe fn eight(
        weights: &FloatDepthwise,
        x: &[f32],
        geometry: &Geometry,
        zeros: &[f32],
        out: &mut [f32],
    ) {
        align_frame();
        // SAFETY: the caller's.
        unsafe { all::<__m256>(weights, x, geometry, zeros, out) }
    }

    /// Only plain loops from here on: a closure would be compiled without the instructions.
    ///
    /// # Safety
    /// The machine has the instructions of `V`; `geometry.assert_holds` passed for `x` (with slack) and `out`; `zeros`
    /// is as long as a row of the image, with slack.
    #[inline(always)]
    unsafe fn all<V: Vector>(
        weights: &FloatDepthwise,
        x: &[f32],
        geometry: &Geometry,
        zeros: &[f32],
        out: &mut [f32],
    ) {
        let slides = geometry.kernel == [3, 3]
            && geometry.dilation == [1, 1]
            && geometry.stride[0] == geometry.stride[1]
            && geometry.stride[0] <= 2;
        let mut oy = 0;
        while oy < geometry.out_height {
            let rows = (geometry.out_height - oy).min(2);
            // SAFETY: the caller's.
            unsafe {
                match (geometry.stride[0], rows) {
                    _ if !slides => {}
                    (1, 2) => slide::<V, 1, 2>(weights, x, geometry, oy, zeros, out),
                    (1, _) => slide::<V, 1, 1>(weights, x, geometry, oy, zeros, out),
                    (_, 2) => slide::<V, 2, 2>(weights, x, geometry, oy, zeros, out),
                    _ => slide::<V, 2, 1>(weights, x, geometry, oy, zeros, out),
                }
                for oy in oy..oy + if slides { 0 } else { rows } {
                    for ox in 0..geometry.out_width {
                        window::<V>(weights, x, geometry, (oy, ox), zeros, out);
                    }
                }
            }
            oy += rows;
        }
    }

    /// One window, tap by tap: four vectors of channels share the walk over the taps, as far as there are four.
    ///
    /// # Safety
    /// As [`all`]; the window exists.
    #[inline(always)]
    unsafe fn window<V: Vector>(
        weights: &FloatDepthwise,
        x: &[f32],
        geometry: &Geometry,
        at: (usize, usize),
        zeros: &[f32],
        out: &mut [f32],
    ) {
        let (channels, mut c) = (weights.channels, 0);
        // SAFETY: the caller's; a vector starts at one of the channels, and all but a last single one are whole.
        unsafe {
            while c + 4 * V::LANES <= channels {
                window_of::<V, 4>(weights, x, geometry, at, c, zeros, out);
                c += 4 * V::LANES;
            }
            while c + 2 * V::LANES <= channels {
                window_of::<V, 2>(weights, x, geometry, at, c, zeros, out);
                c += 2 * V::LANES;
            }
            while c < channels {
                window_of::<V, 1>(weights, x, geometry, at, c, zeros, out);
                c += V::LANES;
            }
        }
    }

    /// `VECTORS` vectors of the channels of one window, from `c` on.
    ///
    /// # Safety
    /// As [`window`]; channel `c + V::LANES · (VECTORS − 1)` exists.
    #[inline(always)]
    unsafe fn window_of<V: Vector, const VECTORS: usize>(
        weights: &FloatDepthwise,
        x: &[f32],
        geometry: &Geometry,
        (oy, ox): (usize, usize),
        c: usize,
        zeros: &[f32],
        out: &mut [f32],
    ) {
        let (channels, [rows, columns]) = (weights.channels, geometry.kernel);
        let to = (oy * geometry.out_width + ox) * channels;
        let out = out[to..to + channels].as_mut_ptr();
        // SAFETY: a tap's pixel has `channels` floats and slack; weights and biases a vector beyond the channels.
        unsafe {
            let mut w = weights.weights.as_ptr().add(c);
            let mut acc = [V::splat(0.0); VECTORS];
            for (j, acc) in acc.iter_mut().enumerate() {
                *acc = V::load(weights.bias.as_ptr().add(c + V::LANES * j));
            }
            for ky in 0..rows {
                let row = geometry.row(oy, ky);
                for kx in 0..columns {
                    let pixel = match (row, geometry.column(ox, kx)) {
                        (Some(y), Some(column)) => {
                            x.as_ptr().add((y * geometry.width + column) * channels + c)
                        }
                        _ => zeros.as_ptr().add(c),
                    };
                    for (j, acc) in acc.iter_mut().enumerate() {
                        *acc = acc.fma(V::load(pixel.add(V::LANES * j)), V::load(w.add(V::LANES * j)));
                    }
                    w = w.add(weights.stride);
                }
            }
            let (lo, hi) = (V::splat(weights.lo), V::splat(weights.hi));
            for (j, acc) in acc.iter().enumerate() {
                let at = c + V::LANES * j;
                acc.clamp(lo, hi).store_part(out.add(at), (channels - at).min(V::LANES));
            }
        }
    }

    /// `ROWS` output rows from `oy` on.
    ///
    /// # Safety
    /// As [`all`]; the rows exist.
    #[inline(always)]
    unsafe fn slide<V: Vector, const STRIDE: usize, const ROWS: usize>(
        weights: &FloatDepthwise,
        x: &[f32],
        geometry: &Geometry,
        oy: usize,
        zeros: &[f32],
        out: &mut [f32],
    ) {
        let (channels, inside) = (weights.channels, geometry.inside_columns());
        let mut rows = [zeros.as_ptr(); 5];
        for (r, row) in rows.iter_mut().enumerate().take(STRIDE * (ROWS - 1) + 3) {
            if let Some(y) = geometry.row(oy, r) {
                *row = x[y * geometry.width * channels..].as_ptr();
            }
        }
        // SAFETY: columns inside the image have all their taps in it; `out` holds the windows' pixels.
        unsafe {
            let (lo, hi) = (V::splat(weights.lo), V::splat(weights.hi));
            let out = out.as_mut_ptr();
            for c in (0..channels).step_by(V::LANES) {
                let mut w = [V::splat(0.0); 9];
                for (tap, w) in w.iter_mut().enumerate() {
                    *w = V::load(weights.weights.as_ptr().add(tap * weights.stride + c));
                }
                let bias = V::load(weights.bias.as_ptr().add(c));
                let count = (channels - c).min(V::LANES);
                let mut ox = 0;
                while ox < geometry.out_width {
                    if !inside.contains(&ox) {
                        let acc = edge::<V, STRIDE, ROWS>(&rows, geometry, ox, channels, c, &w, bias);
                        for (r, acc) in acc.iter().enumerate() {
                            let to = out.add(((oy + r) * geometry.out_width + ox) * channels + c);
                            acc.clamp(lo, hi).store_part(to, count);
                        }
                        ox += 1;
                        continue;
                    }
                    let at = (ox * STRIDE - geometry.pad_left) * channels + c;
                    let to = |row: usize, column: usize| {
                        out.add(((oy + row) * geometry.out_width + ox + column) * channels + c)
                    };
                    if ox + 2 <= inside.end {
                        let acc = block::<V, STRIDE, ROWS, 2>(&rows, at, channels, &w, bias);
                        for (r, acc) in acc.iter().enumerate() {
                            for (column, acc) in acc.iter().enumerate() {
                                acc.clamp(lo, hi).store_part(to(r, column), count);
                            }
                        }
                        ox += 2;
                    } else {
                        let acc = block::<V, STRIDE, ROWS, 1>(&rows, at, channels, &w, bias);
                        for (r, acc) in acc.iter().enumerate() {
                            acc[0].clamp(lo, hi).store_part(to(r, 0), count);
                        }
                        ox += 1;
                    }
                }
            }
        }
    }

    /// `ROWS` × `COLUMNS` neighbouring windows of one vector of channels. Inputs are visited row by row, so each
    /// window's taps come in order.
    ///
    /// # Safety
    /// The rows can be read from `at` on as far as the windows reach.
    #[inline(always)]
    unsafe fn block<V: Vector, const STRIDE: usize, const ROWS: usize, const COLUMNS: usize>(
        rows: &[*const f32; 5],
        at: usize,
        channels: usize,
        w: &[V; 9],
        bias: V,
    ) -> [[V; COLUMNS]; ROWS] {
        let mut acc = [[bias; COLUMNS]; ROWS];
        for (r, row) in rows.iter().enumerate().take(STRIDE * (ROWS - 1) + 3) {
            for k in 0..STRIDE * (COLUMNS - 1) + 3 {
                // SAFETY: the caller's.
                let x = unsafe { V::load(row.add(at + k * channels)) };
                for (y, acc) in acc.iter_mut().enumerate() {
                    for (column, acc) in acc.iter_mut().enumerate() {
                        let (top, left) = (y * STRIDE, column * STRIDE);
                        if r >= top && r - top < 3 && k >= left && k - left < 3 {
                            // SAFETY: the caller's.
                            *acc = unsafe { acc.fma(x, w[(r - top) * 3 + k - left]) };
                        }
                    }
                }
            }
        }
        acc
    }
    /// `ROWS` windows, one below the other, that reach over the left or right edge, for the vector of channels from
    /// `c` on.
    ///
    /// # Safety
    /// The rows are those of the image under the windows of column `ox`.
    #[inline(always)]
    unsafe fn edge<V: Vector, const STRIDE: usize, const ROWS: usize>(
        rows: &[*const f32; 5],
        geometry: &Geometry,
        ox: usize,
        channels: usize,
        c: usize,
        w: &[V; 9],
        bias: V,
    ) -> [V; ROWS] {
        let mut acc = [bias; ROWS];
        for (r, row) in rows.iter().enumerate().take(STRIDE * (ROWS - 1) + 3) {
            for k in 0..3 {
                // SAFETY: the caller's.
                let x = unsafe {
                    match geometry.column(ox, k) {
                        Some(column) => V::load(row.add(column * channels + c)),
                        None => V::splat(0.0),
                    }
                };
                for (y, acc) in acc.iter_mut().enumerate() {
                    let top = y * STRIDE;
                    if r >= top && r - top < 3 {
                        // SAFETY: the caller's.
                        *acc = unsafe { acc.fma(x, w[(r - top) * 3 + k]) };
                    }
                }
            }
        }
        acc
    }
}
