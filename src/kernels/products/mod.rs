//! Products of two quantized activations, as in attention.
//!
//! With operands `a` and `b`, bytes of scales `sa` and `sb` and zero points `za` and `zb`, an element of the result is
//!
//! ```text
//! Σ sa (a − za) · sb (b − zb) = sa sb (Σ (a − za)(b − 128) + (128 − zb) Σ (a − za))
//! ```
//!
//! The first sum is a product as by weights ([`Right`]). The second is one number for each row. It is 0 where `zb` is 128,
//! and before a softmax, which a number added to a whole row does not change, it is left out, unless scores are rounded.

mod right;

use std::cell::RefCell;

use super::elementwise::per_tier;
use super::float::{Attention, Products, weights_of_rows};
use super::scalar::to_i32;
use super::{Isa, SLACK, Stride, copy_strided, floats_mut};
use right::Right;

/// Scale and zero point of a u8 tensor.
pub type Bytes = (f32, u8);

/// Products of two u8 tensors.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ByteProducts {
    /// How the operands and the result lie.
    pub products: Products,
    /// The operands.
    pub of: [Bytes; 2],
    /// The result, which is f32 without it.
    pub out: Option<Bytes>,
}

/// `softmax(scale · q kᵀ) v` of u8 tensors, with shares, and maybe scores, quantized on the way.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ByteAttention {
    /// How all tensors lie, and the factor of the scores.
    pub attention: Attention,
    /// Queries, keys and values.
    pub of: [Bytes; 3],
    /// What scores go through before their factor: each time they are multiplied, and rounded to bytes.
    pub rounded: Vec<(f32, Bytes)>,
    /// The shares.
    pub shares: Bytes,
    /// The result, which is f32 without it.
    pub out: Option<Bytes>,
}

/// Rows whose scores are made, weighed and used before the next: they stay in the first-level cache.
const ROWS: usize = 24;

/// Operands and results of one product: dense, with slack, and right operands, one of each shape that was met.
#[derive(Default)]
struct Scratch {
    left: Vec<u8>,
    scores: Vec<f32>,
    shares: Vec<u8>,
    mixed: Vec<f32>,
    bytes: Vec<u8>,
    rights: [Vec<Right>; 2],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The right operand for products of `n` columns of `k` inputs.
fn known(rights: &mut Vec<Right>, isa: Isa, n: usize, k: usize) -> &mut Right {
    let at = rights.iter().position(|right| right.is_for(isa, n, k)).unwrap_or_else(|| {
        rights.push(Right::new(isa, n, k));
        rights.len() - 1
    });
    &mut rights[at]
}

/// The rows of a left operand: where they lie if they are consecutive bytes, else a copy in `left`. Returns them with the
/// distance from one to the next.
fn rows<'a>(a: &'a [u8], [m, k]: [usize; 2], steps: [usize; 2], left: &'a mut Vec<u8>) -> (&'a [u8], usize) {
    if (steps[1] == 1 || k == 1) && steps[0] >= k {
        return (a, steps[0]);
    }
    left.resize(m * k + SLACK, 0);
    let dims = [(m, steps[0], k), (k, steps[1], 1)];
    copy_strided(a, &dims.map(|(count, from, to)| Stride { count, from, to }), left);
    (left, k)
}

/// All products of `a` and `b` to `out`, which are bytes, or floats if the result is not quantized.
///
/// # Panics
/// An operand (with [`SLACK`] after its last element) or the result does not hold the elements.
pub fn matmul_u8(isa: Isa, a: &[u8], b: &[u8], of: &ByteProducts, out: &mut [u8]) {
    let ByteProducts { ref products, of: [of_a, of_b], out: of_out } = *of;
    let Products { m, k, n, .. } = *products;
    if m * k * n == 0 {
        return;
    }
    SCRATCH.with_borrow_mut(|Scratch { left, mixed, bytes, rights: [rights, _], .. }| {
        let right = known(rights, isa, n, k);
        let factor = of_a.0 * of_b.0 / of_out.map_or(1.0, |out| out.0);
        mixed.resize(m * n, 0.0);
        for index in 0..products.count() {
            let [at_a, at_b, at_out] = products.starts(index);
            right.fill(&b[at_b..], [products.b[1], products.b[0]], of_a.1, factor);
            let (a, lda) = rows(&a[at_a..], [m, k], products.a, left);
            for first in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - first);
                let (a, mixed) = (&a[first * lda..], &mut mixed[first * n..][..rows * n]);
                right.run(a, lda, rows, mixed);
                let sums = sums_of_rows(a, lda, k, rows);
                add_rows(mixed, n, &sums[..rows], [k, of_a.1.into(), of_b.1.into()], factor);
            }
            leave(isa, mixed, products, of_out, bytes, at_out, out);
        }
    });
}

