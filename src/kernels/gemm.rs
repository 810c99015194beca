//! Matrix products and dense convolutions: weights packed once, then rows of activations through them.

#[cfg(target_arch = "x86_64")]
use super::layout::Panels;
use super::layout::Product;
use super::offsets::Windows;
use super::scalar::{self, Rows};
use super::types::Output;
use super::{Isa, SLACK, span};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx_vnni, avx2, avx512_vnni};

/// How the accumulators leave, without the per-channel factors.
#[derive(Debug, Clone, Copy)]
pub(super) enum Store {
    /// Requantized bytes.
    U8 { zero_point: u8, lo: u8, hi: u8 },
    /// Scaled floats.
    F32,
}

impl Store {
    /// Bytes of an output.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn element(self) -> usize {
        match self {
            Store::U8 { .. } => 1,
            Store::F32 => size_of::<f32>(),
        }
    }
}

/// The weights, biases and output factors of a product, in the order in which one tier reads them.
#[derive(Debug)]
pub struct GemmWeights {
    isa: Isa,
    n: usize,
    taps: usize,
    k: usize,
    store: Store,
    packed: Packed,
}

#[derive(Debug)]
enum Packed {
    Scalar(scalar::Gemm),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Panels),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(Panels),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Panels),
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Gemm),
}

impl Packed {
    fn new(isa: Isa, store: Store, product: &Product<'_>) -> Packed {
        let fits = matches!(store, Store::F32) || product.results_fit_i32();
        #[cfg(target_arch = "x86_64")]
        match (isa, store) {
            _ if !fits => {}
            (Isa::Amx, _) if amx::Gemm::pays(product) => {
                return Packed::Amx(amx::Gemm::pack(product, store));
            }
            (Isa::Amx | Isa::Avx512Vnni, _) => {
                return Packed::Avx512Vnni(Panels::pack(avx512_vnni::scheme(store), product));
            }
            (Isa::AvxVnni, _) => {
                return Packed::AvxVnni(Panels::pack(avx_vnni::scheme(store), product));
            }
            (Isa::Avx2, _) => {
                let is_bytes = matches!(store, Store::U8 { .. });
                return Packed::Avx2(avx2::Panels::pack(product, is_bytes));
            }
            (Isa::Scalar, _) => {}
        }
        Packed::Scalar(scalar::Gemm::new(product))
    }

    /// Multiplies `m` rows and stores them at `out`, rows `ldo` elements (of u8 or f32, as `store` says) apart; not for
    /// weights of the scalar tier.
    ///
    /// # Safety
    /// The machine has the tier that these weights were packed for, with `store`; each row and tap of `rows` lies in `a`
    /// (or is the padding row) with [`SLACK`] bytes after it; `m` rows of all channels can be written at `out`.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    unsafe fn run(&self, store: Store, a: &[u8], rows: Rows<'_>, m: usize, out: *mut u8, ldo: usize) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Packed::Scalar(_) => {}
                Packed::Avx2(panels) => avx2::run(panels, store, a, rows, m, out, ldo),
                Packed::AvxVnni(panels) => avx_vnni::run(panels, store, a, rows, m, out, ldo),
                Packed::Avx512Vnni(panels) => avx512_vnni::run(panels, store, a, rows, m, out, ldo),
                Packed::Amx(gemm) => gemm.run(store, a, rows, m, out, ldo),
            }
        }
    }
}

impl GemmWeights {
    /// Packs the weights `[n][taps][k]` of `n` output channels for `isa`.
    ///
    /// `bias[n]` is `b/(sx·sw[n]) − zx·Σw[n]`: what the accumulator starts from, with the zero point of the
    /// input already taken out.
    ///
    /// # Panics
    /// A size is 0, a slice has another length than these sizes ask for, a factor of `output` is not finite
    /// or (requantizing) negative, or this machine lacks `isa`.
    pub fn pack(
        isa: Isa,
        n: usize,
        taps: usize,
        k: usize,
        weights: &[i8],
        bias: &[i32],
        output: Output<'_>,
    ) -> GemmWeights {
        isa.assert_supported();
        assert!(n > 0 && taps > 0 && k > 0, "an empty product: n {n}, taps {taps}, k {k}");
        let count = n.checked_mul(taps).and_then(|count| count.checked_mul(k));
        assert_eq!(Some(weights.len()), count, "weights must be [{n}][{taps}][{k}]");
        assert_eq!(bias.len(), n, "one bias per output channel");
        output.assert_valid(n);
        let store = match output {
            Output::U8 { zero_point, lo, hi, .. } => Store::U8 { zero_point, lo, hi },
            Output::F32 { .. } => Store::F32,
        };
        let product = Product { n, taps, k, weights, bias, factors: output.factors() };
        GemmWeights { isa, n, taps, k, store, packed: Packed::new(isa, store, &product) }
    }

