//! An FP32 step ready to run.

use super::super::program::Step;
use super::super::taps::Taps;
use super::{FloatConv, FloatOp, Function, Pairing};
use crate::kernels::{
    self, FloatDepthwise, FloatGemm, FloatRows, Geometry, Isa, SLACK, Team, Unary, floats, floats_mut,
};
use crate::model::graph;
use crate::model::pb::TensorProto;

/// What a step needs beyond its description.
#[derive(Debug)]
pub(in super::super) enum FloatKernel {
    /// The description is enough.
    Plain,
    /// A product over all rows.
    Gemm(FloatGemm),
    Indirect(Indirect),
    Depthwise {
        weights: FloatDepthwise,
        geometry: Geometry,
    },
    /// The constant operand.
    Constant(Vec<f32>),
}

/// A convolution by offsets into the image, one set of weights for each group.
#[derive(Debug)]
pub(in super::super) struct Indirect {
    pub(super) groups: Vec<FloatGemm>,
    /// `[out pixel][tap]`, floats from the image's start.
    pub(super) offsets: Vec<i32>,
    pub(super) pad_row: Vec<f32>,
    /// Floats of an input image.
    pub(super) in_len: usize,
}

/// Constants below this are read as 0. Weight decay leaves weights that are subnormal or near it; their products are
/// nothing, but a hundred times as slow as others.
const LEAST: f32 = 1e-30;

/// A weight, bias or factor without what is too small to matter.
pub(in super::super) fn flushed(x: f32) -> f32 {
    if x.abs() < LEAST { 0.0 } else { x }
}

fn constant(step: &Step, tensors: &[TensorProto], at: usize) -> Result<Vec<f32>, String> {
    tensors
        .get(step.constants + at)
        .and_then(graph::to_array::<f32>)
        .map(|values| values.iter().copied().map(flushed).collect())
        .ok_or_else(|| format!("step '{}' lacks its constants", step.name))
}

/// Prepares a step for `isa`.
pub(in super::super) fn prepare(
    op: &FloatOp,
    step: &Step,
    tensors: &[TensorProto],
    isa: Isa,
) -> Result<FloatKernel, String> {
    Ok(match op {
        FloatOp::Conv(conv) => {
            prepare_conv(conv, &constant(step, tensors, 0)?, &constant(step, tensors, 1)?, isa)?
        }
        FloatOp::Gemm { k, n, range, .. } => {
            let (lo, hi) = range.bounds();
            let (weights, bias) = (constant(step, tensors, 0)?, constant(step, tensors, 1)?);
            FloatKernel::Gemm(FloatGemm::pack(isa, *n, 1, *k, &weights, &bias, lo, hi))
        }
        FloatOp::Normalize { len, .. } => {
            let both = constant(step, tensors, 0)?;
            if both.len() != 2 * len {
                return Err(format!("step '{}' has {} constants, not 2 · {len}", step.name, both.len()));
            }
            FloatKernel::Constant(both)
        }
        FloatOp::Binary { .. } if step.inputs.len() == 1 => {
            FloatKernel::Constant(constant(step, tensors, 0)?)
        }
        _ => FloatKernel::Plain,
    })
}

fn prepare_conv(conv: &FloatConv, weights: &[f32], bias: &[f32], isa: Isa) -> Result<FloatKernel, String> {
    let (window, (lo, hi)) = (conv.window, conv.range.bounds());
    if conv.is_depthwise() {
        let weights = FloatDepthwise::pack(isa, conv.in_channels, window.kernel, weights, bias, lo, hi);
        return Ok(FloatKernel::Depthwise { weights, geometry: window.geometry() });
    }
    if window.is_pointwise() && conv.group == 1 {
        let weights = FloatGemm::pack(isa, conv.out_channels, 1, conv.in_channels, weights, bias, lo, hi);
        return Ok(FloatKernel::Gemm(weights));
    }
    let taps = Taps::new(window, conv.in_channels, conv.group, conv.stem, conv.in_channels);
    let group_out = conv.out_channels / conv.group;
    let per_group = weights.len() / conv.group;
    let groups = weights.chunks_exact(per_group).zip(bias.chunks_exact(group_out)).map(|(weights, bias)| {
        FloatGemm::pack(isa, group_out, taps.taps, taps.k, &taps.reorder(weights), bias, lo, hi)
    });
    Ok(FloatKernel::Indirect(Indirect {
        groups: groups.collect(),
        offsets: taps.offsets()?,
        pad_row: vec![0.0; taps.k + SLACK / size_of::<f32>()],
        in_len: taps.in_len,
    }))
}

