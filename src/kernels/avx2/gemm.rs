//! Products: tiles of 4 rows × 2 vectors. Of the 16 registers 8 are accumulators, 2 hold weights, and the
//! rest the input bytes of a row and the sums of pairs.

use std::arch::x86_64::*;

use super::super::gemm::Store;
use super::super::layout::{Panels, Scheme};
use super::super::scalar::Rows;
use super::super::tiles::{Tile, TileFn, run_tiles};
use super::{Bytes, LANES};

/// Layout for byte stores.
pub(in super::super) const SCHEME_U8: Scheme =
    Scheme { lanes: LANES, split, interleave: true, sixteen_bit_pairs: true };

/// Layout for f32 stores.
pub(in super::super) const SCHEME_F32: Scheme =
    Scheme { lanes: LANES, split, interleave: false, sixteen_bit_pairs: true };

/// Blocks of 2 vectors, and one for what is left.
fn split(vectors: usize) -> Vec<usize> {
    let mut blocks = vec![2; vectors / 2];
    blocks.resize(vectors.div_ceil(2), 1);
    blocks
}

/// Multiplies `m` rows and stores them at `out`, rows `ldo` elements (of u8 or f32, as `store` says) apart.
///
/// # Safety
/// The machine has the tier's instructions and `panels` were packed with this file's scheme for `store`;
/// otherwise as [`run_tiles`].
pub(in super::super) unsafe fn run(
    panels: &Panels,
    store: Store,
    a: &[u8],
    rows: Rows<'_>,
    m: usize,
    out: *mut u8,
    ldo: usize,
) {
    // SAFETY: the caller's; `tiles` has functions for the blocks of `split`.
    unsafe { run_tiles(panels, store, a, rows, m, out, ldo, tiles) }
}

/// The tile functions for blocks of `vectors` vectors whose weights are bytes, or not, by height − 1.
fn tiles(vectors: usize, bytes: bool) -> &'static [TileFn] {
    macro_rules! heights {
        ($vectors:literal, $bytes:literal: $($rows:literal)*) => {
            &[$(multiply::<$rows, $vectors, $bytes>),*]
        };
    }
    match (vectors, bytes) {
        (2, true) => heights!(2, true: 1 2 3 4),
        (2, false) => heights!(2, false: 1 2 3 4),
        (_, true) => heights!(1, true: 1 2 3 4 5 6 7 8),
        (_, false) => heights!(1, false: 1 2 3 4 5 6 7 8),
    }
}

/// # Safety
/// As [`run`], for the rows and channels of this tile.
#[target_feature(enable = "avx2")]
unsafe fn multiply<const ROWS: usize, const VECTORS: usize, const BYTES: bool>(tile: &Tile<'_>) {
    // SAFETY: weights, biases and factors are packed for `VECTORS` vectors at each of `taps · depth / 4` steps;
    // rows can be read up to `depth` and written up to `channels`.
    unsafe {
        let mut acc = [[_mm256_setzero_si256(); VECTORS]; ROWS];
        for j in 0..VECTORS {
            let bias = _mm256_load_si256(tile.bias.add(LANES * j).cast());
            for acc in &mut acc {
                acc[j] = bias;
            }
        }
        let ones = _mm256_set1_epi16(1);
        let even_bytes = _mm256_set1_epi16(0xFF);
        let mut weights = tile.weights;
        for tap in 0..tile.taps {
            let mut rows = [std::ptr::null::<u8>(); ROWS];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = tile.row(r, tap);
            }
            let mut k = 0;
            while k < tile.depth {
                for (acc, row) in acc.iter_mut().zip(rows) {
                    let x = _mm256_set1_epi32(row.add(k).cast::<i32>().read_unaligned());
                    for (j, acc) in acc.iter_mut().enumerate() {
                        let sums = if BYTES {
                            let w = _mm256_load_si256(weights.add(32 * j).cast());
                            _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones)
                        } else {
                            let even = _mm256_load_si256(weights.add(64 * j).cast());
                            let odd = _mm256_load_si256(weights.add(64 * j + 32).cast());
                            let (x_even, x_odd) =
                                (_mm256_and_si256(x, even_bytes), _mm256_srli_epi16::<8>(x));
                            _mm256_add_epi32(_mm256_madd_epi16(x_even, even), _mm256_madd_epi16(x_odd, odd))
                        };
                        *acc = _mm256_add_epi32(*acc, sums);
                    }
                }
                weights = weights.add(VECTORS * if BYTES { 32 } else { 64 });
                k += 4;
            }
        }
        match tile.store {
            Store::U8 { zero_point, lo, hi } => {
                let bytes = Bytes::new(zero_point, lo, hi);
                for (r, acc) in acc.iter().enumerate() {
                    bytes.store(acc, tile.factors, tile.out.add(r * tile.ldo), tile.channels);
                }
            }
            Store::F32 => {
                for (r, acc) in acc.iter().enumerate() {
                    let out = tile.out.cast::<f32>().add(r * tile.ldo);
                    for (j, &acc) in acc.iter().enumerate() {
                        let scale = _mm256_load_ps(tile.factors.add(LANES * j));
                        let mut scaled = [0f32; LANES];
                        _mm256_storeu_ps(scaled.as_mut_ptr(), _mm256_mul_ps(_mm256_cvtepi32_ps(acc), scale));
                        let rest = (tile.channels - LANES * j).min(LANES);
                        out.add(LANES * j).copy_from_nonoverlapping(scaled.as_ptr(), rest);
                    }
                }
            }
        }
    }
}
