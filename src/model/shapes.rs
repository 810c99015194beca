//! Shapes and types of every tensor of a graph, once its inputs are fixed.

use std::collections::HashMap;

use tract_onnx::prelude::*;

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
    let inputs = input_shapes(model, batch)?;
    let refused = |e: TractError| ModelError::Invalid {
        path: model.path.clone(),
        what: format!("the graph can't be analysed: {}", printable(&format!("{e:#}"))),
        hint: "`calib8 inspect` lists its operators".into(),
    };
    // Every tensor as an output: tract's own labels get lost where a node becomes none or many.
    let graph = model.graph();
    let made = graph.node.iter().flat_map(|n| &n.output).filter(|o| !o.is_empty());
    let names: Vec<&String> = made.collect();
    let mut proto = model.proto.clone();
    if let Some(graph) = proto.graph.as_mut() {
        let output =
            |name: &&String| super::pb::ValueInfoProto { name: name.to_string(), ..Default::default() };
        graph.output = names.iter().map(output).collect();
    }
    let ports = model.inputs();
    let typed = guarded(|| {
        let mut inference = onnx()
            .with_ignore_output_shapes(true)
            .with_ignore_value_info(true)
            .model_for_proto_model(&proto)?;
        for (i, (shape, port)) in inputs.iter().zip(&ports).enumerate() {
            let datum_type = datum_type(port.elem_type).unwrap_or(DatumType::F32);
            inference.set_input_fact(i, datum_type.fact(shape.as_slice()).into())?;
        }
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
    for (port, shape) in ports.into_iter().zip(inputs) {
        let datum_type = datum_type(port.elem_type).unwrap_or(DatumType::F32);
        facts.insert(port.name, Fact { shape, datum_type });
    }
    for tensor in &graph.initializer {
        let shape = tensor.dims.iter().map(|d| *d as usize).collect();
        let datum_type = datum_type(tensor.data_type).unwrap_or(DatumType::F32);
        facts.insert(tensor.name.clone(), Fact { shape, datum_type });
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
