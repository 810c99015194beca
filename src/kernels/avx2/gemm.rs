//! Products. `vpmaddubsw` sums the products of two inputs in 16 bits, `vpmaddwd` by ones two such sums in 32: two
//! multiplications for 32 products, where the same number of `vpmaddwd` on widened bytes would need as many and
//! twice the additions. Packing sees to it that no sum can saturate ([`pairs`](super::pairs)).
//!
//! A tile of 5 rows × 2 vectors keeps 10 of the 16 registers as accumulators; the others hold ones, a selector,
//! weights, the selected inputs of a row, and products.

use std::arch::x86_64::*;

use super::super::gemm::{Store, Task};
use super::super::offsets::PAD;
use super::super::scalar::Rows;
use super::super::tiles::{Target, for_each_tile};
use super::panels::{Panels, Step};
use super::{Bytes, LANES};

/// Input bytes that should stay in the first-level cache while all blocks of weights pass over them.
const CHUNK_BYTES: usize = 16 * 1024;

/// One tile: a few rows times one block of channels.
struct Tile<'a> {
    a: *const u8,
    lda: usize,
    /// `[row][tap]`, if rows don't lie at even distances.
    offsets: Option<&'a [i32]>,
    pad_row: *const u8,
    counts: &'a [u32],
    steps: *const Step,
    weights: *const i8,
    bias: *const i32,
    target: Target,
}

/// Multiplies one tile; its height is fixed by the function.
type TileFn = unsafe fn(&Tile<'_>);

/// Does a task.
///
/// # Safety
/// The machine has the tier's instructions and `panels` were packed for the store; each row and tap of the rows lies in
/// `a` (or is the padding row) with 15 readable bytes after its `k`; the blocks exist, and the rows of their channels can
/// be written.
pub(in super::super) unsafe fn run(panels: &Panels, task: &Task<'_>) {
    let Task { store, a, rows, m, ref blocks, out, ldo, .. } = *task;
    let row_bytes = match rows {
        Rows::Strided(lda) => lda,
        // Neighbouring windows share most of their bytes.
        Rows::Indirect { .. } => panels.k * panels.taps.min(4),
    };
    // Chunks of one size: a small rest would read all weights for a few rows.
    let chunks = m.div_ceil((CHUNK_BYTES / row_bytes).clamp(48, 4096)).max(1);
    let chunk = m.div_ceil(chunks).max(1);
    for chunk_first in (0..m).step_by(chunk) {
        let chunk_rows = chunk.min(m - chunk_first);
        for block in &panels.blocks[blocks.clone()] {
            let tiles = tiles(block.vectors);
            let target = Target {
                // SAFETY: row `chunk_first` and channel `block.first` are within what the caller lets us write.
                out: unsafe { out.add((chunk_first * ldo + block.first) * store.element()) },
                ldo,
                channels: block.channels,
                factors: panels.factors[block.lanes..].as_ptr(),
                store,
            };
            for_each_tile(chunk_rows, tiles.len(), |first, height| {
                // SAFETY: the row is within the chunk.
                let target = unsafe { target.at_row(first) };
                let first = chunk_first + first;
                let (a, lda, offsets, pad_row) = match rows {
                    Rows::Strided(lda) => (a[first * lda..].as_ptr(), lda, None, std::ptr::null()),
                    Rows::Indirect { windows, pad_row } => {
                        (a.as_ptr(), 0, Some(&windows.values[first * panels.taps..]), pad_row.as_ptr())
                    }
                };
                let tile = Tile {
                    a,
                    lda,
                    offsets,
                    pad_row,
                    counts: &block.counts,
                    steps: panels.steps[block.steps..].as_ptr(),
                    weights: panels.weights[block.weights..].as_ptr(),
                    bias: panels.bias[block.lanes..].as_ptr(),
                    target,
                };
                // SAFETY: the tile's rows and channels are within the caller's; the steps, weights, biases and
                // factors of the block follow the pointers.
                unsafe { tiles[height - 1](&tile) }
            });
        }
    }
}

/// The tile functions for blocks of `vectors` vectors, by height − 1.
fn tiles(vectors: usize) -> &'static [TileFn] {
    macro_rules! heights {
        ($vectors:literal: $($rows:literal)*) => { &[$(multiply::<$rows, $vectors>),*] };
    }
    match vectors {
        2 => heights!(2: 1 2 3 4 5),
        _ => heights!(1: 1 2 3 4 5 6 7 8),
    }
}

