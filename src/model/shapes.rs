//! Shapes and types of every tensor of a graph, once its inputs are fixed.

use std::collections::HashMap;

use tract_onnx::prelude::*;

use super::{Dim, Model, ModelError, printable};

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
            port.dims.iter().enumerate().map(dim).collect()
        })
        .collect()
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
    let mut inference = onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_proto_model(&proto)
        .map_err(refused)?;
    let ports = model.inputs();
    for (i, (shape, port)) in inputs.iter().zip(&ports).enumerate() {
        let datum_type = datum_type(port.elem_type).unwrap_or(DatumType::F32);
        inference.set_input_fact(i, datum_type.fact(shape.as_slice()).into()).map_err(refused)?;
    }
    let typed = inference.into_typed().map_err(refused)?;
    let mut facts = Facts::new();
    for (name, outlet) in names.into_iter().zip(typed.output_outlets().map_err(refused)?) {
        let fact = typed.outlet_fact(*outlet).map_err(refused)?;
        if let Some(shape) = fact.shape.as_concrete() {
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
