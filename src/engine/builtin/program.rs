//! The little language between lowering and execution: an *island* is a run of steps over buffers
//! of its own, entered and left through f32 tensors of tract's.
//!
//! Lowering writes a [`Program`] into one ONNX node; the tract operator made from that node packs
//! the weights and executes the steps. Everything here is plain data.
//!
//! Layout of an INT8 tensor: rank 4 is NHWC, other ranks are in C order; always u8 (an s8 tensor of
//! the file is the same tensor with 128 added to values and zero point), one byte an element. FP32
//! tensors inside an island have the same layout; their steps are in [`float`](super::float).

use serde::{Deserialize, Serialize};

use super::float::FloatOp;
use crate::kernels::{ByteAttention, ByteProducts, Stride, Tap, copy_strided};

/// Scale and zero point of a u8 tensor: `x = (q - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quant {
    pub scale: f32,
    pub zero_point: u8,
}

impl Quant {
    /// `q = clamp(rne(x / scale) + zero_point, 0, 255)`, the ONNX `QuantizeLinear`.
    pub fn quantize(self, x: f32) -> u8 {
        let q = (x / self.scale).round_ties_even() + f32::from(self.zero_point);
        q.clamp(0.0, 255.0) as u8
    }

    /// The ONNX `DequantizeLinear`.
    pub fn dequantize(self, q: u8) -> f32 {
        (i32::from(q) - i32::from(self.zero_point)) as f32 * self.scale
    }
}

/// How an accumulator becomes a u8 after requantization: zero point, then the clamp into which an
/// activation function (Relu, Clip) was folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Store {
    pub zero_point: u8,
    pub lo: u8,
    pub hi: u8,
}

/// A spatial window over one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub in_height: usize,
    pub in_width: usize,
    pub out_height: usize,
    pub out_width: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad_top: usize,
    pub pad_left: usize,
}

impl Window {
    pub fn in_pixels(&self) -> usize {
        self.in_height * self.in_width
    }
    pub fn out_pixels(&self) -> usize {
        self.out_height * self.out_width
    }
    /// A 1×1 window that visits every pixel once.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1]
            && self.stride == [1, 1]
            && (self.pad_top, self.pad_left) == (0, 0)
            && (self.in_height, self.in_width) == (self.out_height, self.out_width)
    }
}

/// Bytes of a pixel of a [`Stem`] in INT8: of more channels than one, a whole step of the widening products.
pub(crate) fn stem_pixel(channels: usize) -> usize {
    if channels == 1 { 1 } else { 4 }
}

/// Where the image of a network's first convolution is laid out for it: NHWC, in INT8 with
/// [`stem_pixel`] channels, and the convolution's padding already around it, so that one kernel row
/// is one run of elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stem {
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
}

/// A sum of a convolution's result and a residual.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub a: Quant,
    pub b: Quant,
    pub out: Quant,
    pub lo: u8,
    pub hi: u8,
    /// Whether the residual is the first operand.
    pub residual_first: bool,
}

/// A convolution; constants: weights s8 `[O][I/group][kh][kw]`, bias i32 `[O]` with the input's
/// zero point folded in, multiplier f32 `[O]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conv {
    pub batch: usize,
    pub window: Window,
    pub in_channels: usize,
    pub out_channels: usize,
    pub group: usize,
    pub input_zero_point: u8,
    /// Without it the result is f32 `acc * multiplier`.
    pub store: Option<Store>,
    /// A second input that is added to the stored result.
    pub sum: Option<Sum>,
    /// Set when the input comes padded from a [`StepOp::Quantize`] with the same stem.
    pub stem: Option<Stem>,
    /// Channels of a pixel of the output buffer; more than `out_channels` inside a concatenation.
    pub out_stride: usize,
    /// First channel written.
    pub out_offset: usize,
}

impl Conv {
    /// One weight filter for each channel.
    pub fn is_depthwise(&self) -> bool {
        self.group > 1 && self.group == self.in_channels && self.group == self.out_channels
    }
}

/// What a [`StepOp::Pairs`] computes of each pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PairOp {
    Add,
    Mul,
}

/// Which elements of two operands meet: rows of consecutive results, at each combination of the outer
/// positions. Steps are those of the first and of the second operand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pairing {
    /// Count and steps of each outer dimension.
    pub outer: Vec<(usize, [usize; 2])>,
    pub rows: (usize, [usize; 2]),
    pub columns: (usize, [usize; 2]),
}

impl Pairing {
    /// Elements of the result.
    pub fn len(&self) -> usize {
        self.outer.iter().map(|d| d.0).product::<usize>() * self.rows.0 * self.columns.0
    }
}

/// A copy in another order: lengths, positions and distances in elements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copying {
    /// Elements of the result.
    pub len: usize,
    /// First element read.
    pub from: usize,
    /// First element written.
    pub to: usize,
    /// Dimensions, outermost first.
    pub dims: Vec<Stride>,
}

impl Copying {
    /// Whether the result is the source, element by element.
    pub fn is_identity(&self) -> bool {
        let all = Stride { count: self.len, from: 1, to: 1 };
        (self.from, self.to) == (0, 0) && (self.dims[..] == [all] || (self.len == 1 && self.dims.is_empty()))
    }

