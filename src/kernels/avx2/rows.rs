//! Depthwise windows that slide along interleaved rows.
//!
//! A row of the image, with its padding, becomes pairs of neighbouring pixels: 16-bit lanes `x[2i]`, `x[2i + 1]` of
//! each channel. A window that starts at column `2i` multiplies pairs `i, i + 1, …` by `(w₀, w₁), (w₂, …), …`; one
//! that starts at `2i + 1` multiplies *the same* pairs by `(0, w₀), (w₁, w₂), …`. So at stride 1 two neighbouring
//! windows share what is loaded, and at stride 2 all windows start at even columns. Interleaved rows stay in the
//! first-level cache for as many rows as a window has; channels are walked in groups narrow enough for that.

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::super::buffer::Aligned;
use super::super::layout::{channel_of, put_i16};
use super::super::types::Geometry;
use super::depthwise::{BLOCK, widen};
use super::{Bytes, LANES};

/// Bytes of interleaved rows that are kept at a time.
const RING_BYTES: usize = 20 * 1024;
/// Bytes of an interleaved pair of pixels of one block of channels.
const PAIR: usize = BLOCK * 4;
/// Bytes of weights of one pair of taps and block: two vectors for even starts, two for odd ones.
const WEIGHTS: usize = 4 * 32;

/// Packed weights `[block][kernel row][pair][even or odd start][vector][lane][2]` i16.
#[derive(Debug)]
pub(super) struct Rows {
    channels: usize,
    kernel_rows: usize,
    pairs: usize,
    input_zero_point: u8,
    weights: Aligned<i8>,
}

/// Rows of pairs, and one of padding.
#[derive(Clone, Copy)]
struct Ring {
    start: *mut u8,
    /// Pairs of a row.
    pairs: usize,
    /// Blocks of channels in this group.
    blocks: usize,
}

impl Ring {
    /// Bytes of a row.
    fn row(&self) -> usize {
        self.pairs * self.blocks * PAIR
    }
}

thread_local! {
    static SCRATCH: RefCell<Aligned<u8>> = RefCell::new(Aligned::zeros(0));
}

impl Rows {
    /// Whether the form is for windows like these.
    pub(super) fn fits(geometry: &Geometry) -> bool {
        geometry.dilation == [1, 1] && geometry.stride[1] <= 2
    }

    /// Weights arrive as `[channel][tap]`.
    pub(super) fn new(kernel: [usize; 2], weights: &[i8], channels: usize, input_zero_point: u8) -> Rows {
        let [kernel_rows, columns] = kernel;
        let pairs = columns / 2 + 1;
        let blocks = channels.div_ceil(BLOCK);
        let mut packed = Aligned::zeros(blocks * kernel_rows * pairs * WEIGHTS);
        let lines = packed.chunks_exact_mut(4).enumerate();
        for (at, to) in lines {
            let (lane, at) = (at % LANES, at / LANES);
            let (vector, at) = (at % 2, at / 2);
            let (odd, at) = (at % 2, at / 2);
            let (pair, at) = (at % pairs, at / pairs);
            let (ky, block) = (at % kernel_rows, at / kernel_rows);
            let c = block * BLOCK + channel_of(2, LANES, vector, lane);
            let weight = |column: usize| match column.checked_sub(odd) {
                Some(kx) if kx < columns && c < channels => weights[(c * kernel_rows + ky) * columns + kx],
                _ => 0,
            };
            put_i16(to, [weight(2 * pair), weight(2 * pair + 1)]);
        }
        Rows { channels, kernel_rows, pairs, input_zero_point, weights: packed }
    }

