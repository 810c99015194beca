//! Products: tiles of rows × vectors whose accumulators stay in registers.
//!
//! A tile of 6 rows × 4 vectors keeps 24 of the 32 registers as accumulators, four hold weights, one the
//! four input bytes of a row in every lane. Each loaded vector of weights is used once per row, each
//! input four bytes once per vector, so loads are well below the multiplications.

use std::arch::x86_64::*;

use super::super::gemm::{Store, Task};
use super::super::layout::{Panels, Scheme};
use super::super::tiles::{Target, Tile, TileFn, run_tiles};
use super::{Addend, Bytes, LANES, Sum};

/// Layout for byte stores.
const SCHEME_U8: Scheme = Scheme { lanes: LANES, depth: 4, split, interleave: true };

/// Layout for f32 stores.
const SCHEME_F32: Scheme = Scheme { lanes: LANES, depth: 4, split, interleave: false };

/// The layout that a store asks for.
pub(in super::super) fn scheme(store: Store) -> &'static Scheme {
    match store {
        Store::U8 { .. } => &SCHEME_U8,
        Store::F32 => &SCHEME_F32,
    }
}

/// Blocks of 4 vectors, whose stores are the cheapest; the rest in blocks of 2 or 3 where it can be, as tiles
/// of a single vector load more than they multiply.
fn split(vectors: usize) -> Vec<usize> {
    let mut blocks = vec![];
    let mut left = vectors;
    while left > 0 {
        let block = if left == 5 { 3 } else { left.min(4) };
        blocks.push(block);
        left -= block;
    }
    blocks
}

/// Does a task.
///
/// # Safety
/// The machine has the tier's instructions and `panels` were packed with this file's scheme for the store;
/// otherwise as [`run_tiles`].
pub(in super::super) unsafe fn run(panels: &Panels, task: &Task<'_>) {
    // SAFETY: the caller's; `tiles` has functions for the blocks of `split`.
    unsafe { run_tiles(panels, task, tiles) }
}

/// The tile functions for blocks of `vectors`, by height − 1.
fn tiles(vectors: usize) -> &'static [TileFn] {
    macro_rules! heights {
        ($vectors:literal: $($rows:literal)*) => { &[$(multiply::<$rows, $vectors>),*] };
    }
    match vectors {
        4 => heights!(4: 1 2 3 4 5 6),
        3 => heights!(3: 1 2 3 4 5 6 7 8),
        2 => heights!(2: 1 2 3 4 5 6 7 8 9 10 11 12),
        _ => heights!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    }
}

/// # Safety
/// As [`run`], for the rows and channels of this tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(tile: &Tile<'_>) {
    // SAFETY: weights, biases and factors are packed for `VECTORS` vectors at each of `taps · depth / 4` steps;
    // rows can be read up to `depth` and written up to `channels`.
    unsafe {
        let mut acc = [[_mm512_setzero_si512(); VECTORS]; ROWS];
        for j in 0..VECTORS {
            let bias = _mm512_load_si512(tile.bias.add(LANES * j).cast());
            for acc in &mut acc {
                acc[j] = bias;
            }
        }
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut rows = [std::ptr::null::<u8>(); ROWS];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = tile.row(r, tap);
            }
            let mut k = 0;
            while k < tile.depth {
                let mut w = [_mm512_setzero_si512(); VECTORS];
                for (j, w) in w.iter_mut().enumerate() {
                    *w = _mm512_load_si512(weights.add(64 * j).cast());
                }
                for (acc, row) in acc.iter_mut().zip(rows) {
                    let x = _mm512_set1_epi32(row.add(k).cast::<i32>().read_unaligned());
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = _mm512_dpbusd_epi32(*acc, x, w);
                    }
                }
                weights = weights.add(64 * VECTORS);
                k += 4;
            }
        }
        // A copy: what is borrowed lies in memory, and every step would store its sums there.
        let sums = acc;
        finish::<false, ROWS, VECTORS>(&tile.target, &sums);
    }
}

