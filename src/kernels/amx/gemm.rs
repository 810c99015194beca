//! Products by tiles: 32 rows × 32 channels, or 16 rows × 64, accumulate in four of the eight registers.
//!
//! Weights lie as the AVX-512 tier has them, and so are tiles as they are: 16 groups of four inputs × 16 channels. Rows
//! of a 1×1 convolution are tiles too, and so are neighbouring windows of an image, tap by tap, where a tap fills
//! tiles. Other windows are first gathered, a chunk at a time, taps one after the other. Sums go through memory to be
//! requantized by the AVX-512 tier's stores.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;

use super::super::avx512_vnni::{self, Addend, finish, finish_sum};
use super::super::buffer::Aligned;
use super::super::gemm::{Store, Task};
use super::super::layout::{Block, Panels, Product, Scheme};
use super::super::offsets::Windows;
use super::super::scalar::Rows;
use super::super::tiles::Target;
use super::super::types::Residual;
use super::{TILE_BYTES, TILE_ROWS, Tiles};

/// Gathered bytes that should stay in the second-level cache while all blocks of weights pass over them.
const CHUNK_BYTES: usize = 256 * 1024;

/// Sums of the largest tile: 32 rows × 64 channels.
const SUMS: usize = 2 * TILE_ROWS * 4 * 16;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        rows: Aligned::zeros(0),
        sums: Aligned::zeros(SUMS),
        even: vec![],
        starts: [vec![], vec![]],
    });
}

struct Scratch {
    /// Gathered rows.
    rows: Aligned<u8>,
    /// Sums on their way to the store.
    sums: Aligned<i32>,
    /// For each tile of rows of a chunk, the distance between its windows if it is read where they lie.
    even: Vec<Option<usize>>,
    /// Where the taps of the two tiles at work start.
    starts: [Vec<*const u8>; 2],
}

/// Packed weights of a product.
#[derive(Debug)]
pub(in super::super) struct Gemm {
    panels: Panels,
    /// The parts that a row is read in, and their bytes: its taps where each fills whole tiles, else the row as one.
    parts: usize,
    part_bytes: usize,
}

impl Gemm {
    /// Whether tiles pay: a product of few inputs or channels would fill little of them.
    pub(in super::super) fn pays(product: &Product<'_>) -> bool {
        product.taps * product.k >= 64 && product.n >= 8
    }

    pub(in super::super) fn pack(product: &Product<'_>, store: Store) -> Gemm {
        let Product { taps, k, .. } = *product;
        let flat = Product { taps: 1, k: taps * k, ..*product };
        let scheme = Scheme { depth: TILE_BYTES, ..*avx512_vnni::scheme(store) };
        let panels = Panels::pack(&scheme, &flat);
        let parts = if k.is_multiple_of(TILE_BYTES) { taps } else { 1 };
        let part_bytes = panels.depth / parts;
        Gemm { panels, parts, part_bytes }
    }

    /// How the weights lie.
    pub(in super::super) fn panels(&mut self) -> &mut Panels {
        &mut self.panels
    }

    /// The first channel of some blocks, and that behind the last.
    pub(in super::super) fn channels(&self, blocks: &std::ops::Range<usize>) -> (usize, usize) {
        self.panels.channels(blocks)
    }

    /// Blocks of channels, and weights with those that fill them up.
    pub(in super::super) fn size(&self) -> (usize, usize) {
        self.panels.size()
    }

