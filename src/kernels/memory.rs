//! What the C library does with memory that is given back.
#![allow(unsafe_code)]

/// Asks it to keep what is freed for the next inference, whose tensors have the same sizes; else each of them is
/// returned to the system, and taken from it again page by page. Does nothing but in glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: two settings of the allocator, which it takes at any time.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
        });
    }
}
