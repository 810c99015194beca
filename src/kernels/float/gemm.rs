//! FP32 matrix products and dense convolutions.

use super::super::offsets::PAD;
#[cfg(target_arch = "x86_64")]
use super::super::share::{Share, Shared, Size};
use super::super::{Isa, Team, span};
#[cfg(target_arch = "x86_64")]
use super::tile;
use super::{SLACK_FLOATS, Width};

/// Where the rows of the left operand lie, in floats.
#[derive(Debug, Clone, Copy)]
pub enum FloatRows<'a> {
    /// Row `m` starts at `m · stride`; there is one tap.
    Strided(usize),
    /// Tap `t` of row `m` starts at `offsets[m · taps + t]`, or is `pad_row` where that is
    /// [`PAD`](crate::kernels::PAD).
    Indirect {
        /// `[m][taps]`.
        offsets: &'a [i32],
        /// `k` zeros and slack.
        pad_row: &'a [f32],
    },
}

/// The weights and biases of an FP32 product, packed for one tier.
///
/// `out[m][n] = clamp(bias[n] + Σ x · w [+ residual[m][n]], lo, hi)`, the sum a chain of fused multiply-adds in
/// order of taps and inputs.
#[derive(Debug)]
pub struct FloatGemm {
    isa: Isa,
    n: usize,
    taps: usize,
    k: usize,
    lo: f32,
    hi: f32,
    packed: Packed,
}

#[derive(Debug)]
enum Packed {
    Scalar {
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
    #[cfg(target_arch = "x86_64")]
    Vectors(tile::Panels),
}

impl FloatGemm {
    /// Packs the weights `[n][taps][k]` of `n` output channels for `isa`; outputs are limited to `lo..=hi`.
    ///
    /// # Panics
    /// A size is 0, a slice has another length than these sizes ask for, `lo > hi` or one is NaN, or this machine
    /// lacks `isa`.
    #[allow(clippy::too_many_arguments)]
    pub fn pack(
        isa: Isa,
        n: usize,
        taps: usize,
        k: usize,
        weights: &[f32],
        bias: &[f32],
        lo: f32,
        hi: f32,
    ) -> FloatGemm {
        let count = n.checked_mul(taps).and_then(|count| count.checked_mul(k));
        assert_eq!(Some(weights.len()), count, "weights must be [{n}][{taps}][{k}]");
        FloatGemm::pack_strided(isa, n, taps, k, weights, [taps * k, 1], bias, lo, hi)
    }

    /// As [`pack`](Self::pack), of weights that lie anyhow: `steps` from one channel to the next, and from one input to
    /// the next.
    ///
    /// # Panics
    /// As [`pack`](Self::pack).
    #[allow(clippy::too_many_arguments)]
    pub(super) fn pack_strided(
        isa: Isa,
        n: usize,
        taps: usize,
        k: usize,
        weights: &[f32],
        steps: [usize; 2],
        bias: &[f32],
        lo: f32,
        hi: f32,
    ) -> FloatGemm {
        isa.assert_supported();
        assert!(n > 0 && taps > 0 && k > 0, "an empty product: n {n}, taps {taps}, k {k}");
        let need = (n - 1) * steps[0] + span(taps * k, steps[1], 1);
        assert!(weights.len() >= need, "weights need {need} elements, not {}", weights.len());
        assert_eq!(bias.len(), n, "one bias per output channel");
        assert!(lo <= hi, "the output range {lo}..={hi} is empty");
        let packed = match Width::of(isa) {
            Width::One => {
                let row = |n: usize| (0..taps * k).map(move |at| weights[n * steps[0] + at * steps[1]]);
                Packed::Scalar { weights: (0..n).flat_map(row).collect(), bias: bias.to_vec() }
            }
            #[cfg(target_arch = "x86_64")]
            width => Packed::Vectors(tile::Panels::pack(width, n, taps, k, weights, steps, bias)),
        };
        FloatGemm { isa, n, taps, k, lo, hi, packed }
    }

    /// Whether it was packed for `isa` and products of `n` channels over one row of `k` inputs.
    pub(super) fn is_for(&self, isa: Isa, n: usize, k: usize) -> bool {
        (self.isa, self.n, self.taps, self.k) == (isa, n, 1, k)
    }

