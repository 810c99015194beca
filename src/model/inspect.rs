//! What a model holds: ports, operators, parameters, multiply-accumulates, and what can become INT8.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Serialize, Serializer};
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

use super::{
    Dim, Model, ModelError, Port, function,
    graph::{self, attr_int},
    image_input,
    shapes::{self, Shapes},
};

/// What [`inspect`] finds.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Version of the default operator set.
    pub opset: i64,
    /// Version of the file format.
    pub ir_version: i64,
    /// The exporter and its version, as the file names them.
    pub producer: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// Size of the file, with its external data.
    pub bytes: u64,
    /// Inputs that must be fed.
    pub inputs: Vec<PortInfo>,
    /// Outputs in graph order.
    pub outputs: Vec<PortInfo>,
    /// Names of the symbolic dimensions of the inputs.
    pub symbols: Vec<String>,
    /// How many nodes of each operator there are, the most frequent first.
    #[serde(serialize_with = "as_map")]
    pub operators: Vec<(String, usize)>,
    /// Numbers that the model learned: elements of its weights, biases and statistics.
    pub parameters: u64,
    /// Multiply-accumulates of one inference with batch 1; `None` if shapes can't be determined.
    pub macs: Option<u64>,
    /// Whether the model already computes in INT8: it has quantizing operators.
    pub quantized: bool,
    /// Why shapes, and with them multiply-accumulates, are unknown.
    pub shapes_unknown: Option<String>,
    /// The nodes in the order of the file.
    pub nodes: Vec<NodeInfo>,
}

/// An input or output.
#[derive(Debug, Clone, Serialize)]
pub struct PortInfo {
    /// Its name in the graph.
    pub name: String,
    /// Its element type, such as `float32`.
    pub elem_type: String,
    /// Its shape with symbols, such as `[N, 3, 224, 224]`.
    pub shape: String,
}

/// One node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op_type: String,
    /// Shape of its first output with batch 1, if known.
    pub shape: Option<Vec<usize>>,
    /// Multiply-accumulates of one inference with batch 1.
    pub macs: u64,
    /// Elements of its weights; shared weights count at each node.
    pub parameters: u64,
    /// Why it can't become INT8; `None` if it can.
    pub not_quantizable: Option<&'static str>,
}

fn as_map<S: Serializer>(pairs: &[(String, usize)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, count)| (name, count)))
}

