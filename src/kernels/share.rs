//! How the work of a product is shared out to the threads of a team: by rows, by channels, or by both.
//!
//! Threads that share the rows each read all weights; threads that share the channels each read all rows. Where there
//! are more weights than inputs, as in the last layers of a network, reading them takes longer than multiplying.
//!
//! Equal shares don't take equal times: what another core wrote takes longer to read, and to write again. So where weights
//! are few, a part of the rows is left for who is done first.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Team;

/// What one thread computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub rows: Range<usize>,
    /// Blocks of channels.
    pub blocks: Range<usize>,
}

/// All shares of a product, which together are everything once.
#[derive(Debug)]
struct Plan {
    /// One for each thread.
    fixed: Vec<Share>,
    /// For whoever is done first.
    open: Vec<Share>,
}

/// A product as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub rows: usize,
    pub blocks: usize,
    /// Weights, and the bytes of one.
    pub weights: usize,
    pub weight_bytes: usize,
    /// Bytes that a row reads.
    pub row_bytes: usize,
    /// Products that the tier computes in a cycle.
    pub per_cycle: usize,
}

/// Rows that are not divided: the height of the tallest tile.
const ROWS: usize = 16;
/// Rows that are best multiplied together: two such tiles.
const PAIR: usize = 2 * ROWS;
/// Bytes of weights that can be read again for each piece that is left for who is done first.
const PIECE_WEIGHTS: usize = 160 * 1024;
/// Of the rows, this part is divided beforehand.
const FIXED: (usize, usize) = (3, 4);
/// Pieces of the others for each thread.
const PIECES: usize = 4;
/// Bytes of weights or inputs that a thread reads in a cycle from the caches that it shares.
const BYTES_PER_CYCLE: usize = 8;

impl Size {
    /// A rough number of cycles with rows in `by_rows` parts and blocks in `by_blocks`.
    fn cycles(&self, by_rows: usize, by_blocks: usize) -> usize {
        let rows = self.rows.next_multiple_of(ROWS).div_ceil(by_rows);
        let weights = self.weights / self.blocks * self.blocks.div_ceil(by_blocks);
        let inputs = self.rows.div_ceil(by_rows) * self.row_bytes;
        // A thread has its own part of the rows in its cache since it wrote them; others' come from another core.
        let inputs = if by_blocks > 1 { 2 * inputs } else { inputs };
        rows * weights / self.per_cycle + (weights * self.weight_bytes + inputs) / BYTES_PER_CYCLE
    }

    /// Who computes what, for at most `threads` threads. There is one share at least, if there is a row and a block.
    fn plan(&self, threads: usize) -> Plan {
        let groups = self.rows.div_ceil(ROWS);
        let ways =
            (1..=threads.min(self.blocks)).map(|blocks| ((threads / blocks).clamp(1, groups.max(1)), blocks));
        let best = ways.min_by_key(|(rows, blocks)| self.cycles(*rows, *blocks));
        let (by_rows, by_blocks) = best.unwrap_or((1, 1));
        let part = |count: usize, parts: usize, at: usize| count * at / parts..count * (at + 1) / parts;
        let each = self.rows / (PAIR * by_rows);
        if by_blocks > 1 || by_rows > self.blocks || each == 0 {
            let rows = |at: usize| {
                let groups = part(groups, by_rows, at);
                groups.start * ROWS..(groups.end * ROWS).min(self.rows)
            };
            let all = (0..by_rows).flat_map(|row| (0..by_blocks).map(move |block| (row, block)));
            let share = |(row, block)| Share { rows: rows(row), blocks: part(self.blocks, by_blocks, block) };
            return Plan { fixed: all.map(share).collect(), open: vec![] };
        }
        // As many pairs of tiles for each. What is left of them is taken in pieces; less than a pair for each thread, by
        // channels.
        let few_weights = self.weights * self.weight_bytes <= PIECE_WEIGHTS;
        let (fixed, piece) = match each * (FIXED.1 - FIXED.0) / FIXED.1 {
            open if open > 0 && few_weights && by_rows > 1 => (each - open, open.div_ceil(PIECES)),
            _ => (each, 1),
        };
        let whole = |rows: Range<usize>| Share { rows, blocks: 0..self.blocks };
        let rows = |at: usize| at * each * PAIR..(at * each + fixed) * PAIR;
        let taken = (0..by_rows).flat_map(|at| {
            let end = (at + 1) * each * PAIR;
            let starts = (rows(at).end..end).step_by(piece * PAIR);
            starts.map(move |start| start..(start + piece * PAIR).min(end))
        });
        let rest = by_rows * each * PAIR..self.rows;
        let parts = if rest.is_empty() { 0 } else { by_rows };
        let by_channels =
            (0..parts).map(|at| Share { rows: rest.clone(), blocks: part(self.blocks, parts, at) });
        Plan {
            fixed: (0..by_rows).map(|at| whole(rows(at))).collect(),
            open: taken.map(whole).chain(by_channels).collect(),
        }
    }

