//! Tiles of rows × vectors whose accumulators stay in registers, and the walk over them.
//!
//! A tile of 6 rows × 4 vectors of 16 lanes keeps 24 of the 32 registers as accumulators; of 8 lanes, where
//! there are 16 registers, 6 rows × 2 vectors keep 12 and leave one to spare: 4 × 3 would need all sixteen, and the
//! compiler then keeps one accumulator in memory, which doubles the time of a step. Weights are walked in chunks that stay in the second-level
//! cache while the rows pass over them, rows in chunks that stay there beside it.
#![allow(unsafe_code)]

use std::arch::x86_64::{__m256, __m512, _MM_HINT_ET0, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

use super::super::buffer::Aligned;
use super::super::offsets::PAD;
use super::super::share::Share;
use super::super::tiles::for_each_tile;
use super::Width;
use super::gemm::FloatRows;
use super::vector::Vector;

/// Bytes of weights that many rows pass over before the next ones are loaded.
const WEIGHT_BYTES: usize = 256 * 1024;
/// Bytes of rows, in and out, that all blocks of channels pass over: what the address translation holds at once.
const ROW_BYTES: usize = 512 * 1024;
/// Weights that stay in the second-level cache from one chunk of rows to the next; more are read again for each.
const RESIDENT_BYTES: usize = 768 * 1024;

/// Channels `first..first + channels`, held in `vectors` vectors.
#[derive(Debug, Clone)]
struct Block {
    first: usize,
    channels: usize,
    vectors: usize,
    /// Where its weights start: `[tap][k][vector][lane]`.
    weights: usize,
    /// Where its biases start.
    bias: usize,
}

/// Packed weights and biases; lanes beyond the channels are 0.
#[derive(Debug)]
pub(super) struct Panels {
    width: Width,
    taps: usize,
    k: usize,
    blocks: Vec<Block>,
    weights: Aligned<f32>,
    bias: Aligned<f32>,
}

impl Panels {
    /// Blocks, and weights with those that fill them up.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.blocks.len(), self.weights.len())
    }

    /// Weights are `of_channel` elements apart from one channel to the next, `of_input` from one input (of the taps
    /// one after the other) to the next.
    pub(super) fn pack(
        width: Width,
        n: usize,
        taps: usize,
        k: usize,
        weights: &[f32],
        [of_channel, of_input]: [usize; 2],
        bias: &[f32],
    ) -> Panels {
        let (lanes, most): (usize, fn(usize) -> usize) = match width {
            Width::Sixteen => (16, |left| if matches!(left, 5 | 6 | 9) { 3 } else { left.min(4) }),
            _ => (8, |left| left.min(2)),
        };
        let mut blocks = vec![];
        let (mut first, mut weights_at, mut bias_at) = (0, 0, 0);
        while first < n {
            let vectors = most((n - first).div_ceil(lanes));
            let channels = (n - first).min(vectors * lanes);
            blocks.push(Block { first, channels, vectors, weights: weights_at, bias: bias_at });
            first += channels;
            weights_at += vectors * lanes * taps * k;
            bias_at += vectors * lanes;
        }
        let mut panels = Panels {
            width,
            taps,
            k,
            blocks,
            weights: Aligned::zeros(weights_at),
            bias: Aligned::zeros(bias_at),
        };
        for block in &panels.blocks {
            panels.bias[block.bias..][..block.channels]
                .copy_from_slice(&bias[block.first..][..block.channels]);
        }
        panels.fill(weights, [of_channel, of_input]);
        panels
    }

    /// Replaces the weights; the steps are those of [`pack`](Self::pack).
    pub(super) fn fill(&mut self, weights: &[f32], [of_channel, of_input]: [usize; 2]) {
        let inputs = self.taps * self.k;
        let lanes = if self.width == Width::Sixteen { 16 } else { 8 };
        for block in &self.blocks {
            let Block { first, channels, vectors, .. } = *block;
            let to = self.weights[block.weights..].chunks_exact_mut(vectors * lanes);
            if of_channel == 1 {
                for (at, to) in to.enumerate().take(inputs) {
                    to[..channels].copy_from_slice(&weights[at * of_input + first..][..channels]);
                }
                continue;
            }
            for (at, to) in to.enumerate().take(inputs) {
                let from = &weights[at * of_input + first * of_channel..];
                for (channel, to) in to[..channels].iter_mut().enumerate() {
                    *to = from[channel * of_channel];
                }
            }
        }
    }
}

