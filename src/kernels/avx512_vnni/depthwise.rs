//! Depthwise convolution, 64 channels at a time.
//!
//! `vpdpbusd` sums four products per lane, so the bytes of four taps are interleaved in registers to
//! lie beside each other in each channel's lane. Shuffles are as costly as products; the forms below
//! differ in how often an interleaved vector is used:
//!
//! - *windows*: any kernel, stride and dilation; four taps of one window, used once.
//! - *columns*: 3×3, stride 2 or 1. The three (or four) rows of one image column, kept while the window
//!   slides: used for up to three windows, and at stride 1 for two output rows each.
//! - *flat*: 3×3, stride 1, where blocks of 64 channels would leave many lanes empty. Rows of `width ·
//!   channels` bytes are walked as if they were one pixel: shifting by one pixel is shifting by `channels`
//!   bytes, whatever channel a lane holds.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::super::buffer::Aligned;
use super::super::frame::align_frame;
use super::super::layout::channel_of;
use super::super::types::{Geometry, Output};
use super::super::windows::for_each_window;
use super::{Bytes, LANES, interleave};

/// Vectors, and bytes, of a block.
const VECTORS: usize = 4;
const BLOCK: usize = VECTORS * LANES;

/// Weights in blocks of 64 lanes: `[block][group][vector][lane][4 taps]`, with the biases and factors of
/// these lanes.
#[derive(Debug)]
struct Blocks {
    groups: usize,
    weights: Aligned<i8>,
    bias: Aligned<i32>,
    mult: Aligned<f32>,
}

impl Blocks {
    /// `channel(i)` is the channel of byte `i` of the walk over the blocks, `weight(channel, group, i)` the
    /// `i`-th of four weights.
    fn pack(
        blocks: usize,
        groups: usize,
        bias: &[i32],
        mult: &[f32],
        channel: impl Fn(usize) -> Option<usize>,
        weight: impl Fn(usize, usize, usize) -> i8,
    ) -> Blocks {
        let mut packed = Blocks {
            groups,
            weights: Aligned::zeros(blocks * groups * BLOCK * 4),
            bias: Aligned::zeros(blocks * BLOCK),
            mult: Aligned::zeros(blocks * BLOCK),
        };
        for lane in 0..blocks * BLOCK {
            let (block, vector) = (lane / BLOCK, lane % BLOCK / LANES);
            let in_block = channel_of(VECTORS, LANES, vector, lane % LANES);
            let Some(c) = channel(block * BLOCK + in_block) else { continue };
            packed.bias[lane] = bias[c];
            packed.mult[lane] = mult[c];
            for group in 0..groups {
                for i in 0..4 {
                    let at = (block * groups + group) * BLOCK + lane % BLOCK;
                    packed.weights[at * 4 + i] = weight(c, group, i);
                }
            }
        }
        packed
    }

    /// The pointers of one block: weights, biases, factors.
    fn block(&self, block: usize) -> (*const i8, *const i32, *const f32) {
        (
            self.weights[block * self.groups * BLOCK * 4..].as_ptr(),
            self.bias[block * BLOCK..].as_ptr(),
            self.mult[block * BLOCK..].as_ptr(),
        )
    }
}

/// Packed depthwise weights.
#[derive(Debug)]
pub(in super::super) struct Depthwise {
    channels: usize,
    input_zero_point: u8,
    zero_point: u8,
    lo: u8,
    hi: u8,
    /// One pixel of padding.
    padding: Aligned<u8>,
    windows: Blocks,
    columns: Option<Blocks>,
    flat: Option<Blocks>,
}