/// Inspects a model. Shapes that can't be determined (a dynamic height, an operator that tract
/// refuses) leave [`Inspection::macs`] empty and say why, because the rest is still worth seeing.
///
/// # Errors
/// The model has no graph, or asks for tensors that can't be held.
pub fn inspect(model: &Model) -> Result<Inspection, ModelError> {
    let graph = model.proto.graph.as_ref().ok_or_else(|| ModelError::NotOnnx {
        path: model.path.clone(),
        what: "it holds no graph".into(),
        hint: "load it from a file first".into(),
    })?;
    let (shapes, shapes_unknown) = match shapes::infer(model, 1) {
        Ok(shapes) => (Some(shapes), None),
        Err(e @ ModelError::Unholdable { .. }) => return Err(e),
        Err(e) => (None, Some(e.to_string())),
    };
    let constants = Constants::new(graph);
    let nodes: Vec<NodeInfo> = graph.node.iter().map(|n| node_info(n, shapes.as_ref(), &constants)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &graph.node {
        *counts.entry(&node.op_type).or_default() += 1;
    }
    let mut operators: Vec<(String, usize)> = counts.into_iter().map(|(n, c)| (n.into(), c)).collect();
    operators.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let inputs = model.inputs();
    let mut symbols: Vec<String> = Vec::new();
    for dim in inputs.iter().flat_map(|p| &p.dims) {
        if let Dim::Symbol(s) = dim
            && !symbols.contains(s)
        {
            symbols.push(s.clone());
        }
    }
    let producer = format!("{} {}", model.proto.producer_name, model.proto.producer_version);
    Ok(Inspection {
        opset: model.opset(),
        ir_version: model.proto.ir_version,
        producer: producer.trim().into(),
        sha256: model.sha256.clone(),
        bytes: model.bytes,
        inputs: inputs.iter().map(port_info).collect(),
        outputs: model.outputs().iter().map(port_info).collect(),
        symbols,
        operators,
        parameters: constants.parameters(graph),
        macs: shapes.is_some().then(|| nodes.iter().map(|n| n.macs).sum()),
        quantized: is_quantized(model),
        shapes_unknown,
        nodes,
    })
}

fn port_info(port: &Port) -> PortInfo {
    PortInfo {
        name: port.name.clone(),
        elem_type: image_input::type_name(port.elem_type),
        shape: image_input::describe(&port.dims),
    }
}

fn node_info(node: &NodeProto, shapes: Option<&Shapes>, constants: &Constants) -> NodeInfo {
    let output = node.output.first().cloned().unwrap_or_default();
    NodeInfo {
        name: node.name.clone(),
        op_type: node.op_type.clone(),
        shape: shapes.and_then(|s| s.get(&output)).cloned(),
        macs: shapes.map_or(0, |s| macs(node, s)),
        parameters: constants.of_node(node).values().sum(),
        not_quantizable: quantizable(node, |name| constants.is_constant(name)).err(),
    }
}

/// Whether a model already computes in INT8.
pub fn is_quantized(model: &Model) -> bool {
    let quantizing = |op: &str| {
        op.starts_with("QLinear")
            || matches!(
                op,
                "QuantizeLinear"
                    | "DequantizeLinear"
                    | "ConvInteger"
                    | "MatMulInteger"
                    | "DynamicQuantizeLinear"
            )
    };
    model.graph().node.iter().any(|n| quantizing(&n.op_type))
}

/// Multiply-accumulates of one run of `node`, by the usual definitions: every output element of
/// a convolution takes as many as a filter has weights, of a matrix product as the inner dimension.
/// 0 for other operators, and where a shape is missing.
pub fn macs(node: &NodeProto, shapes: &Shapes) -> u64 {
    let of = |name: Option<&String>| name.and_then(|n| shapes.get(n)).map(Vec::as_slice).unwrap_or(&[]);
    let input = |position: usize| of(node.input.get(position));
    let output = of(node.output.first());
    let volume = |shape: &[usize]| match shape {
        [] => 0,
        dims => dims.iter().fold(1u64, |product, d| product.saturating_mul(*d as u64)),
    };
    let filter = |weights: &[usize]| volume(weights.get(1..).unwrap_or(&[]));
    match node.op_type.as_str() {
        "Conv" | "ConvInteger" => volume(output).saturating_mul(filter(input(1))),
        "QLinearConv" => volume(output).saturating_mul(filter(input(3))),
        "ConvTranspose" => volume(input(0)).saturating_mul(filter(input(1))),
        "Gemm" => {
            let inner = input(0).get(usize::from(attr_int(node, "transA") != Some(1)));
            volume(output).saturating_mul(inner.map_or(0, |d| *d as u64))
        }
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => {
            // The product of two vectors is a scalar, whose shape is empty.
            let elements = if input(0).len() == 1 && output.is_empty() { 1 } else { volume(output) };
            elements.saturating_mul(input(0).last().map_or(0, |d| *d as u64))
        }
        _ => 0,
    }
}

/// Whether `node` is of an operator class that calib8 turns into INT8, with `is_constant` telling
/// which tensors are known before the model runs.
///
/// # Errors
/// The reason why not, to be shown to people.
pub fn quantizable(node: &NodeProto, is_constant: impl Fn(&str) -> bool) -> Result<(), &'static str> {
    if !graph::is_default_domain(&node.domain) {
        return Err("is no standard ONNX operator");
    }
    let weights = |reason| match node.input.get(1) {
        Some(name) if is_constant(name) => Ok(()),
        _ => Err(reason),
    };
    match node.op_type.as_str() {
        "Conv" | "Gemm" => weights("its weights are not constant"),
        "MatMul" if node.input.first().is_some_and(|name| is_constant(name)) => {
            Err("multiplies a constant by an activation, runs in FP32")
        }
        "MatMul" => Ok(()),
        "MaxPool" if node.output.get(1).is_some_and(|o| !o.is_empty()) => {
            Err("gives out indices, runs in FP32")
        }
        "Add" | "Mul" | "Concat" | "MaxPool" | "AveragePool" | "GlobalAveragePool" | "ReduceMean"
        | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" | "Slice" | "Gather" | "Pad"
        | "DepthToSpace" | "SpaceToDepth" | "Resize" => Ok(()),
        op if function::OPERATORS.contains(&op) => Ok(()),
        "QuantizeLinear" | "DequantizeLinear" => Err("is quantization itself"),
        op if op.starts_with("QLinear") => Err("is quantized already"),
        _ => Err("runs in FP32"),
    }
}

