//! ONNX Runtime's QOperator format, read as the QDQ graph that it stands for.
//!
//! In that format operators read and give integers, with scales and zero points as inputs: `QLinearConv`,
//! `QLinearMatMul` and a set of their kin in the domain `com.microsoft`, and beside them ordinary operators
//! that only move integers. Each becomes the FP32 operator between DequantizeLinear and QuantizeLinear, which
//! is how the contrib operators are defined, so all else needs to know one format only.

use std::borrow::Cow;
use std::collections::HashMap;

use super::graph::{self, Index};
use super::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};
use super::rewrite::Names;
use super::{Model, rewrite};

/// Operators that move integers without looking at them.
const MOVEMENTS: [&str; 13] = [
    "DepthToSpace",
    "Flatten",
    "Gather",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Whether a node belongs to the format.
fn is_qoperator(node: &NodeProto) -> bool {
    node.op_type.starts_with("QLinear") || node.op_type == "QGemm"
}

/// `model` itself, or its QDQ form if it is written in the QOperator format. Operators of the format that have no
/// such form here stay as they are.
pub fn as_qdq(model: &Model) -> Cow<'_, Model> {
    if !model.graph().node.iter().any(is_qoperator) {
        return Cow::Borrowed(model);
    }
    let mut model = model.clone();
    if let Some(graph) = model.proto.graph.as_mut() {
        rewritten(graph);
    }
    Cow::Owned(model)
}

fn rewritten(graph: &mut GraphProto) {
    let index = Index::new(graph);
    let mut writer = Writer {
        graph,
        index: &index,
        names: Names::new(graph),
        nodes: Vec::new(),
        initializers: Vec::new(),
        real: HashMap::new(),
        format: HashMap::new(),
    };
    for node in &graph.node {
        if writer.node(node).is_none() {
            writer.nodes.push(node.clone());
        }
    }
    let (nodes, initializers) = (writer.nodes, writer.initializers);
    graph.node = nodes;
    graph.initializer.extend(initializers);
    // Integer tensors may be declared there whose operators are gone.
    graph.value_info.clear();
    rewrite::prune(graph);
}

/// Names of the scale and the zero point of an integer tensor; an empty zero point is 0.
type Format = (String, String);

struct Writer<'a> {
    graph: &'a GraphProto,
    index: &'a Index,
    names: Names,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// The dequantized form of integer tensors, by name and scale.
    real: HashMap<(String, String), String>,
    /// The format of integer tensors that some node made.
    format: HashMap<String, Format>,
}

