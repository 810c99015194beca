//! Table lookup: `vpermi2b` looks 64 bytes up in two registers, so a table of 256 bytes is four registers.

use std::arch::x86_64::*;

/// `out[i] = table[x[i]]`. Needs VBMI, which not every machine of this tier has.
///
/// # Safety
/// The machine has AVX-512 F, BW and VBMI, and `out` is as long as `x`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(in super::super) unsafe fn lookup(table: &[u8; 256], x: &[u8], out: &mut [u8]) {
    // SAFETY: the table has four vectors; masks keep loads and stores within `x.len()`.
    unsafe {
        let part = |i: usize| _mm512_loadu_si512(table.as_ptr().add(64 * i).cast());
        let table = [part(0), part(1), part(2), part(3)];
        for first in (0..x.len()).step_by(64) {
            let mask = u64::MAX >> (64 - (x.len() - first).min(64));
            let x = _mm512_maskz_loadu_epi8(mask, x.as_ptr().add(first).cast());
            let low = _mm512_permutex2var_epi8(table[0], x, table[1]);
            let high = _mm512_permutex2var_epi8(table[2], x, table[3]);
            let y = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
            _mm512_mask_storeu_epi8(out.as_mut_ptr().add(first).cast(), mask, y);
        }
    }
}