/// One tile: a few rows, one block of channels, a range of taps and inputs.
struct Tile<'a> {
    a: *const f32,
    lda: usize,
    /// `[row][taps]`, from the first tap of the range on.
    offsets: Option<&'a [i32]>,
    taps: usize,
    pad_row: *const f32,
    /// Taps and inputs of the range.
    walk: (usize, usize),
    weights: *const f32,
    /// Where chains start: the biases, unless they go on from `out`.
    bias: Option<*const f32>,
    /// What the last part of a chain ends with; none leaves the sums as they are.
    end: Option<End>,
    out: *mut f32,
    ldo: usize,
    channels: usize,
    /// Where the weights that come next are fetched from, and bytes from one step of the walk to the next.
    ahead: (*const f32, usize),
}

#[derive(Clone, Copy)]
struct End {
    residual: *const f32,
    lo: f32,
    hi: f32,
}

type TileFn = unsafe fn(&Tile<'_>);

/// # Safety
/// `Tile` points to `ROWS` rows (readable for the walk) and outputs of `channels ≤ VECTORS · LANES` floats, weights
/// packed for `VECTORS` vectors; the machine has `V`'s instructions.
#[inline(always)]
unsafe fn multiply<V: Vector, const ROWS: usize, const VECTORS: usize, const AHEAD: bool>(tile: &Tile<'_>) {
    // Plain loops over constant bounds: all of them unroll, or the accumulators would live in memory.
    // SAFETY: the caller's; partial loads and stores end with the channels.
    unsafe {
        let part = |j: usize| tile.channels.saturating_sub(V::LANES * j).min(V::LANES);
        let mut acc = [[V::splat(0.0); VECTORS]; ROWS];
        match tile.bias {
            Some(bias) => {
                for j in 0..VECTORS {
                    let bias = V::load(bias.add(V::LANES * j));
                    for acc in &mut acc {
                        acc[j] = bias;
                    }
                }
            }
            None => {
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (j, acc) in acc.iter_mut().enumerate() {
                        *acc = V::load_part(tile.out.add(r * tile.ldo + V::LANES * j), part(j));
                    }
                }
            }
        }
        let (taps, depth) = tile.walk;
        // Results and residuals are touched behind the walk: their lines are fetched while it runs.
        for r in 0..ROWS {
            for j in 0..VECTORS {
                let at = r * tile.ldo + V::LANES * j;
                _mm_prefetch::<_MM_HINT_ET0>(tile.out.wrapping_add(at).cast());
                if let Some(End { residual, .. }) = tile.end
                    && !residual.is_null()
                {
                    _mm_prefetch::<_MM_HINT_T0>(residual.wrapping_add(at).cast());
                }
            }
        }
        let mut weights = tile.weights;
        let (mut ahead, step) = tile.ahead;
        for tap in 0..taps {
            let mut rows = [std::ptr::null::<f32>(); ROWS];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = match tile.offsets {
                    None => tile.a.add(r * tile.lda),
                    Some(offsets) => match *offsets.get_unchecked(r * tile.taps + tap) {
                        PAD => tile.pad_row,
                        offset => tile.a.add(offset as usize),
                    },
                };
            }
            for k in 0..depth {
                let mut w = [V::splat(0.0); VECTORS];
                for (j, w) in w.iter_mut().enumerate() {
                    *w = V::load(weights.add(V::LANES * j));
                }
                for (acc, row) in acc.iter_mut().zip(rows) {
                    let x = V::splat(*row.add(k));
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = acc.fma(x, w);
                    }
                }
                weights = weights.add(V::LANES * VECTORS);
                if AHEAD {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                    ahead = ahead.wrapping_byte_add(step);
                }
            }
        }
        if let Some(End { residual, lo, hi }) = tile.end {
            if !residual.is_null() {
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (j, acc) in acc.iter_mut().enumerate() {
                        let from = residual.add(r * tile.ldo + V::LANES * j);
                        *acc = acc.add(V::load_part(from, part(j)));
                    }
                }
            }
            let (lo, hi) = (V::splat(lo), V::splat(hi));
            for acc in &mut acc {
                for acc in acc.iter_mut() {
                    *acc = acc.clamp(lo, hi);
                }
            }
        }
        if tile.channels == V::LANES * VECTORS {
            for (r, acc) in acc.iter().enumerate() {
                for (j, acc) in acc.iter().enumerate() {
                    acc.store(tile.out.add(r * tile.ldo + V::LANES * j));
                }
            }
        } else {
            for (r, acc) in acc.iter().enumerate() {
                for (j, acc) in acc.iter().enumerate() {
                    acc.store_part(tile.out.add(r * tile.ldo + V::LANES * j), part(j));
                }
            }
        }
    }
}

