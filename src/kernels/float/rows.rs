//! Functions of whole rows: what attention and normalization consist of beside products.
//!
//! Sums of a row are kept in as many lanes as a vector has, whatever the tier, and joined in order of the lanes: equal
//! results again follow from equal source.

use super::super::Isa;
use super::super::elementwise::per_tier;
use super::elementwise::Binary;
use super::math::exp;

/// Partial sums of a row.
const LANES: usize = 16;

/// `out = eˣ⁻ᵐ / Σ eˣ⁻ᵐ` along an axis of `len` elements that are `inner` apart, m being the largest of them: `x` is
/// `[outer][len][inner]`.
///
/// # Panics
/// `len` or `inner` is 0, the slices differ in length, or they are no whole number of `len · inner`.
pub fn softmax(isa: Isa, x: &[f32], len: usize, inner: usize, out: &mut [f32]) {
    let block = len.checked_mul(inner).filter(|block| *block > 0);
    assert!(block.is_some_and(|block| x.len().is_multiple_of(block)), "{} of [{len}][{inner}]", x.len());
    assert_eq!(x.len(), out.len(), "{} elements for {}", x.len(), out.len());
    // Lanes are a multiple of `inner`, so that a lane always belongs to the same one.
    let width = inner * LANES.div_ceil(inner);
    let mut lanes = vec![0.0; 2 * width];
    let (lanes, block) = (&mut lanes[..], len * inner);
    per_tier!(isa, softmax_blocks(x: &[f32], block: usize, inner: usize, lanes: &mut [f32], out: &mut [f32]));
}

#[inline(always)]
fn softmax_blocks(x: &[f32], block: usize, inner: usize, lanes: &mut [f32], out: &mut [f32]) {
    let width = lanes.len() / 2;
    let (maxima, sums) = lanes.split_at_mut(width);
    for (x, out) in x.chunks_exact(block).zip(out.chunks_exact_mut(block)) {
        maxima.fill(f32::NEG_INFINITY);
        for x in x.chunks(width) {
            for (max, &x) in maxima.iter_mut().zip(x) {
                *max = if x > *max { x } else { *max };
            }
        }
        join(maxima, inner, |a, b| if b > a { b } else { a });
        sums.fill(0.0);
        for (x, out) in x.chunks(width).zip(out.chunks_mut(width)) {
            for (((y, &x), max), sum) in out.iter_mut().zip(x).zip(&*maxima).zip(&mut *sums) {
                *y = exp(x - max);
                *sum += *y;
            }
        }
        join(sums, inner, |a, b| a + b);
        for out in out.chunks_mut(width) {
            for (y, sum) in out.iter_mut().zip(&*sums) {
                *y /= sum;
            }
        }
    }
}

/// Joins the lanes of each of `inner` positions, and gives the result to all of them.
#[inline(always)]
fn join(lanes: &mut [f32], inner: usize, of: impl Fn(f32, f32) -> f32) {
    for lane in inner..lanes.len() {
        lanes[lane % inner] = of(lanes[lane % inner], lanes[lane]);
    }
    for lane in inner..lanes.len() {
        lanes[lane] = lanes[lane % inner];
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

/// `out[row][i] = x[row][i] op each[row]`, or `each[row] op x[row][i]` if `swapped`.
///
/// # Panics
/// `x` and `out` differ in length, or are no whole rows.
pub fn binary_rows(isa: Isa, op: Binary, x: &[f32], each: &[f32], swapped: bool, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "{} elements for {}", x.len(), out.len());
    assert!(!each.is_empty() && x.len().is_multiple_of(each.len()), "{} of {}", x.len(), each.len());
    if !x.is_empty() {
        per_tier!(isa, with_each(op: Binary, x: &[f32], each: &[f32], swapped: bool, out: &mut [f32]));
    }
}

#[inline(always)]
fn with_each(op: Binary, x: &[f32], each: &[f32], swapped: bool, out: &mut [f32]) {
    let len = x.len() / each.len();
    macro_rules! rows {
        ($($case:ident)*) => {
            match op {
                $(Binary::$case => for ((x, out), &v) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)).zip(each) {
                    match swapped {
                        false => for (y, &x) in out.iter_mut().zip(x) { *y = Binary::$case.of(x, v); },
                        true => for (y, &x) in out.iter_mut().zip(x) { *y = Binary::$case.of(v, x); },
                    }
                }),*
            }
        };
    }
    rows!(Add Sub Mul Div);
}
