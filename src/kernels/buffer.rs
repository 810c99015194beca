//! Storage on cache line boundaries, for packed weights: a vector load from it never straddles two lines.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// Numbers for which any bytes are a value.
///
/// # Safety
/// The type has no padding, no invalid bit patterns, and an alignment that divides 64.
pub(super) unsafe trait Number: Copy + fmt::Debug {}
// SAFETY: plain integers and floats.
unsafe impl Number for u8 {}
// SAFETY: as above.
unsafe impl Number for i8 {}
// SAFETY: as above.
unsafe impl Number for i32 {}
// SAFETY: as above.
unsafe impl Number for f32 {}

/// A slice of fixed length, 64-byte aligned.
pub(super) struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Aligned<T> {
        let lines = vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(64)];
        Aligned { lines, len, element: PhantomData }
    }

    /// At least `len` elements; what they held stays, more are zero.
    pub(super) fn grow(&mut self, len: usize) {
        if len > self.len {
            self.lines.resize((len * size_of::<T>()).div_ceil(64), Line([0; 64]));
            self.len = len;
        }
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `len` elements of initialized memory, and any bytes are a `T`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} x {}]", std::any::type_name::<T>(), self.len)
    }
}

/// The whole floats in `bytes`, in native byte order.
///
/// # Panics
/// `bytes` does not start at a multiple of 4.
pub fn floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: any four bytes are an f32.
    let (before, floats, _) = unsafe { bytes.align_to::<f32>() };
    assert!(before.is_empty(), "floats must start at a multiple of 4 bytes");
    floats
}

/// As [`floats`], to be written.
///
/// # Panics
/// As [`floats`].
pub fn floats_mut(bytes: &mut [u8]) -> &mut [f32] {
    // SAFETY: any four bytes are an f32, and an f32 is any four bytes.
    let (before, floats, _) = unsafe { bytes.align_to_mut::<f32>() };
    assert!(before.is_empty(), "floats must start at a multiple of 4 bytes");
    floats
}

/// The bytes of `floats`, in native byte order.
#[cfg(test)]
pub fn bytes(floats: &[f32]) -> &[u8] {
    // SAFETY: an f32 is four bytes of any value, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), size_of_val(floats)) }
}

/// As [`bytes`], to be written.
#[cfg(test)]
pub fn bytes_mut(floats: &mut [f32]) -> &mut [u8] {
    // SAFETY: as in `bytes`; any four bytes are an f32.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), size_of_val(floats)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_zeroed_aligned_and_kept_when_growing() {
        let mut numbers = Aligned::<i32>::zeros(17);
        assert_eq!(numbers.as_ptr() as usize % 64, 0);
        assert_eq!(&numbers[..], [0; 17]);
        numbers[16] = 5;
        numbers.grow(40);
        assert_eq!((numbers.len(), numbers[16], numbers[39]), (40, 5, 0));
    }
}
