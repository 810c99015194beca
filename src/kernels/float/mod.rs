//! FP32 primitives in the layout of the INT8 ones: packed weights, NHWC images, one image at a time.
//!
//! The FP32 parent is what an INT8 model is compared with, so it is given the same care. Each output of a
//! product is one chain of fused multiply-adds, `acc = fma(x, w, acc)`, that starts at the bias and walks taps and
//! then inputs in order, whatever the vector width or the blocking: lanes run over output channels, and a
//! chain that is cut by blocking goes on from its stored f32. So tiers agree to the last bit here too, and
//! calibration gives the same ranges on every machine.
//!
//! As for bytes, input slices have [`SLACK`] bytes (32 floats) after their last element.

mod depthwise;
mod elementwise;
mod gemm;
mod layout;
mod math;
mod matmul;
mod pool;
mod rows;
mod survey;
#[cfg(target_arch = "x86_64")]
mod tile;
#[cfg(target_arch = "x86_64")]
mod vector;

pub use depthwise::FloatDepthwise;
pub use elementwise::{Binary, Unary, binary, binary_channels, unary};
pub use gemm::{FloatGemm, FloatRows};
pub use layout::{copy_channels_f32, dequantize, nchw_to_nhwc, nhwc_to_nchw, quantize};
pub use matmul::{Attention, Products, attend, matmul};
pub use pool::{average_pool_f32, global_average_pool_f32, max_pool_f32};
pub(super) use rows::weights_of_rows;
pub use rows::{binary_rows, normalize, row_means, softmax};
pub use survey::{Term, survey, survey_bytes};

use super::SLACK;

/// [`SLACK`] in floats.
const SLACK_FLOATS: usize = SLACK / size_of::<f32>();

/// Vector width of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    /// Plain Rust, one lane.
    One,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Eight,
    /// AVX-512 F, BW, VL, DQ.
    #[cfg(target_arch = "x86_64")]
    Sixteen,
}

impl Width {
    #[cfg(target_arch = "x86_64")]
    fn of(isa: super::Isa) -> Width {
        match isa.base() {
            super::Isa::Avx512Vnni => Width::Sixteen,
            super::Isa::Avx2 => Width::Eight,
            _ => Width::One,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of(_: super::Isa) -> Width {
        Width::One
    }
}
