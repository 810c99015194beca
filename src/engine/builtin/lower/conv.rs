//! Conv, Gemm and MatMul: the operators with weights.
//!
//! With `x = (qx - zx) sx` and `w = qw sw[o]`, the accumulator is
//! `acc[o] = Σ qx qw + bias[o] - zx Σ qw`, and the stored value
//! `clamp(rne(acc * (sx sw[o] / sy)) + zy)`, in f32 and in that order, which is what ONNX Runtime's
//! fused kernels compute.

use ndarray::{ArrayViewD, Axis};

use super::super::program::{Conv, Quant, StepOp, Store, Window};
use super::Draft;
use super::qdq::{Qdq, Reason, Weight};
use crate::model::graph;
use crate::model::pb::NodeProto;

/// What stands behind the accumulator: the tensor to write and how, or none for an f32 result.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub tensor: &'a str,
    pub quant: Option<Quant>,
    /// Bounds of the activation function, as real numbers.
    pub clamp: (f32, f32),
}

impl Target<'_> {
    /// The quantized clamp: a bound outside the range of u8 is no bound.
    pub fn store(&self) -> Option<Store> {
        self.quant.map(|quant| Store {
            zero_point: quant.zero_point,
            lo: quant.quantize(self.clamp.0),
            hi: quant.quantize(self.clamp.1),
        })
    }
}

/// Elements that all windows of one image may have: a table of 1 GiB.
const MOST_PLACES: usize = 1 << 28;

