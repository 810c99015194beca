//! The AVX2 tier. There is no four-way dot product of bytes: products are summed in pairs, in 16 bits where packing
//! proves that they fit (`vpmaddubsw`), else from bytes widened to 16 bits (`vpmaddwd`).
#![allow(unsafe_code)]

mod depthwise;
mod gemm;
mod pairs;
mod panels;
mod rows;
mod table;

pub(super) use depthwise::Depthwise;
pub(super) use gemm::{finish, run};
pub(super) use panels::Panels;
pub(super) use table::lookup;

use std::arch::x86_64::*;

/// i32 lanes of a vector.
pub(super) const LANES: usize = 8;

/// The constants of a byte store, in every lane.
#[derive(Clone, Copy)]
struct Bytes {
    zero_point: __m256i,
    lo: __m128i,
    hi: __m128i,
}

impl Bytes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(zero_point: u8, lo: u8, hi: u8) -> Bytes {
        Bytes {
            zero_point: _mm256_set1_epi16(i16::from(zero_point)),
            lo: _mm_set1_epi8(lo as i8),
            hi: _mm_set1_epi8(hi as i8),
        }
    }

    /// `rne(f32(acc) · mult)`; the product is below 2³⁰ ([`results_fit_i32`](super::layout::Product)).
    #[inline]
    #[target_feature(enable = "avx2")]
    fn scale(acc: __m256i, mult: __m256) -> __m256i {
        _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), mult))
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
            let first = Bytes::scale(acc[0], _mm256_load_ps(mult));
            let (low, high) = if VECTORS == 2 {
                let second = Bytes::scale(acc[VECTORS - 1], _mm256_load_ps(mult.add(LANES)));
                let words = _mm256_adds_epi16(_mm256_packs_epi32(first, second), self.zero_point);
                (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words))
            } else {
                let halves = (_mm256_castsi256_si128(first), _mm256_extracti128_si256::<1>(first));
                let zero_point = _mm256_castsi256_si128(self.zero_point);
                (_mm_adds_epi16(_mm_packs_epi32(halves.0, halves.1), zero_point), _mm_setzero_si128())
            };
            let bytes = _mm_min_epu8(_mm_max_epu8(_mm_packus_epi16(low, high), self.lo), self.hi);
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
}