impl Writer<'_> {
    /// Writes the QDQ form of `node`; `None` if it has none.
    fn node(&mut self, node: &NodeProto) -> Option<()> {
        let input = |slot: usize| node.input.get(slot).map_or("", String::as_str);
        let format = |slot: usize| (input(slot).to_string(), input(slot + 1).to_string());
        match node.op_type.as_str() {
            "QuantizeLinear" => {
                self.format.insert(node.output.first()?.clone(), format(1));
                return None;
            }
            "QLinearConv" => {
                let mut inputs = vec![
                    self.dequantized(input(0), &format(1), 1),
                    self.dequantized(input(3), &format(4), 0),
                ];
                if !input(8).is_empty() {
                    inputs.push(self.bias(input(8), input(1), input(4))?);
                }
                self.between("Conv", node, inputs, format(6));
            }
            "QLinearMatMul" => {
                let axis = self.rank(input(3)).map_or(1, |rank| rank.saturating_sub(1));
                let inputs = vec![
                    self.dequantized(input(0), &format(1), 1),
                    self.dequantized(input(3), &format(4), axis),
                ];
                self.between("MatMul", node, inputs, format(6));
            }
            "QGemm" => {
                if graph::attr_float(node, "alpha").unwrap_or(1.0) != 1.0 {
                    return None;
                }
                let axis = usize::from(graph::attr_int(node, "transB").unwrap_or(0) == 0);
                let mut inputs = vec![
                    self.dequantized(input(0), &format(1), 1),
                    self.dequantized(input(3), &format(4), axis),
                ];
                if !input(6).is_empty() {
                    inputs.push(self.bias(input(6), input(1), input(4))?);
                }
                if input(7).is_empty() {
                    self.push("Gemm", node, inputs, node.output.clone());
                } else {
                    self.between("Gemm", node, inputs, format(7));
                }
            }
            "QLinearAdd" | "QLinearMul" => {
                let inputs = vec![
                    self.dequantized(input(0), &format(1), 1),
                    self.dequantized(input(3), &format(4), 1),
                ];
                self.between(&node.op_type["QLinear".len()..], node, inputs, format(6));
            }
            "QLinearConcat" => {
                let operands = (2..node.input.len()).step_by(3);
                let inputs =
                    operands.map(|slot| self.dequantized(input(slot), &format(slot + 1), 1)).collect();
                self.between("Concat", node, inputs, format(0));
            }
            "QLinearGlobalAveragePool"
            | "QLinearAveragePool"
            | "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearSoftmax"
            | "QLinearReduceMean" => {
                if graph::attr_int(node, "channels_last").unwrap_or(0) != 0 {
                    return None;
                }
                let inputs = vec![self.dequantized(input(0), &format(1), 1)];
                self.between(&node.op_type["QLinear".len()..], node, inputs, format(3));
            }
            op if MOVEMENTS.contains(&op) => {
                let format = self.format.get(input(0))?.clone();
                let mut inputs = node.input.clone();
                inputs[0] = self.dequantized(input(0), &format, 1);
                if op == "Pad" && !input(2).is_empty() {
                    inputs[2] = self.dequantized(input(2), &format, 1);
                }
                self.between(op, node, inputs, format);
            }
            _ => return None,
        }
        Some(())
    }

    /// The FP32 operator, and QuantizeLinear behind each of its results.
    fn between(&mut self, op_type: &str, node: &NodeProto, inputs: Vec<String>, format: Format) {
        let reals: Vec<String> = node.output.iter().map(|o| self.fresh(o, "real")).collect();
        self.push(op_type, node, inputs, reals.clone());
        for (real, output) in reals.iter().zip(&node.output).filter(|(_, output)| !output.is_empty()) {
            let name = self.names.fresh(&format!("{output}_QuantizeLinear"));
            let quantize = graph::node("QuantizeLinear", &name, &with(real, &format), &[output.as_str()]);
            self.nodes.push(quantize);
            self.format.insert(output.clone(), format.clone());
        }
    }

    fn push(&mut self, op_type: &str, node: &NodeProto, input: Vec<String>, output: Vec<String>) {
        let stays = |a: &&AttributeProto| !matches!(a.name.as_str(), "channels_last" | "opset");
        let attribute = node.attribute.iter().filter(stays).cloned().collect();
        let (op_type, name) = (op_type.into(), node.name.clone());
        self.nodes.push(NodeProto { op_type, name, input, output, attribute, ..Default::default() });
    }

    fn fresh(&mut self, tensor: &str, end: &str) -> String {
        if tensor.is_empty() { String::new() } else { self.names.fresh(&format!("{tensor}_{end}")) }
    }

    /// DequantizeLinear of an integer tensor, the same one for all its readers.
    fn dequantized(&mut self, tensor: &str, format: &Format, axis: usize) -> String {
        let key = (tensor.to_string(), format.0.clone());
        if let Some(known) = self.real.get(&key) {
            return known.clone();
        }
        let real = self.fresh(tensor, "dequantized");
        let name = self.names.fresh(&format!("{tensor}_DequantizeLinear"));
        let node = graph::node("DequantizeLinear", &name, &with(tensor, format), &[&real]);
        self.nodes.push(graph::with_int(node, "axis", axis as i64));
        self.real.insert(key, real.clone());
        real
    }

    /// A bias, whose scale is the product of those of the input and of the weights.
    fn bias(&mut self, bias: &str, input_scale: &str, weight_scale: &str) -> Option<String> {
        let values = |name: &str| {
            self.index.initializer(name).and_then(|at| graph::to_array::<f32>(&self.graph.initializer[at]))
        };
        let (input, weights) = (values(input_scale)?, values(weight_scale)?);
        let input = input.first().copied().filter(|_| input.len() == 1)?;
        let products: Vec<f32> = weights.iter().map(|w| input * w).collect();
        let shape: &[usize] = if products.len() == 1 { &[] } else { &[products.len()] };
        let scale = self.fresh(bias, "scale");
        self.initializers.push(graph::tensor(&scale, shape, &products));
        Some(self.dequantized(bias, &(scale, String::new()), 0))
    }

    fn rank(&self, tensor: &str) -> Option<usize> {
        Some(self.graph.initializer[self.index.initializer(tensor)?].dims.len())
    }
}