/// Windows of Conv and the pools: kernel, strides, dilations, pads and `auto_pad` resolved.
pub(super) fn window(
    node: &NodeProto,
    kernel: [usize; 2],
    input: &[usize],
    output: &[usize],
) -> Result<Window, Reason> {
    let pair = |name: &str| -> Result<[usize; 2], Reason> {
        match graph::attr_ints(node, name) {
            None => Ok([1, 1]),
            Some([a, b]) if *a > 0 && *b > 0 => Ok([*a as usize, *b as usize]),
            Some(other) => Err(format!("its {name} are {other:?}")),
        }
    };
    let (stride, dilation) = (pair("strides")?, pair("dilations")?);
    let ([_, _, in_height, in_width], [_, _, out_height, out_width]) = (input, output) else {
        return Err("it is not two-dimensional".into());
    };
    let total = |axis: usize, size: usize, out: usize| {
        ((out - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1).saturating_sub(size)
    };
    if *out_height == 0 || *out_width == 0 {
        return Err("its output is empty".into());
    }
    // Of a convolution each has an offset in a table.
    let places = [*out_height, *out_width, kernel[0], kernel[1]].into_iter().fold(1, usize::saturating_mul);
    if places > MOST_PLACES {
        return Err(format!("its windows have {places} elements in all"));
    }
    let same = [total(0, *in_height, *out_height), total(1, *in_width, *out_width)];
    let (pad_top, pad_left) = match graph::attr_str(node, "auto_pad").unwrap_or("NOTSET") {
        "SAME_UPPER" => (same[0] / 2, same[1] / 2),
        "SAME_LOWER" => (same[0].div_ceil(2), same[1].div_ceil(2)),
        "VALID" => (0, 0),
        _ => match graph::attr_ints(node, "pads") {
            None => (0, 0),
            Some([top, left, _, _]) if *top >= 0 && *left >= 0 => (*top as usize, *left as usize),
            Some(other) => return Err(format!("its pads are {other:?}")),
        },
    };
    Ok(Window {
        in_height: *in_height,
        in_width: *in_width,
        out_height: *out_height,
        out_width: *out_width,
        kernel,
        stride,
        dilation,
        pad_top,
        pad_left,
    })
}

/// Accumulator parameters of `outputs` channels: bias with the zero point folded in, and the
/// multiplier of each. `rows` iterates the weights of each output channel.
fn accumulators(
    qdq: &Qdq,
    node: &NodeProto,
    weight: &Weight,
    channel_axis: usize,
    input: Quant,
    output: Option<Quant>,
) -> Result<(Vec<i32>, Vec<f32>), Reason> {
    let channels = weight.values.shape()[channel_axis];
    let scale = |o: usize| match weight.scales.len() {
        1 => Ok(weight.scales[0]),
        n if n == channels && weight.axis == channel_axis => Ok(weight.scales[o]),
        _ => Err("its weight scales are not per output channel".to_string()),
    };
    let scales = (0..channels).map(scale).collect::<Result<Vec<f32>, _>>()?;
    let products: Vec<f32> = scales.iter().map(|s| input.scale * s).collect();
    let bias = match node.input.get(2).filter(|n| !n.is_empty()) {
        None => vec![0; channels],
        Some(name) => qdq.bias(name, &products)?,
    };
    let [bias_len, channel_len] = [bias.len(), channels];
    if bias_len != channel_len && bias_len != 1 {
        return Err(format!("its bias has {bias_len} values for {channel_len} channels"));
    }
    let corrected = (0..channels).map(|o| {
        let row: ArrayViewD<i8> = weight.values.index_axis(Axis(channel_axis), o);
        let sum: i64 = row.iter().map(|w| i64::from(*w)).sum();
        let value = i64::from(bias[o % bias_len]) - i64::from(input.zero_point) * sum;
        i32::try_from(value).map_err(|_| "its bias does not fit 32 bits".to_string())
    });
    let bias = corrected.collect::<Result<Vec<i32>, Reason>>()?;
    let multiplier = products.iter().map(|p| output.map_or(*p, |q| p / q.scale)).collect();
    Ok((bias, multiplier))
}

pub(super) fn conv(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    let (input, quant) = qdq.activation(&node.input[0])?;
    let weight = qdq.weight(&node.input[1])?;
    let (in_shape, out_shape) = (qdq.shape(&node.input[0])?, qdq.shape(&node.output[0])?);
    let &[out_channels, in_per_group, kh, kw] = weight.values.shape() else {
        return Err("it is not two-dimensional".into());
    };
    let group = graph::attr_int(node, "group").unwrap_or(1).max(1) as usize;
    let in_channels = in_per_group * group;
    if in_shape.get(1) != Some(&in_channels) || out_channels % group != 0 {
        return Err(format!("its weights {:?} do not fit its input {in_shape:?}", weight.values.shape()));
    }
    let (bias, multiplier) = accumulators(qdq, node, &weight, 0, quant, target.quant)?;
    let store = target.store();
    if store.is_none() && group > 1 && group == in_channels && group == out_channels {
        return Err("it is a depthwise convolution whose result is read in FP32".into());
    }
    let window = window(node, [kh, kw], in_shape, out_shape)?;
    let values: Vec<i8> = weight.values.iter().copied().collect();
    let batch = in_shape[0];
    Ok(Draft {
        name: node.name.clone(),
        kind: "Conv".into(),
        macs: (batch * window.out_pixels() * out_channels * in_per_group * kh * kw) as u64,
        inputs: vec![input.into()],
        output: target.tensor.into(),
        op: StepOp::Conv(Conv {
            batch,
            window,
            in_channels,
            out_channels,
            group,
            input_zero_point: quant.zero_point,
            store,
            sum: None,
            stem: None,
            out_stride: out_channels,
            out_offset: 0,
        }),
        constants: vec![
            graph::tensor("weights", weight.values.shape(), &values),
            graph::tensor("bias", &[out_channels], &bias),
            graph::tensor("multiplier", &[out_channels], &multiplier),
        ],
    })
}

/// Whether a Gemm or MatMul transposes its second operand.
pub(super) fn gemm_flags(node: &NodeProto) -> Result<bool, Reason> {
    let is_gemm = node.op_type == "Gemm";
    let flag = |name: &str| is_gemm && graph::attr_int(node, name).unwrap_or(0) != 0;
    let one = |name: &str| graph::attr_float(node, name).unwrap_or(1.0) == 1.0;
    if flag("transA") || !one("alpha") || !one("beta") {
        return Err("it transposes A or scales its operands".into());
    }
    Ok(flag("transB"))
}

/// Gemm, and MatMul by a constant matrix.
pub(super) fn gemm(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    let transposes_b = gemm_flags(node)?;
    let (input, quant) = qdq.activation(&node.input[0])?;
    let mut weight = qdq.weight(&node.input[1])?;
    let in_shape = qdq.shape(&node.input[0])?;
    if weight.values.ndim() != 2 || in_shape.len() < 2 || in_shape.len() == 4 {
        return Err("its operands are not matrices".into());
    }
    if !transposes_b {
        weight.values = weight.values.reversed_axes();
        weight.axis = if weight.scales.len() == 1 { 0 } else { 1_usize.saturating_sub(weight.axis) };
    }
    let &[n, k] = weight.values.shape() else { return Err("its operands are not matrices".into()) };
    if in_shape.last() != Some(&k) {
        return Err(format!("its weights {:?} do not fit its input {in_shape:?}", weight.values.shape()));
    }
    let (bias, multiplier) = accumulators(qdq, node, &weight, 0, quant, target.quant)?;
    let m = in_shape.iter().product::<usize>() / k.max(1);
    let store = target.store();
    if store.is_none() && target.clamp != (f32::NEG_INFINITY, f32::INFINITY) {
        return Err("an activation function without quantization follows it".into());
    }
    let values: Vec<i8> = weight.values.iter().copied().collect();
    Ok(Draft {
        name: node.name.clone(),
        kind: node.op_type.clone(),
        macs: (m * k * n) as u64,
        inputs: vec![input.into()],
        output: target.tensor.into(),
        op: StepOp::Gemm { m, k, n, store },
        constants: vec![
            graph::tensor("weights", &[n, k], &values),
            graph::tensor("bias", &[n], &bias),
            graph::tensor("multiplier", &[n], &multiplier),
        ],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::with_ints;

    #[test]
    fn a_table_of_more_places_than_can_be_held_is_not_made() {
        let conv = with_ints(graph::node("Conv", "c", &["x", "w"], &["y"]), "pads", &[2, 2, 2, 2]);
        let of = |side: usize| window(&conv, [5, 5], &[1, 3, side, side], &[1, 8, side, side]);
        assert_eq!(of(3276).unwrap().pad_top, 2);
        assert_eq!(of(3277).unwrap_err(), "its windows have 268468225 elements in all");
    }
}