    /// Replaces the weights, which lie as [`pack_strided`](Self::pack_strided) says.
    ///
    /// # Panics
    /// There are too few.
    pub(super) fn fill(&mut self, weights: &[f32], steps: [usize; 2]) {
        let inputs = self.taps * self.k;
        let need = (self.n - 1) * steps[0] + span(inputs, steps[1], 1);
        assert!(weights.len() >= need, "weights need {need} elements, not {}", weights.len());
        match &mut self.packed {
            Packed::Scalar { weights: own, .. } => {
                for (row, own) in own.chunks_exact_mut(inputs).enumerate() {
                    own.iter_mut()
                        .enumerate()
                        .for_each(|(at, w)| *w = weights[row * steps[0] + at * steps[1]]);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Packed::Vectors(panels) => panels.fill(weights, steps),
        }
    }

    /// The tier that these weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Multiplies `m` rows of `a` and writes the first `n` floats of rows that are `ldo` apart in `out`.
    /// `residual`, laid out as `out`, is added before the clamp. With a team, its threads share the work.
    ///
    /// # Panics
    /// Rows overlap, or `a` (with slack after its last row), `out` or `residual` is too short, or an offset is
    /// outside `a`, or strided rows are asked of a product with several taps.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        team: Option<&Team>,
        a: &[f32],
        rows: FloatRows<'_>,
        m: usize,
        out: &mut [f32],
        ldo: usize,
        residual: Option<&[f32]>,
    ) {
        self.assert_rows(a, rows, m);
        assert!(ldo >= self.n, "rows of {} outputs can't be {ldo} apart", self.n);
        let need = span(m, ldo, self.n);
        assert!(out.len() >= need, "{m} rows, {ldo} apart, need {need} outputs, not {}", out.len());
        let enough = residual.is_none_or(|r| r.len() >= need);
        assert!(enough, "{m} rows, {ldo} apart, need {need} residuals");
        match &self.packed {
            Packed::Scalar { weights, bias } => self.scalar(weights, bias, a, rows, m, out, ldo, residual),
            #[cfg(target_arch = "x86_64")]
            Packed::Vectors(panels) => {
                let task = |share: Share, out: *mut f32| tile::Task {
                    a,
                    rows,
                    share,
                    out,
                    ldo,
                    residual,
                    range: (self.lo, self.hi),
                };
                let (blocks, weights) = panels.size();
                let row_bytes = match rows {
                    FloatRows::Strided(lda) => lda * size_of::<f32>(),
                    // Neighbouring windows share most of their inputs.
                    FloatRows::Indirect { .. } => self.k * self.taps.min(4) * size_of::<f32>(),
                };
                let size = Size { rows: m, blocks, weights, weight_bytes: 4, row_bytes, per_cycle: 32 };
                let out = Shared(out.as_mut_ptr());
                size.share_out(team, |share| {
                    // SAFETY: `pack` checked the machine, the assertions above rows, outputs and residuals; shares have no
                    // output in common.
                    #[allow(unsafe_code)]
                    unsafe {
                        tile::run(panels, &task(share, out.get()))
                    }
                });
            }
        }
    }

    #[track_caller]
    fn assert_rows(&self, a: &[f32], rows: FloatRows<'_>, m: usize) {
        let row = self.k + SLACK_FLOATS;
        match rows {
            FloatRows::Strided(lda) => {
                assert_eq!(self.taps, 1, "a product with several taps needs offsets");
                assert!(lda >= self.k, "rows of {} floats can't be {lda} apart", self.k);
                let need = span(m, lda, row);
                assert!(a.len() >= need, "{m} rows, {lda} apart, and slack need {need}, not {}", a.len());
            }
            FloatRows::Indirect { offsets, pad_row } => {
                assert_eq!(Some(offsets.len()), m.checked_mul(self.taps), "one offset per row and tap");
                assert!(pad_row.len() >= row, "the padding row needs {row} floats, not {}", pad_row.len());
                assert!(a.len() >= row || m == 0, "a row and slack need {row} floats, not {}", a.len());
                let last = a.len().saturating_sub(row).min(i32::MAX as usize) as u32;
                // A negative offset is a huge u32, so one comparison covers both ends.
                let inside =
                    offsets.iter().fold(true, |inside, &at| inside & ((at == PAD) | (at as u32 <= last)));
                assert!(inside, "an offset is outside 0..={last}");
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn scalar(
        &self,
        weights: &[f32],
        bias: &[f32],
        a: &[f32],
        rows: FloatRows<'_>,
        m: usize,
        out: &mut [f32],
        ldo: usize,
        residual: Option<&[f32]>,
    ) {
        let (taps, k) = (self.taps, self.k);
        for row in 0..m {
            let tap_row = |tap: usize| match rows {
                FloatRows::Strided(lda) => &a[row * lda..][..k],
                FloatRows::Indirect { offsets, pad_row } => match offsets[row * taps + tap] {
                    PAD => &pad_row[..k],
                    offset => &a[offset as usize..][..k],
                },
            };
            for (n, w) in weights.chunks_exact(taps * k).enumerate() {
                let mut sum = bias[n];
                for (tap, w) in w.chunks_exact(k).enumerate() {
                    for (x, w) in tap_row(tap).iter().zip(w) {
                        sum = x.mul_add(*w, sum);
                    }
                }
                if let Some(residual) = residual {
                    sum += residual[row * ldo + n];
                }
                out[row * ldo + n] = super::super::scalar::clamp(sum, self.lo, self.hi);
            }
        }
    }
}
