//! Extremes and sums of many numbers, side by side.

use super::super::Isa;
use super::super::elementwise::per_tier;

/// What is added up of each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term {
    /// The element, or this where that is larger.
    AtLeast(f32),
    /// Its square.
    Square,
}

/// Takes in `x` one row of `sums.len()` elements after the other: each row is added to `sums`, and its elements lower
/// those of `low` and raise those of `high`. The last row may be shorter. NaN ends up in sums alone.
///
/// # Panics
/// `low`, `high` and `sums` differ in length.
pub fn survey(isa: Isa, x: &[f32], term: Term, low: &mut [f32], high: &mut [f32], sums: &mut [f32]) {
    assert!(low.len() == sums.len() && high.len() == sums.len(), "lanes of different lengths");
    if sums.is_empty() {
        return;
    }
    let (square, floor) = match term {
        Term::AtLeast(floor) => (false, floor),
        Term::Square => (true, f32::NEG_INFINITY),
    };
    per_tier!(isa, rows(x: &[f32], square: bool, floor: f32, low: &mut [f32], high: &mut [f32], sums: &mut [f32]));
}

#[inline(always)]
fn rows(x: &[f32], square: bool, floor: f32, low: &mut [f32], high: &mut [f32], sums: &mut [f32]) {
    if square {
        all(x, |x| x * x, low, high, sums);
    } else {
        all(x, |x| if x < floor { floor } else { x }, low, high, sums);
    }
}

#[inline(always)]
fn all(x: &[f32], term: impl Fn(f32) -> f32, low: &mut [f32], high: &mut [f32], sums: &mut [f32]) {
    for row in x.chunks(sums.len()) {
        for (((x, low), high), sum) in row.iter().zip(&mut *low).zip(&mut *high).zip(&mut *sums) {
            *low = if *x < *low { *x } else { *low };
            *high = if *x > *high { *x } else { *high };
            *sum += term(*x);
        }
    }
}

/// As [`survey`], of stored bytes: each row of `sums.len()` bytes is added to `sums`, and `inside` counts those that are
/// neither 0 nor 255. Sums may get 2^24 rows.
///
/// # Panics
/// `sums` and `inside` differ in length.
pub fn survey_bytes(isa: Isa, x: &[u8], sums: &mut [u32], inside: &mut [u32]) {
    assert_eq!(sums.len(), inside.len(), "lanes of different lengths");
    if sums.is_empty() {
        return;
    }
    per_tier!(isa, byte_rows(x: &[u8], sums: &mut [u32], inside: &mut [u32]));
}

#[inline(always)]
fn byte_rows(x: &[u8], sums: &mut [u32], inside: &mut [u32]) {
    for row in x.chunks(sums.len()) {
        for ((x, sum), inside) in row.iter().zip(&mut *sums).zip(&mut *inside) {
            *sum += u32::from(*x);
            // 254 for 255, 255 for 0: both ends at once.
            *inside += u32::from(x.wrapping_sub(1) < 254);
        }
    }
}