    /// Does a task.
    ///
    /// # Safety
    /// The machine has the tier's instructions and the weights were packed for the store; each row and tap of the rows
    /// lies in `a` (or is the padding row) with 63 readable bytes after its `k`; the blocks exist, and the rows of their
    /// channels can be written.
    pub(in super::super) unsafe fn run(&self, task: &Task<'_>) {
        let Task { store, a, rows, m, ref blocks, out, ldo, residual } = *task;
        let addend = residual.map(|Residual { values, params, is_first }| Addend {
            values: values.as_ptr(),
            out,
            params: *params,
            is_first,
        });
        let depth = self.panels.depth;
        let chunk = match rows {
            Rows::Strided(_) => m,
            Rows::Indirect { .. } => (CHUNK_BYTES / depth).next_multiple_of(2 * TILE_ROWS),
        };
        // SAFETY: the caller's.
        let mut tiles = unsafe { Tiles::new() };
        SCRATCH.with_borrow_mut(|Scratch { rows: gathered, sums, even, starts }| {
            for first in (0..m).step_by(chunk.max(1)) {
                let rows_here = chunk.min(m - first);
                let inputs = match rows {
                    Rows::Strided(lda) => Inputs::Dense(a[first * lda..].as_ptr(), lda),
                    Rows::Indirect { windows, pad_row } => {
                        gathered.grow(rows_here * depth + TILE_BYTES);
                        even.clear();
                        for tile in (0..rows_here).step_by(TILE_ROWS) {
                            let rows = first + tile..first + (tile + TILE_ROWS).min(rows_here);
                            let step =
                                if self.parts == windows.taps { windows.even(rows.clone()) } else { None };
                            even.push(step);
                            if step.is_none() {
                                let to = &mut gathered[tile * depth..];
                                // SAFETY: the caller's; `gathered` holds a line more than the rows.
                                unsafe { gather(a, pad_row, windows, rows, to, depth) };
                            }
                        }
                        Inputs::Windows { a: a.as_ptr(), windows, first, even, gathered: gathered.as_ptr() }
                    }
                };
                for block in &self.panels.blocks[blocks.clone()] {
                    let target = Target {
                        // SAFETY: row `first` and channel `block.first` are within what the caller lets us write.
                        out: unsafe { out.add((first * ldo + block.first) * store.element()) },
                        ldo,
                        channels: block.channels,
                        factors: self.panels.factors[block.lanes..].as_ptr(),
                        store,
                    };
                    // SAFETY: the caller's; rows can be read to the end of the last tile's line.
                    unsafe {
                        self.block(
                            &mut tiles,
                            block,
                            &inputs,
                            rows_here,
                            &target,
                            addend.as_ref(),
                            sums,
                            starts,
                        )
                    };
                }
            }
        });
    }

    /// Fills `starts` with where the parts of row `row` of a chunk of `m` rows start, and returns the distance between the
    /// rows of its tile.
    ///
    /// # Safety
    /// `inputs` describes at least `m` rows.
    unsafe fn find(&self, inputs: &Inputs<'_>, row: usize, m: usize, starts: &mut Vec<*const u8>) -> usize {
        starts.clear();
        if row >= m {
            return 0;
        }
        // SAFETY: the row exists, and so do its parts.
        unsafe {
            let dense = |from: *const u8| (0..self.parts).map(move |part| from.add(part * self.part_bytes));
            match *inputs {
                Inputs::Dense(a, lda) => {
                    starts.extend(dense(a.add(row * lda)));
                    lda
                }
                Inputs::Windows { a, windows, first, even, gathered } => match even[row / TILE_ROWS] {
                    Some(step) => {
                        let (offsets, _) = windows.window(first + row);
                        starts.extend(offsets.iter().map(|at| a.add(*at as usize)));
                        step
                    }
                    None => {
                        starts.extend(dense(gathered.add(row * self.panels.depth)));
                        self.panels.depth
                    }
                },
            }
        }
    }

    /// One block of channels for `m` rows.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[allow(clippy::too_many_arguments)]
    unsafe fn block(
        &self,
        tiles: &mut Tiles,
        block: &Block,
        inputs: &Inputs<'_>,
        m: usize,
        target: &Target,
        addend: Option<&Addend>,
        sums: &mut [i32],
        starts: &mut [Vec<*const u8>; 2],
    ) {
        let Panels { weights, bias, .. } = &self.panels;
        let mut shape = [0; 2];
        for first in (0..m).step_by(2 * TILE_ROWS) {
            let rows = (m - first).min(2 * TILE_ROWS);
            let shape_here = [rows.min(TILE_ROWS), rows.saturating_sub(TILE_ROWS)];
            if shape != shape_here {
                tiles.shape(shape_here);
                shape = shape_here;
            }
            let mut lda = [0; 2];
            for (tile, starts) in starts.iter_mut().enumerate() {
                // SAFETY: as below; a tile without rows is not read.
                lda[tile] = unsafe { self.find(inputs, first + tile * TILE_ROWS, m, starts) };
            }
            let product = TileProduct {
                starts: [&starts[0], &starts[1]],
                lda,
                steps: self.part_bytes / TILE_BYTES,
                weights: weights[block.weights..].as_ptr(),
                weight_row: block.vectors * TILE_BYTES,
                bias: bias[block.lanes..].as_ptr(),
                sums: sums.as_mut_ptr(),
            };
            // SAFETY: as above.
            let target = unsafe { target.at_row(first) };
            // SAFETY: the caller's, and the registers have the shapes of these rows.
            unsafe {
                if rows > TILE_ROWS {
                    for vector in (0..block.vectors).step_by(2) {
                        if vector + 1 < block.vectors {
                            product.two_rows::<2>(vector);
                        } else {
                            product.two_rows::<1>(vector);
                        }
                    }
                } else {
                    product.one_row(block.vectors);
                }
                match block.vectors {
                    4 => store::<4>(&target, addend, sums, rows),
                    3 => store::<3>(&target, addend, sums, rows),
                    2 => store::<2>(&target, addend, sums, rows),
                    _ => store::<1>(&target, addend, sums, rows),
                }
            }
        }
    }
}