/// Which tensors are constant, and how many learned numbers each stands for.
struct Constants<'a> {
    /// Elements of each constant, those that DequantizeLinear makes from constants included.
    elements: HashMap<&'a str, (&'a str, u64)>,
    constant: HashSet<&'a str>,
}

impl<'a> Constants<'a> {
    fn new(graph: &'a GraphProto) -> Constants<'a> {
        let tensors = graph::constants(graph);
        let mut elements = HashMap::new();
        let mut constant: HashSet<&str> = tensors.keys().copied().collect();
        for (name, tensor) in &tensors {
            if is_float(tensor) {
                elements.insert(*name, (*name, count(tensor)));
            }
        }
        for node in &graph.node {
            let data = node.input.first().filter(|i| constant.contains(i.as_str()));
            let Some((data, output)) = data.zip(node.output.first()) else { continue };
            let held = tensors.get(data.as_str()).map(|t| (data.as_str(), count(t)));
            if matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear")
                && let Some(origin) = elements.get(data.as_str()).copied().or(held)
            {
                elements.insert(output, origin);
                constant.insert(output);
            }
        }
        Constants { elements, constant }
    }

    fn is_constant(&self, name: &str) -> bool {
        self.constant.contains(name)
    }

    /// The learned tensors that `node` reads, with their elements. Scales and zero points of
    /// quantization are not learned, and what goes through it counts where it is used.
    fn of_node(&self, node: &NodeProto) -> HashMap<&'a str, u64> {
        if matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear") {
            return HashMap::new();
        }
        node.input.iter().filter_map(|i| self.elements.get(i.as_str()).copied()).collect()
    }

    fn parameters(&self, graph: &GraphProto) -> u64 {
        let mut all = HashMap::new();
        graph.node.iter().for_each(|n| all.extend(self.of_node(n)));
        all.values().sum()
    }
}

fn is_float(tensor: &TensorProto) -> bool {
    use DataType::{Bfloat16, Double, Float, Float16};
    matches!(DataType::try_from(tensor.data_type), Ok(Float | Double | Float16 | Bfloat16))
}

