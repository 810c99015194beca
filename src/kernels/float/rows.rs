//! Functions of whole rows: what attention and normalization consist of beside products.
//!
//! Sums of a row are kept in as many lanes as a vector has, whatever the tier, and joined in order of the lanes: equal
//! results again follow from equal source.

use super::super::Isa;
use super::super::elementwise::per_tier;
use super::super::scalar::clamp;
use super::elementwise::Binary;
use super::math::exp_of_negative;

/// Partial sums of a row.
const LANES: usize = 16;

/// Shares below this are 0. Beside the largest they are nothing, but sums of their products with small numbers are
/// subnormal, which costs a hundred times the time.
const LEAST_SHARE: f32 = 1e-30;

/// `out = eˣ⁻ᵐ / Σ eˣ⁻ᵐ` along an axis of `len` elements that are `inner` apart, m being the largest of them; shares
/// below 10⁻³⁰ of the largest are 0. `x` is `[outer][len][inner]`.
///
/// # Panics
/// `len` or `inner` is 0, the slices differ in length, or they are no whole number of `len · inner`.
pub fn softmax(isa: Isa, x: &[f32], len: usize, inner: usize, out: &mut [f32]) {
    out.copy_from_slice(x);
    softmax_in_place(isa, out, len, inner);
}

/// `x = eˣ⁻ᵐ` for each row of `len` elements, m being its largest, and `inverse = 1 / Σ eˣ⁻ᵐ`: a softmax whose last
/// step is left to the results.
///
/// # Panics
/// `x` is not `inverse.len()` rows.
pub(super) fn weights_of_rows(isa: Isa, x: &mut [f32], len: usize, inverse: &mut [f32]) {
    assert!(len > 0 && Some(x.len()) == inverse.len().checked_mul(len), "{} of {len}", x.len());
    per_tier!(isa, each_row(x: &mut [f32], len: usize, inverse: &mut [f32]));
}

#[inline(always)]
fn each_row(x: &mut [f32], len: usize, inverse: &mut [f32]) {
    for (x, inverse) in x.chunks_exact_mut(len).zip(inverse) {
        let (mut maxima, mut sums) = ([0.0; LANES], [0.0; LANES]);
        weights(x, 1, &mut maxima, &mut sums);
        *inverse = 1.0 / sums[0];
    }
}

/// As [`softmax`], in place.
///
/// # Panics
/// As [`softmax`].
fn softmax_in_place(isa: Isa, x: &mut [f32], len: usize, inner: usize) {
    let block = len.checked_mul(inner).filter(|block| *block > 0);
    assert!(block.is_some_and(|block| x.len().is_multiple_of(block)), "{} of [{len}][{inner}]", x.len());
    let block = len * inner;
    per_tier!(isa, blocks(x: &mut [f32], block: usize, inner: usize));
}

/// Loops, not closures, here and below: a closure has no instruction set but the plain one.
#[inline(always)]
fn blocks(x: &mut [f32], block: usize, inner: usize) {
    // Lanes are a multiple of `inner`, so that a lane always belongs to the same one; a constant number of them where
    // it can be, so that they are registers.
    if inner == 1 {
        for x in x.chunks_exact_mut(block) {
            one(x, 1, &mut [0.0; LANES], &mut [0.0; LANES]);
        }
    } else if LANES.is_multiple_of(inner) {
        for x in x.chunks_exact_mut(block) {
            one(x, inner, &mut [0.0; LANES], &mut [0.0; LANES]);
        }
    } else if (3 * LANES).is_multiple_of(inner) {
        for x in x.chunks_exact_mut(block) {
            one(x, inner, &mut [0.0; 3 * LANES], &mut [0.0; 3 * LANES]);
        }
    } else {
        let (mut maxima, mut sums) = (vec![0.0; inner], vec![0.0; inner]);
        for x in x.chunks_exact_mut(block) {
            one(x, inner, &mut maxima, &mut sums);
        }
    }
}

#[inline(always)]
fn one(x: &mut [f32], inner: usize, maxima: &mut [f32], sums: &mut [f32]) {
    weights(x, inner, maxima, sums);
    for sum in sums.iter_mut() {
        *sum = 1.0 / *sum;
    }
    let mut whole = x.chunks_exact_mut(sums.len());
    for x in whole.by_ref() {
        scale(x, sums);
    }
    scale(whole.into_remainder(), sums);
}