    /// The tier that these weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.n
    }

    /// `m` rows of `k` bytes, `lda` apart in `a`, times the weights; requantized to the first `n` bytes of
    /// rows that are `ldo` apart in `out`: a 1×1 convolution over `m` pixels, or a fully connected layer.
    ///
    /// # Panics
    /// There is more than one tap, the output is not [`Output::U8`], rows overlap (`lda < k`, `ldo < n`), or
    /// `a` (with [`SLACK`] after the last row) or `out` is too short.
    pub fn pointwise(&self, a: &[u8], lda: usize, m: usize, out: &mut [u8], ldo: usize) {
        self.assert_pointwise(a, lda, m);
        self.assert_output(m, ldo, out.len());
        self.run_u8(a, Rows::Strided(lda), m, out, ldo);
    }

    /// As [`pointwise`](Self::pointwise), with [`Output::F32`].
    ///
    /// # Panics
    /// As [`pointwise`](Self::pointwise).
    pub fn pointwise_f32(&self, a: &[u8], lda: usize, m: usize, out: &mut [f32], ldo: usize) {
        self.assert_pointwise(a, lda, m);
        self.assert_output(m, ldo, out.len());
        self.run_f32(a, Rows::Strided(lda), m, out, ldo);
    }

    /// A convolution by indirection: each of `windows` gives an output row, the sum over taps of the `k` bytes of `a`
    /// under it, or of `pad_row`, times that tap's weights.
    ///
    /// `pad_row` holds the input's zero point `k` times, and [`SLACK`] more bytes.
    ///
    /// # Panics
    /// As [`pointwise`](Self::pointwise); or windows have other taps than the weights, or one is not within
    /// `0..=a.len() − k − SLACK`, or `pad_row` is too short.
    pub fn indirect(&self, a: &[u8], pad_row: &[u8], windows: Windows<'_>, out: &mut [u8], ldo: usize) {
        self.assert_indirect(a, pad_row, windows);
        self.assert_output(windows.rows(), ldo, out.len());
        self.run_u8(a, Rows::Indirect { windows, pad_row }, windows.rows(), out, ldo);
    }

    /// As [`indirect`](Self::indirect), with [`Output::F32`].
    ///
    /// # Panics
    /// As [`indirect`](Self::indirect).
    pub fn indirect_f32(&self, a: &[u8], pad_row: &[u8], windows: Windows<'_>, out: &mut [f32], ldo: usize) {
        self.assert_indirect(a, pad_row, windows);
        self.assert_output(windows.rows(), ldo, out.len());
        self.run_f32(a, Rows::Indirect { windows, pad_row }, windows.rows(), out, ldo);
    }

    #[track_caller]
    fn assert_pointwise(&self, a: &[u8], lda: usize, m: usize) {
        assert_eq!(self.taps, 1, "a product with several taps needs offsets");
        assert!(lda >= self.k, "rows of {} bytes can't be {lda} apart", self.k);
        let need = span(m, lda, self.k + SLACK);
        assert!(a.len() >= need, "{m} rows, {lda} apart, and slack need {need} bytes, not {}", a.len());
    }

    #[track_caller]
    fn assert_indirect(&self, a: &[u8], pad_row: &[u8], windows: Windows<'_>) {
        let of_windows = (windows.taps, windows.k);
        assert_eq!(of_windows, (self.taps, self.k), "taps and inputs of the windows and of the weights");
        let row = self.k + SLACK;
        assert!(pad_row.len() >= row, "the padding row needs {row} bytes, not {}", pad_row.len());
        assert!(a.len() >= row || windows.rows() == 0, "a row and slack need {row} bytes, not {}", a.len());
        let last = a.len().saturating_sub(row);
        assert!(windows.last <= last || windows.rows() == 0, "an offset is outside 0..={last}");
    }

    #[track_caller]
    fn assert_output(&self, m: usize, ldo: usize, len: usize) {
        assert!(ldo >= self.n, "rows of {} outputs can't be {ldo} apart", self.n);
        let need = span(m, ldo, self.n);
        assert!(len >= need, "{m} rows, {ldo} apart, need {need} outputs, not {len}");
    }

    fn run_u8(&self, a: &[u8], rows: Rows<'_>, m: usize, out: &mut [u8], ldo: usize) {
        let Store::U8 { zero_point, lo, hi } = self.store else {
            assert!(matches!(self.store, Store::U8 { .. }), "these weights were packed for f32 outputs");
            return;
        };
        match &self.packed {
            Packed::Scalar(gemm) => gemm.run(a, rows, m, |row, n, acc, mult| {
                out[row * ldo + n] = scalar::requantize(acc, mult, zero_point, lo, hi);
            }),
            #[cfg(target_arch = "x86_64")]
            vectors => {
                // SAFETY: `pack` checked the machine, the public functions checked rows and outputs, which are bytes.
                #[allow(unsafe_code)]
                unsafe {
                    vectors.run(self.store, a, rows, m, out.as_mut_ptr(), ldo)
                }
            }
        }
    }

    fn run_f32(&self, a: &[u8], rows: Rows<'_>, m: usize, out: &mut [f32], ldo: usize) {
        assert!(matches!(self.store, Store::F32), "these weights were packed for u8 outputs");
        match &self.packed {
            Packed::Scalar(gemm) => gemm.run(a, rows, m, |row, n, acc, scale| {
                out[row * ldo + n] = acc as f32 * scale;
            }),
            #[cfg(target_arch = "x86_64")]
            vectors => {
                // SAFETY: as in `run_u8`; the outputs are floats.
                #[allow(unsafe_code)]
                unsafe {
                    vectors.run(self.store, a, rows, m, out.as_mut_ptr().cast(), ldo)
                }
            }
        }
    }
}