    /// # Safety
    /// The machine has the tier's instructions; `x` holds the image and 15 more bytes; `out` holds the output; the
    /// kernel of `geometry` is the packed one and [`Rows::fits`] it; `bias` and `mult` hold a vector pair for each
    /// block, aligned to 32 bytes.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn run(
        &self,
        x: &[u8],
        geometry: &Geometry,
        bias: &[i32],
        mult: &[f32],
        bytes: &Bytes,
        out: &mut [u8],
    ) {
        let channels = self.channels;
        let blocks = channels.div_ceil(BLOCK);
        // Windows are computed four at a time: the pairs that the last ones read beyond the row exist, too.
        let windows = geometry.out_width.next_multiple_of(4);
        let pairs = self.pairs + if geometry.stride[1] == 1 { windows / 2 } else { windows };
        let rows = self.kernel_rows + 1;
        let most = (RING_BYTES / (rows * pairs * PAIR)).clamp(2, blocks.max(2));
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.grow(rows * pairs * PAIR * most);
            for first in (0..blocks).step_by(most) {
                let ring = Ring { start: scratch.as_mut_ptr(), pairs, blocks: most.min(blocks - first) };
                // SAFETY: the caller's; the scratch holds the ring.
                unsafe { self.run_group(x, geometry, first, ring, bias, mult, bytes, out) };
            }
        });
    }

    /// Blocks `first..first + ring.blocks`.
    ///
    /// # Safety
    /// As [`Rows::run`]; `ring` has memory for one row more than the kernel.
    #[allow(clippy::too_many_arguments)]
    #[target_feature(enable = "avx2")]
    unsafe fn run_group(
        &self,
        x: &[u8],
        geometry: &Geometry,
        first: usize,
        ring: Ring,
        bias: &[i32],
        mult: &[f32],
        bytes: &Bytes,
        out: &mut [u8],
    ) {
        let (channels, kernel_rows) = (self.channels, self.kernel_rows);
        let mut rows = vec![std::ptr::null::<u8>(); kernel_rows];
        let mut filled = 0;
        // SAFETY: the ring has `kernel_rows` rows and one behind them; rows of the image under one window are at most
        // `kernel_rows` neighbours, so each has its place modulo that. A block's weights, biases and factors follow
        // its number.
        unsafe {
            let padding = ring.start.add(kernel_rows * ring.row());
            let zero_point = _mm256_set1_epi16(i16::from(self.input_zero_point));
            for at in (0..ring.row()).step_by(32) {
                _mm256_store_si256(padding.add(at).cast(), zero_point);
            }
            for oy in 0..geometry.out_height {
                for (ky, row) in rows.iter_mut().enumerate() {
                    *row = match geometry.row(oy, ky) {
                        Some(y) => {
                            let to = ring.start.add(y % kernel_rows * ring.row());
                            if y >= filled {
                                self.interleave(x, geometry, y, first, ring, to);
                                filled = y + 1;
                            }
                            to
                        }
                        None => padding,
                    };
                }
                for block in 0..ring.blocks {
                    let number = first + block;
                    let task = Task {
                        rows: &rows,
                        offset: block * ring.pairs * PAIR,
                        pairs: self.pairs,
                        weights: self.weights[number * kernel_rows * self.pairs * WEIGHTS..].as_ptr(),
                        bias: bias[number * BLOCK..].as_ptr(),
                        mult: mult[number * BLOCK..].as_ptr(),
                        count: (channels - number * BLOCK).min(BLOCK),
                        channels,
                        bytes,
                    };
                    let row = oy * geometry.out_width * channels + number * BLOCK;
                    let to = out[row..].as_mut_ptr();
                    for ox in (0..geometry.out_width).step_by(4) {
                        let left = (geometry.out_width - ox).min(4);
                        let to = to.add(ox * channels);
                        if geometry.stride[1] == 1 {
                            task.windows::<1>(ox, left, to);
                        } else {
                            task.windows::<2>(ox, left, to);
                        }
                    }
                }
            }
        }
    }

    /// Writes row `y` of the image, padded, as pairs: `[block][pair]`.
    ///
    /// # Safety
    /// As [`Rows::run_group`]; the row exists, and `to` has the length of one.
    #[target_feature(enable = "avx2")]
    unsafe fn interleave(
        &self,
        x: &[u8],
        geometry: &Geometry,
        y: usize,
        first: usize,
        ring: Ring,
        to: *mut u8,
    ) {
        let row = x[y * geometry.width * self.channels + first * BLOCK..].as_ptr();
        let padding = _mm256_set1_epi16(i16::from(self.input_zero_point));
        // SAFETY: 16 bytes are read at channels that exist, so at most 15 bytes after a pixel.
        unsafe {
            for pair in 0..ring.pairs {
                let pixel = |column: usize| {
                    let column = column.checked_sub(geometry.pad_left).filter(|c| *c < geometry.width);
                    column.map(|column| row.add(column * self.channels))
                };
                let (left, right) = (pixel(2 * pair), pixel(2 * pair + 1));
                for block in 0..ring.blocks {
                    let at = |pixel: Option<*const u8>| match pixel {
                        Some(pixel) => widen(pixel.add(block * BLOCK)),
                        None => padding,
                    };
                    let (a, b) = (at(left), at(right));
                    let to = to.add((block * ring.pairs + pair) * PAIR);
                    _mm256_store_si256(to.cast(), _mm256_unpacklo_epi16(a, b));
                    _mm256_store_si256(to.add(32).cast(), _mm256_unpackhi_epi16(a, b));
                }
            }
        }
    }
}

/// One output row of one block of channels.
struct Task<'a> {
    rows: &'a [*const u8],
    /// Where the block lies in each row.
    offset: usize,
    pairs: usize,
    weights: *const i8,
    bias: *const i32,
    mult: *const f32,
    /// Channels that exist, of 16.
    count: usize,
    /// Bytes from one pixel of the output to the next.
    channels: usize,
    bytes: &'a Bytes,
}

impl Task<'_> {
    /// The `left ≤ 4` windows from column `ox`, a multiple of 4, on.
    ///
    /// # Safety
    /// Rows hold the pairs of four windows from `ox` on; the outputs can be written.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn windows<const STRIDE: usize>(&self, ox: usize, left: usize, to: *mut u8) {
        // SAFETY: the caller's.
        unsafe {
            let bias = [0, LANES].map(|lane| _mm256_load_si256(self.bias.add(lane).cast()));
            let mut acc = [bias; 4];
            let start = self.offset + if STRIDE == 1 { ox / 2 } else { ox } * PAIR;
            let mut weights = self.weights;
            for row in self.rows {
                let mut x = row.add(start);
                for _ in 0..self.pairs {
                    let w = |at: usize| _mm256_load_si256(weights.add(32 * at).cast());
                    let (even, odd) = ([w(0), w(1)], [w(2), w(3)]);
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let (pair, w) = match (STRIDE, i % 2) {
                            (1, 0) => (i / 2, even),
                            (1, _) => (i / 2, odd),
                            _ => (i, even),
                        };
                        for (j, acc) in acc.iter_mut().enumerate() {
                            let x = _mm256_load_si256(x.add(pair * PAIR + 32 * j).cast());
                            *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, w[j]));
                        }
                    }
                    x = x.add(PAIR);
                    weights = weights.add(WEIGHTS);
                }
            }
            // A loop of constant length: one over `left` would keep the accumulators in memory.
            for i in [0, 2] {
                let out = to.add(i * self.channels);
                if i + 1 < left {
                    let two = [acc[i], acc[i + 1]];
                    self.bytes.store_two(two, self.mult, [out, out.add(self.channels)], self.count);
                } else if i < left {
                    self.bytes.store(&acc[i], self.mult, out, self.count);
                }
            }
        }
    }
}