/// The inputs of a QuantizeLinear or DequantizeLinear.
fn with<'a>(tensor: &'a str, format: &'a Format) -> Vec<&'a str> {
    let zero_point = Some(format.1.as_str()).filter(|z| !z.is_empty());
    [tensor, format.0.as_str()].into_iter().chain(zero_point).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor, value, with_int, with_ints};
    use crate::model::pb::{ModelProto, OperatorSetIdProto};

    fn model(node: Vec<NodeProto>) -> Model {
        let graph = GraphProto {
            node,
            input: vec![value("x", 1, &["1", "2", "4", "4"])],
            output: vec![value("y", 1, &[])],
            initializer: vec![
                tensor("s", &[], &[0.5f32]),
                tensor("z", &[], &[3u8]),
                tensor("w", &[2, 2, 1, 1], &[1i8, 2, 3, 4]),
                tensor("ws", &[2], &[0.25f32, 0.5]),
                tensor("wz", &[2], &[0i8, 0]),
                tensor("b", &[2], &[7i32, 8]),
            ],
            ..Default::default()
        };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 13 }];
        Model::from_proto(
            "m.onnx",
            ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() },
        )
    }

    #[test]
    fn operators_on_integers_become_operators_between_quantizers() {
        let original = model(vec![
            node("QuantizeLinear", "q", &["x", "s", "z"], &["a"]),
            node("QLinearConv", "conv", &["a", "s", "z", "w", "ws", "wz", "s", "z", "b"], &["c"]),
            with_ints(node("MaxPool", "pool", &["c"], &["p"]), "kernel_shape", &[1, 1]),
            NodeProto {
                domain: "com.microsoft".into(),
                ..node("QLinearAdd", "add", &["p", "s", "z", "a", "s", "z", "s", "z"], &["d"])
            },
            with_int(
                node("QLinearConcat", "join", &["s", "z", "d", "s", "z", "p", "s", "z"], &["j"]),
                "axis",
                1,
            ),
            node("DequantizeLinear", "dq", &["j", "s", "z"], &["y"]),
        ]);
        let qdq = as_qdq(&original);
        let operators: Vec<&str> =
            qdq.graph().node.iter().map(|n| n.op_type.as_str()).filter(|o| !o.ends_with("Linear")).collect();
        assert_eq!(operators, ["Conv", "MaxPool", "Add", "Concat"]);
        let find = |name: &str| qdq.graph().node.iter().find(|n| n.name == name).unwrap();
        assert_eq!(find("conv").input, ["a_dequantized", "w_dequantized", "b_dequantized"]);
        // One DequantizeLinear serves both readers, and the bias has the scale of the products.
        assert_eq!(find("add").input, ["p_dequantized", "a_dequantized"]);
        let scale = qdq.graph().initializer.iter().find(|t| t.name == "b_scale").unwrap();
        assert_eq!(graph::to_array::<f32>(scale).unwrap().as_slice().unwrap(), [0.125, 0.25]);
        let shapes = crate::model::shapes::infer(&qdq, 1).unwrap();
        assert_eq!(shapes["y"], [1, 4, 4, 4]);
    }

    #[test]
    fn other_models_are_left_alone() {
        let original = model(vec![node("Relu", "r", &["x"], &["y"])]);
        assert!(matches!(as_qdq(&original), Cow::Borrowed(_)));
    }
}
