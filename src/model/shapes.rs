//! Shapes and types of every tensor of a graph, once its inputs are fixed.

use std::collections::HashMap;

use tract_onnx::prelude::*;

use super::pb::ModelProto;
use super::stored::{self, Lean};
use super::{Dim, Model, ModelError, printable, sizes};

/// Shape of every named tensor, for one choice of the symbolic dimensions.
pub type Shapes = HashMap<String, Vec<usize>>;

/// The shapes to feed the inputs with: the first dimension, if symbolic, becomes `batch`.
///
/// # Errors
/// Another dimension is symbolic, or an input declares no shape.
pub fn input_shapes(model: &Model, batch: usize) -> Result<Vec<Vec<usize>>, ModelError> {
    model
        .inputs()
        .iter()
        .map(|port| {
            if port.dims.is_empty() {
                return Err(invalid(model, format!("input '{}' declares no shape", printable(&port.name))));
            }
            let dim = |(axis, dim): (usize, &Dim)| match dim {
                Dim::Fixed(n) => Ok(*n),
                Dim::Symbol(_) if axis == 0 => Ok(batch),
                Dim::Symbol(s) => Err(invalid(
                    model,
                    format!(
                        "input '{}' has the dynamic dimension '{}' at position {axis}",
                        printable(&port.name),
                        printable(s)
                    ),
                )),
            };
            let shape: Vec<usize> = port.dims.iter().enumerate().map(dim).collect::<Result<_, _>>()?;
            held(model, &port.name, &shape)?;
            Ok(shape)
        })
        .collect()
}

/// Whether a tensor can be held at all. What comes later counts on that, and multiplies sides without checks.
fn held(model: &Model, name: &str, shape: &[usize]) -> Result<(), ModelError> {
    if sizes::bytes(shape).is_some_and(|bytes| bytes <= sizes::MOST_BYTES) {
        return Ok(());
    }
    Err(ModelError::Invalid {
        path: model.path.clone(),
        what: format!(
            "tensor '{}' would have the shape {shape:?}, more than the {} GiB that one may take",
            printable(name),
            sizes::MOST_BYTES >> 30
        ),
        hint: "give the model a smaller input or batch, or export it again".into(),
    })
}

fn invalid(model: &Model, what: String) -> ModelError {
    ModelError::Invalid {
        path: model.path.clone(),
        what,
        hint: "export the model with fixed spatial dimensions (only the batch may be symbolic)".into(),
    }
}

/// Shape and type of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type.
    pub datum_type: DatumType,
}

/// Shape and type of every named tensor.
pub type Facts = HashMap<String, Fact>;

/// Shapes of all tensors that tract can determine, with the batch set to `batch`.
///
/// # Errors
/// The inputs can't be resolved, or tract refuses the graph; the message names the node.
pub fn infer(model: &Model, batch: usize) -> Result<Shapes, ModelError> {
    Ok(facts(model, batch)?.into_iter().map(|(name, fact)| (name, fact.shape)).collect())
}

/// As [`infer`], with types.
///
/// # Errors
/// As [`infer`].
pub fn facts(model: &Model, batch: usize) -> Result<Facts, ModelError> {
    let inputs: Vec<(String, Fact)> = model
        .inputs()
        .into_iter()
        .zip(input_shapes(model, batch)?)
        .map(|(port, shape)| {
            let datum_type = datum_type(port.elem_type).unwrap_or(DatumType::F32);
            (port.name, Fact { shape, datum_type })
        })
        .collect();
    let mut facts = match without_weights(model, &inputs)? {
        Some(facts) => facts,
        None => analysed(model, &model.proto, &inputs)?,
    };
    facts.extend(inputs);
    for tensor in &model.graph().initializer {
        let shape = tensor.dims.iter().map(|d| *d as usize).collect();
        let datum_type = datum_type(tensor.data_type).unwrap_or(DatumType::F32);
        facts.insert(tensor.name.clone(), Fact { shape, datum_type });
    }
    Ok(facts)
}

