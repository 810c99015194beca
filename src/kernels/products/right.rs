//! The right operand of a product of two activations, packed anew for each product.
//!
//! It comes as bytes `b` and is taken as the weights `b − 128`, which are s8; what its zero point is instead of 128, the
//! caller makes good. Tiers with a dot product of bytes multiply as they do by weights; AVX2 has a form of its own.

#[cfg(target_arch = "x86_64")]
use super::super::avx2::Wide;
#[cfg(target_arch = "x86_64")]
use super::super::elementwise::per_tier;
use super::super::{GemmWeights, Isa, Output, Stride, copy_strided};

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
    #[cfg(target_arch = "x86_64")]
    Wide(Wide),
}

impl Right {
    pub(super) fn new(isa: Isa, n: usize, k: usize) -> Right {
        isa.assert_supported();
        let packed = match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Packed::Wide(Wide::new(n, k)),
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
        let (b, steps) = if steps.contains(&1) {
            (b, steps)
        } else {
            self.dense.resize(n * k, 0);
            let dims = [(n, steps[0], k), (k, steps[1], 1)];
            copy_strided(b, &dims.map(|(count, from, to)| Stride { count, from, to }), &mut self.dense);
            (&self.dense[..], [k, 1])
        };
        match &mut self.packed {
            Packed::Bytes(weights) => weights.fill(b, steps, left_zero_point, factor),
            #[cfg(target_arch = "x86_64")]
            Packed::Wide(wide) => {
                #[inline(always)]
                fn take(wide: &mut Wide, b: &[u8], steps: [usize; 2], left_zero_point: u8, factor: f32) {
                    wide.fill(b, steps, left_zero_point, factor);
                }
                let isa = self.isa;
                per_tier!(
                    isa,
                    take(wide: &mut Wide, b: &[u8], steps: [usize; 2], left_zero_point: u8, factor: f32)
                );
            }
        }
    }

    /// `out[m][n] = f32(Σ (a − zero point) · (b − 128)) · factor` for `m` rows of `a`, `lda` apart.
    ///
    /// # Panics
    /// `a`, with [`SLACK`](super::super::SLACK) after the last row, or `out` is too short.
    pub(super) fn run(&mut self, a: &[u8], lda: usize, m: usize, out: &mut [f32]) {
        match &mut self.packed {
            Packed::Bytes(weights) => weights.pointwise_f32(None, a, lda, m, out, self.n),
            #[cfg(target_arch = "x86_64")]
            Packed::Wide(wide) => {
                // SAFETY: `new` found AVX2 on this machine.
                #[allow(unsafe_code)]
                unsafe {
                    wide.run(a, lda, m, out);
                }
            }
        }
    }
}
