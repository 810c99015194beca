//! The AVX-512 VNNI tier: `vpdpbusd` multiplies 64 unsigned by 64 signed bytes and adds them, four by four,
//! to 16 i32 accumulators.
#![allow(unsafe_code)]

mod depthwise;
mod gemm;
mod table;

pub(super) use depthwise::Depthwise;
pub(super) use gemm::{finish, finish_sum, run, scheme};
pub(super) use table::lookup;

use std::arch::x86_64::*;

use super::types::AddParams;

/// i32 lanes of a vector.
const LANES: usize = 16;

/// The constants of a byte store, in every lane. Stores add what is to be added, if something is.
#[derive(Clone, Copy)]
struct Bytes {
    zero_point: __m512i,
    lo: __m512i,
    hi: __m512i,
}

/// The residuals of a task.
pub(super) struct Addend {
    /// What is added to the task's first output, and that; the others are laid out alike.
    pub values: *const u8,
    pub out: *const u8,
    pub params: AddParams,
    pub is_first: bool,
}

/// What is added to bytes on their way.
#[derive(Clone, Copy)]
struct Sum<'a> {
    addend: &'a Addend,
    /// Factors of the bytes and of what is added.
    own: __m512,
    other: __m512,
    constant: __m512,
    lo: __m512i,
    hi: __m512i,
}

