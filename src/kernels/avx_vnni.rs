//! The AVX-VNNI tier, for processors with the four-way dot product of bytes but no 512-bit vectors: products are its
//! own, everything else is the AVX2 tier's.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::avx2::{LANES, finish};
use super::gemm::{Store, Task};
use super::layout::{Panels, Scheme};
use super::tiles::{Tile, TileFn, run_tiles};

/// The layout that a store asks for.
pub(super) fn scheme(store: Store) -> &'static Scheme {
    const BYTES: Scheme = Scheme { lanes: LANES, depth: 4, split, interleave: true };
    const FLOATS: Scheme = Scheme { lanes: LANES, depth: 4, split, interleave: false };
    match store {
        Store::U8 { .. } => &BYTES,
        Store::F32 => &FLOATS,
    }
}

/// Blocks of 2 vectors, and a single one at an odd end.
fn split(vectors: usize) -> Vec<usize> {
    (0..vectors).step_by(2).map(|first| (vectors - first).min(2)).collect()
}

/// Does a task.
///
/// # Safety
/// The machine has the tier's instructions and `panels` were packed with this file's scheme for the store; otherwise as
/// [`run_tiles`].
pub(super) unsafe fn run(panels: &Panels, task: &Task<'_>) {
    // SAFETY: the caller's; `tiles` has functions for the blocks of `split`.
    unsafe { run_tiles(panels, task, tiles) }
}

/// The tile functions for blocks of `vectors`, by height − 1: 12 of the 16 registers accumulate.
fn tiles(vectors: usize) -> &'static [TileFn] {
    macro_rules! heights {
        ($vectors:literal: $($rows:literal)*) => { &[$(multiply::<$rows, $vectors>),*] };
    }
    match vectors {
        2 => heights!(2: 1 2 3 4 5 6),
        _ => heights!(1: 1 2 3 4 5 6 7 8 9 10 11 12),
    }
}

/// # Safety
/// As [`run`], for the rows and channels of this tile.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(tile: &Tile<'_>) {
    // SAFETY: weights and biases are packed for `VECTORS` vectors at each of `taps · depth / 4` steps; rows can be
    // read up to `depth` and written up to their channels.
    unsafe {
        let mut acc = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        for j in 0..VECTORS {
            let bias = _mm256_load_si256(tile.bias.add(LANES * j).cast());
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
                let mut w = [_mm256_setzero_si256(); VECTORS];
                for (j, w) in w.iter_mut().enumerate() {
                    *w = _mm256_load_si256(weights.add(32 * j).cast());
                }
                for (acc, row) in acc.iter_mut().zip(rows) {
                    let x = _mm256_set1_epi32(row.add(k).cast::<i32>().read_unaligned());
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = _mm256_dpbusd_avx_epi32(*acc, x, w);
                    }
                }
                weights = weights.add(32 * VECTORS);
                k += 4;
            }
        }
        // A copy: what is borrowed lies in memory, and every step would store its sums there.
        let sums = acc;
        finish::<true, ROWS, VECTORS>(&tile.target, &sums);
    }
}
