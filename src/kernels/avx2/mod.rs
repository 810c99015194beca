//! The AVX2 tier. There is no four-way dot product of bytes: products are summed in pairs, in 16 bits where packing
//! proves that they fit (`vpmaddubsw`), else from bytes widened to 16 bits (`vpmaddwd`).
#![allow(unsafe_code)]

mod depthwise;
mod gemm;
mod pairs;
mod panels;
mod rows;
mod table;
mod wide;

pub(super) use depthwise::Depthwise;
pub(super) use gemm::{finish, run};
pub(super) use panels::Panels;
pub(super) use table::lookup;
pub(super) use wide::Wide;

use std::arch::x86_64::*;

/// i32 lanes of a vector.
pub(super) const LANES: usize = 8;

/// The constants of a byte store, in every lane.
#[derive(Clone, Copy)]
struct Bytes {
    zero_point: __m256i,
    lo: __m256i,
    hi: __m256i,
}

impl Bytes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(zero_point: u8, lo: u8, hi: u8) -> Bytes {
        Bytes {
            zero_point: _mm256_set1_epi16(i16::from(zero_point)),
            lo: _mm256_set1_epi8(lo as i8),
            hi: _mm256_set1_epi8(hi as i8),
        }
    }

    /// `rne(f32(acc) · mult)`; the product is below 2³⁰ ([`results_fit_i32`](super::layout::Product)).
    #[inline]
    #[target_feature(enable = "avx2")]
    fn scale(acc: __m256i, mult: __m256) -> __m256i {
        _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), mult))
    }

    /// Two interleaved vectors of sums as words of their results.
    ///
    /// # Safety
    /// `mult` holds 2 vectors.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn words(&self, acc: [__m256i; 2], mult: *const f32) -> __m256i {
        // SAFETY: the caller's.
        let mult = unsafe { [_mm256_load_ps(mult), _mm256_load_ps(mult.add(LANES))] };
        let [first, second] = [Bytes::scale(acc[0], mult[0]), Bytes::scale(acc[1], mult[1])];
        _mm256_adds_epi16(_mm256_packs_epi32(first, second), self.zero_point)
    }

    /// As [`Bytes::store`] of 2 vectors, two rows at once.
    ///
    /// # Safety
    /// `mult` holds 2 vectors and `channels ≤ 16` bytes can be written at both of `out`.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store_two(&self, acc: [[__m256i; 2]; 2], mult: *const f32, out: [*mut u8; 2], channels: usize) {
        // SAFETY: the caller's; full stores only where all channels exist.
        unsafe {
            let [first, second] = [self.words(acc[0], mult), self.words(acc[1], mult)];
            // Quarters: those of the first row lie before and behind one of the second.
            let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(first, second));
            let bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, self.lo), self.hi);
            let bytes = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
            for (bytes, out) in bytes.into_iter().zip(out) {
                put(bytes, out, channels);
            }
        }
    }

    /// Requantizes one row of 1 or 2 vectors, two interleaved as
    /// [`channel_of`](super::layout::channel_of) says, and stores the first `channels` bytes.
    ///
    /// Saturation to i16 before the zero point is added loses nothing: what it cuts off is beyond u8 anyway.
    ///
    /// # Safety
    /// `mult` holds `VECTORS` vectors and `channels ≤ 8·VECTORS` bytes can be written at `out`.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store<const VECTORS: usize>(
        &self,
        acc: &[__m256i; VECTORS],
        mult: *const f32,
        out: *mut u8,
        channels: usize,
    ) {
        // SAFETY: vector `j` of `mult` exists for every `j < VECTORS`; a full store only where all channels
        // exist.
        unsafe {
            let (low, high) = if VECTORS == 2 {
                let words = self.words([acc[0], acc[VECTORS - 1]], mult);
                (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words))
            } else {
                let first = Bytes::scale(acc[0], _mm256_load_ps(mult));
                let halves = (_mm256_castsi256_si128(first), _mm256_extracti128_si256::<1>(first));
                let zero_point = _mm256_castsi256_si128(self.zero_point);
                (_mm_adds_epi16(_mm_packs_epi32(halves.0, halves.1), zero_point), _mm_setzero_si128())
            };
            let (lo, hi) = (_mm256_castsi256_si128(self.lo), _mm256_castsi256_si128(self.hi));
            put(_mm_min_epu8(_mm_max_epu8(_mm_packus_epi16(low, high), lo), hi), out, channels);
        }
    }
}

/// The first `channels` of 16 bytes.
///
/// # Safety
/// They can be written at `out`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn put(bytes: __m128i, out: *mut u8, channels: usize) {
    // SAFETY: the caller's.
    unsafe {
        match channels {
            16 => _mm_storeu_si128(out.cast(), bytes),
            8 => _mm_storel_epi64(out.cast(), bytes),
            _ => {
                let mut all = [0u8; 16];
                _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
                out.copy_from_nonoverlapping(all.as_ptr(), channels);
            }
        }
    }
}
