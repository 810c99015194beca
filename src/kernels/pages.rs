//! Memory in large pages, for what is read again and again: weights, buffers of activations.
//!
//! The 4 KiB pages of an ordinary allocation lie anywhere in physical memory: some megabytes need more entries than the
//! processor's table of addresses has, and lie unevenly in the second-level cache, differently in each process. Linux
//! gives pages of 2 MiB to whom asks for them and has memory aligned so. Blocks of that size are handed out piece by
//! piece; a block is given back with its last piece.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Size and alignment of a large page.
const PAGE: usize = 2 << 20;
/// Alignment of pieces: a cache line, and the widest vector.
pub(super) const LINE: usize = 64;

/// Whole pages, zeroed.
struct Block {
    start: NonNull<u8>,
    len: usize,
    /// Bytes that have been handed out.
    used: AtomicUsize,
}

// SAFETY: the memory belongs to the block, and each byte of it to one piece at most.
unsafe impl Send for Block {}
// SAFETY: as above; what is shared is an atomic number.
unsafe impl Sync for Block {}

impl Block {
    fn new(len: usize) -> Block {
        let len = len.max(1).next_multiple_of(PAGE);
        let Some(start) = system::pages(len) else {
            std::alloc::handle_alloc_error(Layout::new::<[u8; PAGE]>())
        };
        Block { start, len, used: AtomicUsize::new(0) }
    }

    /// The offset of `len` more bytes, if there are so many.
    fn take(&self, len: usize) -> Option<usize> {
        let more = |used: usize| used.checked_add(len).filter(|end| *end <= self.len);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: no piece is left, and it was made with this length.
        unsafe { system::give_back(self.start, self.len) };
    }
}

/// Pages of the system's. Those that an allocator keeps have been touched before, and so are small ones already.
#[cfg(target_os = "linux")]
mod system {
    use super::{NonNull, PAGE};

    /// `len` bytes of zeros, a multiple of [`PAGE`], that start at one.
    pub(super) fn pages(len: usize) -> Option<NonNull<u8>> {
        let all = len.checked_add(PAGE)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, at no address of ours.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), all, access, kind, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return None;
        }
        let before = mapped.align_offset(PAGE);
        // SAFETY: what lies before and after the aligned part is nobody's; it is not empty after, as `before < PAGE`. The
        // advice changes nothing of what memory holds, and a system without large pages ignores it.
        unsafe {
            let start = mapped.add(before);
            if before > 0 {
                libc::munmap(mapped, before);
            }
            libc::munmap(start.add(len), PAGE - before);
            libc::madvise(start, len, libc::MADV_HUGEPAGE);
            NonNull::new(start.cast())
        }
    }

    /// # Safety
    /// [`pages`] gave them, and nobody uses them any more.
    pub(super) unsafe fn give_back(start: NonNull<u8>, len: usize) {
        // SAFETY: the caller's.
        unsafe { libc::munmap(start.as_ptr().cast(), len) };
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Layout, NonNull, PAGE};

    /// `len` bytes of zeros, a multiple of [`PAGE`], that start at one.
    pub(super) fn pages(len: usize) -> Option<NonNull<u8>> {
        // SAFETY: the length is not 0.
        NonNull::new(unsafe { std::alloc::alloc_zeroed(Layout::from_size_align(len, PAGE).ok()?) })
    }

    /// # Safety
    /// [`pages`] gave them, and nobody uses them any more.
    pub(super) unsafe fn give_back(start: NonNull<u8>, len: usize) {
        if let Ok(layout) = Layout::from_size_align(len, PAGE) {
            // SAFETY: the caller's; this is the layout that they were allocated with.
            unsafe { std::alloc::dealloc(start.as_ptr(), layout) };
        }
    }
}

/// A part of a block that nobody else has; it starts on a line and begins as zeros.
pub(super) struct Piece {
    block: Option<Arc<Block>>,
    offset: usize,
}

/// The block that pieces are taken from, while it has one.
static CURRENT: Mutex<Weak<Block>> = Mutex::new(Weak::new());

impl Piece {
    /// At least `len` bytes.
    pub(super) fn new(len: usize) -> Piece {
        if len == 0 {
            return Piece { block: None, offset: 0 };
        }
        let len = len.next_multiple_of(LINE);
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = current.upgrade()
            && let Some(offset) = block.take(len)
        {
            return Piece { block: Some(block), offset };
        }
        let block = Arc::new(Block::new(len));
        let offset = block.take(len).unwrap_or(0);
        *current = Arc::downgrade(&block);
        Piece { block: Some(block), offset }
    }

    /// Its first byte; dangling, but aligned, if it is empty.
    pub(super) fn start(&self) -> NonNull<u8> {
        match &self.block {
            // SAFETY: the offset is within the block.
            Some(block) => unsafe { block.start.add(self.offset) },
            None => NonNull::<Line>::dangling().cast(),
        }
    }
}

#[repr(align(64))]
struct Line;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes(piece: &mut Piece, len: usize) -> &mut [u8] {
        // SAFETY: the tests ask for no more than they took.
        unsafe { std::slice::from_raw_parts_mut(piece.start().as_ptr(), len) }
    }

    #[test]
    fn pieces_are_zeroed_aligned_and_apart() {
        let lens = [1, 63, 64, 65, 4096, PAGE + 1, 3 * PAGE, 7];
        let mut pieces: Vec<(Piece, usize)> = lens.into_iter().map(|len| (Piece::new(len), len)).collect();
        for (number, (piece, len)) in pieces.iter_mut().enumerate() {
            assert_eq!(piece.start().as_ptr() as usize % LINE, 0);
            assert!(bytes(piece, *len).iter().all(|byte| *byte == 0));
            bytes(piece, *len).fill(number as u8 + 1);
        }
        for (number, (piece, len)) in pieces.iter_mut().enumerate() {
            assert!(bytes(piece, *len).iter().all(|byte| *byte == number as u8 + 1));
        }
    }

    #[test]
    fn threads_get_pieces_of_their_own() {
        let make = |fill: u8| {
            move || {
                let mut pieces: Vec<Piece> = (0..200).map(|_| Piece::new(40_000)).collect();
                pieces.iter_mut().for_each(|piece| bytes(piece, 40_000).fill(fill));
                pieces.iter_mut().all(|piece| bytes(piece, 40_000).iter().all(|byte| *byte == fill))
            }
        };
        let threads: Vec<_> = (1..5).map(|fill| std::thread::spawn(make(fill))).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    }
}