/// # Safety
/// As [`run`], for the rows and channels of this tile.
#[target_feature(enable = "avx2")]
unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(tile: &Tile<'_>) {
    // SAFETY: weights, biases and factors are packed for `VECTORS` vectors at each step; a step reads 16 bytes of a row
    // from an input on, so at most 15 beyond it; rows can be written up to `channels`.
    unsafe {
        let mut acc = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        for j in 0..VECTORS {
            let bias = _mm256_load_si256(tile.bias.add(LANES * j).cast());
            for acc in &mut acc {
                acc[j] = bias;
            }
        }
        let ones = _mm256_set1_epi16(1);
        let (mut weights, mut step) = (tile.weights, tile.steps);
        for (tap, &count) in tile.counts.iter().enumerate() {
            let mut rows = [std::ptr::null::<u8>(); ROWS];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = match tile.offsets {
                    None => tile.a.add(r * tile.lda),
                    Some(offsets) => match *offsets.get_unchecked(r * tile.counts.len() + tap) {
                        PAD => tile.pad_row,
                        offset => tile.a.add(offset as usize),
                    },
                };
            }
            for _ in 0..count {
                let at = (*step).at as usize;
                let select = _mm256_set1_epi32(i32::from_ne_bytes((*step).select));
                for (acc, row) in acc.iter_mut().zip(rows) {
                    let sixteen = _mm256_broadcastsi128_si256(_mm_loadu_si128(row.add(at).cast()));
                    let x = _mm256_shuffle_epi8(sixteen, select);
                    for (j, acc) in acc.iter_mut().enumerate() {
                        let w = _mm256_load_si256(weights.add(32 * j).cast());
                        let sums = _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones);
                        *acc = _mm256_add_epi32(*acc, sums);
                    }
                }
                weights = weights.add(32 * VECTORS);
                step = step.add(1);
            }
        }
        // A copy: what is borrowed lies in memory, and every step would store its sums there.
        let sums = acc;
        finish::<false, ROWS, VECTORS>(&tile.target, &sums);
    }
}

/// Scales a tile's sums, and stores them as `target` says. `VNNI` gives each caller a copy of its own: one that is called
/// from a single place becomes a part of it, and the sums reach it in registers.
///
/// # Safety
/// The machine has AVX2; `target` holds factors and room for the rows and channels.
#[inline]
#[target_feature(enable = "avx2")]
pub(in super::super) unsafe fn finish<const VNNI: bool, const ROWS: usize, const VECTORS: usize>(
    target: &Target,
    acc: &[[__m256i; VECTORS]; ROWS],
) {
    // SAFETY: the caller's.
    unsafe {
        match target.store {
            Store::U8 { zero_point, lo, hi } => {
                let bytes = Bytes::new(zero_point, lo, hi);
                let out = |r: usize| target.out.add(r * target.ldo);
                let paired = if VECTORS == 2 { ROWS / 2 * 2 } else { 0 };
                for r in (0..paired).step_by(2) {
                    let last = VECTORS - 1;
                    let two = [[acc[r][0], acc[r][last]], [acc[r + 1][0], acc[r + 1][last]]];
                    bytes.store_two(two, target.factors, [out(r), out(r + 1)], target.channels);
                }
                for (r, acc) in acc.iter().enumerate().skip(paired) {
                    bytes.store(acc, target.factors, out(r), target.channels);
                }
            }
            Store::F32 => {
                for (r, acc) in acc.iter().enumerate() {
                    let out = target.out.cast::<f32>().add(r * target.ldo);
                    for (j, &acc) in acc.iter().enumerate() {
                        let scale = _mm256_load_ps(target.factors.add(LANES * j));
                        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), scale);
                        let rest = target.channels - LANES * j;
                        if rest >= LANES {
                            _mm256_storeu_ps(out.add(LANES * j), scaled);
                            continue;
                        }
                        let mut some = [0f32; LANES];
                        _mm256_storeu_ps(some.as_mut_ptr(), scaled);
                        out.add(LANES * j).copy_from_nonoverlapping(some.as_ptr(), rest);
                    }
                }
            }
        }
    }
}
