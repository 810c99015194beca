//! The layers of a plan, by the names of the ONNX nodes they come from.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;

use super::island::Island;
use super::program::StepOp;
use crate::engine::{Layer, Precision};
use crate::model::graph::Index;
use crate::model::inspect::macs;
use crate::model::pb::{self, GraphProto, NodeProto};
use crate::model::shapes::Shapes;

/// Activation functions, which both tract and the islands compute inside the layer before them.
const ACTIVATIONS: [&str; 2] = ["Relu", "Clip"];

/// The layers of a plan, and where the time of each of its nodes goes.
#[derive(Clone)]
pub(super) struct Layers {
    pub layers: Arc<Vec<Layer>>,
    /// By node of the plan: its layer, or the first of its layers if it is an island.
    pub of_node: Arc<HashMap<usize, usize>>,
}

impl Layers {
    pub fn new(plan: &TypedSimplePlan, proto: &pb::ModelProto, shapes: &Shapes) -> Layers {
        let origins = proto.graph.as_ref().map(origins).unwrap_or_default();
        let mut layers: Vec<Layer> = Vec::new();
        let mut of_node = HashMap::new();
        for id in plan.order_without_consts() {
            let node = &plan.model().nodes()[*id];
            if let Some(island) = node.op.downcast_ref::<Island>() {
                of_node.insert(*id, layers.len());
                layers.extend(island.program().steps.iter().map(|step| Layer {
                    name: step.name.clone(),
                    kind: step.kind.clone(),
                    precision: match &step.op {
                        StepOp::Quantize { .. } | StepOp::Dequantize { .. } => Precision::Border,
                        StepOp::Float(op) if op.is_border() => Precision::Border,
                        StepOp::Float(_) => Precision::Fp32,
                        _ => Precision::Int8,
                    },
                    macs: step.macs,
                }));
                continue;
            }
            if node.op.name() == "Source" {
                continue;
            }
            let layer = match origin(&node.name, &origins) {
                Some(onnx) => Layer {
                    name: onnx.name.clone(),
                    kind: onnx.op_type.clone(),
                    precision: Precision::Fp32,
                    macs: macs(onnx, shapes),
                },
                None => Layer {
                    name: node.name.clone(),
                    kind: node.op.name().to_string(),
                    precision: Precision::Fp32,
                    macs: 0,
                },
            };
            let known = layers.iter().position(|l| l.name == layer.name && l.precision == Precision::Fp32);
            let position = known.unwrap_or_else(|| {
                layers.push(layer);
                layers.len() - 1
            });
            of_node.insert(*id, position);
        }
        Layers { layers: Arc::new(layers), of_node: Arc::new(of_node) }
    }
}

/// By name of each node of `graph`, the node whose layer it belongs to: itself, or for an activation
/// function that alone reads its input, the node before it.
fn origins(graph: &GraphProto) -> HashMap<&str, &NodeProto> {
    let index = Index::new(graph);
    let before = |node: &NodeProto| {
        let input = node.input.first()?;
        let alone = index.consumers(input).len() == 1 && !index.is_output(input);
        index.producer(input).filter(|_| alone && ACTIVATIONS.contains(&node.op_type.as_str()))
    };
    let mut origins = HashMap::new();
    for node in graph.node.iter().filter(|n| !n.name.is_empty()) {
        let mut owner = node;
        while let Some(position) = before(owner) {
            owner = &graph.node[position];
        }
        origins.insert(node.name.as_str(), owner);
    }
    origins
}

/// The ONNX node that a node of tract's plan was made from: tract appends `.part` to its name, once
/// or more.
fn origin<'a>(name: &str, origins: &HashMap<&str, &'a NodeProto>) -> Option<&'a NodeProto> {
    let mut prefix = name;
    loop {
        if let Some(node) = origins.get(prefix) {
            return Some(node);
        }
        prefix = &prefix[..prefix.rfind('.')?];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::graph::node;

    #[test]
    fn an_activation_belongs_to_the_layer_before_it_unless_others_read_that() {
        let graph = GraphProto {
            node: vec![
                node("Conv", "conv", &["x", "w"], &["a"]),
                node("Relu", "relu", &["a"], &["b"]),
                node("Clip", "clip", &["b"], &["c"]),
                node("Conv", "fork", &["c", "w"], &["d"]),
                node("Relu", "beside", &["d"], &["e"]),
                node("Add", "add", &["d", "e"], &["y"]),
            ],
            ..Default::default()
        };
        let origins = origins(&graph);
        let owner = |name: &str| origin(name, &origins).map(|n| n.name.as_str());
        assert_eq!(owner("clip"), Some("conv"));
        assert_eq!(owner("relu.low.max"), Some("conv"));
        assert_eq!(owner("beside"), Some("beside"));
        assert_eq!(owner("add.matmul"), Some("add"));
        assert_eq!(owner("nobody"), None);
    }
}
