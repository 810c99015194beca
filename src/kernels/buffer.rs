//! Storage on cache line boundaries: a vector load from it never straddles two lines.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::pages::Piece;

/// Numbers for which any bytes are a value.
///
/// # Safety
/// The type has no padding, no invalid bit patterns, and an alignment that divides 64.
pub unsafe trait Number: Copy + fmt::Debug {}
// SAFETY: plain integers and floats.
unsafe impl Number for u8 {}
// SAFETY: as above.
unsafe impl Number for i8 {}
// SAFETY: as above.
unsafe impl Number for i32 {}
// SAFETY: as above.
unsafe impl Number for f32 {}

/// A slice that starts on a cache line, in large pages.
pub struct Aligned<T> {
    piece: Piece,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// `len` elements are more bytes than can be counted.
    pub fn zeros(len: usize) -> Aligned<T> {
        let bytes = len.checked_mul(size_of::<T>());
        assert!(bytes.is_some(), "{len} elements are more than memory has");
        Aligned { piece: Piece::new(bytes.unwrap_or(0)), len, element: PhantomData }
    }

    /// At least `len` elements; what they held stays, more are zero.
    pub(super) fn grow(&mut self, len: usize) {
        if len > self.len {
            let mut larger = Aligned::zeros(len);
            larger[..self.len].copy_from_slice(self);
            *self = larger;
        }
    }
}

impl<T: Number> Clone for Aligned<T> {
    fn clone(&self) -> Aligned<T> {
        let mut copy = Aligned::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the piece is ours alone and holds `len` elements of initialized memory, of which any bytes are a `T`;
        // its start is aligned to a line, and so for `T`.
        unsafe { std::slice::from_raw_parts(self.piece.start().cast().as_ptr(), self.len) }
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.piece.start().cast().as_ptr(), self.len) }
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
