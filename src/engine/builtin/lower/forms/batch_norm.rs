//! BatchNormalization behind a quantized convolution: NNCF quantizes the weights and leaves it in place.
//!
//! `γ (Σ qx sx qw sw + b − μ) / √(σ² + ε) + β` has the form of the convolution alone, with the weight scale
//! `sw |f|`, where `f = γ / √(σ² + ε)`, the sign of `f` in the weights, and the bias `(b − μ) f + β`.

use ndarray::Axis;

use super::super::qdq::Qdq;
use super::{Changes, beside, bias_of, is_read_once, scales_of, with_input};
use crate::model::graph;
use crate::model::pb::NodeProto;

pub(super) fn changes(qdq: &Qdq) -> Changes {
    let mut changes = Changes::default();
    for (at, node) in qdq.graph.node.iter().enumerate().filter(|(_, n)| n.op_type == "BatchNormalization") {
        let Some((conv_at, nodes)) = folded(qdq, node, &mut changes) else { continue };
        changes.nodes.insert(conv_at, Vec::new());
        changes.nodes.insert(at, nodes);
    }
    changes
}

/// Position of the convolution before the normalization `node`, and both as one.
fn folded(qdq: &Qdq, node: &NodeProto, changes: &mut Changes) -> Option<(usize, Vec<NodeProto>)> {
    if node.output.iter().skip(1).any(|o| !o.is_empty()) || !is_read_once(qdq, &node.input[0]) {
        return None;
    }
    let conv_at = qdq.index.producer(&node.input[0])?;
    let conv = qdq.graph.node.get(conv_at).filter(|n| n.op_type == "Conv")?;
    let mut weight = qdq.weight(&conv.input[1]).ok()?;
    let channels = *weight.values.shape().first()?;
    let list = |slot: usize| -> Option<Vec<f32>> {
        let values = qdq.initializer(node.input.get(slot)?).and_then(graph::to_array::<f32>)?;
        (values.len() == channels).then(|| values.iter().copied().collect())
    };
    let (gamma, beta, mean, variance) = (list(1)?, list(2)?, list(3)?, list(4)?);
    let epsilon = graph::attr_float(node, "epsilon").unwrap_or(1e-5);
    let (mut scales, mut bias) = (scales_of(&weight, channels)?, bias_of(qdq, conv, channels)?);
    for (c, mut row) in weight.values.axis_iter_mut(Axis(0)).enumerate() {
        let factor = gamma[c] / (variance[c] + epsilon).sqrt();
        bias[c] = (bias[c] - mean[c]) * factor + beta[c];
        let scale = scales[c] * factor.abs();
        if !scale.is_finite() || !bias[c].is_finite() {
            return None;
        }
        if scale == 0.0 {
            // The channel is its bias, which the scale of the weights still has to hold.
            row.fill(0);
        } else {
            scales[c] = scale;
        }
        if factor < 0.0 {
            if row.iter().any(|w| *w == i8::MIN) {
                return None;
            }
            row.mapv_inplace(|w| -w);
        }
    }
    let name = beside(&node.output[0], "weights");
    let dequantize = changes.weights(&name, &weight.values, &scales);
    let bias = changes.constant(beside(&node.output[0], "bias"), &[channels], &bias);
    let mut conv = with_input(with_input(conv.clone(), 1, &name), 2, &bias);
    conv.output = vec![node.output[0].clone()];
    Some((conv_at, vec![dequantize, conv]))
}
