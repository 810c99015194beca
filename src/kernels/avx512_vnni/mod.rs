//! The AVX-512 VNNI tier: `vpdpbusd` multiplies 64 unsigned by 64 signed bytes and adds them, four by four,
//! to 16 i32 accumulators.
#![allow(unsafe_code)]

mod depthwise;
mod gemm;

pub(super) use depthwise::Depthwise;
pub(super) use gemm::{SCHEME_F32, SCHEME_U8, run};

use std::arch::x86_64::*;

/// i32 lanes of a vector.
const LANES: usize = 16;

/// The constants of a byte store, in every lane.
#[derive(Clone, Copy)]
struct Bytes {
    zero_point: __m512i,
    lo: __m512i,
    hi: __m512i,
}

impl Bytes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(zero_point: u8, lo: u8, hi: u8) -> Bytes {
        Bytes {
            zero_point: _mm512_set1_epi16(i16::from(zero_point)),
            lo: _mm512_set1_epi8(lo as i8),
            hi: _mm512_set1_epi8(hi as i8),
        }
    }

    /// `rne(f32(acc) · mult)`; the product is below 2³⁰ ([`results_fit_i32`](super::layout::Product)).
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn scale(acc: __m512i, mult: __m512) -> __m512i {
        _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), mult))
    }

    /// Requantizes one row of `VECTORS` vectors, whose channels are interleaved as
    /// [`channel_of`](super::layout::channel_of) says, and stores the first `channels` bytes.
    ///
    /// Saturation to i16 before the zero point is added loses nothing: what it cuts off is beyond u8 anyway.
    ///
    /// # Safety
    /// `mult` holds `VECTORS` vectors, `channels` bytes can be written at `out`, and
    /// `16·(VECTORS − 1) < channels ≤ 16·VECTORS`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn store<const VECTORS: usize>(
        &self,
        acc: &[__m512i; VECTORS],
        mult: *const f32,
        out: *mut u8,
        channels: usize,
    ) {
        // SAFETY: vector `j` of `mult` exists for every `j < VECTORS`; masks keep the last store within
        // `channels`.
        unsafe {
            let scaled = |j: usize| Bytes::scale(acc[j], _mm512_load_ps(mult.add(LANES * j)));
            let pair = |i: usize, j: usize| {
                _mm512_adds_epi16(_mm512_packs_epi32(scaled(i), scaled(j)), self.zero_point)
            };
            let clamp = |bytes: __m512i| _mm512_min_epu8(_mm512_max_epu8(bytes, self.lo), self.hi);
            match VECTORS {
                4 => {
                    let bytes = clamp(_mm512_packus_epi16(pair(0, 1), pair(2, 3)));
                    if channels == 4 * LANES {
                        _mm512_storeu_si512(out.cast(), bytes);
                    } else {
                        _mm512_mask_storeu_epi8(out.cast(), (1 << channels) - 1, bytes);
                    }
                }
                2 | 3 => {
                    let words = _mm512_max_epi16(pair(0, 1), _mm512_setzero_si512());
                    let bytes = clamp(_mm512_zextsi256_si512(_mm512_cvtusepi16_epi8(words)));
                    let bytes = _mm512_castsi512_si256(bytes);
                    if channels >= 2 * LANES {
                        _mm256_storeu_si256(out.cast(), bytes);
                    } else {
                        _mm256_mask_storeu_epi8(out.cast(), (1 << channels) - 1, bytes);
                    }
                }
                _ => {}
            }
            if VECTORS == 1 || VECTORS == 3 {
                let last = VECTORS - 1;
                let zero_point = _mm512_srai_epi32::<16>(self.zero_point);
                let sums = _mm512_add_epi32(scaled(last), zero_point);
                let bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(sums, _mm512_setzero_si512()));
                let bytes = clamp(_mm512_zextsi128_si512(bytes));
                let (out, rest) = (out.add(last * LANES), channels - last * LANES);
                let bytes = _mm512_castsi512_si128(bytes);
                if rest == LANES {
                    _mm_storeu_si128(out.cast(), bytes);
                } else {
                    _mm_mask_storeu_epi8(out.cast(), (1 << rest) - 1, bytes);
                }
            }
        }
    }
}

/// Interleaves the bytes of four vectors: lane `l` of vector `j` gets byte
/// `16·(l / 4) + 4·j + l % 4` of each, which is the order that [`Bytes::store`] undoes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave(x: [__m512i; 4]) -> [__m512i; 4] {
    let (low01, high01) = (_mm512_unpacklo_epi8(x[0], x[1]), _mm512_unpackhi_epi8(x[0], x[1]));
    let (low23, high23) = (_mm512_unpacklo_epi8(x[2], x[3]), _mm512_unpackhi_epi8(x[2], x[3]));
    [
        _mm512_unpacklo_epi16(low01, low23),
        _mm512_unpackhi_epi16(low01, low23),
        _mm512_unpacklo_epi16(high01, high23),
        _mm512_unpackhi_epi16(high01, high23),
    ]
}
