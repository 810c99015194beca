//! Matrix products and dense convolutions: weights packed once, then rows of activations through them.

use super::elementwise::add_in_place;
#[cfg(target_arch = "x86_64")]
use super::layout::Panels;
use super::layout::Product;
use super::offsets::Windows;
use super::scalar::{self, Rows};
use super::types::{Output, Residual};
use super::{Isa, SLACK, Team, span};
#[cfg(target_arch = "x86_64")]
use super::{
    amx, avx_vnni, avx2, avx512_vnni,
    share::{Share, Shared, Size},
};

/// Bytes of outputs that stay in the first-level cache until a residual is added to them; so many rows at least, which
/// all tiers divide into whole tiles.
#[cfg(target_arch = "x86_64")]
const SUM_BYTES: usize = 16 * 1024;
#[cfg(target_arch = "x86_64")]
const SUM_ROWS: usize = 96;
/// Weights that can be read again for each such part.
#[cfg(target_arch = "x86_64")]
const SUM_WEIGHTS: usize = 256 * 1024;

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

/// What a vector tier is asked for: some rows times some blocks of channels.
#[cfg(target_arch = "x86_64")]
#[derive(Clone)]
pub(super) struct Task<'a> {
    pub store: Store,
    pub a: &'a [u8],
    pub rows: Rows<'a>,
    /// How many rows.
    pub m: usize,
    pub blocks: std::ops::Range<usize>,
    /// Where channel 0 of the first row goes; rows are `ldo` elements (of u8 or f32, as `store` says) apart.
    pub out: *mut u8,
    pub ldo: usize,
    /// What is added to bytes before they are stored, from the first row on; only of weights that
    /// [say that they can](Packed::adds).
    pub residual: Option<Residual<'a>>,
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

    /// The panels of a tier that multiplies bytes by fours.
    #[cfg(target_arch = "x86_64")]
    fn panels(&mut self) -> Option<&mut Panels> {
        match self {
            Packed::Scalar(_) | Packed::Avx2(_) => None,
            Packed::AvxVnni(panels) | Packed::Avx512Vnni(panels) => Some(panels),
            Packed::Amx(gemm) => Some(gemm.panels()),
        }
    }

    /// Blocks of channels, and weights with what fills the blocks up.
    #[cfg(target_arch = "x86_64")]
    fn size(&self) -> (usize, usize) {
        match self {
            Packed::Scalar(_) => (0, 0),
            Packed::Avx2(panels) => panels.size(),
            Packed::AvxVnni(panels) | Packed::Avx512Vnni(panels) => panels.size(),
            Packed::Amx(gemm) => gemm.size(),
        }
    }

    /// The first channel of some blocks, and that behind the last.
    #[cfg(target_arch = "x86_64")]
    fn channels(&self, blocks: &std::ops::Range<usize>) -> (usize, usize) {
        match self {
            Packed::Scalar(_) => (0, 0),
            Packed::Avx2(panels) => panels.channels(blocks),
            Packed::AvxVnni(panels) | Packed::Avx512Vnni(panels) => panels.channels(blocks),
            Packed::Amx(gemm) => gemm.channels(blocks),
        }
    }

    /// Whether a task can have this residual.
    #[cfg(target_arch = "x86_64")]
    fn adds(&self, residual: &Residual<'_>) -> bool {
        matches!(self, Packed::Amx(_)) && residual.params.sums_fit_i32()
    }

    /// Does a task; not for weights of the scalar tier.
    ///
    /// # Safety
    /// The machine has the tier that these weights were packed for, with the task's store; each row and tap of its rows
    /// lies in `a` (or is the padding row) with [`SLACK`] bytes after it; its blocks exist, and its rows of their channels
    /// can be written, and read from the residual, if it has one, with slack behind.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    unsafe fn run(&self, task: &Task<'_>) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Packed::Scalar(_) => {}
                Packed::Avx2(panels) => avx2::run(panels, task),
                Packed::AvxVnni(panels) => avx_vnni::run(panels, task),
                Packed::Avx512Vnni(panels) => avx512_vnni::run(panels, task),
                Packed::Amx(gemm) => gemm.run(task),
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

    /// Replaces the weights, which have one tap, by the bytes `b` less 128, `steps` from one channel to the next and from
    /// one input to the next, one of which is 1. The zero point of the input goes into the biases, and `factor` becomes
    /// that of all channels.
    ///
    /// # Panics
    /// There are too few bytes, or the tier is AVX2, which looks too long for a way to pack.
    pub(super) fn fill(&mut self, b: &[u8], steps: [usize; 2], input_zero_point: u8, factor: f32) {
        let GemmWeights { isa, n, taps, k, .. } = *self;
        let need = (n - 1) * steps[0] + (k - 1) * steps[1] + 1;
        assert!(taps == 1 && b.len() >= need, "{n} x {k} weights need {need} bytes, not {}", b.len());
        match &mut self.packed {
            Packed::Scalar(gemm) => gemm.fill(b, steps, input_zero_point, factor),
            #[cfg(target_arch = "x86_64")]
            packed => {
                let panels = packed.panels();
                assert!(panels.is_some(), "weights of the {} tier can't be replaced", isa.name());
                if let Some(panels) = panels {
                    panels.fill(isa, k, b, steps, input_zero_point, factor);
                }
            }
        }
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
    /// rows that are `ldo` apart in `out`: a 1×1 convolution over `m` pixels, or a fully connected layer. A `residual` is
    /// added to them, as [`add`](super::add) adds.
    ///
    /// # Panics
    /// There is more than one tap, the output is not [`Output::U8`], rows overlap (`lda < k`, `ldo < n`), `a` (with
    /// [`SLACK`] after the last row), `out` or `residual` is too short, or the constants of the sum are not finite.
    #[allow(clippy::too_many_arguments)]
    pub fn pointwise(
        &self,
        team: Option<&Team>,
        a: &[u8],
        lda: usize,
        m: usize,
        out: &mut [u8],
        ldo: usize,
        residual: Option<Residual<'_>>,
    ) {
        self.assert_pointwise(a, lda, m);
        self.assert_output(m, ldo, out.len());
        self.run_u8(team, a, Rows::Strided(lda), m, out, ldo, residual);
    }

    /// As [`pointwise`](Self::pointwise), with [`Output::F32`].
    ///
    /// # Panics
    /// As [`pointwise`](Self::pointwise).
    pub fn pointwise_f32(
        &self,
        team: Option<&Team>,
        a: &[u8],
        lda: usize,
        m: usize,
        out: &mut [f32],
        ldo: usize,
    ) {
        self.assert_pointwise(a, lda, m);
        self.assert_output(m, ldo, out.len());
        self.run_f32(team, a, Rows::Strided(lda), m, out, ldo);
    }

    /// A convolution by indirection: each of `windows` gives an output row, the sum over taps of the `k` bytes of `a`
    /// under it, or of `pad_row`, times that tap's weights.
    ///
    /// `pad_row` holds the input's zero point `k` times, and [`SLACK`] more bytes.
    ///
    /// # Panics
    /// As [`pointwise`](Self::pointwise); or windows have other taps than the weights, or one is not within
    /// `0..=a.len() − k − SLACK`, or `pad_row` is too short.
    #[allow(clippy::too_many_arguments)]
    pub fn indirect(
        &self,
        team: Option<&Team>,
        a: &[u8],
        pad_row: &[u8],
        windows: Windows<'_>,
        out: &mut [u8],
        ldo: usize,
        residual: Option<Residual<'_>>,
    ) {
        self.assert_indirect(a, pad_row, windows);
        self.assert_output(windows.rows(), ldo, out.len());
        self.run_u8(team, a, Rows::Indirect { windows, pad_row }, windows.rows(), out, ldo, residual);
    }

    /// As [`indirect`](Self::indirect), with [`Output::F32`].
    ///
    /// # Panics
    /// As [`indirect`](Self::indirect).
    pub fn indirect_f32(
        &self,
        team: Option<&Team>,
        a: &[u8],
        pad_row: &[u8],
        windows: Windows<'_>,
        out: &mut [f32],
        ldo: usize,
    ) {
        self.assert_indirect(a, pad_row, windows);
        self.assert_output(windows.rows(), ldo, out.len());
        self.run_f32(team, a, Rows::Indirect { windows, pad_row }, windows.rows(), out, ldo);
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

    #[allow(clippy::too_many_arguments)]
    fn run_u8(
        &self,
        team: Option<&Team>,
        a: &[u8],
        rows: Rows<'_>,
        m: usize,
        out: &mut [u8],
        ldo: usize,
        residual: Option<Residual<'_>>,
    ) {
        let Store::U8 { zero_point, lo, hi } = self.store else {
            assert!(matches!(self.store, Store::U8 { .. }), "these weights were packed for f32 outputs");
            return;
        };
        if let Some(Residual { values, params, .. }) = residual {
            let need = span(m, ldo, self.n) + SLACK;
            assert!(values.len() >= need, "residuals and slack need {need} bytes, not {}", values.len());
            params.assert_valid();
        }
        match &self.packed {
            Packed::Scalar(gemm) => {
                gemm.run(a, rows, m, |row, n, acc, mult| {
                    out[row * ldo + n] = scalar::requantize(acc, mult, zero_point, lo, hi);
                });
                if let Some(Residual { values, params, is_first }) = residual {
                    for (out, values) in out.chunks_mut(ldo).zip(values.chunks(ldo)).take(m) {
                        add_in_place(self.isa, &mut out[..self.n], values, params, is_first);
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            _ => {
                // SAFETY: the public functions checked rows and outputs, which are bytes, and this one the residual.
                #[allow(unsafe_code)]
                unsafe {
                    self.run_vectors(team, a, rows, m, out.as_mut_ptr(), ldo, residual);
                }
            }
        }
    }

    fn run_f32(&self, team: Option<&Team>, a: &[u8], rows: Rows<'_>, m: usize, out: &mut [f32], ldo: usize) {
        assert!(matches!(self.store, Store::F32), "these weights were packed for u8 outputs");
        match &self.packed {
            Packed::Scalar(gemm) => gemm.run(a, rows, m, |row, n, acc, scale| {
                out[row * ldo + n] = acc as f32 * scale;
            }),
            #[cfg(target_arch = "x86_64")]
            _ => {
                // SAFETY: as in `run_u8`; the outputs are floats.
                #[allow(unsafe_code)]
                unsafe {
                    self.run_vectors(team, a, rows, m, out.as_mut_ptr().cast(), ldo, None);
                }
            }
        }
    }

    /// All rows and channels, on all threads of `team` if there is one.
    ///
    /// # Safety
    /// Rows lie in `a` as the public functions assert, and `m` rows of outputs of the store's kind can be written; there are
    /// as many residuals, and slack.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, clippy::too_many_arguments)]
    unsafe fn run_vectors(
        &self,
        team: Option<&Team>,
        a: &[u8],
        rows: Rows<'_>,
        m: usize,
        out: *mut u8,
        ldo: usize,
        residual: Option<Residual<'_>>,
    ) {
        let (store, (blocks, weights)) = (self.store, self.packed.size());
        let fused = residual.filter(|residual| self.packed.adds(residual));
        let task = |share: &Share, out: *mut u8| {
            let first = share.rows.start;
            let (a, rows) = match rows {
                Rows::Strided(lda) => (&a[first * lda..], rows),
                Rows::Indirect { windows, pad_row } => {
                    (a, Rows::Indirect { windows: windows.part(share.rows.clone()), pad_row })
                }
            };
            // SAFETY: the row is one of those that can be written.
            let out = unsafe { out.add(first * ldo * store.element()) };
            let residual = fused.map(|r| Residual { values: &r.values[first * ldo..], ..r });
            Task { store, a, rows, m: share.rows.len(), blocks: share.blocks.clone(), out, ldo, residual }
        };
        let work = |share: Share, out: *mut u8| match residual.filter(|_| fused.is_none()) {
            // SAFETY: `pack` checked the machine; the caller vouches for rows and outputs.
            None => unsafe { self.packed.run(&task(&share, out)) },
            Some(residual) => {
                // Sums follow while what they add to is in the cache; not so often that the weights are not.
                let few = (SUM_BYTES / ldo.max(1)).next_multiple_of(SUM_ROWS);
                let rows_each = if weights > SUM_WEIGHTS { m.max(1) } else { few };
                for first in share.rows.clone().step_by(rows_each) {
                    let rows = first..(first + rows_each).min(share.rows.end);
                    let part = Share { rows, blocks: share.blocks.clone() };
                    // SAFETY: as above; the share is nobody else's.
                    unsafe {
                        self.packed.run(&task(&part, out));
                        self.add_residual(&part, residual, out, ldo);
                    }
                }
            }
        };
        let row_bytes = match rows {
            Rows::Strided(lda) => lda,
            // Neighbouring windows share most of their bytes.
            Rows::Indirect { .. } => self.k * self.taps.min(4),
        };
        let per_cycle = if matches!(self.packed, Packed::Amx(_)) { 1024 } else { 128 };
        let size = Size { rows: m, blocks, weights, weight_bytes: 1, row_bytes, per_cycle };
        let out = Shared(out);
        // Shares have no output in common.
        size.share_out(team, |share| work(share, out.get()));
    }

    /// Adds to the outputs of a share that were just stored.
    ///
    /// # Safety
    /// They were, and nobody else uses them; there are as many residuals.
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    unsafe fn add_residual(&self, share: &Share, residual: Residual<'_>, out: *mut u8, ldo: usize) {
        let Residual { values, params, is_first } = residual;
        let (first, end) = self.packed.channels(&share.blocks);
        let (runs, len) = match end - first == ldo {
            true => (share.rows.start..share.rows.start + 1, share.rows.len() * ldo),
            false => (share.rows.clone(), end - first),
        };
        for row in runs {
            let at = row * ldo + first;
            // SAFETY: the caller's.
            let y = unsafe { std::slice::from_raw_parts_mut(out.add(at), len) };
            add_in_place(self.isa, y, &values[at..at + len], params, is_first);
        }
    }
}