/// A tensor of tract's to a buffer.
pub(in super::super) fn import(op: &FloatOp, isa: Isa, x: &[f32], out: &mut [f32]) {
    let FloatOp::Import { batch, channels, height, width, stem } = op else { return };
    let pad = stem.map_or([0; 4], |s| s.pad);
    let (from, to) =
        (channels * height * width, (height + pad[0] + pad[2]) * (width + pad[1] + pad[3]) * channels);
    for image in 0..*batch {
        let out = &mut out[image * to..(image + 1) * to];
        kernels::nchw_to_nhwc(isa, &x[image * from..], *channels, *height, *width, pad, out);
    }
}

/// A buffer to a tensor of tract's.
pub(in super::super) fn export(op: &FloatOp, isa: Isa, x: &[f32], out: &mut [f32]) {
    let FloatOp::Export { batch, channels, pixels } = op else { return };
    let len = channels * pixels;
    for image in 0..*batch {
        kernels::nhwc_to_nchw(isa, &x[image * len..], *channels, *pixels, &mut out[image * len..]);
    }
}

/// Runs a step between buffers; inputs have [`SLACK`] bytes after their end.
pub(in super::super) fn run(op: &FloatOp, kernel: &FloatKernel, isa: Isa, inputs: &[&[u8]], out: &mut [u8]) {
    match op {
        FloatOp::Quantize { len, quant } => {
            let x = &floats(inputs[0])[..*len];
            return kernels::quantize(isa, x, quant.scale, quant.zero_point, &mut out[..*len]);
        }
        FloatOp::Dequantize { len, quant } => {
            let out = &mut floats_mut(out)[..*len];
            return kernels::dequantize(isa, &inputs[0][..*len], quant.scale, quant.zero_point, out);
        }
        _ => {}
    }
    let (x, out) = (floats(inputs[0]), floats_mut(out));
    let second = inputs.get(1).map(|x| floats(x));
    match (op, kernel) {
        (FloatOp::Conv(conv), _) => run_conv(None, conv, kernel, x, second, out),
        (FloatOp::Gemm { m, k, n, .. }, FloatKernel::Gemm(weights)) => {
            weights.run(None, x, FloatRows::Strided(*k), *m, out, *n, second);
        }
        (FloatOp::Binary { op, pairing, range }, kernel) => {
            let other = match kernel {
                FloatKernel::Constant(values) => values,
                _ => second.unwrap_or(x),
            };
            match *pairing {
                Pairing::Same { len } => {
                    kernels::binary(isa, *op, &x[..len], &other[..len], range.bounds(), &mut out[..len]);
                }
                Pairing::Rows { rows, len, swapped } => {
                    let (x, out) = (&x[..rows * len], &mut out[..rows * len]);
                    kernels::binary_rows(isa, *op, x, &other[..rows], swapped, range.bounds(), out);
                }
                Pairing::Channels { batch, pixels, channels, swapped } => {
                    for image in 0..batch {
                        let each = match kernel {
                            FloatKernel::Constant(values) => values,
                            _ => &other[image * channels..(image + 1) * channels],
                        };
                        let at = image * pixels * channels..(image + 1) * pixels * channels;
                        let (x, out) = (&x[at.clone()], &mut out[at]);
                        kernels::binary_channels(isa, *op, x, each, swapped, range.bounds(), out);
                    }
                }
            }
        }
        (FloatOp::Attention(attention), _) => {
            let third = inputs.get(2).map_or(x, |x| floats(x));
            kernels::attend(isa, x, second.unwrap_or(x), third, attention, out);
        }
        (FloatOp::MatMul(products), _) => kernels::matmul(isa, x, second.unwrap_or(x), products, out),
        (FloatOp::Softmax { total, len, inner }, _) => {
            kernels::softmax(isa, &x[..*total], *len, *inner, &mut out[..*total]);
        }
        (FloatOp::RowMeans { rows, len }, _) => {
            kernels::row_means(isa, &x[..rows * len], *len, &mut out[..*rows]);
        }
        (FloatOp::Normalize { rows, len, epsilon }, FloatKernel::Constant(both)) => {
            let ((weights, bias), total) = (both.split_at(*len), rows * len);
            kernels::normalize(isa, &x[..total], *epsilon, weights, bias, &mut out[..total]);
        }
        (FloatOp::Unary { len, function }, _) => {
            let function = match function {
                Function::Clamp(range) => {
                    let (lo, hi) = range.bounds();
                    Unary::Clamp { lo, hi }
                }
                Function::Other(unary) => *unary,
            };
            kernels::unary(isa, function, &x[..*len], &mut out[..*len]);
        }
        (FloatOp::MaxPool { batch, channels, window }, _) => {
            per_image(*batch, &window.geometry(), *channels, x, out, |x, geometry, out| {
                kernels::max_pool_f32(isa, x, *channels, geometry, out);
            });
        }
        (FloatOp::AveragePool { batch, channels, window, count_include_pad }, _) => {
            per_image(*batch, &window.geometry(), *channels, x, out, |x, geometry, out| {
                kernels::average_pool_f32(isa, x, *channels, geometry, *count_include_pad, out);
            });
        }
        (FloatOp::GlobalAveragePool { batch, channels, pixels }, _) => {
            for image in 0..*batch {
                let x = &x[image * pixels * channels..];
                let out = &mut out[image * channels..(image + 1) * channels];
                kernels::global_average_pool_f32(isa, x, *pixels, out);
            }
        }
        (FloatOp::Move { copying, fill }, _) => copying.run(x, fill.map(f32::from_bits), out),
        (FloatOp::Resize(scaling), _) => {
            let (from, to) = (scaling.in_len(), scaling.out_len());
            for image in 0..scaling.batch {
                let (x, out) = (&x[image * from..], &mut out[image * to..(image + 1) * to]);
                let (width, channels) = (scaling.in_width, scaling.channels);
                kernels::resize_f32(isa, x, width, channels, &scaling.rows, &scaling.columns, out);
            }
        }
        _ => {}
    }
}

