//! The right operand of a product of two activations, packed anew for each product.
//!
//! It comes as bytes `b` and is taken as the weights `b − 128`, which are s8; what its zero point is instead of 128, the
//! caller makes good. Tiers with a dot product of bytes multiply as they do by weights. On AVX2, where packing looks for
//! inputs that can't saturate together, that would cost more than the product: there the same whole numbers are
//! multiplied as f32, in parts so short that every sum is below 2²⁴ and so exact.

use super::super::{FloatGemm, FloatRows, GemmWeights, Isa, Output, SLACK, Stride, copy_strided};

/// Inputs whose products, each below 255 · 128, are whole numbers below 2²⁴ in all.
const EXACT: usize = (1 << 24) / (255 * 128);

/// Floats that must follow a row.
const SLACK_FLOATS: usize = SLACK / size_of::<f32>();

/// A right operand of `n` columns and `k` rows.
pub(super) struct Right {
    isa: Isa,
    n: usize,
    k: usize,
    packed: Packed,
    /// The operand with consecutive inputs, if neither they nor its columns are.
    dense: Vec<u8>,
}

enum Packed {
    Bytes(GemmWeights),
    Floats(Floats),
}

/// The operand and what is multiplied by it, as whole numbers.
struct Floats {
    /// Of [`EXACT`] inputs each, and the rest.
    parts: Vec<FloatGemm>,
    left_zero_point: u8,
    factor: f32,
    right: Vec<f32>,
    left: Vec<f32>,
    part: Vec<f32>,
    sums: Vec<f64>,
}

impl Right {
    pub(super) fn new(isa: Isa, n: usize, k: usize) -> Right {
        let packed = match isa {
            Isa::Avx2 => {
                let part = |first: usize| {
                    let k = EXACT.min(k - first);
                    let (lo, hi) = (f32::NEG_INFINITY, f32::INFINITY);
                    FloatGemm::pack(isa, n, 1, k, &vec![0.0; n * k], &vec![0.0; n], lo, hi)
                };
                Packed::Floats(Floats {
                    parts: (0..k).step_by(EXACT).map(part).collect(),
                    left_zero_point: 0,
                    factor: 1.0,
                    right: vec![],
                    left: vec![],
                    part: vec![],
                    sums: vec![],
                })
            }
            _ => {
                let scale = vec![1.0; n];
                let output = Output::F32 { scale: &scale };
                Packed::Bytes(GemmWeights::pack(isa, n, 1, k, &vec![0; n * k], &vec![0; n], output))
            }
        };
        Right { isa, n, k, packed, dense: vec![] }
    }

    /// Whether it was made for `isa` and this size.
    pub(super) fn is_for(&self, isa: Isa, n: usize, k: usize) -> bool {
        (self.isa, self.n, self.k) == (isa, n, k)
    }

    /// Takes the bytes `b`, `steps` from one column to the next and from one row to the next. Results will be multiplied
    /// by `factor`.
    ///
    /// # Panics
    /// There are too few bytes.
    pub(super) fn fill(&mut self, b: &[u8], steps: [usize; 2], left_zero_point: u8, factor: f32) {
        let Right { n, k, .. } = *self;
        match &mut self.packed {
            Packed::Floats(floats) => {
                let Floats { parts, right, .. } = floats;
                for (part, gemm) in parts.iter_mut().enumerate() {
                    let first = part * EXACT;
                    let k = EXACT.min(k - first);
                    right.resize(n * k, 0.0);
                    let dims = [n, k].into_iter().zip(steps).zip([k, 1]);
                    let dims = dims.map(|((count, from), to)| Stride { count, from, to }).collect::<Vec<_>>();
                    self.dense.resize(n * k, 0);
                    copy_strided(&b[first * steps[1]..], &dims, &mut self.dense);
                    for (x, b) in right.iter_mut().zip(&self.dense) {
                        *x = f32::from(i16::from(*b) - 128);
                    }
                    gemm.fill(right, [k, 1]);
                }
                (floats.left_zero_point, floats.factor) = (left_zero_point, factor);
            }
            Packed::Bytes(weights) if steps.contains(&1) => weights.fill(b, steps, left_zero_point, factor),
            Packed::Bytes(weights) => {
                self.dense.resize(n * k, 0);
                let dims = [(n, steps[0], k), (k, steps[1], 1)];
                copy_strided(b, &dims.map(|(count, from, to)| Stride { count, from, to }), &mut self.dense);
                weights.fill(&self.dense, [k, 1], left_zero_point, factor);
            }
        }
    }

    /// `out[m][n] = f32(Σ (a − zero point) · (b − 128)) · factor` for `m` rows of `a`, `lda` apart.
    ///
    /// # Panics
    /// `a`, with [`SLACK`] after the last row, or `out` is too short.
    pub(super) fn run(&mut self, a: &[u8], lda: usize, m: usize, out: &mut [f32]) {
        let Right { n, k, .. } = *self;
        match &mut self.packed {
            Packed::Bytes(weights) => weights.pointwise_f32(None, a, lda, m, out, n),
            Packed::Floats(floats) => floats.run(a, lda, m, [n, k], out),
        }
    }
}

impl Floats {
    fn run(&mut self, a: &[u8], lda: usize, m: usize, [n, k]: [usize; 2], out: &mut [f32]) {
        let Floats { parts, left_zero_point, factor, left, part, sums, .. } = self;
        let zero_point = i16::from(*left_zero_point);
        let out = &mut out[..m * n];
        sums.clear();
        part.resize(m * n, 0.0);
        for (at, gemm) in parts.iter().enumerate() {
            let first = at * EXACT;
            let k = EXACT.min(k - first);
            left.resize(m * k + SLACK_FLOATS, 0.0);
            for (row, left) in left.chunks_exact_mut(k).take(m).enumerate() {
                for (x, a) in left.iter_mut().zip(&a[row * lda + first..]) {
                    *x = f32::from(i16::from(*a) - zero_point);
                }
            }
            let rows = FloatRows::Strided(k);
            if parts.len() == 1 {
                gemm.run(None, left, rows, m, out, n, None);
                break;
            }
            gemm.run(None, left, rows, m, part, n, None);
            sums.resize(m * n, 0.0);
            sums.iter_mut().zip(&*part).for_each(|(sum, part)| *sum += f64::from(*part));
        }
        // A whole number as f64 becomes an f32 by the one rounding that it has as an i32.
        out.iter_mut().zip(&*sums).for_each(|(out, sum)| *out = *sum as f32);
        out.iter_mut().for_each(|out| *out *= *factor);
    }
}
