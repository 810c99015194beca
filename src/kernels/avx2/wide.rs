//! Products of two activations: bytes as 16-bit numbers, with the zero points taken out, of which `vpmaddwd` multiplies
//! and adds two.
//!
//! `vpmaddubsw` would do twice as many, but only of weights for which packing has found partners that can't saturate
//! together, and that search takes longer than a product that is made once.

use std::arch::x86_64::*;

use super::super::buffer::Aligned;
use super::LANES;

/// Vectors of a block of columns.
const VECTORS: usize = 2;
/// Columns of a block.
const COLUMNS: usize = VECTORS * LANES;
/// Rows of a tile: with two vectors each, 12 of the 16 registers accumulate.
const ROWS: usize = 6;

/// A right operand of `n` columns and `k` rows, and what is multiplied by it.
#[derive(Debug)]
pub(in super::super) struct Wide {
    n: usize,
    k: usize,
    /// `b − 128`, `[block][pair of rows][column]`, two rows in each.
    right: Aligned<i32>,
    left_zero_point: u8,
    factor: f32,
    /// `a − zero point`, `[row][pair]`.
    left: Aligned<i32>,
}

/// Two 16-bit numbers in one.
#[inline(always)]
fn pair(first: i16, second: i16) -> i32 {
    (i32::from(second) << 16) | i32::from(first as u16)
}

#[inline(always)]
fn signed(byte: u8) -> i16 {
    i16::from(byte) - 128
}

impl Wide {
    pub(in super::super) fn new(n: usize, k: usize) -> Wide {
        let right = Aligned::zeros(n.next_multiple_of(COLUMNS) * k.div_ceil(2));
        Wide { n, k, right, left_zero_point: 0, factor: 1.0, left: Aligned::zeros(0) }
    }

    /// Takes the bytes `b`, `steps` from one column to the next and from one row to the next.
    ///
    /// # Panics
    /// There are too few bytes.
    #[inline(always)]
    pub(in super::super) fn fill(&mut self, b: &[u8], steps: [usize; 2], left_zero_point: u8, factor: f32) {
        let Wide { n, k, .. } = *self;
        let pairs = k.div_ceil(2);
        (self.left_zero_point, self.factor) = (left_zero_point, factor);
        for (block, right) in self.right.chunks_exact_mut(COLUMNS * pairs).enumerate() {
            let columns = COLUMNS.min(n - block * COLUMNS);
            if steps[0] == 1 {
                for (p, right) in right.chunks_exact_mut(COLUMNS).enumerate() {
                    let row = |i: usize| &b[i * steps[1] + block * COLUMNS..][..columns];
                    let first = row(2 * p);
                    if 2 * p + 1 < k {
                        for ((to, a), b) in right.iter_mut().zip(first).zip(row(2 * p + 1)) {
                            *to = pair(signed(*a), signed(*b));
                        }
                    } else {
                        right.iter_mut().zip(first).for_each(|(to, a)| *to = pair(signed(*a), 0));
                    }
                }
                continue;
            }
            for column in 0..columns {
                let b = &b[(block * COLUMNS + column) * steps[0]..];
                for p in 0..k / 2 {
                    let at = 2 * p * steps[1];
                    right[p * COLUMNS + column] = pair(signed(b[at]), signed(b[at + steps[1]]));
                }
                if !k.is_multiple_of(2) {
                    right[(pairs - 1) * COLUMNS + column] = pair(signed(b[(k - 1) * steps[1]]), 0);
                }
            }
        }
    }

    /// `out[m][n] = f32(Σ (a − zero point) · (b − 128)) · factor` for `m` rows of `a`, `lda` apart.
    ///
    /// # Panics
    /// `a` or `out` is too short.
    ///
    /// # Safety
    /// The machine has AVX2.
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn run(&mut self, a: &[u8], lda: usize, m: usize, out: &mut [f32]) {
        let Wide { n, k, .. } = *self;
        let pairs = k.div_ceil(2);
        let out = &mut out[..m * n];
        self.left.grow(m * pairs);
        let zero_point = i16::from(self.left_zero_point);
        for (row, left) in self.left.chunks_exact_mut(pairs).take(m).enumerate() {
            let (twos, rest) = a[row * lda..][..k].as_chunks::<2>();
            for (to, [first, second]) in left.iter_mut().zip(twos) {
                *to = pair(i16::from(*first) - zero_point, i16::from(*second) - zero_point);
            }
            if let ([last], Some(to)) = (rest, left.last_mut()) {
                *to = pair(i16::from(*last) - zero_point, 0);
            }
        }
        for (block, right) in self.right.chunks_exact(COLUMNS * pairs).enumerate() {
            let columns = COLUMNS.min(n - block * COLUMNS);
            for first in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - first);
                let tile = Tile {
                    left: self.left[first * pairs..].as_ptr(),
                    right: right.as_ptr(),
                    pairs,
                    factor: self.factor,
                    // SAFETY: the tile's first result is within `out`, which holds `m` rows of `n`.
                    out: unsafe { out.as_mut_ptr().add(first * n + block * COLUMNS) },
                    n,
                    columns,
                };
                // SAFETY: the machine has AVX2; the tile's rows, columns and results exist.
                unsafe {
                    match rows {
                        6 => tile.multiply::<6>(),
                        5 => tile.multiply::<5>(),
                        4 => tile.multiply::<4>(),
                        3 => tile.multiply::<3>(),
                        2 => tile.multiply::<2>(),
                        _ => tile.multiply::<1>(),
                    }
                }
            }
        }
    }
}

/// A few rows times one block of columns.
struct Tile {
    left: *const i32,
    right: *const i32,
    pairs: usize,
    factor: f32,
    out: *mut f32,
    n: usize,
    columns: usize,
}

impl Tile {
    /// # Safety
    /// The machine has AVX2; `left` has `HEIGHT` rows and `right` a block, of `pairs` pairs; `columns` results of as many
    /// rows, `n` apart, can be written at `out`.
    #[target_feature(enable = "avx2")]
    unsafe fn multiply<const HEIGHT: usize>(&self) {
        // SAFETY: the caller's.
        unsafe {
            let mut acc = [[_mm256_setzero_si256(); VECTORS]; HEIGHT];
            for p in 0..self.pairs {
                let right = self.right.add(p * COLUMNS);
                let w = [_mm256_load_si256(right.cast()), _mm256_load_si256(right.add(LANES).cast())];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm256_set1_epi32(*self.left.add(r * self.pairs + p));
                    for (acc, w) in acc.iter_mut().zip(w) {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, w));
                    }
                }
            }
            // A copy: what is borrowed lies in memory, and every step would store its sums there.
            let sums = acc;
            let factor = _mm256_set1_ps(self.factor);
            for (r, acc) in sums.iter().enumerate() {
                for (j, acc) in acc.iter().enumerate() {
                    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(*acc), factor);
                    let out = self.out.add(r * self.n + j * LANES);
                    let rest = self.columns.saturating_sub(j * LANES);
                    if rest >= LANES {
                        _mm256_storeu_ps(out, scaled);
                        continue;
                    }
                    let mut some = [0f32; LANES];
                    _mm256_storeu_ps(some.as_mut_ptr(), scaled);
                    out.copy_from_nonoverlapping(some.as_ptr(), rest);
                }
            }
        }
    }
}
