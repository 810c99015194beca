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

/// ln 10⁻³⁰: shares of a smaller exponent are 0. Beside the largest they are nothing, but sums of their products with
/// small numbers are subnormal, which costs a hundred times the time.
const LEAST_EXPONENT: f32 = -69.077_55;

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
pub(in super::super) fn weights_of_rows(isa: Isa, x: &mut [f32], len: usize, inverse: &mut [f32]) {
    assert!(len > 0 && Some(x.len()) == inverse.len().checked_mul(len), "{} of {len}", x.len());
    per_tier!(isa, each_row(x: &mut [f32], len: usize, inverse: &mut [f32]));
}

#[inline(always)]
fn each_row(x: &mut [f32], len: usize, inverse: &mut [f32]) {
    for (x, inverse) in x.chunks_exact_mut(len).zip(inverse) {
        *inverse = 1.0 / weigh_row(x);
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
            let factor = 1.0 / weigh_row(x);
            for x in x {
                *x *= factor;
            }
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

/// Leaves `eˣ⁻ᵐ` in the row `x` and returns their sum.
///
/// Here and below, lanes are only ever named by constants, so that they are registers.
#[inline(always)]
fn weigh_row(x: &mut [f32]) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut maxima = filled(rest, f32::NEG_INFINITY);
    for x in whole {
        for (max, &x) in maxima.iter_mut().zip(x) {
            *max = larger(*max, x);
        }
    }
    let max = joined(maxima, larger);
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    let mut last = filled(rest, f32::NEG_INFINITY);
    let mut sums = [0.0; LANES];
    for x in whole {
        for (x, sum) in x.iter_mut().zip(&mut sums) {
            *x = share(*x - max);
            *sum += *x;
        }
    }
    for (x, sum) in last.iter_mut().zip(&mut sums) {
        *x = share(*x - max);
        *sum += *x;
    }
    rest.copy_from_slice(&last[..rest.len()]);
    joined(sums, sum_of)
}

/// What is left of a row behind its whole vectors, filled up with `value`.
#[inline(always)]
fn filled(rest: &[f32], value: f32) -> [f32; LANES] {
    let mut lanes = [value; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// The lanes joined in halves, each step spelled out: in a loop they would live in memory.
#[inline(always)]
fn joined(lanes: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> f32 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = lanes;
    let [a, b, c, d] =
        [of(of(a, i), of(e, m)), of(of(b, j), of(f, n)), of(of(c, k), of(g, o)), of(of(d, l), of(h, p))];
    of(of(a, c), of(b, d))
}

#[inline(always)]
fn sum_of(a: f32, b: f32) -> f32 {
    a + b
}

/// eˣ for x ≤ 0, and 0 where that is below 10⁻³⁰.
#[inline(always)]
fn share(x: f32) -> f32 {
    let share = exp_of_negative(x);
    if x < LEAST_EXPONENT { 0.0 } else { share }
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
    join(sums, inner, sum_of);
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
        *x = share(*x - max);
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
        *mean = mean_of(x);
    }
}

#[inline(always)]
fn mean_of(x: &[f32]) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut sums = filled(rest, 0.0);
    for x in whole {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x;
        }
    }
    joined(sums, sum_of) / x.len() as f32
}

/// The mean of the squares of the distances from `mean`.
#[inline(always)]
fn variance_of(x: &[f32], mean: f32) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let last = filled(rest, mean);
    let mut squares = [0.0; LANES];
    for x in whole.iter().chain([&last]) {
        for (sum, x) in squares.iter_mut().zip(x) {
            let distance = x - mean;
            *sum = distance.mul_add(distance, *sum);
        }
    }
    joined(squares, sum_of) / x.len() as f32
}

/// `out[i] = (x[i] − μ) / √(σ² + epsilon) · weights[i] + bias[i]` for each row, μ and σ² being the mean of its elements and
/// of the squares of their distances from it: layer normalization (Ba, Kiros, Hinton, 2016).
///
/// # Panics
/// `x` and `out` differ in length or are no whole rows, which have as many elements as there are `weights` and `bias`.
pub fn normalize(isa: Isa, x: &[f32], epsilon: f32, weights: &[f32], bias: &[f32], out: &mut [f32]) {
    let len = weights.len();
    assert_eq!(x.len(), out.len(), "{} elements for {}", x.len(), out.len());
    assert!(len > 0 && bias.len() == len && x.len().is_multiple_of(len), "{} of {len}", x.len());
    per_tier!(
        isa,
        normalized(x: &[f32], epsilon: f32, weights: &[f32], bias: &[f32], out: &mut [f32])
    );
}

#[inline(always)]
fn normalized(x: &[f32], epsilon: f32, weights: &[f32], bias: &[f32], out: &mut [f32]) {
    let len = weights.len();
    for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        let mean = mean_of(x);
        let variance = variance_of(x, mean);
        let factor = 1.0 / (variance + epsilon).sqrt();
        for ((out, x), (weight, bias)) in out.iter_mut().zip(x).zip(weights.iter().zip(bias)) {
            *out = ((x - mean) * factor).mul_add(*weight, *bias);
        }
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
