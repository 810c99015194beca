//! Products of two activations, as in attention: many small ones, whose operands lie anyhow.

use std::cell::RefCell;

use super::super::{Isa, Stride, copy_strided};
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
    fn starts(&self, index: usize) -> [usize; 3] {
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

thread_local! {
    /// The operands of one product, dense, and its result.
    static SCRATCH: RefCell<[Vec<f32>; 3]> = const { RefCell::new([vec![], vec![], vec![]]) };
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
    let bias = vec![0.0; n];
    let dims = |count: [usize; 2], from: [usize; 2], to: [usize; 2]| {
        [0, 1].map(|d| Stride { count: count[d], from: from[d], to: to[d] })
    };
    SCRATCH.with_borrow_mut(|[left, right, result]| {
        left.resize(m * k + SLACK_FLOATS, 0.0);
        right.resize(n * k, 0.0);
        result.resize(m * n, 0.0);
        for index in 0..products.count() {
            let [at_a, at_b, at_out] = products.starts(index);
            copy_strided(&a[at_a..], &dims([m, k], products.a, [k, 1]), &mut left[..m * k]);
            let turned = [products.b[1], products.b[0]];
            copy_strided(&b[at_b..], &dims([n, k], turned, [k, 1]), right);
            let weights = FloatGemm::pack(isa, n, 1, k, right, &bias, f32::NEG_INFINITY, f32::INFINITY);
            weights.run(left, FloatRows::Strided(k), m, result, n, None);
            copy_strided(result, &dims([m, n], [n, 1], products.out), &mut out[at_out..]);
        }
    });
}
