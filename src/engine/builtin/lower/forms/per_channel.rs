//! Activations with a scale for each channel, which NNCF puts before depthwise convolutions.
//!
//! With `q[c] = rne(y[c] / s[c]) + z` the tensor `y / s` has the scale 1. The depthwise convolution takes
//! `s[c]` into the scale of its weights. The convolution that makes `y` divides its own scales and its bias by
//! it; a Relu between them stays as it is, and a bound of a Clip is dropped where it lies outside of what `q`
//! can hold in every channel. Whatever else makes `y` is divided by `s` in FP32.

use super::super::Quant;
use super::super::qdq::{Qdq, Weight};
use super::{Changes, beside, bias_of, scales_of, with_input};
use crate::model::graph;
use crate::model::pb::NodeProto;

pub(super) fn changes(qdq: &Qdq) -> Changes {
    let mut changes = Changes::default();
    for (at, node) in qdq.graph.node.iter().enumerate().filter(|(_, n)| n.op_type == "QuantizeLinear") {
        let Some(scales) = scales(qdq, node) else { continue };
        let Some(Readers { dequantize, convs }) = readers(qdq, node, &scales) else { continue };
        let Some(zero_point) = zero_point(qdq, node) else { continue };
        for (conv_at, weight, of_weight) in convs {
            let conv = &qdq.graph.node[conv_at];
            let name = beside(&conv.output[0], "weights");
            let nodes =
                vec![changes.weights(&name, &weight.values, &of_weight), with_input(conv.clone(), 1, &name)];
            changes.nodes.insert(conv_at, nodes);
        }
        let scale = changes.constant(beside(&node.output[0], "one"), &[], &[1.0f32]);
        let zero = beside(&node.output[0], "zero");
        match zero_point {
            ZeroPoint::Unsigned(z) => changes.constant(zero.clone(), &[], &[z]),
            ZeroPoint::Signed(z) => changes.constant(zero.clone(), &[], &[z]),
        };
        let one = |node: &NodeProto, input: &str| {
            let mut node = node.clone();
            node.attribute.retain(|a| a.name != "axis");
            node.input = vec![input.into(), scale.clone(), zero.clone()];
            node
        };
        for at in dequantize {
            let node = &qdq.graph.node[at];
            changes.nodes.insert(at, vec![one(node, &node.input[0])]);
        }
        let divided = beside(&node.output[0], "divided");
        let mut nodes = by_convolution(qdq, node, &scales, zero_point.unsigned(), &divided, &mut changes)
            .unwrap_or_else(|| by_division(node, &scales, &divided, &mut changes));
        nodes.push(one(node, &divided));
        changes.shapes.insert(divided, qdq.shape(&node.input[0]).unwrap_or_default().to_vec());
        changes.nodes.insert(at, nodes);
    }
    changes
}

#[derive(Clone, Copy)]
enum ZeroPoint {
    Unsigned(u8),
    Signed(i8),
}

impl ZeroPoint {
    fn unsigned(self) -> u8 {
        match self {
            ZeroPoint::Unsigned(z) => z,
            ZeroPoint::Signed(z) => (i16::from(z) + 128) as u8,
        }
    }
}

/// The scales of a `QuantizeLinear` or `DequantizeLinear` with one for each channel of images.
fn scales(qdq: &Qdq, node: &NodeProto) -> Option<Vec<f32>> {
    let scales = qdq.initializer(node.input.get(1)?).and_then(graph::to_array::<f32>)?;
    let axis = graph::attr_int(node, "axis").unwrap_or(1);
    let tensor = if node.op_type == "QuantizeLinear" { &node.input[0] } else { &node.output[0] };
    let &[_, channels, _, _] = qdq.shape(tensor).ok()? else { return None };
    let valid = scales.iter().all(|s| s.is_finite() && *s > 0.0);
    let per_channel = scales.ndim() == 1 && scales.len() == channels && [1, -3].contains(&axis);
    (valid && per_channel).then(|| scales.iter().copied().collect())
}

/// The zero point that all channels have.
fn zero_point(qdq: &Qdq, node: &NodeProto) -> Option<ZeroPoint> {
    let Some(name) = node.input.get(2).filter(|n| !n.is_empty()) else { return Some(ZeroPoint::Unsigned(0)) };
    let tensor = qdq.initializer(name)?;
    let unsigned = graph::to_array::<u8>(tensor);
    if let Some(values) = unsigned {
        let first = values.first().copied()?;
        return values.iter().all(|z| *z == first).then_some(ZeroPoint::Unsigned(first));
    }
    let values = graph::to_array::<i8>(tensor)?;
    let first = values.first().copied()?;
    values.iter().all(|z| *z == first).then_some(ZeroPoint::Signed(first))
}