/// # Safety
/// As [`multiply`], on a machine with these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
unsafe fn sixteen<const ROWS: usize, const VECTORS: usize, const AHEAD: bool>(tile: &Tile<'_>) {
    // SAFETY: the caller's.
    unsafe { multiply::<__m512, ROWS, VECTORS, AHEAD>(tile) }
}

/// # Safety
/// As [`multiply`], on a machine with these instructions.
#[target_feature(enable = "avx2,fma")]
unsafe fn eight<const ROWS: usize, const VECTORS: usize, const AHEAD: bool>(tile: &Tile<'_>) {
    // SAFETY: the caller's.
    unsafe { multiply::<__m256, ROWS, VECTORS, AHEAD>(tile) }
}

/// The tile functions for blocks of `vectors`, by height − 1; those that fetch weights `ahead`, or others.
fn tiles(width: Width, vectors: usize, ahead: bool) -> &'static [TileFn] {
    macro_rules! heights {
        ($f:ident $vectors:literal: $($rows:literal)*) => {
            if ahead { &[$($f::<$rows, $vectors, true>),*] } else { &[$($f::<$rows, $vectors, false>),*] }
        };
    }
    match (width, vectors) {
        (Width::Sixteen, 4) => heights!(sixteen 4: 1 2 3 4 5 6),
        (Width::Sixteen, 3) => heights!(sixteen 3: 1 2 3 4 5 6 7 8),
        (Width::Sixteen, 2) => heights!(sixteen 2: 1 2 3 4 5 6 7 8 9 10 11 12),
        (Width::Sixteen, _) => heights!(sixteen 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (_, 2) => heights!(eight 2: 1 2 3 4 5 6),
        _ => heights!(eight 1: 1 2 3 4 5 6 7 8 9 10),
    }
}

/// Some rows times some blocks of channels.
pub(super) struct Task<'a> {
    pub a: &'a [f32],
    /// All rows, of which `share` says which.
    pub rows: FloatRows<'a>,
    pub share: Share,
    /// Where channel 0 of row 0 goes; rows are `ldo` apart.
    pub out: *mut f32,
    pub ldo: usize,
    /// Laid out as `out`.
    pub residual: Option<&'a [f32]>,
    /// What outputs are limited to.
    pub range: (f32, f32),
}

/// Does a task.
///
/// # Safety
/// The machine has the instructions of the panels' width; each row and tap of the share lies in `a` (or is the padding
/// row); its rows of its channels can be written at `out` and read from `residual`.
pub(super) unsafe fn run(panels: &Panels, task: &Task<'_>) {
    let Task { a, rows, ref share, out, ldo, residual, range: (lo, hi) } = *task;
    let (taps, k, m) = (panels.taps, panels.k, share.rows.len());
    let row_bytes = match rows {
        FloatRows::Strided(lda) => lda * 4,
        // Neighbouring windows share most of their inputs.
        FloatRows::Indirect { .. } => k * 4,
    };
    let is_resident = panels.weights.len() * size_of::<f32>() <= RESIDENT_BYTES;
    // Over many rows the time to read the weights is small, and fetching ahead not free.
    let is_ahead = !is_resident && m <= 512;
    let least = if is_resident { 96 } else { 512 };
    // Chunks of one size: a small rest would read all weights for a few rows.
    let chunks = m.div_ceil((ROW_BYTES / (row_bytes + ldo * 4)).clamp(least, 8192)).max(1);
    let chunk = m.div_ceil(chunks).max(1);
    for chunk_first in share.rows.clone().step_by(chunk) {
        let chunk_rows = chunk.min(share.rows.end - chunk_first);
        for block in &panels.blocks[share.blocks.clone()] {
            let tiles = tiles(panels.width, block.vectors, is_ahead);
            let lanes = block.vectors * if panels.width == Width::Sixteen { 16 } else { 8 };
            for part in Parts::new(taps, k, lanes * 4) {
                let mut ahead = Ahead::behind(block.weights + (part.tap * k + part.k) * lanes, &part, lanes);
                for_each_tile(chunk_rows, tiles.len(), |first, height| {
                    let first = chunk_first + first;
                    let (from, lda, offsets, pad_row) = match rows {
                        FloatRows::Strided(lda) => (a[first * lda..].as_ptr(), lda, None, std::ptr::null()),
                        FloatRows::Indirect { offsets, pad_row } => {
                            (a.as_ptr(), 0, Some(&offsets[first * taps + part.tap..]), pad_row.as_ptr())
                        }
                    };
                    let at = first * ldo + block.first;
                    let start = block.weights + (part.tap * k + part.k) * lanes;
                    // SAFETY: the part's inputs, row `first` and channel `block.first` are within what the caller
                    // lets us read and write.
                    let (from, pad_row, out) = unsafe {
                        let pad_row = if offsets.is_some() { pad_row.add(part.k) } else { pad_row };
                        (from.add(part.k), pad_row, out.add(at))
                    };
                    let residual = residual.map_or(std::ptr::null(), |r| r[at..].as_ptr());
                    let is_last = part.tap + part.taps == taps && part.k + part.depth == k;
                    let tile = Tile {
                        a: from,
                        lda,
                        offsets,
                        taps,
                        pad_row,
                        walk: (part.taps, part.depth),
                        weights: panels.weights[start..].as_ptr(),
                        bias: (part.tap == 0 && part.k == 0).then(|| panels.bias[block.bias..].as_ptr()),
                        end: is_last.then_some(End { residual, lo, hi }),
                        out,
                        ldo,
                        channels: block.channels,
                        ahead: ahead.next(&panels.weights, part.taps * part.depth),
                    };
                    // SAFETY: the tile's rows and channels are within the caller's.
                    unsafe { tiles[height - 1](&tile) }
                });
            }
        }
    }
}

