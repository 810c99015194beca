//! The FP32 steps of an island: what the parent of a quantized model consists of, and the layers of
//! a quantized one that stayed FP32. They share buffers, layout (NHWC) and packing with the INT8
//! steps, so mixed models do not bounce between layouts.

mod kernel;
mod split;

use serde::{Deserialize, Serialize};

use super::program::{Copying, Quant, Scaling, Stem, Window};
use crate::kernels::{Attention, Binary, Products, Unary};
pub(super) use kernel::{FloatKernel, export, flushed, import, prepare, run};
pub(super) use split::run_split;

/// A convolution; constants: weights f32 `[O][I/group][kh][kw]`, bias f32 `[O]`. With a second
/// input, that is added before the clamp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FloatConv {
    pub batch: usize,
    pub window: Window,
    pub in_channels: usize,
    pub out_channels: usize,
    pub group: usize,
    pub range: Range,
    /// Set when the input comes padded from a [`FloatOp::Import`] with the same stem.
    pub stem: Option<Stem>,
    /// Channels of a pixel of the output buffer; more than `out_channels` inside a concatenation.
    pub out_stride: usize,
    /// First channel written.
    pub out_offset: usize,
}

impl FloatConv {
    /// One weight filter for each channel.
    pub fn is_depthwise(&self) -> bool {
        self.group > 1 && self.group == self.in_channels && self.group == self.out_channels
    }
}

/// Bounds of the results, such as those of a Relu; none is an infinity, stored as its bits since
/// JSON has no infinities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Range {
    lo: u32,
    hi: u32,
}

impl Range {
    pub fn new((lo, hi): (f32, f32)) -> Range {
        Range { lo: lo.to_bits(), hi: hi.to_bits() }
    }

    pub fn bounds(self) -> (f32, f32) {
        (f32::from_bits(self.lo), f32::from_bits(self.hi))
    }
}

/// A function of one element as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Function {
    Clamp(Range),
    Other(Unary),
}

/// Which elements of the second operand meet those of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pairing {
    /// Element by element.
    Same { len: usize },
    /// One value for each channel (of each image), for all its pixels; `swapped` when it is the
    /// operator's first operand.
    Channels { batch: usize, pixels: usize, channels: usize, swapped: bool },
    /// One value for each row of `len` elements; `swapped` as above.
    Rows { rows: usize, len: usize, swapped: bool },
}

/// What a step computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum FloatOp {
    /// A tensor of tract's (NCHW, or C order) to a buffer.
    Import {
        batch: usize,
        channels: usize,
        height: usize,
        width: usize,
        stem: Option<Stem>,
    },
    /// A buffer to a tensor of tract's.
    Export {
        batch: usize,
        channels: usize,
        pixels: usize,
    },
    /// An FP32 buffer to a u8 buffer.
    Quantize {
        len: usize,
        quant: Quant,
    },
    /// A u8 buffer to an FP32 buffer.
    Dequantize {
        len: usize,
        quant: Quant,
    },
    Conv(FloatConv),
    /// `[m][k] × [n][k]ᵀ`; constants: weights f32 `[n][k]`, bias f32 `[n]`. With a second input,
    /// that is added before the clamp.
    Gemm {
        m: usize,
        k: usize,
        n: usize,
        range: Range,
    },
    /// Products of two activations.
    MatMul(Products),
    /// Of three inputs: queries, keys, values.
    Attention(Attention),
    /// Over an axis of `len` elements that are `inner` apart.
    Softmax {
        total: usize,
        len: usize,
        inner: usize,
    },
    /// The mean of each row.
    RowMeans {
        rows: usize,
        len: usize,
    },
    /// Each row by its mean and deviation; constants: f32 `[2][len]`, what the results are multiplied by and what is added.
    Normalize {
        rows: usize,
        len: usize,
        epsilon: f32,
    },
    /// Two operands; the second is a constant (f32, as many as meet the first) if the step has one input.
    Binary {
        op: Binary,
        pairing: Pairing,
        range: Range,
    },
    Unary {
        len: usize,
        function: Function,
    },
    MaxPool {
        batch: usize,
        channels: usize,
        window: Window,
    },
    AveragePool {
        batch: usize,
        channels: usize,
        window: Window,
        count_include_pad: bool,
    },
    GlobalAveragePool {
        batch: usize,
        channels: usize,
        pixels: usize,
    },
    /// Concatenation of channels; inputs that are `in_place` were already written where they belong.
    Concat {
        pixels: usize,
        channels: Vec<usize>,
        in_place: Vec<bool>,
    },
    /// Movement of data; elements that nothing is moved to are `fill`, the bits of an f32.
    Move {
        copying: Copying,
        fill: Option<u32>,
    },
    Resize(Scaling),
}

impl FloatOp {
    /// Whether it only changes format or layout.
    pub fn is_border(&self) -> bool {
        matches!(
            self,
            FloatOp::Import { .. }
                | FloatOp::Export { .. }
                | FloatOp::Quantize { .. }
                | FloatOp::Dequantize { .. }
        )
    }

    /// Bytes that it writes.
    pub fn output_bytes(&self) -> usize {
        let floats = match self {
            FloatOp::Quantize { len, .. } => return *len,
            FloatOp::Import { batch, channels, height, width, stem } => {
                let [top, left, bottom, right] = stem.map_or([0; 4], |s| s.pad);
                batch * (height + top + bottom) * (width + left + right) * channels
            }
            FloatOp::Export { batch, channels, pixels } => batch * channels * pixels,
            FloatOp::Move { copying, .. } => copying.len,
            FloatOp::Resize(scaling) => scaling.batch * scaling.out_len(),
            FloatOp::Dequantize { len, .. } | FloatOp::Unary { len, .. } => *len,
            FloatOp::Conv(conv) => conv.batch * conv.window.out_pixels() * conv.out_stride,
            FloatOp::Gemm { m, n, .. } => m * n,
            FloatOp::Attention(Attention { values, .. }) => values.count() * values.m * values.n,
            FloatOp::MatMul(products) => products.count() * products.m * products.n,
            FloatOp::Softmax { total, .. } => *total,
            FloatOp::RowMeans { rows, .. } => *rows,
            FloatOp::Normalize { rows, len, .. }
            | FloatOp::Binary { pairing: Pairing::Rows { rows, len, .. }, .. } => rows * len,
            FloatOp::Binary { pairing: Pairing::Same { len }, .. } => *len,
            FloatOp::Binary { pairing: Pairing::Channels { batch, pixels, channels, .. }, .. } => {
                batch * pixels * channels
            }
            FloatOp::MaxPool { batch, channels, window }
            | FloatOp::AveragePool { batch, channels, window, .. } => batch * channels * window.out_pixels(),
            FloatOp::GlobalAveragePool { batch, channels, .. } => batch * channels,
            FloatOp::Concat { pixels, channels, .. } => pixels * channels.iter().sum::<usize>(),
        };
        floats * size_of::<f32>()
    }
}
