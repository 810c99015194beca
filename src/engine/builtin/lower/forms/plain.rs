//! Layers with quantized weights that have no INT8 form: their weights as plain FP32 constants, so that they
//! become FP32 steps of the island instead of leaving it.

use ndarray::Axis;

use super::super::Unfused;
use super::super::qdq::{Qdq, Reason, Weight};
use super::{Changes, beside, is_read_once, with_input};
use crate::model::graph;
use crate::model::pb::NodeProto;

pub(super) fn changes(qdq: &Qdq) -> Changes {
    let mut changes = Changes::default();
    for (at, node) in qdq.graph.node.iter().enumerate() {
        if !matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul") {
            continue;
        }
        let Some(weight) = node.input.get(1).and_then(|w| qdq.weight(w).ok()) else { continue };
        let Some(reason) = reason(qdq, node, &weight) else { continue };
        let Some(values) = dequantized(&weight) else { continue };
        let name = changes.constant(beside(&node.output[0], "plain"), weight.values.shape(), &values);
        changes.nodes.insert(at, vec![with_input(node.clone(), 1, &name)]);
        let (node, op_type) = (node.name.clone(), node.op_type.clone());
        changes.unfused.push(Unfused { node, op_type, reason });
    }
    changes
}

/// Why a layer with quantized weights has no INT8 form.
fn reason(qdq: &Qdq, node: &NodeProto, weight: &Weight) -> Option<Reason> {
    if let Err(reason) = qdq.activation(&node.input[0]) {
        return Some(reason);
    }
    let group = graph::attr_int(node, "group").unwrap_or(1) as usize;
    let is_depthwise =
        node.op_type == "Conv" && group > 1 && weight.values.shape().get(..2) == Some(&[group, 1][..]);
    (is_depthwise && !is_quantized(qdq, &node.output[0]))
        .then(|| "it is a depthwise convolution whose result is read in FP32".into())
}

/// Whether someone quantizes `tensor`, or a Relu or Clip of it that alone reads it.
fn is_quantized(qdq: &Qdq, tensor: &str) -> bool {
    let readers: Vec<&NodeProto> = qdq.index.consumers(tensor).iter().map(|r| &qdq.graph.node[*r]).collect();
    match readers[..] {
        [only] if qdq.clamp(only).is_some() && is_read_once(qdq, tensor) => {
            is_quantized(qdq, &only.output[0])
        }
        _ => readers.iter().any(|r| r.op_type == "QuantizeLinear"),
    }
}

fn dequantized(weight: &Weight) -> Option<Vec<f32>> {
    let mut values = weight.values.mapv(f32::from);
    match weight.scales[..] {
        [scale] => values.mapv_inplace(|v| v * scale),
        ref scales => {
            let axis = Axis(weight.axis);
            if values.shape().get(weight.axis) != Some(&scales.len()) {
                return None;
            }
            for (mut part, scale) in values.axis_iter_mut(axis).zip(scales) {
                part.mapv_inplace(|v| v * scale);
            }
        }
    }
    Some(values.iter().copied().collect())
}
