//! Where the windows of a convolution by indirection lie: one offset for each row of the product and tap.
//!
//! A table is checked and taken to pieces once, when a model is loaded: taps that lie side by side are one run of
//! bytes, and nearly all windows of an image consist of the same runs, only at other places.

use std::collections::HashMap;
use std::ops::Range;

/// In the offsets of [`Offsets::new`]: this tap of this row is padding.
pub const PAD: i32 = i32::MIN;

/// A run of bytes of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Run {
    /// The tap with which it starts.
    pub tap: u32,
    /// Its length; that of one tap where it is padding.
    pub bytes: u32,
    pub is_padding: bool,
}

/// The offsets of all windows of a convolution over one image.
#[derive(Debug)]
pub struct Offsets {
    taps: usize,
    k: usize,
    /// `[row][tap]`.
    values: Vec<i32>,
    /// The largest offset.
    last: usize,
    patterns: Vec<Box<[Run]>>,
    /// Of each row.
    pattern: Vec<u32>,
    /// For each row, how far all its taps lie behind those of the row before; 0 where that is not one distance, or some
    /// are padding.
    after: Vec<u32>,
}

impl Offsets {
    /// `values[row · taps + tap]` is where the `k` bytes under that tap of that row start, or [`PAD`].
    ///
    /// # Panics
    /// A size is 0, an offset is negative and not [`PAD`], or there is no whole number of rows.
    pub fn new(taps: usize, k: usize, values: Vec<i32>) -> Offsets {
        assert!(taps > 0 && k > 0, "empty windows: taps {taps}, k {k}");
        assert!(values.len().is_multiple_of(taps), "{} offsets are no rows of {taps} taps", values.len());
        assert!(values.iter().all(|&at| at >= 0 || at == PAD), "an offset is negative");
        let last = values.iter().copied().max().unwrap_or(0).max(0) as usize;
        let (mut patterns, mut known) = (vec![], HashMap::<Box<[Run]>, u32>::new());
        let mut pattern: Vec<u32> = Vec::with_capacity(values.len() / taps);
        for row in values.chunks_exact(taps) {
            let runs = runs(row, k);
            let previous = pattern.last().copied().filter(|&id| patterns[id as usize] == runs);
            pattern.push(previous.unwrap_or_else(|| {
                *known.entry(runs).or_insert_with_key(|runs| {
                    patterns.push(runs.clone());
                    patterns.len() as u32 - 1
                })
            }));
        }
        let after = distances(&values, taps, k);
        Offsets { taps, k, values, last, patterns, pattern, after }
    }

    /// Windows of the image.
    pub fn rows(&self) -> usize {
        self.pattern.len()
    }

    /// The windows `range`.
    ///
    /// # Panics
    /// There are fewer.
    pub fn part(&self, range: Range<usize>) -> Windows<'_> {
        let Offsets { taps, k, last, .. } = *self;
        Windows {
            taps,
            k,
            last,
            values: &self.values[range.start * taps..range.end * taps],
            patterns: &self.patterns,
            after: &self.after[range.clone()],
            pattern: &self.pattern[range],
        }
    }

    /// All windows.
    pub fn all(&self) -> Windows<'_> {
        self.part(0..self.rows())
    }
}

/// Some windows of [`Offsets`].
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    pub(super) taps: usize,
    pub(super) k: usize,
    /// No offset is larger.
    pub(super) last: usize,
    /// `[row][tap]`; each is not negative, or [`PAD`].
    pub(super) values: &'a [i32],
    patterns: &'a [Box<[Run]>],
    pattern: &'a [u32],
    after: &'a [u32],
}

impl<'a> Windows<'a> {
    /// How many there are.
    pub(super) fn rows(&self) -> usize {
        self.pattern.len()
    }

    /// The windows `rows` of these.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn part(self, rows: Range<usize>) -> Windows<'a> {
        Windows {
            values: &self.values[rows.start * self.taps..rows.end * self.taps],
            after: &self.after[rows.clone()],
            pattern: &self.pattern[rows],
            ..self
        }
    }

    /// The distance between neighbours of the windows `rows` (one at least), if it is the same everywhere and none has
    /// padding.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn even(&self, rows: Range<usize>) -> Option<usize> {
        let others = &self.after[rows.start + 1..rows.end];
        match others.first() {
            Some(&step) => (step > 0 && others.iter().all(|other| *other == step)).then_some(step as usize),
            None => {
                let runs = &self.patterns[self.pattern[rows.start] as usize];
                runs.iter().all(|run| !run.is_padding).then_some(self.k)
            }
        }
    }

    /// The offsets of window `row`, and the runs that they are.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn window(&self, row: usize) -> (&'a [i32], &'a [Run]) {
        let offsets = &self.values[row * self.taps..(row + 1) * self.taps];
        (offsets, &self.patterns[self.pattern[row] as usize])
    }
}

/// See [`Offsets::after`]; rows that overlap count as uneven.
fn distances(values: &[i32], taps: usize, k: usize) -> Vec<u32> {
    let mut after = vec![0; values.len() / taps];
    let rows = values.chunks_exact(taps).zip(values.chunks_exact(taps).skip(1));
    for (after, (row, next)) in after.iter_mut().skip(1).zip(rows) {
        let step = i64::from(next[0]) - i64::from(row[0]);
        let is_even =
            row.iter().zip(next).all(|(&a, &b)| a != PAD && b != PAD && i64::from(b) - i64::from(a) == step);
        if is_even && step >= k as i64 {
            *after = step as u32;
        }
    }
    after
}

/// Taps that lie side by side, as one; padding tap by tap.
fn runs(offsets: &[i32], k: usize) -> Box<[Run]> {
    let mut runs: Vec<Run> = Vec::with_capacity(offsets.len());
    for (tap, &offset) in offsets.iter().enumerate() {
        if let Some(run) = runs.last_mut()
            && !run.is_padding
            && offset != PAD
            && i64::from(offset) == i64::from(offsets[run.tap as usize]) + i64::from(run.bytes)
        {
            run.bytes += k as u32;
        } else {
            runs.push(Run { tap: tap as u32, bytes: k as u32, is_padding: offset == PAD });
        }
    }
    runs.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn taps_side_by_side_are_one_run_and_windows_share_patterns() {
        let values = vec![PAD, 0, 4, 10, PAD, 20, 24, 30, PAD, 40, 44, 54, 0, 4, 8, 12];
        let offsets = Offsets::new(4, 4, values);
        assert_eq!((offsets.rows(), offsets.last, offsets.patterns.len()), (4, 54, 2));
        let (values, runs) = offsets.part(1..3).window(1);
        assert_eq!(values, [PAD, 40, 44, 54]);
        let shape: Vec<_> = runs.iter().map(|run| (run.tap, run.bytes, run.is_padding)).collect();
        assert_eq!(shape, [(0, 4, true), (1, 8, false), (3, 4, false)]);
        assert_eq!(offsets.all().window(3).1.len(), 1);
        assert_eq!(offsets.all().even(3..4), Some(4));
        assert_eq!(offsets.all().even(1..2), None, "it has padding");
        assert_eq!(offsets.all().even(2..4), None, "they are of two kinds");
        let regular = Offsets::new(2, 4, vec![0, 9, 4, 13, 8, 17, 12, 22]);
        assert_eq!((regular.all().even(0..3), regular.all().even(0..4)), (Some(4), None));
    }

    #[test]
    #[should_panic(expected = "an offset is negative")]
    fn negative_offsets_are_refused() {
        Offsets::new(2, 5, vec![PAD, -1]);
    }
}