/// Of the lanes of the *columns* form at least this part must be in use; below, the *flat* form is faster.
const MIN_LANES_IN_USE: f64 = 0.9;

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
        let mult = output.factors();
        let (zero_point, lo, hi) = match output {
            Output::U8 { zero_point, lo, hi, .. } => (zero_point, lo, hi),
            Output::F32 { .. } => (0, 0, 255),
        };
        let blocks = channels.div_ceil(BLOCK);
        let in_order = |c: usize| (c < channels).then_some(c);
        let window = |c: usize, group: usize, i: usize| {
            let tap = group * 4 + i;
            if tap < taps { weights[c * taps + tap] } else { 0 }
        };
        // Groups 0, 1, 2 hold columns of three weights and a zero, groups 3, 4, 5 the same one row lower.
        let column = |c: usize, group: usize, i: usize| {
            let (shift, kx) = (group / 3, group % 3);
            if (shift..shift + 3).contains(&i) { weights[c * 9 + (i - shift) * 3 + kx] } else { 0 }
        };
        let mut padding = Aligned::zeros(blocks * BLOCK);
        padding.fill(input_zero_point);
        let three = kernel == [3, 3];
        let in_use = channels as f64 / (blocks * BLOCK) as f64;
        // After this many blocks the walk over pixels is at the start of a block and of a pixel again.
        let period = channels / gcd(channels, BLOCK);
        Depthwise {
            channels,
            input_zero_point,
            zero_point,
            lo,
            hi,
            padding,
            windows: Blocks::pack(blocks, taps.div_ceil(4), bias, mult, in_order, window),
            columns: three.then(|| Blocks::pack(blocks, 6, bias, mult, in_order, column)),
            flat: (three && in_use < MIN_LANES_IN_USE)
                .then(|| Blocks::pack(period, 6, bias, mult, |i| Some(i % channels), column)),
        }
    }

    /// # Safety
    /// The machine has the tier's instructions; `x` holds the image and 63 more bytes; `out` holds the
    /// output; the kernel of `geometry` is the packed one.
    pub(in super::super) unsafe fn run(&self, x: &[u8], geometry: &Geometry, out: &mut [u8]) {
        // SAFETY: handed on; the forms check what they are for.
        unsafe {
            match (geometry.dilation, geometry.stride, &self.columns, &self.flat) {
                ([1, 1], [1, 1], _, Some(flat)) => self.run_flat(flat, x, geometry, out),
                ([1, 1], [1, 1], Some(columns), _) => self.run_columns::<1>(columns, x, geometry, out),
                ([1, 1], [2, 2], Some(columns), _) => self.run_columns::<2>(columns, x, geometry, out),
                _ => self.run_windows(x, geometry, out),
            }
        }
    }

    /// # Safety
    /// As [`Depthwise::run`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn run_windows(&self, x: &[u8], geometry: &Geometry, out: &mut [u8]) {
        align_frame();
        let bytes = Bytes::new(self.zero_point, self.lo, self.hi);
        let channels = self.channels;
        // Taps that fill up the last group have zero weights, so any readable pixel will do.
        for_each_window(
            x,
            channels,
            geometry,
            self.padding.as_ptr(),
            self.windows.groups * 4,
            |pixel, taps| {
                let out = out[pixel * channels..][..channels].as_mut_ptr();
                for first in (0..channels).step_by(BLOCK) {
                    let (mut weights, bias, mult) = self.windows.block(first / BLOCK);
                    // SAFETY: a block reads 64 bytes at `first < channels` of a pixel, so at most 63 bytes after
                    // it, and writes the channels that are left.
                    unsafe {
                        let mut acc = load_bias(bias);
                        for group in taps.as_chunks::<4>().0 {
                            let x = interleave([
                                load(group[0].add(first)),
                                load(group[1].add(first)),
                                load(group[2].add(first)),
                                load(group[3].add(first)),
                            ]);
                            multiply(&mut acc, &x, weights);
                            weights = weights.add(BLOCK * 4);
                        }
                        bytes.store(None, &acc, mult, out.add(first), (channels - first).min(BLOCK));
                    }
                }
            },
        );
    }

    /// # Safety
    /// As [`Depthwise::run`]; the kernel is 3×3, not dilated, and both strides are `STRIDE`, 1 or 2.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn run_columns<const STRIDE: usize>(
        &self,
        columns: &Blocks,
        x: &[u8],
        geometry: &Geometry,
        out: &mut [u8],
    ) {
        align_frame();
        let bytes = Bytes::new(self.zero_point, self.lo, self.hi);
        let channels = self.channels;
        let out_row = geometry.out_width * channels;
        let rows_at_once = if STRIDE == 1 { 2 } else { 1 };
        for oy in (0..geometry.out_height).step_by(rows_at_once) {
            let two = STRIDE == 1 && oy + 1 < geometry.out_height;
            let out = out[oy * out_row..][..out_row * (1 + usize::from(two))].as_mut_ptr();
            // A row of padding is the padding pixel over and over: columns there are 0 bytes apart.
            let rows: [(*const u8, usize); 4] = std::array::from_fn(|ky| {
                let ky = if STRIDE == 1 { ky } else { ky.min(2) };
                match geometry.row(oy, ky) {
                    Some(y) => (x[y * geometry.width * channels..].as_ptr(), channels),
                    None => (self.padding.as_ptr(), 0),
                }
            });
            for first in (0..channels).step_by(BLOCK) {
                let (weights, bias, mult) = columns.block(first / BLOCK);
                let count = (channels - first).min(BLOCK);
                // SAFETY: as in `run_windows`; `column` only returns columns of the image.
                unsafe {
                    let padding = load(self.padding.as_ptr());
                    let column = |ox: usize, kx: usize| match geometry.column(ox, kx) {
                        Some(column) => interleave([
                            load(rows[0].0.add(column * rows[0].1 + first)),
                            load(rows[1].0.add(column * rows[1].1 + first)),
                            load(rows[2].0.add(column * rows[2].1 + first)),
                            load(rows[3].0.add(column * rows[3].1 + first)),
                        ]),
                        None => [padding; 4],
                    };
                    let mut window = [column(0, 0), column(0, 1), [padding; 4]];
                    for ox in 0..geometry.out_width {
                        if STRIDE == 2 {
                            window[1] = column(ox, 1);
                        }
                        window[2] = column(ox, 2);
                        let mut acc = load_bias(bias);
                        let mut below = acc;
                        for (kx, x) in window.iter().enumerate() {
                            multiply(&mut acc, x, weights.add(kx * BLOCK * 4));
                            if STRIDE == 1 {
                                multiply(&mut below, x, weights.add((3 + kx) * BLOCK * 4));
                            }
                        }
                        let out = out.add(ox * channels + first);
                        bytes.store(None, &acc, mult, out, count);
                        if two {
                            bytes.store(None, &below, mult, out.add(out_row), count);
                        }
                        window[0] = window[STRIDE];
                        window[1] = window[2];
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Depthwise::run`]; the kernel is 3×3, not dilated, and both strides are 1.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn run_flat(&self, flat: &Blocks, x: &[u8], geometry: &Geometry, out: &mut [u8]) {
        thread_local! {
            static PADDED_ROWS: RefCell<Aligned<u8>> = RefCell::new(Aligned::zeros(0));
        }
        PADDED_ROWS.with_borrow_mut(|scratch| {
            // Four rows of the image, padded left and right, and one row of padding.
            let stride = ((geometry.out_width + 2) * self.channels + BLOCK).next_multiple_of(64);
            scratch.grow(5 * stride);
            let (ring, padding) = scratch.split_at_mut(4 * stride);
            padding[..stride].fill(self.input_zero_point);
            let mut filled = 0;
            for oy in (0..geometry.out_height).step_by(2) {
                let end = (oy + 4).saturating_sub(geometry.pad_top).min(geometry.height);
                for y in filled..end {
                    self.pad_row(x, geometry, y, &mut ring[y % 4 * stride..][..stride]);
                }
                filled = filled.max(end);
                let rows: [*const u8; 4] = std::array::from_fn(|ky| match geometry.row(oy, ky) {
                    Some(y) => ring[y % 4 * stride..][..stride].as_ptr(),
                    None => padding.as_ptr(),
                });
                let out_row = geometry.out_width * self.channels;
                let two = oy + 1 < geometry.out_height;
                let out = &mut out[oy * out_row..][..out_row * (1 + usize::from(two))];
                // SAFETY: rows hold `out_row + 2 · channels` bytes and a block more; `out` one or two rows.
                unsafe { self.flat_rows(flat, rows, out_row, two, out.as_mut_ptr()) };
            }
        });
    }

    /// Row `y` of the image, from the first column that a window touches to the last.
    fn pad_row(&self, x: &[u8], geometry: &Geometry, y: usize, padded: &mut [u8]) {
        let channels = self.channels;
        let columns = geometry.out_width + 2;
        let from = geometry.pad_left.min(columns);
        let to = (geometry.pad_left + geometry.width).min(columns);
        padded[..from * channels].fill(self.input_zero_point);
        let row = &x[y * geometry.width * channels..][..(to - from) * channels];
        padded[from * channels..to * channels].copy_from_slice(row);
        padded[to * channels..columns * channels].fill(self.input_zero_point);
    }

    /// One output row, or two, of `len` bytes from four padded input rows.
    ///
    /// # Safety
    /// Rows hold `len + 2 · channels + 64` bytes, and `out` can hold the output rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn flat_rows(&self, flat: &Blocks, rows: [*const u8; 4], len: usize, two: bool, out: *mut u8) {
        align_frame();
        let bytes = Bytes::new(self.zero_point, self.lo, self.hi);
        let period = flat.bias.len() / BLOCK;
        let mut block = 0;
        for first in (0..len).step_by(BLOCK) {
            let (weights, bias, mult) = flat.block(block);
            let count = (len - first).min(BLOCK);
            // SAFETY: loads start before `len + 2 · channels` and stores keep within `len`.
            unsafe {
                let mut acc = load_bias(bias);
                let mut below = acc;
                for kx in 0..3 {
                    let at = first + kx * self.channels;
                    let x = interleave([
                        load(rows[0].add(at)),
                        load(rows[1].add(at)),
                        load(rows[2].add(at)),
                        load(rows[3].add(at)),
                    ]);
                    multiply(&mut acc, &x, weights.add(kx * BLOCK * 4));
                    multiply(&mut below, &x, weights.add((3 + kx) * BLOCK * 4));
                }
                bytes.store(None, &acc, mult, out.add(first), count);
                if two {
                    bytes.store(None, &below, mult, out.add(len + first), count);
                }
            }
            block = if block + 1 == period { 0 } else { block + 1 };
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// # Safety
/// 64 bytes can be read at `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: *const u8) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

/// # Safety
/// `bias` points to the biases of a block.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_bias(bias: *const i32) -> [__m512i; VECTORS] {
    // SAFETY: the caller's.
    unsafe {
        [
            _mm512_load_si512(bias.cast()),
            _mm512_load_si512(bias.add(LANES).cast()),
            _mm512_load_si512(bias.add(2 * LANES).cast()),
            _mm512_load_si512(bias.add(3 * LANES).cast()),
        ]
    }
}

/// Adds four interleaved taps times their weights.
///
/// # Safety
/// `weights` points to one group of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn multiply(acc: &mut [__m512i; VECTORS], x: &[__m512i; VECTORS], weights: *const i8) {
    for j in 0..VECTORS {
        // SAFETY: a group has `VECTORS` vectors.
        let w = unsafe { _mm512_load_si512(weights.add(64 * j).cast()) };
        acc[j] = _mm512_dpbusd_epi32(acc[j], x[j], w);
    }
}
