//! The forms in which other tools write a quantized graph, brought to the one that the patterns know.
//!
//! Each pass replaces nodes by others that compute the same real numbers, so that lowering has one form of
//! each operator to match: what was rewritten and then finds no INT8 form still runs, and is still right.

mod batch_norm;
mod between;
mod bias;
mod parts;
mod per_channel;
mod plain;

use std::borrow::Cow;
use std::collections::HashMap;

use ndarray::ArrayD;

use super::Unfused;
use super::qdq::Qdq;
use crate::model::graph;
use crate::model::pb::{GraphProto, NodeProto, TensorProto};
use crate::model::shapes::Shapes;

/// A graph in the known form, with the shapes of its tensors.
pub(super) struct Known<'a> {
    pub graph: Cow<'a, GraphProto>,
    pub shapes: Cow<'a, Shapes>,
    /// Layers whose quantized weights became FP32, and why.
    pub unfused: Vec<Unfused>,
}

/// Rewrites `graph` of operators of version `opset`, whose tensors have the concrete `shapes`.
pub(super) fn known<'a>(graph: &'a GraphProto, shapes: &'a Shapes, opset: i64) -> Known<'a> {
    let mut known = Known { graph: Cow::Borrowed(graph), shapes: Cow::Borrowed(shapes), unfused: Vec::new() };
    if !graph.node.iter().any(|n| n.op_type == "QuantizeLinear") {
        return known;
    }
    let passes = [
        batch_norm::changes,
        between::changes,
        per_channel::changes,
        plain::changes,
        bias::changes,
        parts::changes,
    ];
    for pass in passes {
        let changes = pass(&Qdq::new(&known.graph, &known.shapes, opset));
        changes.apply(&mut known);
    }
    known
}

/// What a pass makes of a graph.
#[derive(Default)]
struct Changes {
    /// What stands in the place of a node, by its position.
    nodes: HashMap<usize, Vec<NodeProto>>,
    constants: Vec<TensorProto>,
    /// Shapes of the tensors that it adds.
    shapes: Shapes,
    unfused: Vec<Unfused>,
}

impl Changes {
    fn apply(mut self, known: &mut Known) {
        if self.nodes.is_empty() {
            return;
        }
        let graph = known.graph.to_mut();
        let nodes = std::mem::take(&mut graph.node).into_iter().enumerate();
        graph.node =
            nodes.flat_map(|(at, node)| self.nodes.remove(&at).unwrap_or_else(|| vec![node])).collect();
        graph.initializer.extend(self.constants);
        known.shapes.to_mut().extend(self.shapes);
        known.unfused.extend(self.unfused);
    }

    /// Adds a constant; returns its name.
    fn constant<T: graph::Element>(&mut self, name: String, shape: &[usize], values: &[T]) -> String {
        self.constants.push(graph::tensor(&name, shape, values));
        name
    }

    /// Quantized weights with a scale for each index of axis 0: the node that dequantizes them into the
    /// tensor `name`.
    fn weights(&mut self, name: &str, values: &ArrayD<i8>, scales: &[f32]) -> NodeProto {
        let stored: Vec<i8> = values.iter().copied().collect();
        let q = self.constant(beside(name, "stored"), values.shape(), &stored);
        let s = self.constant(beside(name, "scales"), &[scales.len()], scales);
        self.shapes.insert(name.into(), values.shape().to_vec());
        let dequantize = graph::node("DequantizeLinear", name, &[&q, &s], &[name]);
        graph::with_int(dequantize, "axis", 0)
    }
}

/// Name of a tensor made for another one; no ONNX name contains it.
fn beside(name: &str, what: &str) -> String {
    format!("{name}\u{1}{what}")
}

/// `node` with another input in the place of `slot`, which may be the first one missing.
fn with_input(mut node: NodeProto, slot: usize, name: &str) -> NodeProto {
    if node.input.len() <= slot {
        node.input.resize(slot + 1, String::new());
    }
    node.input[slot] = name.into();
    node
}

/// The scale of each of `channels` output channels of a convolution's weights.
fn scales_of(weight: &super::qdq::Weight, channels: usize) -> Option<Vec<f32>> {
    match weight.scales.len() {
        1 => Some(vec![weight.scales[0]; channels]),
        n if n == channels && weight.axis == 0 => Some(weight.scales.clone()),
        _ => None,
    }
}

/// The real bias of `channels` channels behind a convolution's third input, zeros if there is none.
fn bias_of(qdq: &Qdq, node: &NodeProto, channels: usize) -> Option<Vec<f32>> {
    let Some(name) = node.input.get(2).filter(|n| !n.is_empty()) else { return Some(vec![0.0; channels]) };
    let values = qdq.initializer(name).and_then(graph::to_array::<f32>)?;
    (values.len() == channels).then(|| values.iter().copied().collect())
}

/// Whether only one node reads `tensor`, and the caller of the model does not.
fn is_read_once(qdq: &Qdq, tensor: &str) -> bool {
    qdq.index.consumers(tensor).len() == 1 && !qdq.index.is_output(tensor)
}
