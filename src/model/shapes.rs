//! Shapes and types of every tensor of a graph, once its inputs are fixed.

use std::collections::HashMap;

use tract_onnx::prelude::*;

use super::{Dim, Model, ModelError};

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
                return Err(invalid(model, format!("input '{}' declares no shape", port.name)));
            }
            let dim = |(axis, dim): (usize, &Dim)| match dim {
                Dim::Fixed(n) => Ok(*n),
                Dim::Symbol(_) if axis == 0 => Ok(batch),
                Dim::Symbol(s) => Err(invalid(
                    model,
                    format!("input '{}' has the dynamic dimension '{s}' at position {axis}", port.name),
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

/// Shapes of all tensors that tract can determine, with the batch set to `batch`.
///
/// # Errors
/// The inputs can't be resolved, or tract refuses the graph; the message names the node.
pub fn infer(model: &Model, batch: usize) -> Result<Shapes, ModelError> {
    let inputs = input_shapes(model, batch)?;
    let refused = |e: TractError| ModelError::Invalid {
        path: model.path.clone(),
        what: format!("the graph can't be analysed: {e:#}"),
        hint: "`calib8 inspect` lists its operators".into(),
    };
    let mut inference = onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_proto_model(&model.proto)
        .map_err(refused)?;
    for (i, shape) in inputs.iter().enumerate() {
        inference.set_input_fact(i, f32::fact(shape.as_slice()).into()).map_err(refused)?;
    }
    let typed = inference.into_typed().map_err(refused)?;
    let mut shapes = Shapes::new();
    for node in typed.nodes() {
        for slot in 0..node.outputs.len() {
            let outlet = OutletId::new(node.id, slot);
            let Some(shape) = node.outputs[slot].fact.shape.as_concrete() else { continue };
            if let Some(label) = typed.outlet_label(outlet) {
                shapes.insert(label.to_string(), shape.to_vec());
            }
        }
    }
    for (port, shape) in model.inputs().iter().zip(inputs) {
        shapes.insert(port.name.clone(), shape);
    }
    for tensor in &model.graph().initializer {
        shapes.insert(tensor.name.clone(), tensor.dims.iter().map(|d| *d as usize).collect());
    }
    Ok(shapes)
}
