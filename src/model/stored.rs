//! Weights, left out where only shapes are asked for.
//!
//! tract would dequantize each weight that a QDQ graph stores as integers, several times over, before it says that the
//! result has the shape of what is stored: two thirds of the time that an INT8 model takes to load. It would copy those
//! of other graphs. So each becomes an input of its shape.

use std::collections::{HashMap, HashSet};

use super::graph::{attr_int, attribute, is_default_domain, value};
use super::pb::tensor_proto::DataType;
use super::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::rewrite;

/// The graph without the values of dequantized weights.
pub(super) struct Lean {
    /// The model; the weights are its last inputs.
    pub proto: ModelProto,
    /// Name and shape of each, in order.
    pub weights: Vec<(String, Vec<usize>)>,
}

/// What has so many values is a weight: shapes, axes and scales have fewer.
const FEWEST: usize = 4096;

/// `proto` with an input in the place of every `DequantizeLinear` of an initializer that is well formed, and of every
/// other large initializer of floats; `None` if it has none.
pub(super) fn lean(proto: &ModelProto) -> Option<Lean> {
    let graph = proto.graph.as_ref()?;
    // A graph inside a node reads tensors by other rules.
    if graph.node.iter().any(|node| rewrite::subgraphs(node).next().is_some()) {
        return None;
    }
    let initializers: HashMap<&str, &TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let mut weights = Vec::new();
    let mut rest = Vec::new();
    for node in &graph.node {
        match shape(node, &initializers).filter(|_| !outputs.contains(node.output[0].as_str())) {
            Some(shape) => weights.push((node.output[0].clone(), shape)),
            None => rest.push(node.clone()),
        }
    }
    let read: HashSet<&str> = rest.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    let mut initializer = Vec::new();
    for tensor in graph.initializer.iter().filter(|tensor| read.contains(tensor.name.as_str())) {
        let shape: Option<Vec<usize>> = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
        let is_weight = |shape: &Vec<usize>| {
            tensor.data_type == DataType::Float as i32 && shape.iter().product::<usize>() >= FEWEST
        };
        match shape.filter(is_weight).filter(|_| !outputs.contains(tensor.name.as_str())) {
            Some(shape) => weights.push((tensor.name.clone(), shape)),
            None => initializer.push(tensor.clone()),
        }
    }
    if weights.is_empty() {
        return None;
    }
    // Before IR version 4 initializers are listed as inputs as well.
    let fed = |input: &&ValueInfoProto| !initializers.contains_key(input.name.as_str());
    let mut input: Vec<ValueInfoProto> = graph.input.iter().filter(fed).cloned().collect();
    for (name, shape) in &weights {
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        input.push(value(name, DataType::Float as i32, &dims));
    }
    let graph =
        GraphProto { node: rest, initializer, input, output: graph.output.clone(), ..Default::default() };
    let proto = ModelProto {
        ir_version: proto.ir_version,
        opset_import: proto.opset_import.clone(),
        graph: Some(graph),
        ..Default::default()
    };
    Some(Lean { proto, weights })
}

/// The shape of what `node` gives, if it dequantizes an initializer with a scale for all of it or one for each index
/// of an axis. What is malformed is left for tract to refuse.
fn shape(node: &NodeProto, initializers: &HashMap<&str, &TensorProto>) -> Option<Vec<usize>> {
    let is_dequantize = node.op_type == "DequantizeLinear" && is_default_domain(&node.domain);
    if !is_dequantize || node.output.len() != 1 || attribute(node, "block_size").is_some() {
        return None;
    }
    let constant = |slot: usize| {
        let name = node.input.get(slot).filter(|name| !name.is_empty())?;
        initializers.get(name.as_str()).copied()
    };
    let (stored, scale) = (constant(0)?, constant(1)?);
    let zero_point = match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(_) => Some(constant(2)?),
        None => None,
    };
    let rank = stored.dims.len() as i64;
    let axis = attr_int(node, "axis").unwrap_or(1);
    let length = stored.dims.get(usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?);
    let fits = |tensor: &TensorProto| match tensor.dims[..] {
        [] | [1] => true,
        [count] => length == Some(&count),
        _ => false,
    };
    let same_type = zero_point.is_none_or(|zero_point| zero_point.data_type == stored.data_type);
    let is_plain = scale.data_type == DataType::Float as i32 && same_type;
    if !is_plain || !fits(scale) || !zero_point.is_none_or(fits) {
        return None;
    }
    stored.dims.iter().map(|dim| usize::try_from(*dim).ok().filter(|dim| *dim > 0)).collect()
}
