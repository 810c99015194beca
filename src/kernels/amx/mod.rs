//! The AMX tier: `tdpbusd` multiplies a tile of 16 rows × 64 unsigned bytes by one of 64 × 16 signed bytes, eight
//! times the products of `vpdpbusd` in the same time. Everything but large products is the AVX-512 tier's.
//!
//! The instructions are written as assembly: the compiler's names for them are not stable. It never uses tile
//! registers by itself, so what one block of assembly leaves in them is there for the next.
#![allow(unsafe_code)]

mod gemm;

pub(super) use gemm::Gemm;

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Whether processor and system offer INT8 tiles to this process. The system saves the 8 KiB of tile registers only for
/// a process that asked for them: the first call does, for all threads.
pub(super) fn is_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| has_instructions() && system_permits())
}

fn has_instructions() -> bool {
    /// `cpuid` 1, ECX: the system has enabled `xgetbv`.
    const OSXSAVE: u32 = 1 << 27;
    /// `cpuid` 7, EDX: tiles, and their products of bytes.
    const AMX: u32 = 1 << 24 | 1 << 25;
    /// In XCR0: the system saves tile configuration and data.
    const TILES: u64 = 1 << 17 | 1 << 18;

    #[target_feature(enable = "xsave")]
    fn saved_by_system() -> u64 {
        // SAFETY: register 0 exists wherever `xgetbv` does.
        unsafe { _xgetbv(0) }
    }

    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: OSXSAVE says that `xgetbv` can be used.
    let saved = unsafe { saved_by_system() };
    __cpuid_count(7, 0).edx & AMX == AMX && saved & TILES == TILES
}

#[cfg(target_os = "linux")]
fn system_permits() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn system_permits() -> bool {
    false
}

/// Rows of a tile.
const TILE_ROWS: usize = 16;
/// Bytes of a row of a tile.
const TILE_BYTES: usize = 64;

/// The shapes of the eight tile registers, as `ldtilecfg` reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Registers 0 and 1 accumulate the first `rows[0]` rows, whose inputs are in 4; 2 and 3 the other `rows[1]`, whose
    /// inputs are in 5; 6 and 7 hold weights. Where `rows[1]` is 0, registers 0 to 3 all accumulate the first rows.
    fn new(rows: [usize; 2]) -> Shapes {
        let second = if rows[1] == 0 { rows[0] } else { rows[1] } as u8;
        let (first, all) = (rows[0] as u8, TILE_ROWS as u8);
        let mut shapes =
            Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..8].fill(TILE_BYTES as u16);
        shapes.rows[..8].copy_from_slice(&[first, first, second, second, first, second, all, all]);
        shapes
    }
}

/// The tile registers, configured; they go back to their initial state when this is dropped, which makes switching
/// threads as cheap as before.
struct Tiles;

impl Tiles {
    /// # Safety
    /// [`is_supported`].
    unsafe fn new() -> Tiles {
        Tiles
    }

    /// Gives the registers the shapes of `rows` (see [`Shapes::new`]) and clears them.
    fn shape(&mut self, rows: [usize; 2]) {
        debug_assert!((1..=TILE_ROWS).contains(&rows[0]) && rows[1] <= TILE_ROWS);
        let shapes = Shapes::new(rows);
        // SAFETY: `new` was promised the instructions; the 64 bytes are a valid configuration.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly, preserves_flags))
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: `new` was promised the instructions.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}