    /// Calls `work` for each share of a team's threads, on all of them at the same time, or here for everything at once.
    pub(super) fn share_out(&self, team: Option<&Team>, work: impl Fn(Share) + Sync) {
        let team = team.filter(|_| self.rows > 0);
        match team.map(|team| (team, self.plan(team.threads()))) {
            Some((team, Plan { fixed, open })) if fixed.len() > 1 => {
                let next = AtomicUsize::new(0);
                team.each(fixed, |share| {
                    work(share);
                    while let Some(share) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(share.clone());
                    }
                });
            }
            _ => work(Share { rows: 0..self.rows, blocks: 0..self.blocks }),
        }
    }
}

/// Where all threads write: each its own rows and channels.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(pub *mut T);

// SAFETY: a pointer; who writes through it says why nobody else writes there.
#[allow(unsafe_code)]
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer. (A closure that names the field would take only that, which can't go to another thread.)
    pub(super) fn get(self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(rows: usize, blocks: usize, weights: usize, row_bytes: usize) -> Size {
        Size { rows, blocks, weights, weight_bytes: 1, row_bytes, per_cycle: 1024 }
    }

    #[test]
    fn shares_are_everything_once() {
        for rows in [1, 15, 16, 49, 100, 3136] {
            for blocks in [1, 2, 3, 8, 16] {
                for threads in 1..9 {
                    let Plan { fixed, open } = size(rows, blocks, blocks * 64 * 256, 256).plan(threads);
                    assert!((1..=threads).contains(&fixed.len()), "{fixed:?}");
                    let mut done = vec![0; rows * blocks];
                    for Share { rows, blocks: of_share } in fixed.into_iter().chain(open) {
                        assert!(!rows.is_empty() && !of_share.is_empty());
                        rows.flat_map(|row| of_share.clone().map(move |block| row * blocks + block))
                            .for_each(|at| done[at] += 1);
                    }
                    assert!(done.iter().all(|times| *times == 1), "{rows} rows, {blocks} blocks, {threads}");
                }
            }
        }
    }

    #[test]
    fn no_thread_has_a_tile_more_than_another() {
        let tiles = |shares: &[Share]| -> Vec<usize> {
            shares.iter().map(|share| share.rows.len().div_ceil(ROWS) * share.blocks.len()).collect()
        };
        let large = size(196, 4, 256 * 1024, 256).plan(2);
        assert_eq!((tiles(&large.fixed), tiles(&large.open)), (vec![24, 24], vec![2, 2]), "{large:?}");
        let small = size(3136, 4, 64 * 256, 64).plan(2);
        assert_eq!(tiles(&small.fixed), [37 * 8; 2]);
        assert_eq!(tiles(&small.open).iter().sum::<usize>(), 2 * 12 * 8);
    }

    #[test]
    fn large_images_are_shared_by_rows_and_large_weights_by_channels() {
        let parts = |size: Size| {
            let first = &size.plan(2).fixed[0];
            (first.rows.len() < size.rows, first.blocks.len() < size.blocks)
        };
        assert_eq!(parts(size(3136, 4, 256 * 64, 64)), (true, false));
        assert_eq!(parts(size(49, 32, 2048 * 512, 512)), (false, true));
        assert_eq!(parts(size(1, 16, 1000 * 2048, 2048)), (false, true));
    }
}