/// `attention` of the queries `q`, the keys `k` and the values `v` to `out`, which are bytes, or floats if the result is
/// not quantized. A share is `rne(eˣ⁻ᵐ · (1 / Σ eˣ⁻ᵐ / scale)) + zero point`, from 0 to 255, m being the largest of a row.
///
/// # Panics
/// The two products don't fit each other, or an operand (with [`SLACK`] after its last element) or the result does not hold
/// the elements.
pub fn attend_u8(isa: Isa, q: &[u8], k: &[u8], v: &[u8], of: &ByteAttention, out: &mut [u8]) {
    let ByteAttention {
        attention: Attention { scores, scale, values }, of: [of_q, of_k, of_v], rounded, ..
    } = of;
    let (m, depth, n) = (scores.m, scores.k, scores.n);
    let fits = (values.m, values.k) == (m, n) && values.count() == scores.count();
    assert!(fits, "scores {scores:?} for values {values:?}");
    if m * depth * n * values.n == 0 {
        return;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { left, scores: weighed, shares, mixed, bytes, rights: [rights, rights_of_values] } =
            scratch;
        let (keys, of_values) = (known(rights, isa, n, depth), known(rights_of_values, isa, values.n, n));
        let factor = of.shares.0 * of_v.0 / of.out.map_or(1.0, |out| out.0);
        let of_scores = of_q.0 * of_k.0 * if rounded.is_empty() { *scale } else { 1.0 };
        weighed.resize(ROWS * n, 0.0);
        shares.resize(ROWS * n + SLACK, 0);
        mixed.resize(m * values.n, 0.0);
        for index in 0..scores.count() {
            let [at_q, at_k, _] = scores.starts(index);
            let [_, at_v, at_out] = values.starts(index);
            keys.fill(&k[at_k..], [scores.b[1], scores.b[0]], of_q.1, of_scores);
            of_values.fill(&v[at_v..], [values.b[1], values.b[0]], of.shares.1, factor);
            let (q, ldq) = rows(&q[at_q..], [m, depth], scores.a, left);
            for first in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - first);
                let (mut inverse, mut sums) = ([0.0; ROWS], [0; ROWS]);
                let (weighed, shares_here) = (&mut weighed[..rows * n], &mut shares[..rows * n]);
                let q = &q[first * ldq..];
                keys.run(q, ldq, rows, weighed);
                if !rounded.is_empty() {
                    let sums = sums_of_rows(q, ldq, depth, rows);
                    add_rows(weighed, n, &sums[..rows], [depth, of_q.1.into(), of_k.1.into()], of_scores);
                    round_scores(isa, weighed, rounded, *scale);
                }
                weights_of_rows(isa, weighed, n, &mut inverse[..rows]);
                let (inverse, sums) = (&inverse[..rows], &mut sums[..rows]);
                quantize_shares(isa, weighed, n, inverse, of.shares, shares_here, sums);
                let mixed = &mut mixed[first * values.n..][..rows * values.n];
                of_values.run(shares, n, rows, mixed);
                add_rows(mixed, values.n, sums, [n, of.shares.1.into(), of_v.1.into()], factor);
            }
            leave(isa, mixed, values, of.out, bytes, at_out, out);
        }
    });
}

/// The sum of the bytes of each of some rows of `k`, `lda` apart.
fn sums_of_rows(a: &[u8], lda: usize, k: usize, rows: usize) -> [i32; ROWS] {
    let mut sums = [0; ROWS];
    for (sum, row) in sums.iter_mut().zip(a.chunks(lda)).take(rows) {
        *sum = row[..k].iter().map(|a| i32::from(*a)).sum();
    }
    sums
}

