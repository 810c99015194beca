//! How vector tiers walk a product: row chunks that stay in cache, blocks of channels, tiles in registers.
#![allow(unsafe_code)]

use super::gemm::{Store, Task};
use super::layout::Panels;
use super::offsets::PAD;
use super::scalar::Rows;

/// Input bytes that should stay in the first-level cache while all blocks of weights pass over them.
const CHUNK_BYTES: usize = 24 * 1024;

/// Where a tile's sums go, and how.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// The tile's first output; rows are `ldo` elements (of u8 or f32, as `store` says) apart.
    pub out: *mut u8,
    pub ldo: usize,
    pub channels: usize,
    /// The factors of its channels.
    pub factors: *const f32,
    pub store: Store,
}

impl Target {
    /// As from row `row` on.
    ///
    /// # Safety
    /// The row exists.
    pub(super) unsafe fn at_row(&self, row: usize) -> Target {
        // SAFETY: the caller's.
        Target { out: unsafe { self.out.add(row * self.ldo * self.store.element()) }, ..*self }
    }
}

/// One tile: a few rows times one block of channels.
pub(super) struct Tile<'a> {
    a: *const u8,
    lda: usize,
    offsets: Option<&'a [i32]>,
    pad_row: *const u8,
    pub taps: usize,
    pub depth: usize,
    /// The block's weights and biases.
    pub weights: *const i8,
    pub bias: *const i32,
    pub target: Target,
}

/// Multiplies one tile; its height is fixed by the function.
pub(super) type TileFn = unsafe fn(&Tile<'_>);

impl Tile<'_> {
    /// Where row `row` begins at `tap`.
    ///
    /// # Safety
    /// The row and tap exist.
    #[inline(always)]
    pub(super) unsafe fn row(&self, row: usize, tap: usize) -> *const u8 {
        // SAFETY: by the contract of `run_tiles`, rows and offsets point into `a`.
        unsafe {
            match self.offsets {
                None => self.a.add(row * self.lda),
                Some(offsets) => match *offsets.get_unchecked(row * self.taps + tap) {
                    PAD => self.pad_row,
                    offset => self.a.add(offset as usize),
                },
            }
        }
    }
}

/// Does a task. `tiles(vectors)` are the tile functions for a block of that many vectors, by height − 1.
///
/// # Safety
/// The machine has the instructions of `tiles`, and `panels` were packed in the order that these expect; each row
/// and tap of the rows lies in `a` (or is the padding row) with 3 readable bytes after its `k`; the blocks exist, and the
/// rows of their channels can be written.
pub(super) unsafe fn run_tiles(panels: &Panels, task: &Task<'_>, tiles: impl Fn(usize) -> &'static [TileFn]) {
    let Task { store, a, rows, m, ref blocks, out, ldo, .. } = *task;
    let row_bytes = match rows {
        Rows::Strided(lda) => lda,
        // Neighbouring windows share most of their bytes.
        Rows::Indirect { .. } => panels.depth * panels.taps.min(4),
    };
    let chunk = (CHUNK_BYTES / row_bytes).clamp(48, 4096);
    for chunk_first in (0..m).step_by(chunk) {
        let chunk_rows = chunk.min(m - chunk_first);
        for block in &panels.blocks[blocks.clone()] {
            let tiles = tiles(block.vectors);
            let target = Target {
                // SAFETY: row `chunk_first` and channel `block.first` are within what the caller lets us write.
                out: unsafe { out.add((chunk_first * ldo + block.first) * store.element()) },
                ldo,
                channels: block.channels,
                factors: panels.factors[block.lanes..].as_ptr(),
                store,
            };
            for_each_tile(chunk_rows, tiles.len(), |first, height| {
                // SAFETY: the row is within the chunk.
                let target = unsafe { target.at_row(first) };
                let first = chunk_first + first;
                let (a, lda, offsets, pad_row) = match rows {
                    Rows::Strided(lda) => (a[first * lda..].as_ptr(), lda, None, std::ptr::null()),
                    Rows::Indirect { windows, pad_row } => {
                        (a.as_ptr(), 0, Some(&windows.values[first * panels.taps..]), pad_row.as_ptr())
                    }
                };
                let tile = Tile {
                    a,
                    lda,
                    offsets,
                    pad_row,
                    taps: panels.taps,
                    depth: panels.depth,
                    weights: panels.weights[block.weights..].as_ptr(),
                    bias: panels.bias[block.lanes..].as_ptr(),
                    target,
                };
                // SAFETY: the tile's rows and channels are within the caller's; the weights, biases and
                // factors of the block follow the pointers.
                unsafe { tiles[height - 1](&tile) }
            });
        }
    }
}

/// Splits `rows` evenly into tiles of at most `most` rows and calls `tile(first, rows)` for each: near-equal
/// tiles waste less than full ones and a small rest.
pub(super) fn for_each_tile(rows: usize, most: usize, mut tile: impl FnMut(usize, usize)) {
    let tiles = rows.div_ceil(most);
    let mut first = 0;
    for i in 0..tiles {
        let height = rows / tiles + usize::from(i < rows % tiles);
        tile(first, height);
        first += height;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_rows_evenly() {
        let mut tiles = vec![];
        for_each_tile(49, 6, |first, rows| tiles.push((first, rows)));
        assert_eq!(tiles.len(), 9);
        assert!(tiles.iter().all(|&(_, rows)| rows == 5 || rows == 6));
        assert_eq!(tiles.iter().map(|tile| tile.1).sum::<usize>(), 49);
        for_each_tile(0, 6, |_, _| unreachable!());
    }
}