pub(super) fn run_conv(
    team: Option<&Team>,
    conv: &FloatConv,
    kernel: &FloatKernel,
    x: &[f32],
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    let (stride, pixels) = (conv.out_stride, conv.window.out_pixels());
    match kernel {
        FloatKernel::Gemm(weights) => {
            let rows = FloatRows::Strided(conv.in_channels);
            weights.run(team, x, rows, conv.batch * pixels, &mut out[conv.out_offset..], stride, residual);
        }
        FloatKernel::Depthwise { weights, geometry } => {
            per_image(conv.batch, geometry, conv.in_channels, x, out, |x, geometry, out| {
                weights.run(x, geometry, out);
            });
        }
        FloatKernel::Indirect(indirect) => {
            let Indirect { groups, offsets, pad_row, in_len } = indirect;
            let (group_in, group_out) = (conv.in_channels / conv.group, conv.out_channels / conv.group);
            for image in 0..conv.batch {
                for (g, weights) in groups.iter().enumerate() {
                    let first = image * pixels * stride + conv.out_offset + g * group_out;
                    let rows = FloatRows::Indirect { offsets, pad_row };
                    let residual = residual.map(|r| &r[first..]);
                    let x = &x[image * in_len + g * group_in..];
                    weights.run(team, x, rows, pixels, &mut out[first..], stride, residual);
                }
            }
        }
        FloatKernel::Plain | FloatKernel::Constant(_) => {}
    }
}

fn per_image(
    batch: usize,
    geometry: &Geometry,
    channels: usize,
    x: &[f32],
    out: &mut [f32],
    mut run: impl FnMut(&[f32], &Geometry, &mut [f32]),
) {
    let (from, to) = (geometry.pixels() * channels, geometry.out_pixels() * channels);
    for image in 0..batch {
        run(&x[image * from..], geometry, &mut out[image * to..(image + 1) * to]);
    }
}