    /// Copies `x` to `out`, whose other elements become `fill`.
    pub fn run<T: Copy>(&self, x: &[T], fill: Option<T>, out: &mut [T]) {
        if let Some(fill) = fill {
            out[..self.len].fill(fill);
        }
        copy_strided(&x[self.from..], &self.dims, &mut out[self.to..self.len]);
    }
}

/// A change of the size of images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scaling {
    pub batch: usize,
    pub channels: usize,
    pub in_height: usize,
    pub in_width: usize,
    pub rows: Vec<Tap>,
    pub columns: Vec<Tap>,
}

impl Scaling {
    pub fn in_len(&self) -> usize {
        self.in_height * self.in_width * self.channels
    }

    pub fn out_len(&self) -> usize {
        self.rows.len() * self.columns.len() * self.channels
    }
}

/// What a step computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum StepOp {
    /// f32 (NCHW, or C order) to u8.
    Quantize {
        batch: usize,
        channels: usize,
        height: usize,
        width: usize,
        quant: Quant,
        stem: Option<Stem>,
    },
    /// u8 to f32 (NCHW, or C order).
    Dequantize {
        batch: usize,
        channels: usize,
        pixels: usize,
        quant: Quant,
    },
    Conv(Conv),
    /// `[m][k] × [n][k]ᵀ`; constants: weights s8 `[n][k]`, bias i32, multiplier f32. Without a
    /// store the result is f32 `acc * multiplier`.
    Gemm {
        m: usize,
        k: usize,
        n: usize,
        store: Option<Store>,
    },
    /// Products of two activations.
    MatMul(ByteProducts),
    /// Of three inputs: queries, keys, values.
    Attention(ByteAttention),
    /// Sum of two tensors of one shape.
    Add {
        len: usize,
        a: Quant,
        b: Quant,
        out: Quant,
        lo: u8,
        hi: u8,
    },
    /// Product of two tensors, or a sum of tensors of different shapes. With one input, the other operand
    /// is constant (u8).
    Pairs {
        op: PairOp,
        pairing: Pairing,
        a: Quant,
        b: Quant,
        out: Quant,
        lo: u8,
        hi: u8,
        /// Which operand is constant, if one is: 0 or 1.
        constant: Option<usize>,
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
        quant: Quant,
        out: Quant,
    },
    /// Without an output quantization the result is f32 `Σ (q - zero_point) * (scale / pixels)`.
    GlobalAveragePool {
        batch: usize,
        channels: usize,
        pixels: usize,
        quant: Quant,
        out: Option<Quant>,
    },
    /// A function of one element, as its 256 values (constant u8 `[256]`).
    Lookup {
        len: usize,
    },
    /// Concatenation of channels. Inputs whose entry of `tables` is `None` and `in_place` is true
    /// were already written where they belong.
    Concat {
        pixels: usize,
        channels: Vec<usize>,
        quants: Vec<Quant>,
        out: Quant,
        in_place: Vec<bool>,
    },
    /// Movement of data; elements that nothing is moved to are `fill`.
    Move {
        copying: Copying,
        fill: Option<u8>,
    },
    Resize {
        scaling: Scaling,
        quant: Quant,
        out: Quant,
    },
    /// A step that reads or writes FP32.
    Float(FloatOp),
}

impl StepOp {
    /// Whether the operand is a tensor of tract's.
    pub fn enters(&self) -> bool {
        matches!(self, StepOp::Quantize { .. } | StepOp::Float(FloatOp::Import { .. }))
    }

    /// Whether the result is an f32 tensor in the layout of tract's.
    pub fn leaves(&self) -> bool {
        matches!(
            self,
            StepOp::Float(FloatOp::Export { .. })
                | StepOp::Dequantize { .. }
                | StepOp::Gemm { store: None, .. }
                | StepOp::GlobalAveragePool { out: None, .. }
        )
    }
}

/// What a step reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operand {
    /// A byte buffer of the program.
    Buffer(usize),
    /// An input of the island (when read) or an output (when written).
    Port(usize),
}

/// One timed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Name of the ONNX node it stands for.
    pub name: String,
    /// Its operator, such as `Conv`.
    pub kind: String,
    pub macs: u64,
    pub inputs: Vec<Operand>,
    pub output: Operand,
    pub op: StepOp,
    /// Position of its first constant in the island's tensors.
    pub constants: usize,
}

/// An output of an island.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OutputPort {
    pub shape: Vec<usize>,
    /// u8 ports carry a tensor in the island layout to a later island; others are f32.
    pub bytes: bool,
}

/// An island: steps in execution order over numbered buffers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub steps: Vec<Step>,
    /// Length in bytes of each buffer, slack excluded.
    pub buffers: Vec<usize>,
    /// Buffers that are filled from u8 input ports before the first step: (port, buffer).
    pub loads: Vec<(usize, usize)>,
    /// Buffers that are copied to u8 output ports after the last step: (buffer, port).
    pub stores: Vec<(usize, usize)>,
    pub inputs: usize,
    pub outputs: Vec<OutputPort>,
}