/// What reads a tensor with a scale for each channel.
struct Readers {
    /// Positions of the `DequantizeLinear`.
    dequantize: Vec<usize>,
    /// Position, weights and new weight scales of each depthwise convolution.
    convs: Vec<(usize, Weight, Vec<f32>)>,
}

/// The readers of what `quantize` makes, if all are depthwise convolutions.
fn readers(qdq: &Qdq, quantize: &NodeProto, scales: &[f32]) -> Option<Readers> {
    let zero = zero_point(qdq, quantize)?.unsigned();
    let dequantize = qdq.index.consumers(&quantize.output[0]).to_vec();
    let mut convs = Vec::new();
    for at in &dequantize {
        let node = &qdq.graph.node[*at];
        let is_same = node.op_type == "DequantizeLinear"
            && self::scales(qdq, node).is_some_and(|s| s == scales)
            && zero_point(qdq, node).is_some_and(|z| z.unsigned() == zero);
        if !is_same || qdq.index.is_output(&node.output[0]) || qdq.index.is_output(&node.input[0]) {
            return None;
        }
        for at in qdq.index.consumers(&node.output[0]) {
            let conv = &qdq.graph.node[*at];
            let group = graph::attr_int(conv, "group").unwrap_or(1);
            if conv.op_type != "Conv" || conv.input[0] != node.output[0] || group != scales.len() as i64 {
                return None;
            }
            let weight = qdq.weight(&conv.input[1]).ok()?;
            let channels = *weight.values.shape().first()?;
            let each = channels / scales.len();
            let of_weight = scales_of(&weight, channels)?;
            let of_weight: Vec<f32> =
                of_weight.iter().enumerate().map(|(o, s)| s * scales[o / each.max(1)]).collect();
            if each == 0 || of_weight.iter().any(|s| !s.is_finite()) {
                return None;
            }
            convs.push((*at, weight, of_weight));
        }
    }
    (!convs.is_empty()).then_some(Readers { dequantize, convs })
}

/// The convolution that makes what `quantize` reads and the Relu or Clip behind it, as one that makes
/// `divided`.
fn by_convolution(
    qdq: &Qdq,
    quantize: &NodeProto,
    scales: &[f32],
    zero_point: u8,
    divided: &str,
    changes: &mut Changes,
) -> Option<Vec<NodeProto>> {
    let mut node = qdq.producer(&quantize.input[0])?;
    let mut is_positive = false;
    while let Some((lo, hi)) = qdq.clamp(node) {
        let is_always = |bound: f32, value: u8| {
            scales.iter().all(|scale| Quant { scale: *scale, zero_point }.quantize(bound) == value)
        };
        if !is_always(hi, u8::MAX) || !(lo == 0.0 || is_always(lo, 0)) {
            return None;
        }
        is_positive |= lo == 0.0;
        node = qdq.producer(&node.input[0])?;
    }
    if node.op_type != "Conv" || qdq.activation(&node.input[0]).is_err() {
        return None;
    }
    let weight = qdq.weight(&node.input[1]).ok()?;
    let of_weight = scales_of(&weight, scales.len())?;
    let bias = bias_of(qdq, node, scales.len())?;
    let over = |values: &[f32]| -> Vec<f32> { values.iter().zip(scales).map(|(v, s)| v / s).collect() };
    let (of_weight, bias) = (over(&of_weight), over(&bias));
    if of_weight.iter().chain(&bias).any(|v| !v.is_finite()) {
        return None;
    }
    let name = beside(divided, "weights");
    let dequantize = changes.weights(&name, &weight.values, &of_weight);
    let bias = changes.constant(beside(divided, "bias"), &[bias.len()], &bias);
    let mut conv = with_input(with_input(node.clone(), 1, &name), 2, &bias);
    if !is_positive {
        conv.output = vec![divided.into()];
        return Some(vec![dequantize, conv]);
    }
    let before = beside(divided, "before");
    changes.shapes.insert(before.clone(), qdq.shape(&quantize.input[0]).unwrap_or_default().to_vec());
    conv.output = vec![before.clone()];
    let relu = graph::node("Relu", &beside(divided, "relu"), &[&before], &[divided]);
    Some(vec![dequantize, conv, relu])
}

/// The division of what `quantize` reads, in FP32.
fn by_division(quantize: &NodeProto, scales: &[f32], divided: &str, changes: &mut Changes) -> Vec<NodeProto> {
    let divisor = changes.constant(beside(divided, "divisor"), &[1, scales.len(), 1, 1], scales);
    vec![graph::node("Div", &quantize.name, &[&quantize.input[0], &divisor], &[divided])]
}
