//! Memory that ends where nothing may be read or written: the next page is nobody's.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};

/// A slice whose end is the end of readable memory (on Linux; elsewhere an ordinary allocation).
pub(super) struct Guarded<T> {
    start: *mut T,
    len: usize,
    map: (*mut libc::c_void, usize),
}

impl<T: Copy> Guarded<T> {
    pub(super) fn new(len: usize, value: T) -> Guarded<T> {
        // SAFETY: a question.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = len * size_of::<T>();
        let whole = bytes.next_multiple_of(page);
        let all = whole + 2 * page;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, at no address of ours, of which the pages between the first and the last are opened.
        let (map, start) = unsafe {
            let map = libc::mmap(std::ptr::null_mut(), all, libc::PROT_NONE, kind, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            let opened = map.add(page);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            assert!(whole == 0 || libc::mprotect(opened, whole, access) == 0);
            (map, opened.add(whole - bytes).cast::<T>())
        };
        let mut guarded = Guarded { start, len, map: (map, all) };
        guarded.fill(value);
        guarded
    }
}

impl<T: Copy + Default> FromIterator<T> for Guarded<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Guarded<T> {
        let values: Vec<T> = values.into_iter().collect();
        let mut guarded = Guarded::new(values.len(), T::default());
        guarded.copy_from_slice(&values);
        guarded
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements lie before the last page, aligned since that is; `new` filled them.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: `new` mapped it, and nothing refers to it any more.
        unsafe {
            libc::munmap(self.map.0, self.map.1);
        }
    }
}

/// In a process of its own, since reading there ends it.
#[test]
#[cfg(target_os = "linux")]
fn reading_behind_the_end_ends_the_process() {
    let bytes = Guarded::new(5, 1u8);
    assert_eq!(&bytes[..], [1; 5]);
    // SAFETY: the child does nothing but read one byte and leave; the parent waits for it.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::_exit(i32::from(bytes.as_ptr().add(5).read_volatile()));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "status {status}");
}
