//! Table lookup: `vpshufb` looks 16 bytes up in a register, so a table of 256 bytes is sixteen of them, and
//! four levels of blends choose among them by the upper four bits.

use std::arch::x86_64::*;

use super::super::frame::align_frame;

/// Bytes of a vector.
const WIDTH: usize = 32;

/// `out[i] = table[x[i]]`.
///
/// # Safety
/// The machine has AVX2, and `out` is as long as `x`.
#[target_feature(enable = "avx2")]
pub(in super::super) unsafe fn lookup(table: &[u8; 256], x: &[u8], out: &mut [u8]) {
    align_frame();
    let (whole, rest) = x.as_chunks::<WIDTH>();
    let (to, to_rest) = out.as_chunks_mut::<WIDTH>();
    for (y, x) in to.iter_mut().zip(whole) {
        // SAFETY: both are whole vectors.
        unsafe {
            _mm256_storeu_si256(y.as_mut_ptr().cast(), values(table, _mm256_loadu_si256(x.as_ptr().cast())))
        };
    }
    for (y, &x) in to_rest.iter_mut().zip(rest) {
        *y = table[usize::from(x)];
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn values(table: &[u8; 256], x: __m256i) -> __m256i {
    let low = _mm256_and_si256(x, _mm256_set1_epi8(15));
    let row = |i: usize| {
        // SAFETY: row `i < 16` is 16 bytes of the table.
        let row = unsafe { _mm_loadu_si128(table.as_ptr().add(16 * i).cast()) };
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row), low)
    };
    // A blend takes bit 7 of each byte; shifts of 16-bit words bring bits 4, 5 and 6 there.
    let bits = [_mm256_slli_epi16::<3>(x), _mm256_slli_epi16::<2>(x), _mm256_slli_epi16::<1>(x), x];
    let two = |i: usize| _mm256_blendv_epi8(row(2 * i), row(2 * i + 1), bits[0]);
    let four = |i: usize| _mm256_blendv_epi8(two(2 * i), two(2 * i + 1), bits[1]);
    let eight = |i: usize| _mm256_blendv_epi8(four(2 * i), four(2 * i + 1), bits[2]);
    _mm256_blendv_epi8(eight(0), eight(1), bits[3])
}