/// Fetches the next part's weights into the second-level cache while tiles pass over this one. Large networks
/// read each weight from memory or the third-level cache in every inference; without this, products wait for it.
struct Ahead {
    /// Next float to fetch, and the end.
    at: usize,
    end: usize,
}

impl Ahead {
    /// Bytes that one step of a tile's walk fetches: half a line, so that a few tiles fetch a part.
    const STEP: usize = 32;

    /// What lies behind the weights of `part`, which start at `start`: as much again.
    fn behind(start: usize, part: &Part, lanes: usize) -> Ahead {
        let len = part.taps * part.depth * lanes;
        Ahead { at: start + len, end: start + 2 * len }
    }

    /// Where a tile of `steps` steps starts to fetch, and the bytes between its fetches.
    fn next(&mut self, weights: &[f32], steps: usize) -> (*const f32, usize) {
        let at = self.at;
        self.at += steps * Ahead::STEP / size_of::<f32>();
        let step = if at < self.end.min(weights.len()) { Ahead::STEP } else { 0 };
        (weights.as_ptr().wrapping_add(at.min(weights.len())), step)
    }
}

/// A range of the walk over taps and inputs: several whole taps, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    tap: usize,
    taps: usize,
    k: usize,
    depth: usize,
}

/// The parts of a walk in order, each of at most [`WEIGHT_BYTES`].
struct Parts {
    taps: usize,
    k: usize,
    taps_step: usize,
    k_step: usize,
    at: (usize, usize),
}

impl Parts {
    /// For weights of `row_bytes` for each tap and input.
    fn new(taps: usize, k: usize, row_bytes: usize) -> Parts {
        let tap_bytes = k * row_bytes;
        let cuts = tap_bytes.div_ceil(WEIGHT_BYTES);
        Parts { taps, k, taps_step: (WEIGHT_BYTES / tap_bytes).max(1), k_step: k.div_ceil(cuts), at: (0, 0) }
    }
}

impl Iterator for Parts {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let (tap, k) = self.at;
        if tap >= self.taps {
            return None;
        }
        let part =
            Part { tap, taps: self.taps_step.min(self.taps - tap), k, depth: self.k_step.min(self.k - k) };
        self.at = if k + part.depth < self.k { (tap, k + part.depth) } else { (tap + part.taps, 0) };
        Some(part)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn parts_walk_all_taps_and_inputs_in_order() {
        for (taps, k, row_bytes) in
            [(1, 64, 256), (9, 64, 256), (9, 512, 256), (1, 5000, 256), (3, 7, 32), (1, 1, 64)]
        {
            let mut walked = vec![];
            for part in Parts::new(taps, k, row_bytes) {
                assert!(part.taps == 1 || part.depth == k, "{part:?}");
                assert!(part.taps * part.depth * row_bytes <= WEIGHT_BYTES, "{part:?}");
                for tap in part.tap..part.tap + part.taps {
                    walked.extend((part.k..part.k + part.depth).map(|k| (tap, k)));
                }
            }
            let all: Vec<_> = (0..taps).flat_map(|tap| (0..k).map(move |k| (tap, k))).collect();
            assert_eq!(walked, all);
        }
    }
}