/// Where the rows of a chunk lie.
enum Inputs<'a> {
    /// At even distances.
    Dense(*const u8, usize),
    /// As windows from window `first` on; the tiles that are not `even` have been gathered.
    Windows {
        a: *const u8,
        windows: Windows<'a>,
        first: usize,
        even: &'a [Option<usize>],
        gathered: *const u8,
    },
}

/// Copies the taps of each of `rows` one after the other, `depth` bytes for a row. What a copy writes too much is
/// overwritten by the next, or has weights of 0.
///
/// # Safety
/// The machine has AVX-512 F; each window lies in `a`, and each tap of it (or the padding row) has 63 readable bytes
/// after it; `to` holds a line more than the rows.
#[target_feature(enable = "avx512f")]
unsafe fn gather(
    a: &[u8],
    pad_row: &[u8],
    windows: Windows<'_>,
    rows: std::ops::Range<usize>,
    to: &mut [u8],
    depth: usize,
) {
    let first_row = to.as_mut_ptr();
    for (at, row) in rows.enumerate() {
        // SAFETY: the row exists.
        let mut to = unsafe { first_row.add(at * depth) };
        let (offsets, runs) = windows.window(row);
        for run in runs {
            // SAFETY: a run starts with one of its window's taps, whose offset is within `a`; reads and writes end less
            // than a line after the run, which ends within the row.
            unsafe {
                let from = match run.is_padding {
                    true => pad_row.as_ptr(),
                    false => a.as_ptr().add(*offsets.get_unchecked(run.tap as usize) as usize),
                };
                let bytes = run.bytes as usize;
                // By two, from the second: a plain loop would become a call of `memcpy`, slow for so few bytes.
                let mut at = 0;
                while at + TILE_BYTES < bytes {
                    let (first, second) = (
                        _mm512_loadu_si512(from.add(at).cast()),
                        _mm512_loadu_si512(from.add(at + TILE_BYTES).cast()),
                    );
                    _mm512_storeu_si512(to.add(at + TILE_BYTES).cast(), second);
                    _mm512_storeu_si512(to.add(at).cast(), first);
                    at += 2 * TILE_BYTES;
                }
                // What crosses fewer lines costs less.
                if at + TILE_BYTES / 2 < bytes {
                    _mm512_storeu_si512(to.add(at).cast(), _mm512_loadu_si512(from.add(at).cast()));
                } else if at < bytes {
                    _mm256_storeu_si256(to.add(at).cast(), _mm256_loadu_si256(from.add(at).cast()));
                }
                to = to.add(bytes);
            }
        }
    }
}

/// One or two tiles of rows times a block of channels.
struct TileProduct<'a> {
    /// Where the parts of the first row of each tile start.
    starts: [&'a [*const u8]; 2],
    /// Bytes between the rows of each tile.
    lda: [usize; 2],
    /// Tiles along the inputs of a part.
    steps: usize,
    weights: *const i8,
    /// Bytes from one group of inputs to the next.
    weight_row: usize,
    bias: *const i32,
    /// `[row][vector][16]`.
    sums: *mut i32,
}

macro_rules! load {
    ($tile:literal, $from:expr, $row_bytes:expr) => {
        asm!(
            concat!("tileloadd ", $tile, ", [{}+{}*1]"),
            in(reg) $from, in(reg) $row_bytes, options(nostack, readonly, preserves_flags)
        )
    };
}

macro_rules! store {
    ($tile:literal, $to:expr, $row_bytes:expr) => {
        asm!(
            concat!("tilestored [{}+{}*1], ", $tile),
            in(reg) $to, in(reg) $row_bytes, options(nostack, preserves_flags)
        )
    };
}

macro_rules! multiply {
    ($sum:literal, $inputs:literal, $weights:literal) => {
        asm!(
            concat!("tdpbusd ", $sum, ", ", $inputs, ", ", $weights),
            options(nostack, nomem, preserves_flags)
        )
    };
}