/// Scores rounded to bytes, as often as `rounded` says, and their factor.
fn round_scores(isa: Isa, x: &mut [f32], rounded: &[(f32, Bytes)], scale: f32) {
    for (at, (factor, (step, zero_point))) in rounded.iter().enumerate() {
        let scale = if at + 1 == rounded.len() { scale } else { 1.0 };
        let (factor, step, zero_point) = (factor / step, step * scale, *zero_point);
        per_tier!(isa, round_to_steps(x: &mut [f32], factor: f32, step: f32, zero_point: u8));
    }
}

#[inline(always)]
fn round_to_steps(x: &mut [f32], factor: f32, step: f32, zero_point: u8) {
    for x in x {
        *x = (byte(*x * factor, zero_point) - i32::from(zero_point)) as f32 * step;
    }
}

/// The shares of rows of `len`, and the sum of each row's bytes.
fn quantize_shares(
    isa: Isa,
    x: &[f32],
    len: usize,
    inverse: &[f32],
    (scale, zero_point): Bytes,
    out: &mut [u8],
    sums: &mut [i32],
) {
    per_tier!(
        isa,
        shares(
            x: &[f32],
            len: usize,
            inverse: &[f32],
            scale: f32,
            zero_point: u8,
            out: &mut [u8],
            sums: &mut [i32],
        )
    );
}

#[inline(always)]
fn shares(
    x: &[f32],
    len: usize,
    inverse: &[f32],
    scale: f32,
    zero_point: u8,
    out: &mut [u8],
    sums: &mut [i32],
) {
    let rows = x.chunks_exact(len).zip(out.chunks_exact_mut(len));
    for (((x, out), inverse), sum) in rows.zip(inverse).zip(sums) {
        let factor = inverse / scale;
        let mut total = 0i32;
        for (x, out) in x.iter().zip(out) {
            let byte = byte(x * factor, zero_point);
            total += byte;
            *out = byte as u8;
        }
        *sum = total;
    }
}

/// `rne(x) + zero_point` from 0 to 255; NaN becomes 0.
#[inline(always)]
fn byte(x: f32, zero_point: u8) -> i32 {
    let zero_point = i32::from(zero_point);
    let (lo, hi) = (-zero_point as f32, (255 - zero_point) as f32);
    let x = x.round_ties_even();
    let x = if x > lo { x } else { lo };
    let x = if x > hi { hi } else { x };
    to_i32(x) + zero_point
}

/// Adds `(128 − zb) · (sum − k · za) · factor` to each row of `n` results, `sum` being that of the row's bytes.
fn add_rows(x: &mut [f32], n: usize, sums: &[i32], [k, za, zb]: [usize; 3], factor: f32) {
    if zb == 128 {
        return;
    }
    for (x, sum) in x.chunks_exact_mut(n).zip(sums) {
        let of_row = (128 - zb as i64) * (i64::from(*sum) - (k * za) as i64);
        let term = of_row as f32 * factor;
        x.iter_mut().for_each(|x| *x += term);
    }
}

/// Writes the results of one product where they belong, quantized if `of` says how.
fn leave(
    isa: Isa,
    x: &[f32],
    products: &Products,
    of: Option<Bytes>,
    bytes: &mut Vec<u8>,
    at: usize,
    out: &mut [u8],
) {
    let Products { m, n, out: [row, column], .. } = *products;
    let dims = [(m, n, row), (n, 1, column)].map(|(count, from, to)| Stride { count, from, to });
    match of {
        None => copy_strided(x, &dims, &mut floats_mut(out)[at..]),
        Some((_, zero_point)) => {
            bytes.resize(x.len(), 0);
            let bytes = &mut bytes[..];
            per_tier!(isa, round(x: &[f32], zero_point: u8, bytes: &mut [u8]));
            copy_strided(bytes, &dims, &mut out[at..]);
        }
    }
}

#[inline(always)]
fn round(x: &[f32], zero_point: u8, bytes: &mut [u8]) {
    for (x, out) in x.iter().zip(bytes) {
        *out = byte(*x, zero_point) as u8;
    }
}
