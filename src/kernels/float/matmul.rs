//! Products of two activations, as in attention: many small ones, whose operands lie anyhow.

use std::cell::RefCell;

use super::super::{Isa, Stride, copy_strided};
use super::rows::weights_of_rows;
use super::{FloatGemm, FloatRows, SLACK_FLOATS};

/// Where the operands and results of products `[m][k] × [k][n]` lie, in elements.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Products {
    /// Count of each outer dimension, and the steps of the left operand, the right one and the result.
    pub outer: Vec<(usize, [usize; 3])>,
    /// Rows of the left operand.
    pub m: usize,
    /// Columns of the left operand, rows of the right one.
    pub k: usize,
    /// Columns of the right operand.
    pub n: usize,
    /// First element of each operand.
    pub first: [usize; 2],
    /// Steps between rows and between columns of the left operand.
    pub a: [usize; 2],
    /// Steps between rows and between columns of the right operand.
    pub b: [usize; 2],
    /// Steps between rows and between columns of the result.
    pub out: [usize; 2],
}

impl Products {
    /// How many products there are.
    pub fn count(&self) -> usize {
        self.outer.iter().map(|(count, _)| count).product()
    }

    /// First elements of the operands and the result of product `index`.
    pub(in super::super) fn starts(&self, index: usize) -> [usize; 3] {
        let (mut rest, mut at) = (index, [self.first[0], self.first[1], 0]);
        for (count, steps) in self.outer.iter().rev() {
            for (at, step) in at.iter_mut().zip(steps) {
                *at += rest % count * step;
            }
            rest /= count;
        }
        at
    }
}

/// `softmax(scale · q kᵀ) v` for each head: the scores stay in the cache.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Attention {
    /// Of queries and keys; where results lie doesn't matter.
    pub scores: Products,
    /// Factor of the scores.
    pub scale: f32,
    /// Of shares and values; where the shares lie doesn't matter.
    pub values: Products,
}

/// Rows whose scores are made, weighed and used before the next: they stay in the first-level cache.
const ROWS: usize = 24;

/// The left operand of one product, dense, its result, shares, and right operands, one of each shape that was met.
#[derive(Default)]
struct Scratch {
    left: Vec<f32>,
    result: Vec<f32>,
    shares: Vec<f32>,
    packed: Vec<FloatGemm>,
    packed_values: Vec<FloatGemm>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows and columns `count` at `x`, `steps` apart, as dense rows of `to`.
fn dense(x: &[f32], count: [usize; 2], steps: [usize; 2], to: &mut [f32]) {
    let dims = [0, 1].map(|d| Stride { count: count[d], from: steps[d], to: [count[1], 1][d] });
    copy_strided(x, &dims, to);
}

/// Dense rows of `x` to rows and columns `count` at `to`, `steps` apart.
fn spread(x: &[f32], count: [usize; 2], steps: [usize; 2], to: &mut [f32]) {
    let dims = [0, 1].map(|d| Stride { count: count[d], from: [count[1], 1][d], to: steps[d] });
    copy_strided(x, &dims, to);
}

/// The right operand of one product, packed where one of its shape has been before.
fn packed<'a>(known: &'a mut Vec<FloatGemm>, isa: Isa, b: &[f32], products: &Products) -> &'a FloatGemm {
    let Products { k, n, .. } = *products;
    let steps = [products.b[1], products.b[0]];
    let at = match known.iter().position(|gemm| gemm.is_for(isa, n, k)) {
        Some(at) => {
            known[at].fill(b, steps);
            at
        }
        None => {
            let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
            known.push(FloatGemm::pack_strided(isa, n, 1, k, b, steps, &vec![0.0; n], lo, hi));
            known.len() - 1
        }
    };
    &known[at]
}

/// All `products` of `a` and `b`.
///
/// # Panics
/// An operand or the result does not hold the elements.
pub fn matmul(isa: Isa, a: &[f32], b: &[f32], products: &Products, out: &mut [f32]) {
    let Products { m, k, n, .. } = *products;
    if m * k * n == 0 {
        return;
    }
    SCRATCH.with_borrow_mut(|Scratch { left, result, packed: known, .. }| {
        left.resize(m * k + SLACK_FLOATS, 0.0);
        result.resize(m * n, 0.0);
        for index in 0..products.count() {
            let [at_a, at_b, at_out] = products.starts(index);
            dense(&a[at_a..], [m, k], products.a, &mut left[..m * k]);
            let right = packed(known, isa, &b[at_b..], products);
            right.run(None, left, FloatRows::Strided(k), m, result, n, None);
            spread(result, [m, n], products.out, &mut out[at_out..]);
        }
    });
}

/// `attention` of the queries `q`, the keys `k` and the values `v`.
///
/// # Panics
/// The two products don't fit each other, or an operand or the result does not hold the elements.
pub fn attend(isa: Isa, q: &[f32], k: &[f32], v: &[f32], attention: &Attention, out: &mut [f32]) {
    let Attention { scores, scale, values } = attention;
    let (m, depth, n) = (scores.m, scores.k, scores.n);
    let fits = (values.m, values.k) == (m, n) && values.count() == scores.count();
    assert!(fits, "scores {scores:?} for values {values:?}");
    if m * depth * n * values.n == 0 {
        return;
    }
    SCRATCH.with_borrow_mut(|Scratch { left, result, shares, packed: known, packed_values }| {
        left.resize(m * depth + SLACK_FLOATS, 0.0);
        shares.resize(ROWS * n + SLACK_FLOATS, 0.0);
        result.resize(m * values.n, 0.0);
        let mut inverse = [0.0; ROWS];
        for index in 0..scores.count() {
            let [at_q, at_k, _] = scores.starts(index);
            let [_, at_v, at_out] = values.starts(index);
            dense(&q[at_q..], [m, depth], scores.a, &mut left[..m * depth]);
            left.iter_mut().for_each(|q| *q *= scale);
            let keys = packed(known, isa, &k[at_k..], scores);
            let of_values = packed(packed_values, isa, &v[at_v..], values);
            for first in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - first);
                let scores = &mut shares[..rows * n];
                keys.run(None, &left[first * depth..], FloatRows::Strided(depth), rows, scores, n, None);
                weights_of_rows(isa, scores, n, &mut inverse[..rows]);
                let mixed = &mut result[first * values.n..][..rows * values.n];
                of_values.run(None, shares, FloatRows::Strided(n), rows, mixed, values.n, None);
                for (mixed, inverse) in mixed.chunks_exact_mut(values.n).zip(&inverse) {
                    mixed.iter_mut().for_each(|y| *y *= inverse);
                }
            }
            spread(result, [m, values.n], values.out, &mut out[at_out..]);
        }
    });
}
