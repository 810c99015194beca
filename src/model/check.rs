//! What a message must fulfil to be a model: the rules of ONNX that everything else relies on.

use std::collections::HashSet;
use std::path::Path;

use tract_onnx::pb::{self, GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

use super::{Model, ModelError, graph as vocabulary, printable, qoperator, rewrite, rules, sizes};

/// The oldest operator set that calib8 takes; older ones broadcast in another way.
pub const OLDEST_OPSET: i64 = 7;

fn invalid(path: &Path, what: String, hint: &str) -> ModelError {
    ModelError::Invalid { path: path.into(), what, hint: hint.into() }
}

const EXPORT_AGAIN: &str = "the file is damaged or its exporter has a bug; export the model again";

/// Versions, and that the graph is not empty.
pub(super) fn header(path: &Path, proto: &pb::ModelProto) -> Result<(), ModelError> {
    if proto.ir_version < 3 {
        return Err(invalid(
            path,
            format!("its IR version is {}, expected 3 or more", proto.ir_version),
            "export the model again with a current exporter",
        ));
    }
    let version = proto.opset_import.iter().find(|o| vocabulary::is_default_domain(&o.domain));
    match version.map(|o| o.version) {
        None => Err(invalid(
            path,
            "it names no version of the ONNX operator set".into(),
            "the file may be cut short: copy it again, or export the model again",
        )),
        Some(v) if v < OLDEST_OPSET => Err(invalid(
            path,
            format!("it uses operator set {v}, expected {OLDEST_OPSET} or newer"),
            "export the model with opset_version=13 or newer, or convert it with onnx.version_converter",
        )),
        Some(_) => Ok(()),
    }?;
    let graph = proto.graph.as_ref();
    if graph.is_none_or(|g| g.node.is_empty()) {
        return Err(invalid(path, "its graph has no nodes".into(), EXPORT_AGAIN));
    }
    if graph.is_none_or(|g| g.output.is_empty()) {
        return Err(invalid(path, "its graph has no outputs".into(), EXPORT_AGAIN));
    }
    Ok(())
}

/// Tensors hold what they declare, every name is made once, and what is read is made somewhere.
pub(super) fn graph(path: &Path, graph: &GraphProto) -> Result<(), ModelError> {
    scope(graph, &HashSet::new()).map_err(|what| invalid(path, what, EXPORT_AGAIN))
}

pub(super) fn cyclic(path: &Path, cycle: &[String]) -> ModelError {
    let mut names: Vec<String> = cycle.iter().take(5).map(|n| format!("'{}'", printable(n))).collect();
    if cycle.len() > names.len() {
        names.push(format!("{} more", cycle.len() - names.len()));
    }
    invalid(path, format!("the graph has a cycle: {}", names.join(" → ")), EXPORT_AGAIN)
}

fn scope<'a>(graph: &'a GraphProto, outer: &HashSet<&'a str>) -> Result<(), String> {
    let mut known = outer.clone();
    let twice = |name: &str| format!("tensor '{}' is made twice", printable(name));
    for input in &graph.input {
        if !known.insert(&input.name) {
            return Err(twice(&input.name));
        }
    }
    let inputs: HashSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    let mut initializers = HashSet::new();
    for init in &graph.initializer {
        tensor(init).map_err(|what| format!("initializer '{}': {what}", printable(&init.name)))?;
        // Before IR version 4 an initializer had to be a graph input as well.
        let new = known.insert(&init.name) || inputs.contains(init.name.as_str());
        if !(new && initializers.insert(init.name.as_str())) {
            return Err(twice(&init.name));
        }
    }
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |v| v.name.as_str());
        return Err(format!("initializer '{}' is sparse, which calib8 does not take", printable(name)));
    }
    for node in &graph.node {
        if node.op_type.is_empty() {
            return Err(format!("{} has no operator", title(node)));
        }
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if !known.insert(output) {
                return Err(twice(output));
            }
        }
    }
    for node in &graph.node {
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            if !known.contains(input.as_str()) {
                return Err(format!(
                    "{} reads tensor '{}', which nothing makes",
                    title(node),
                    printable(input)
                ));
            }
        }
        let attributes = node.attribute.iter().flat_map(|a| a.t.iter().chain(&a.tensors));
        for value in attributes {
            tensor(value).map_err(|what| format!("{}: its tensor: {what}", title(node)))?;
        }
        for inner in rewrite::subgraphs(node) {
            scope(inner, &known)?;
        }
    }
    sizes::check(graph)?;
    rules::check(graph)?;
    match graph.output.iter().find(|o| !known.contains(o.name.as_str())) {
        Some(output) => Err(format!("nothing makes the output '{}'", printable(&output.name))),
        None => Ok(()),
    }
}

