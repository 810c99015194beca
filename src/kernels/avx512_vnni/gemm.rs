//! Products: tiles of rows × vectors whose accumulators stay in registers.
//!
//! A tile of 6 rows × 4 vectors keeps 24 of the 32 registers as accumulators, four hold weights, one the
//! four input bytes of a row in every lane. Each loaded vector of weights is used once per row, each
//! input four bytes once per vector, so loads are well below the multiplications.

use std::arch::x86_64::*;

use super::super::gemm::Store;
use super::super::layout::{Panels, Scheme};
use super::super::scalar::Rows;
use super::super::tiles::{Tile, TileFn, run_tiles};
use super::{Bytes, LANES};

/// Layout for byte stores.
pub(in super::super) const SCHEME_U8: Scheme =
    Scheme { lanes: LANES, split, interleave: true, sixteen_bit_pairs: false };

/// Layout for f32 stores.
pub(in super::super) const SCHEME_F32: Scheme =
    Scheme { lanes: LANES, split, interleave: false, sixteen_bit_pairs: false };

/// Blocks of 4 vectors, and the rest in blocks of 3 and 2 rather than a single vector, whose tiles load
/// more than they multiply.
fn split(vectors: usize) -> Vec<usize> {
    let mut blocks = vec![];
    let mut left = vectors;
    while left > 0 {
        let block = match left {
            3 | 5 | 6 => 3,
            _ => left.min(4),
        };
        blocks.push(block);
        left -= block;
    }
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
    unsafe { run_tiles(panels, store, a, rows, m, out, ldo, |vectors, _| tiles(vectors)) }
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
                        let rest = (tile.channels - LANES * j).min(LANES);
                        let scale = _mm512_load_ps(tile.factors.add(LANES * j));
                        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
                        _mm512_mask_storeu_ps(out.add(LANES * j), ((1u32 << rest) - 1) as u16, scaled);
                    }
                }
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