/// What is known without looking at the values of weights; `None` where some tensor hangs on them.
fn without_weights(model: &Model, inputs: &[(String, Fact)]) -> Result<Option<Facts>, ModelError> {
    let Some(Lean { proto, weights }) = stored::lean(&model.proto) else { return Ok(None) };
    let fact = |(name, shape): (String, Vec<usize>)| (name, Fact { shape, datum_type: DatumType::F32 });
    let weights: Vec<(String, Fact)> = weights.into_iter().map(fact).collect();
    for (name, fact) in &weights {
        held(model, name, &fact.shape)?;
    }
    let all: Vec<(String, Fact)> = inputs.iter().chain(&weights).cloned().collect();
    let made = made(&proto).len();
    let found = analysed(model, &proto, &all).ok().filter(|facts| facts.len() == made);
    Ok(found.map(|facts| facts.into_iter().chain(weights).collect()))
}

/// Names of what the nodes of `proto` give.
fn made(proto: &ModelProto) -> Vec<&String> {
    let nodes = proto.graph.iter().flat_map(|graph| &graph.node);
    nodes.flat_map(|node| &node.output).filter(|output| !output.is_empty()).collect()
}

/// What tract says of the results of all nodes of `proto`, a form of `model` with these inputs.
fn analysed(model: &Model, proto: &ModelProto, inputs: &[(String, Fact)]) -> Result<Facts, ModelError> {
    let refused = |e: TractError| {
        sizes::unholdable(&model.path, model.graph(), &e).unwrap_or_else(|| ModelError::Invalid {
            path: model.path.clone(),
            what: format!("the graph can't be analysed: {}", printable(&format!("{e:#}"))),
            hint: "`calib8 inspect` lists its operators".into(),
        })
    };
    // Every tensor as an output: tract's own labels get lost where a node becomes none or many.
    let names = made(proto);
    let mut proto = proto.clone();
    if let Some(graph) = proto.graph.as_mut() {
        let output =
            |name: &&String| super::pb::ValueInfoProto { name: name.to_string(), ..Default::default() };
        graph.output = names.iter().map(output).collect();
    }
    let typed = guarded(|| {
        let mut inference = onnx()
            .with_ignore_output_shapes(true)
            .with_ignore_value_info(true)
            .model_for_proto_model(&proto)?;
        for (i, (_, fact)) in inputs.iter().enumerate() {
            inference.set_input_fact(i, fact.datum_type.fact(fact.shape.as_slice()).into())?;
        }
        model.measure(&mut inference);
        inference.into_typed()
    })
    .map_err(refused)?;
    let mut facts = Facts::new();
    for (name, outlet) in names.into_iter().zip(typed.output_outlets().map_err(refused)?) {
        let fact = typed.outlet_fact(*outlet).map_err(refused)?;
        if let Some(shape) = fact.shape.as_concrete() {
            held(model, name, shape)?;
            facts.insert(name.clone(), Fact { shape: shape.to_vec(), datum_type: fact.datum_type });
        }
    }
    Ok(facts)
}

/// Runs `build`, which is a call into tract, and makes a panic in it an error: tract indexes without
/// checks where a graph breaks rules that only the operators themselves know, such as the rank of
/// their inputs.
///
/// # Errors
/// Those of `build`, and its panics.
pub fn guarded<T>(build: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    // What `build` makes is dropped with the panic, so no broken state is seen afterwards.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for an unknown reason");
        Err(TractError::msg(format!("tract stopped: {said}")))
    })
}