/// Scales a tile's sums, and stores them as `target` says. `AMX` gives each caller a copy of its own: one that is called
/// from a single place becomes a part of it, and the sums reach it in registers.
///
/// # Safety
/// The machine has the tier's instructions; `target` holds factors and room for the rows and channels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(in super::super) unsafe fn finish<const AMX: bool, const ROWS: usize, const VECTORS: usize>(
    target: &Target,
    acc: &[[__m512i; VECTORS]; ROWS],
) {
    // SAFETY: the caller's; a masked store ends with the last channel.
    unsafe {
        match target.store {
            Store::U8 { zero_point, lo, hi } => {
                store::<AMX, false, ROWS, VECTORS>(target, acc, &Bytes::new(zero_point, lo, hi), None);
            }
            Store::F32 => {
                for (r, acc) in acc.iter().enumerate() {
                    let out = target.out.cast::<f32>().add(r * target.ldo);
                    for (j, &acc) in acc.iter().enumerate() {
                        let rest = (target.channels - LANES * j).min(LANES);
                        let scale = _mm512_load_ps(target.factors.add(LANES * j));
                        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
                        _mm512_mask_storeu_ps(out.add(LANES * j), ((1u32 << rest) - 1) as u16, scaled);
                    }
                }
            }
        }
    }
}

/// As [`finish`] of bytes, with the addend. Not one function with that: between them, the sums of its callers would have
/// to leave the registers.
///
/// # Safety
/// As [`finish`]; the addend is the task's.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(in super::super) unsafe fn finish_sum<const ROWS: usize, const VECTORS: usize>(
    target: &Target,
    acc: &[[__m512i; VECTORS]; ROWS],
    addend: &Addend,
) {
    if let Store::U8 { zero_point, lo, hi } = target.store {
        let (bytes, sum) = (Bytes::new(zero_point, lo, hi), Sum::new(addend));
        // SAFETY: the caller's.
        unsafe { store::<true, true, ROWS, VECTORS>(target, acc, &bytes, Some(&sum)) }
    }
}

/// Requantizes a tile: vectors by fours within a row, by twos from two rows, the last one from four rows. Where
/// there is no further row, the last one is stored again. A copy for each caller, as of [`finish`].
///
/// # Safety
/// As [`finish`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn store<const AMX: bool, const ADDS: bool, const ROWS: usize, const VECTORS: usize>(
    target: &Target,
    acc: &[[__m512i; VECTORS]; ROWS],
    bytes: &Bytes,
    sum: Option<&Sum<'_>>,
) {
    let last = VECTORS - 1;
    let row = |r: usize| r.min(ROWS - 1);
    // SAFETY: all rows are the tile's; vector `j` covers the channels from `16·j` on, and the last vector has one.
    unsafe {
        let out = |r: usize| target.out.add(row(r) * target.ldo);
        if VECTORS == 4 {
            for (r, acc) in acc.iter().enumerate() {
                bytes.store(
                    sum,
                    &[acc[0], acc[1], acc[2], acc[last]],
                    target.factors,
                    out(r),
                    target.channels,
                );
            }
        }
        if VECTORS == 2 || VECTORS == 3 {
            for r in (0..ROWS).step_by(2) {
                let acc = [0, 1].map(|i| [acc[row(r + i)][0], acc[row(r + i)][1]]);
                bytes.store_two(sum, acc, target.factors, [out(r), out(r + 1)], target.channels);
            }
        }
        if VECTORS == 1 || VECTORS == 3 {
            let factors = target.factors.add(LANES * last);
            let channels = target.channels - LANES * last;
            for r in (0..ROWS).step_by(4) {
                let acc = [0, 1, 2, 3].map(|i| acc[row(r + i)][last]);
                let out = [0, 1, 2, 3].map(|i| out(r + i).add(LANES * last));
                bytes.store_four(sum, acc, factors, out, channels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_avoid_single_vectors() {
        for vectors in 1..100 {
            let blocks = split(vectors);
            assert_eq!(blocks.iter().sum::<usize>(), vectors);
            assert!(
                vectors == 1 || blocks.iter().all(|&block| (2..=4).contains(&block)),
                "{vectors}: {blocks:?}"
            );
        }
    }
}
