//! How the work of a product is shared out to the threads of a team: by rows, by channels, or by both.
//!
//! Threads that share the rows each read all weights; threads that share the channels each read all rows. Where there
//! are more weights than inputs, as in the last layers of a network, reading them takes longer than multiplying.
//!
//! Equal shares don't take equal times: what another core wrote takes longer to read, and to write again. So where weights
//! are few, the last part of a thread's rows is cut into pieces, and who is done first takes some of another's.

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
/// Bytes of weights that can be read again for each piece.
const PIECE_WEIGHTS: usize = 160 * 1024;
/// One part in so many of a thread's rows is cut into as many pieces.
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

    /// What each of at most `threads` threads computes, one share after the other; together they are everything once. There
    /// is one at least, if there is a row and a block.
    fn shares(&self, threads: usize) -> Vec<Vec<Share>> {
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
            return all.map(|at| vec![share(at)]).collect();
        }
        // As many pairs of tiles for each, and of less than a pair for each, some channels.
        let few_weights = self.weights * self.weight_bytes <= PIECE_WEIGHTS;
        let open = if few_weights && by_rows > 1 { each / PIECES } else { 0 };
        let piece = open.div_ceil(PIECES).max(1);
        let rest = by_rows * each * PAIR..self.rows;
        let shares = (0..by_rows).map(|at| {
            let end = (at + 1) * each;
            let starts = (end - open..end).step_by(piece);
            let pieces = starts.map(|start| start..(start + piece).min(end));
            let pairs = std::iter::once(at * each..end - open).chain(pieces);
            let whole = |pairs: Range<usize>| Share {
                rows: pairs.start * PAIR..pairs.end * PAIR,
                blocks: 0..self.blocks,
            };
            let last = Share { rows: rest.clone(), blocks: part(self.blocks, by_rows, at) };
            pairs.map(whole).chain([last]).filter(|share| !share.rows.is_empty()).collect()
        });
        shares.collect()
    }

    /// Calls `work` for each share of a team's threads, on all of them at the same time, or here for everything at once.
    pub(super) fn share_out(&self, team: Option<&Team>, work: impl Fn(Share) + Sync) {
        let team = team.filter(|_| self.rows > 0);
        match team.map(|team| (team, self.shares(team.threads()))) {
            Some((team, shares)) if shares.len() > 1 => {
                let next: Vec<AtomicUsize> = shares.iter().map(|_| AtomicUsize::new(0)).collect();
                team.each((0..shares.len()).collect(), |thread| {
                    // Its own, then what others have left.
                    for of in (thread..shares.len()).chain(0..thread) {
                        while let Some(share) = shares[of].get(next[of].fetch_add(1, Ordering::Relaxed)) {
                            work(share.clone());
                        }
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
                    let shares = size(rows, blocks, blocks * 64 * 256, 256).shares(threads);
                    assert!((1..=threads).contains(&shares.len()), "{shares:?}");
                    let mut done = vec![0; rows * blocks];
                    for Share { rows, blocks: of_share } in shares.into_iter().flatten() {
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
        for (size, pieces) in [(size(196, 4, 1024 * 256, 1024), 2), (size(3136, 4, 64 * 256, 64), 5)] {
            let shares = size.shares(2);
            let tiles = |shares: &Vec<Share>| -> usize {
                shares.iter().map(|share| share.rows.len().div_ceil(ROWS) * share.blocks.len()).sum()
            };
            assert_eq!(tiles(&shares[0]), tiles(&shares[1]), "{shares:?}");
            assert_eq!(shares[0].len(), pieces, "{shares:?}");
        }
    }

    #[test]
    fn large_images_are_shared_by_rows_and_large_weights_by_channels() {
        let parts = |size: Size| {
            let first = &size.shares(2)[0][0];
            (first.rows.len() < size.rows, first.blocks.len() < size.blocks)
        };
        assert_eq!(parts(size(3136, 4, 256 * 64, 64)), (true, false));
        assert_eq!(parts(size(49, 32, 2048 * 512, 512)), (false, true));
        assert_eq!(parts(size(1, 16, 1000 * 2048, 2048)), (false, true));
    }
}