impl TileProduct<'_> {
    /// Two tiles of rows × `VECTORS` vectors from `vector` on.
    ///
    /// # Safety
    /// The registers have the shapes of these rows; the pointers hold what they are for.
    unsafe fn two_rows<const VECTORS: usize>(&self, vector: usize) {
        let (lda, weight_row) = (self.lda, self.weight_row);
        // SAFETY: the caller's.
        unsafe {
            // A distance of 0 gives every row the same biases.
            let bias = self.bias.add(16 * vector);
            load!("tmm0", bias, 0usize);
            load!("tmm2", bias, 0usize);
            if VECTORS == 2 {
                load!("tmm1", bias.add(16), 0usize);
                load!("tmm3", bias.add(16), 0usize);
            }
            let mut weights = self.weights.add(TILE_BYTES * vector);
            for (&first, &second) in self.starts[0].iter().zip(self.starts[1]) {
                for step in 0..self.steps {
                    load!("tmm6", weights, weight_row);
                    load!("tmm4", first.add(step * TILE_BYTES), lda[0]);
                    multiply!("tmm0", "tmm4", "tmm6");
                    load!("tmm5", second.add(step * TILE_BYTES), lda[1]);
                    multiply!("tmm2", "tmm5", "tmm6");
                    if VECTORS == 2 {
                        load!("tmm7", weights.add(TILE_BYTES), weight_row);
                        multiply!("tmm1", "tmm4", "tmm7");
                        multiply!("tmm3", "tmm5", "tmm7");
                    }
                    weights = weights.add(TILE_ROWS * weight_row);
                }
            }
            let sums = self.sums.cast::<u8>().add(TILE_BYTES * vector);
            store!("tmm0", sums, weight_row);
            store!("tmm2", sums.add(TILE_ROWS * weight_row), weight_row);
            if VECTORS == 2 {
                store!("tmm1", sums.add(TILE_BYTES), weight_row);
                store!("tmm3", sums.add(TILE_ROWS * weight_row + TILE_BYTES), weight_row);
            }
        }
    }

    /// One tile of rows × 1 to 4 `vectors`.
    ///
    /// # Safety
    /// As [`two_rows`](Self::two_rows).
    unsafe fn one_row(&self, vectors: usize) {
        let (lda, weight_row) = (self.lda[0], self.weight_row);
        // SAFETY: the caller's.
        unsafe {
            load!("tmm0", self.bias, 0usize);
            if vectors > 1 {
                load!("tmm1", self.bias.add(16), 0usize);
            }
            if vectors > 2 {
                load!("tmm2", self.bias.add(32), 0usize);
            }
            if vectors > 3 {
                load!("tmm3", self.bias.add(48), 0usize);
            }
            let mut weights = self.weights;
            for &first in self.starts[0] {
                for step in 0..self.steps {
                    load!("tmm4", first.add(step * TILE_BYTES), lda);
                    load!("tmm6", weights, weight_row);
                    multiply!("tmm0", "tmm4", "tmm6");
                    if vectors > 1 {
                        load!("tmm7", weights.add(TILE_BYTES), weight_row);
                        multiply!("tmm1", "tmm4", "tmm7");
                    }
                    if vectors > 2 {
                        load!("tmm6", weights.add(2 * TILE_BYTES), weight_row);
                        multiply!("tmm2", "tmm4", "tmm6");
                    }
                    if vectors > 3 {
                        load!("tmm7", weights.add(3 * TILE_BYTES), weight_row);
                        multiply!("tmm3", "tmm4", "tmm7");
                    }
                    weights = weights.add(TILE_ROWS * weight_row);
                }
            }
            let sums = self.sums.cast::<u8>();
            store!("tmm0", sums, weight_row);
            if vectors > 1 {
                store!("tmm1", sums.add(TILE_BYTES), weight_row);
            }
            if vectors > 2 {
                store!("tmm2", sums.add(2 * TILE_BYTES), weight_row);
            }
            if vectors > 3 {
                store!("tmm3", sums.add(3 * TILE_BYTES), weight_row);
            }
        }
    }
}

/// Stores `rows` rows of sums, four at a time.
///
/// # Safety
/// The machine has the AVX-512 tier; `sums` holds the rows, which can be written at `target`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn store<const VECTORS: usize>(target: &Target, addend: Option<&Addend>, sums: &[i32], rows: usize) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn some<const ROWS: usize, const VECTORS: usize>(
        target: &Target,
        addend: Option<&Addend>,
        sums: &[i32],
        first: usize,
    ) {
        let sums = sums[first * VECTORS * 16..][..ROWS * VECTORS * 16].as_ptr();
        // SAFETY: the caller's; `sums` holds all of them, on whole lines.
        unsafe {
            let acc = &*sums.cast::<[[__m512i; VECTORS]; ROWS]>();
            let target = target.at_row(first);
            match addend {
                None => finish::<true, ROWS, VECTORS>(&target, acc),
                Some(addend) => finish_sum(&target, acc, addend),
            }
        }
    }
    let whole = rows / 4 * 4;
    // SAFETY: the caller's.
    unsafe {
        for first in (0..whole).step_by(4) {
            some::<4, VECTORS>(target, addend, sums, first);
        }
        match rows - whole {
            1 => some::<1, VECTORS>(target, addend, sums, whole),
            2 => some::<2, VECTORS>(target, addend, sums, whole),
            3 => some::<3, VECTORS>(target, addend, sums, whole),
            _ => {}
        }
    }
}