fn count(tensor: &TensorProto) -> u64 {
    tensor.dims.iter().map(|d| *d as u64).product()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor, value, with_int};
    use crate::model::pb::{ModelProto, OperatorSetIdProto};

    fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Model {
        let graph = GraphProto {
            input: vec![value("x", 1, &["N", "4", "6", "6"])],
            output: vec![value("y", 1, &["N", "?"])],
            node: nodes,
            initializer,
            ..Default::default()
        };
        let proto = ModelProto {
            ir_version: 7,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            producer_name: "test".into(),
            graph: Some(graph),
            ..Default::default()
        };
        Model::from_proto("m.onnx", proto)
    }

    fn classifier() -> Model {
        let nodes = vec![
            with_int(node("Conv", "conv", &["x", "w", "b"], &["h"]), "group", 2),
            node("Sigmoid", "sigmoid", &["h"], &["s"]),
            node("Flatten", "flat", &["s"], &["f"]),
            node("Gemm", "fc", &["f", "v"], &["y"]),
        ];
        let initializers = vec![
            tensor("w", &[8, 2, 3, 3], &[0f32; 144]),
            tensor("b", &[8], &[0f32; 8]),
            tensor("v", &[128, 10], &[0f32; 1280]),
        ];
        model(nodes, initializers)
    }

    #[test]
    fn counts_parameters_and_multiply_accumulates() {
        let found = inspect(&classifier()).unwrap();
        assert_eq!(found.parameters, 144 + 8 + 1280);
        // 8 channels of 4x4 with 2x3x3 weights each, and 128x10.
        assert_eq!(found.macs, Some(8 * 16 * 18 + 1280));
        assert_eq!(found.nodes[0].shape, Some(vec![1, 8, 4, 4]));
        assert_eq!(found.nodes[0].parameters, 152);
        assert_eq!(found.nodes[1].not_quantizable, None);
        assert_eq!(found.nodes[3].not_quantizable, None);
        assert_eq!(found.symbols, ["N"]);
        assert_eq!(found.inputs[0].shape, "[N, 4, 6, 6]");
        assert!(!found.quantized);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["operators"]["Conv"], 1);
    }

    #[test]
    fn quantized_weights_count_where_they_are_used() {
        let nodes = vec![
            node("QuantizeLinear", "q", &["x", "s", "z"], &["xq"]),
            node("DequantizeLinear", "dx", &["xq", "s", "z"], &["xd"]),
            node("DequantizeLinear", "dw", &["w", "s"], &["wd"]),
            node("Conv", "conv", &["xd", "wd"], &["y"]),
        ];
        let initializers = vec![
            tensor("s", &[], &[0.1f32]),
            tensor("z", &[], &[0u8]),
            tensor("w", &[8, 4, 1, 1], &[0i8; 32]),
        ];
        let found = inspect(&model(nodes, initializers)).unwrap();
        assert!(found.quantized);
        assert_eq!(found.parameters, 32);
        assert_eq!(found.nodes[3].parameters, 32);
        assert_eq!(found.macs, Some(8 * 36 * 4));
    }

    #[test]
    fn an_unknown_shape_leaves_the_rest() {
        let mut dynamic = classifier();
        dynamic.proto.graph.as_mut().unwrap().input[0] = value("x", 1, &["N", "4", "H", "6"]);
        let found = inspect(&dynamic).unwrap();
        assert_eq!((found.macs, found.parameters), (None, 1432));
        assert!(found.shapes_unknown.unwrap().contains("dynamic dimension 'H'"));
        assert_eq!(found.symbols, ["N", "H"]);
    }

    #[test]
    fn matrix_products_by_their_inner_dimension() {
        let shape = |s: &[usize]| s.to_vec();
        let shapes: Shapes = [
            ("a", shape(&[2, 4, 7])),
            ("b", shape(&[2, 7, 5])),
            ("c", shape(&[2, 4, 5])),
            ("t", shape(&[7, 4])),
        ]
        .map(|(n, s)| (n.to_string(), s))
        .into();
        assert_eq!(macs(&node("MatMul", "m", &["a", "b"], &["c"]), &shapes), 2 * 4 * 5 * 7);
        let transposed = with_int(node("Gemm", "g", &["t", "w"], &["t"]), "transA", 1);
        assert_eq!(macs(&transposed, &shapes), 28 * 7);
        assert_eq!(macs(&node("Conv", "lost", &["q", "r"], &["s"]), &shapes), 0);
    }

    #[test]
    fn says_why_a_node_stays_fp32() {
        let constant = |name: &str| name == "w";
        let of = |op: &str, inputs: &[&str]| quantizable(&node(op, "n", inputs, &["y"]), constant);
        assert_eq!(of("Conv", &["x", "w"]), Ok(()));
        assert_eq!(of("Conv", &["x", "v"]), Err("its weights are not constant"));
        assert_eq!(of("MatMul", &["x", "w"]), Ok(()));
        assert_eq!(of("MatMul", &["x", "v"]), Ok(()));
        assert_eq!(of("MatMul", &["w", "v"]), Err("multiplies a constant by an activation, runs in FP32"));
        assert_eq!(of("Add", &["x", "v"]), Ok(()));
        assert_eq!(of("Add", &["x", "w"]), Ok(()));
        assert_eq!(of("Softmax", &["x"]), Err("runs in FP32"));
    }
}