/// tract's type for an ONNX element type, if it has one for tensors of numbers.
pub fn datum_type(elem_type: i32) -> Option<DatumType> {
    use super::pb::tensor_proto::DataType;
    Some(match DataType::try_from(elem_type).ok()? {
        DataType::Float => DatumType::F32,
        DataType::Double => DatumType::F64,
        DataType::Float16 => DatumType::F16,
        DataType::Int8 => DatumType::I8,
        DataType::Uint8 => DatumType::U8,
        DataType::Int16 => DatumType::I16,
        DataType::Uint16 => DatumType::U16,
        DataType::Int32 => DatumType::I32,
        DataType::Uint32 => DatumType::U32,
        DataType::Int64 => DatumType::I64,
        DataType::Uint64 => DatumType::U64,
        DataType::Bool => DatumType::Bool,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor, value, with_int};
    use crate::model::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto};

    fn model(dims: &[&str], nodes: Vec<NodeProto>) -> Model {
        let graph = GraphProto {
            input: vec![value("x", 1, dims)],
            output: vec![value("y", 1, &[])],
            node: nodes,
            initializer: vec![tensor("w", &[5, 3, 3, 3], &[0f32; 135]), tensor("i", &[1], &[9i64])],
            ..Default::default()
        };
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(graph),
            ..Default::default()
        };
        Model::from_proto("m.onnx", proto)
    }

    #[test]
    fn every_tensor_has_a_shape_even_where_tract_drops_the_node() {
        let nodes = vec![
            node("Identity", "same", &["x"], &["a"]),
            node("Conv", "conv", &["a", "w"], &["b"]),
            node("Shape", "shape", &["b"], &["s"]),
            with_int(node("Cast", "cast", &["b"], &["c"]), "to", 1),
            node("Flatten", "flat", &["c"], &["y"]),
        ];
        let facts = facts(&model(&["N", "3", "8", "8"], nodes), 2).unwrap();
        let shape = |name: &str| facts[name].shape.clone();
        assert_eq!((shape("x"), shape("a")), (vec![2, 3, 8, 8], vec![2, 3, 8, 8]));
        assert_eq!((shape("b"), shape("c")), (vec![2, 5, 6, 6], vec![2, 5, 6, 6]));
        assert_eq!((shape("s"), shape("y"), shape("w")), (vec![4], vec![2, 180], vec![5, 3, 3, 3]));
    }

    #[test]
    fn shapes_of_a_quantized_model_are_the_same_without_its_weights() {
        let dequantize = |name: &str, scale: &str, axis| {
            let node =
                node("DequantizeLinear", &format!("{name}_d"), &[&format!("{name}_q"), scale], &[name]);
            with_int(node, "axis", axis)
        };
        let nodes = |axis| {
            vec![
                node("QuantizeLinear", "q", &["x", "one"], &["xq"]),
                node("DequantizeLinear", "d", &["xq", "one"], &["a"]),
                dequantize("k", "five", axis),
                node("Conv", "conv", &["a", "k"], &["b"]),
                node("Flatten", "flat", &["b"], &["c"]),
                dequantize("m", "one", 1),
                node("MatMul", "head", &["c", "m"], &["y"]),
                node("MatMul", "wide", &["y", "large"], &["z"]),
            ]
        };
        let quantized = |axis| {
            let mut model = model(&["N", "3", "8", "8"], nodes(axis));
            if let Some(graph) = model.proto.graph.as_mut() {
                graph.initializer.extend([
                    tensor("one", &[], &[1f32]),
                    tensor("five", &[5], &[1f32; 5]),
                    tensor("k_q", &[5, 3, 3, 3], &[1i8; 135]),
                    tensor("m_q", &[180, 7], &[1i8; 1260]),
                    tensor("large", &[7, 600], &[1f32; 4200]),
                ]);
            }
            model
        };
        let model = quantized(0);
        let inputs = vec![("x".to_string(), Fact { shape: vec![2, 3, 8, 8], datum_type: DatumType::F32 })];
        let mut lean = without_weights(&model, &inputs).unwrap().unwrap();
        let large = lean.remove("large").unwrap();
        assert_eq!(
            (large.shape, large.datum_type),
            (vec![7, 600], DatumType::F32),
            "an initializer as it is"
        );
        assert_eq!(lean, analysed(&model, &model.proto, &inputs).unwrap());
        assert_eq!((&lean["y"].shape, &lean["k"].shape), (&vec![2, 7], &vec![5, 3, 3, 3]));
        // A scale that fits no axis is not passed over.
        let message = facts(&quantized(1), 1).unwrap_err().to_string();
        assert!(message.contains("k_d"), "{message}");
    }

    #[test]
    fn dynamic_dimensions_other_than_the_batch_are_named() {
        let dynamic = model(&["N", "3", "H", "8"], vec![node("Relu", "r", &["x"], &["y"])]);
        let message = infer(&dynamic, 1).unwrap_err().to_string();
        assert!(message.contains("input 'x' has the dynamic dimension 'H' at position 2"), "{message}");
    }

    #[test]
    fn a_graph_that_tract_refuses_is_an_error_that_names_the_node() {
        let wrong = model(&["N", "4", "8", "8"], vec![node("Conv", "conv7", &["x", "w"], &["y"])]);
        let message = infer(&wrong, 1).unwrap_err().to_string();
        assert!(message.contains("conv7"), "{message}");
    }

    #[test]
    fn a_panic_inside_becomes_an_error() {
        let nothing: [u8; 0] = [];
        let index = std::hint::black_box(3);
        let result: TractResult<u8> = guarded(|| Ok(nothing[index]));
        assert!(result.unwrap_err().to_string().contains("index out of bounds"));
    }
}