impl<'a> Sum<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(addend: &'a Addend) -> Sum<'a> {
        let AddParams { a_ratio, b_ratio, constant, lo, hi } = addend.params;
        let (own, other) = if addend.is_first { (b_ratio, a_ratio) } else { (a_ratio, b_ratio) };
        Sum {
            addend,
            own: _mm512_set1_ps(own),
            other: _mm512_set1_ps(other),
            constant: _mm512_set1_ps(constant),
            lo: _mm512_set1_epi8(lo as i8),
            hi: _mm512_set1_epi8(hi as i8),
        }
    }

    /// What is added to the bytes that go to `out`.
    ///
    /// # Safety
    /// `out` is an output of the task that the addend is for.
    #[inline]
    unsafe fn at(&self, out: *mut u8) -> *const u8 {
        // SAFETY: the caller's; residuals are laid out as outputs.
        unsafe { self.addend.values.offset(out.cast_const().offset_from(self.addend.out)) }
    }

    /// `clamp(rne(fma(a, ra, fma(b, rb, k))), lo, hi)` of 64 bytes; sums are below 2³⁰, and saturation to i16 and u8
    /// before the clamp loses nothing.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn add(&self, bytes: __m512i, values: __m512i) -> __m512i {
        let zero = _mm512_setzero_si512();
        let wide = |x: __m512i| {
            let (low, high) = (_mm512_unpacklo_epi8(x, zero), _mm512_unpackhi_epi8(x, zero));
            [
                _mm512_cvtepi32_ps(_mm512_unpacklo_epi16(low, zero)),
                _mm512_cvtepi32_ps(_mm512_unpackhi_epi16(low, zero)),
                _mm512_cvtepi32_ps(_mm512_unpacklo_epi16(high, zero)),
                _mm512_cvtepi32_ps(_mm512_unpackhi_epi16(high, zero)),
            ]
        };
        let (own, other) = (wide(bytes), wide(values));
        let sum = |j: usize| {
            let sum = if self.addend.is_first {
                _mm512_fmadd_ps(other[j], self.other, _mm512_fmadd_ps(own[j], self.own, self.constant))
            } else {
                _mm512_fmadd_ps(own[j], self.own, _mm512_fmadd_ps(other[j], self.other, self.constant))
            };
            _mm512_cvtps_epi32(sum)
        };
        let words = [_mm512_packs_epi32(sum(0), sum(1)), _mm512_packs_epi32(sum(2), sum(3))];
        let bytes = _mm512_packus_epi16(words[0], words[1]);
        _mm512_min_epu8(_mm512_max_epu8(bytes, self.lo), self.hi)
    }
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

    /// Words of two vectors, with the zero point. Saturation to i16 before it is added loses nothing: what it
    /// cuts off is beyond u8 anyway.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn words(&self, first: __m512i, second: __m512i) -> __m512i {
        _mm512_adds_epi16(_mm512_packs_epi32(first, second), self.zero_point)
    }

    /// Clamped bytes of four vectors' words: in each 128-bit segment, four of each vector.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn bytes(&self, first: __m512i, second: __m512i) -> __m512i {
        _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(first, second), self.lo), self.hi)
    }

    /// Requantizes 4 vectors of one row, interleaved as [`channel_of`](super::layout::channel_of) says, and
    /// stores the first `channels` bytes.
    ///
    /// # Safety
    /// `mult` holds 4 vectors and `channels ≤ 64` bytes can be written at `out`; of a sum, a line can be read there. So below.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn store(
        &self,
        sum: Option<&Sum<'_>>,
        acc: &[__m512i; 4],
        mult: *const f32,
        out: *mut u8,
        channels: usize,
    ) {
        // SAFETY: the caller's; a full store only where all channels exist.
        unsafe {
            let scaled = |j: usize| Bytes::scale(acc[j], _mm512_load_ps(mult.add(LANES * j)));
            let mut bytes = self.bytes(self.words(scaled(0), scaled(1)), self.words(scaled(2), scaled(3)));
            if let Some(sum) = sum {
                bytes = sum.add(bytes, _mm512_loadu_si512(sum.at(out).cast()));
            }
            if channels == 4 * LANES {
                _mm512_storeu_si512(out.cast(), bytes);
            } else {
                _mm512_mask_storeu_epi8(out.cast(), (1 << channels) - 1, bytes);
            }
        }
    }

    /// Requantizes 2 interleaved vectors of two rows each and stores the first `channels` bytes of both.
    ///
    /// # Safety
    /// `mult` holds 2 vectors and `channels` bytes can be written at both of `out`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn store_two(
        &self,
        sum: Option<&Sum<'_>>,
        acc: [[__m512i; 2]; 2],
        mult: *const f32,
        out: [*mut u8; 2],
        channels: usize,
    ) {
        // SAFETY: the caller's; a full store only where all channels exist.
        unsafe {
            let mult = [_mm512_load_ps(mult), _mm512_load_ps(mult.add(LANES))];
            let words = |row: usize| {
                self.words(Bytes::scale(acc[row][0], mult[0]), Bytes::scale(acc[row][1], mult[1]))
            };
            // Segments hold 8 bytes of the first row and 8 of the second.
            let rows = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            let mut bytes = _mm512_permutexvar_epi64(rows, self.bytes(words(0), words(1)));
            if let Some(sum) = sum {
                let [first, second] = out.map(|out| _mm256_loadu_si256(sum.at(out).cast()));
                bytes = sum.add(bytes, _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second));
            }
            let bytes = [_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64::<1>(bytes)];
            for (out, bytes) in out.into_iter().zip(bytes) {
                if channels >= 2 * LANES {
                    _mm256_storeu_si256(out.cast(), bytes);
                } else {
                    _mm256_mask_storeu_epi8(out.cast(), (1 << channels) - 1, bytes);
                }
            }
        }
    }

    /// Requantizes 1 vector of four rows each and stores the first `channels` bytes of each.
    ///
    /// # Safety
    /// `mult` holds 1 vector and `channels ≤ 16` bytes can be written at each of `out`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn store_four(
        &self,
        sum: Option<&Sum<'_>>,
        acc: [__m512i; 4],
        mult: *const f32,
        out: [*mut u8; 4],
        channels: usize,
    ) {
        // SAFETY: the caller's; a full store only where all channels exist.
        unsafe {
            let mult = _mm512_load_ps(mult);
            let scaled = |row: usize| Bytes::scale(acc[row], mult);
            let bytes = self.bytes(self.words(scaled(0), scaled(1)), self.words(scaled(2), scaled(3)));
            // Segments hold 4 bytes of each row.
            let rows = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let mut bytes = _mm512_permutexvar_epi32(rows, bytes);
            if let Some(sum) = sum {
                let [a, b, c, d] = out.map(|out| _mm_loadu_si128(sum.at(out).cast()));
                let values = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
                let values = _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(values, c), d);
                bytes = sum.add(bytes, values);
            }
            let bytes = [
                _mm512_castsi512_si128(bytes),
                _mm512_extracti32x4_epi32::<1>(bytes),
                _mm512_extracti32x4_epi32::<2>(bytes),
                _mm512_extracti32x4_epi32::<3>(bytes),
            ];
            for (out, bytes) in out.into_iter().zip(bytes) {
                if channels == LANES {
                    _mm_storeu_si128(out.cast(), bytes);
                } else {
                    _mm_mask_storeu_epi8(out.cast(), (1 << channels) - 1, bytes);
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
