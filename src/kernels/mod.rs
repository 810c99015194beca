//! INT8 primitives: the only room with `unsafe`.
//!
//! Each primitive exists once as plain Rust ([`Isa::Scalar`], the specification) and, where it pays, once
//! per x86-64 instruction set. All tiers give the same bytes for the same input, for every shape: integer
//! sums are exact and wrap modulo 2³² alike, and each float result is defined down to its roundings. A tier
//! is chosen once, when weights are packed ([`GemmWeights::pack`], [`DepthwiseWeights::pack`]), or passed to
//! the functions that need no packing.
//!
//! Activations are u8, images are NHWC (the channel varies fastest) and come one at a time. Weights are s8.
//!
//! # Bounds
//!
//! Whole vectors are loaded where a row ends in the middle of one. A slice of *input* activations must
//! therefore have [`SLACK`] bytes after its last element; their values don't matter. *Outputs* need none:
//! no byte is written outside the elements that an operation documents. Every public function asserts the
//! lengths it relies on, before the first load, so no safe call can leave a slice.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod broadcast;
mod buffer;
mod copy;
mod depthwise;
mod elementwise;
mod float;
mod frame;
mod gemm;
mod layout;
mod memory;
mod offsets;
mod pages;
mod pool;
mod products;
mod resize;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod share;
mod team;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod types;
#[cfg(target_arch = "x86_64")]
mod windows;

pub use broadcast::{Grid, MulParams, add_broadcast, multiply};
#[cfg(test)]
pub use buffer::bytes;
pub use buffer::{Aligned, bytes_mut, floats, floats_mut};
pub use copy::{Stride, copy_strided};
pub use depthwise::DepthwiseWeights;
pub use elementwise::{add, copy_channels, dequantize_to_nchw, lookup, quantize_nchw};
pub use float::*;
pub use gemm::GemmWeights;
pub use memory::keep_freed_memory;
pub use offsets::{Offsets, PAD, Windows};
pub use pool::{average_pool, global_average_pool, max_pool};
pub use products::{ByteAttention, ByteProducts, Bytes, attend_u8, matmul_u8};
pub use resize::{Rescale, Tap, resize, resize_f32};
pub use team::Team;
pub use types::{AddParams, Geometry, Output, Residual};

/// Bytes that must follow the last element of an input activation slice. Kernels may load them and ignore
/// what they hold.
pub const SLACK: usize = 128;

/// An instruction set tier. The order is the order of speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: the specification, on every machine.
    Scalar,
    /// 256-bit vectors: AVX2 and FMA.
    Avx2,
    /// 256-bit vectors with the four-way u8 × s8 dot product: AVX2, FMA and AVX-VNNI.
    AvxVnni,
    /// 512-bit vectors with that dot product: AVX-512 F, BW, VL, DQ, VNNI.
    Avx512Vnni,
    /// Products of tiles of bytes, AMX-INT8, for large products; else as [`Isa::Avx512Vnni`].
    Amx,
}

/// `CALIB8_ISA` asks for something that this machine or build does not have.
#[derive(Debug, thiserror::Error)]
#[error("CALIB8_ISA={asked}: {why}; this machine offers {offered}")]
pub struct IsaError {
    /// What the variable says.
    pub asked: String,
    /// Why it can't be.
    pub why: &'static str,
    /// The tiers that can be chosen.
    pub offered: String,
}

impl Isa {
    const ALL: [Isa; 5] = [Isa::Amx, Isa::Avx512Vnni, Isa::AvxVnni, Isa::Avx2, Isa::Scalar];

    /// The tiers that this machine can run, best first; [`Isa::Scalar`] is always the last.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_supported()).collect()
    }

    /// The tier named by the environment variable `CALIB8_ISA` (see [`name`](Self::name)), or the
    /// best one if it is unset or empty.
    ///
    /// # Errors
    /// The name is unknown, or the machine lacks the instructions.
    pub fn from_env() -> Result<Isa, IsaError> {
        let asked = std::env::var_os("CALIB8_ISA").unwrap_or_default();
        Isa::choose(&asked.to_string_lossy())
    }

    fn choose(asked: &str) -> Result<Isa, IsaError> {
        let available = Isa::available();
        if asked.is_empty() {
            return Ok(available.first().copied().unwrap_or(Isa::Scalar));
        }
        let why = match Isa::ALL.into_iter().find(|isa| isa.name() == asked) {
            Some(isa) if available.contains(&isa) => return Ok(isa),
            Some(_) => "this processor lacks these instructions",
            None => "no instruction set has this name",
        };
        let offered = available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
        Err(IsaError { asked: asked.to_owned(), why, offered })
    }

    /// `scalar`, `avx2`, `avx_vnni`, `avx512_vnni` or `amx_int8`: as in `CALIB8_ISA`, reports and file names.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avx_vnni",
            Isa::Avx512Vnni => "avx512_vnni",
            Isa::Amx => "amx_int8",
        }
    }

    /// The tier whose code runs everything for which this one has no instructions of its own.
    fn base(self) -> Isa {
        match self {
            Isa::AvxVnni => Isa::Avx2,
            Isa::Amx => Isa::Avx512Vnni,
            isa => isa,
        }
    }

    /// Whether this machine can run the tier.
    #[cfg(target_arch = "x86_64")]
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Isa::AvxVnni => Isa::Avx2.is_supported() && is_x86_feature_detected!("avxvnni"),
            Isa::Amx => Isa::Avx512Vnni.is_supported() && amx::is_supported(),
            Isa::Avx512Vnni => {
                Isa::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    /// Whether this machine can run the tier.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_supported(self) -> bool {
        self == Isa::Scalar
    }

    /// The check that makes every call into a `#[target_feature]` function sound.
    #[track_caller]
    fn assert_supported(self) {
        assert!(self.is_supported(), "this machine can't run the {} tier", self.name());
    }
}

/// Whether this is an x86 processor without a dot product of bytes: there other engines add products in 16 bits.
pub fn lacks_vnni() -> bool {
    cfg!(target_arch = "x86_64") && !Isa::AvxVnni.is_supported() && !Isa::Avx512Vnni.is_supported()
}

/// The elements that `rows` rows of `width` elements span when they start `stride` apart.
#[track_caller]
fn span(rows: usize, stride: usize, width: usize) -> usize {
    let starts = rows.saturating_sub(1).checked_mul(stride);
    let span = starts.and_then(|starts| starts.checked_add(width));
    assert!(span.is_some(), "{rows} rows of {width} elements, {stride} apart, overflow usize");
    if rows == 0 { 0 } else { span.unwrap_or(usize::MAX) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod isa_tests {
    use super::*;

    #[test]
    fn the_best_available_tier_is_the_default() {
        let available = Isa::available();
        assert_eq!(available.last(), Some(&Isa::Scalar));
        assert!(available.is_sorted_by(|a, b| a > b));
        assert_eq!(Isa::choose("").unwrap(), available[0]);
        for isa in available {
            assert_eq!(Isa::choose(isa.name()).unwrap(), isa);
        }
    }

    #[test]
    fn an_unknown_tier_is_an_error_that_names_the_choices() {
        let error = Isa::choose("AVX2").unwrap_err().to_string();
        assert!(error.starts_with("CALIB8_ISA=AVX2: no instruction set has this name"), "{error}");
        assert!(error.ends_with("scalar"), "{error}");
    }

    #[test]
    #[should_panic(expected = "overflow")]
    fn spans_that_overflow_are_refused() {
        span(usize::MAX, 3, 1);
    }
}
