//! One vector of f32, 8 or 16 lanes: what the kernels are written over.
//!
//! Every method is inlined into a function that enables the instructions ([`target`]), so a kernel is written
//! once and compiled per width.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// A register of f32 lanes.
///
/// # Safety
/// Methods may only be called where the machine has the instructions of the type. Pointers must be valid for the
/// lanes that are read or written; no alignment is asked for.
pub(super) unsafe trait Vector: Copy {
    const LANES: usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count ≤ LANES` lanes, others 0; nothing beyond them is read.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Only the first `count ≤ LANES` lanes are written.
    unsafe fn store_part(self, to: *mut f32, count: usize);
    /// `x · w + self`, rounded once.
    unsafe fn fma(self, x: Self, w: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// Lane by lane `x` where it is larger than `self`, else `self`.
    unsafe fn larger(self, x: Self) -> Self;
    /// `self` limited to `lo..=hi`.
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self;
}

// SAFETY: each method is one instruction on the lanes that the trait names.
unsafe impl Vector for __m512 {
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        // SAFETY: the trait's contract; masked lanes are not accessed.
        unsafe { _mm512_maskz_loadu_ps(((1u32 << count) - 1) as u16, from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: the trait's contract; masked lanes are not accessed.
        unsafe { _mm512_mask_storeu_ps(to, ((1u32 << count) - 1) as u16, self) }
    }
    #[inline(always)]
    unsafe fn fma(self, x: Self, w: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_fmadd_ps(x, w, self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn larger(self, x: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm512_max_ps(x, self) }
    }
    #[inline(always)]
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self {
        // The operand order keeps a NaN of `self`, as comparisons in plain Rust do.
        // SAFETY: the trait's contract.
        unsafe { _mm512_min_ps(hi, _mm512_max_ps(lo, self)) }
    }
}

/// Lanes `0..count` of an AVX2 mask.
#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    // SAFETY: plain AVX2 arithmetic, where the caller has it.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

// SAFETY: as for the wider vector.
unsafe impl Vector for __m256 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        // SAFETY: the trait's contract; masked lanes are not accessed.
        unsafe { _mm256_maskload_ps(from, mask(count)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: the trait's contract; masked lanes are not accessed.
        unsafe {
            // AMD's processors take a dozen cycles for a masked store of this width, and most are whole.
            if count >= Self::LANES {
                self.store(to);
            } else {
                _mm256_maskstore_ps(to, mask(count), self);
            }
        }
    }
    #[inline(always)]
    unsafe fn fma(self, x: Self, w: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_fmadd_ps(x, w, self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn larger(self, x: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_max_ps(x, self) }
    }
    #[inline(always)]
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { _mm256_min_ps(hi, _mm256_max_ps(lo, self)) }
    }
}