fn title(node: &NodeProto) -> String {
    let output = || node.output.first().cloned().unwrap_or_default();
    let name = if node.name.is_empty() { output() } else { node.name.clone() };
    format!("node '{}' ({})", printable(&name), printable(&node.op_type))
}

/// Bytes that the values of a tensor take, from its type and dimensions.
pub(super) fn byte_size(tensor: &TensorProto) -> Result<u64, String> {
    let elements = tensor
        .dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(u64::try_from(*dim).ok()?))
        .filter(|n| *n <= isize::MAX as u64 / 16)
        .ok_or_else(|| format!("its shape {:?} is negative or too large to exist", tensor.dims))?;
    Ok((elements * element_bits(tensor)?).div_ceil(8))
}

fn element_bits(tensor: &TensorProto) -> Result<u64, String> {
    use DataType::*;
    match DataType::try_from(tensor.data_type) {
        Ok(Uint8 | Int8 | Bool) => Ok(8),
        Ok(Uint16 | Int16 | Float16) => Ok(16),
        Ok(Float | Int32 | Uint32) => Ok(32),
        Ok(Int64 | Uint64 | Double) => Ok(64),
        Ok(Undefined) | Err(_) => Err(format!("its element type {} is unknown", tensor.data_type)),
        Ok(other) => {
            let name = other.as_str_name().to_lowercase();
            Err(format!(
                "its element type {name} is not supported, expected float32 or integers of 8 bits and more"
            ))
        }
    }
}

/// The values are as many as the shape says.
fn tensor(tensor: &TensorProto) -> Result<(), String> {
    if tensor.data_type == DataType::String as i32 && tensor.raw_data.is_empty() {
        return Ok(());
    }
    let expected = byte_size(tensor)?;
    let bits = element_bits(tensor)?;
    let found = if tensor.raw_data.is_empty() {
        // Types below 32 bits share the field of 32-bit integers.
        let typed = [
            tensor.float_data.len(),
            tensor.int32_data.len(),
            tensor.int64_data.len(),
            tensor.double_data.len(),
        ];
        typed.iter().sum::<usize>() as u64 * bits / 8
    } else {
        tensor.raw_data.len() as u64
    };
    if found == expected {
        return Ok(());
    }
    Err(format!("its shape {:?} needs {expected} bytes, it has {found}", tensor.dims))
}

/// The nodes whose operator nothing here can run, as `(node, operator)`. Operators of a set other
/// than ONNX's own are among them, except those that are known under the same name.
pub fn unsupported_operators(model: &Model) -> Vec<(String, String)> {
    unsupported(model).into_iter().map(|n| (n.name, n.op_type)).collect()
}

/// Demands that every operator can be run.
///
/// # Errors
/// [`ModelError::Unsupported`] with the first node that can't.
pub fn supported(model: &Model) -> Result<(), ModelError> {
    let Some(node) = unsupported(model).into_iter().next() else { return Ok(()) };
    let domain = if node.domain.is_empty() { "ai.onnx" } else { &node.domain };
    Err(ModelError::Unsupported {
        path: model.path.clone(),
        node: printable(&node.name).into_owned(),
        op_type: printable(&node.op_type).into_owned(),
        domain: printable(domain).into_owned(),
    })
}

fn unsupported(model: &Model) -> Vec<NodeProto> {
    let model = qoperator::as_qdq(model);
    let register = tract_onnx::onnx().op_register.0;
    // tract looks operators up by name alone; in these sets it means the same operator.
    let known_domain =
        |d: &str| vocabulary::is_default_domain(d) || matches!(d, "com.microsoft" | "ai.onnx.ml");
    let unknown = |n: &&NodeProto| !(register.contains_key(&n.op_type) && known_domain(&n.domain));
    model.graph().node.iter().filter(unknown).cloned().collect()
}