/// Leaves `eˣ⁻ᵐ` in `x` and their sums in `sums`.
#[inline(always)]
fn weights(x: &mut [f32], inner: usize, maxima: &mut [f32], sums: &mut [f32]) {
    let width = maxima.len();
    maxima.fill(f32::NEG_INFINITY);
    let whole = x.chunks_exact(width);
    raise(whole.remainder(), maxima);
    for x in whole {
        raise(x, maxima);
    }
    join(maxima, inner, larger);
    sums.fill(0.0);
    let mut whole = x.chunks_exact_mut(width);
    for x in whole.by_ref() {
        weigh(x, maxima, sums);
    }
    weigh(whole.into_remainder(), maxima, sums);
    join(sums, inner, |a, b| a + b);
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn raise(x: &[f32], maxima: &mut [f32]) {
    for (max, &x) in maxima.iter_mut().zip(x) {
        *max = larger(*max, x);
    }
}

#[inline(always)]
fn weigh(x: &mut [f32], maxima: &[f32], sums: &mut [f32]) {
    for ((x, max), sum) in x.iter_mut().zip(maxima).zip(sums) {
        let share = exp_of_negative(*x - max);
        *x = if share < LEAST_SHARE { 0.0 } else { share };
        *sum += *x;
    }
}

#[inline(always)]
fn scale(x: &mut [f32], factors: &[f32]) {
    for (x, factor) in x.iter_mut().zip(factors) {
        *x *= factor;
    }
}

/// Joins the lanes of each of the `inner` positions and gives the result to all of them; there are `inner` lanes, or that
/// many doubled a few times.
#[inline(always)]
fn join(lanes: &mut [f32], inner: usize, of: impl Fn(f32, f32) -> f32) {
    let mut width = lanes.len();
    while width > inner {
        width /= 2;
        let (low, high) = lanes.split_at_mut(width);
        for (low, high) in low.iter_mut().zip(high) {
            *low = of(*low, *high);
        }
    }
    while width < lanes.len() {
        for lane in 0..width {
            lanes[width + lane] = lanes[lane];
        }
        width *= 2;
    }
}

/// The mean of each row of `len` elements.
///
/// # Panics
/// `x` is not `out.len()` rows.
pub fn row_means(isa: Isa, x: &[f32], len: usize, out: &mut [f32]) {
    assert!(len > 0 && Some(x.len()) == out.len().checked_mul(len), "{} of {len}", x.len());
    per_tier!(isa, means(x: &[f32], len: usize, out: &mut [f32]));
}

#[inline(always)]
fn means(x: &[f32], len: usize, out: &mut [f32]) {
    for (x, mean) in x.chunks_exact(len).zip(out) {
        let mut sums = [0.0; LANES];
        for x in x.chunks(LANES) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += x;
            }
        }
        *mean = sums.iter().sum::<f32>() / len as f32;
    }
}

/// `out[row][i] = clamp(x[row][i] op each[row], lo, hi)`, or `each[row] op x[row][i]` if `swapped`.
///
/// # Panics
/// `x` and `out` differ in length, or are no whole rows.
pub fn binary_rows(
    isa: Isa,
    op: Binary,
    x: &[f32],
    each: &[f32],
    swapped: bool,
    range: (f32, f32),
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "{} elements for {}", x.len(), out.len());
    assert!(!each.is_empty() && x.len().is_multiple_of(each.len()), "{} of {}", x.len(), each.len());
    if !x.is_empty() {
        per_tier!(isa, with_each(op: Binary, x: &[f32], each: &[f32], swapped: bool, range: (f32, f32), out: &mut [f32]));
    }
}

#[inline(always)]
fn with_each(op: Binary, x: &[f32], each: &[f32], swapped: bool, (lo, hi): (f32, f32), out: &mut [f32]) {
    let len = x.len() / each.len();
    macro_rules! rows {
        ($($case:ident)*) => {
            match op {
                $(Binary::$case => for ((x, out), &v) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)).zip(each) {
                    match swapped {
                        false => for (y, &x) in out.iter_mut().zip(x) { *y = clamp(Binary::$case.of(x, v), lo, hi); },
                        true => for (y, &x) in out.iter_mut().zip(x) { *y = clamp(Binary::$case.of(v, x), lo, hi); },
                    }
                }),*
            }
        };
    }
    rows!(Add Sub Mul Div);
}
