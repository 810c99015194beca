//! The same function with fewer nodes, so that what is measured is what is quantized.
//!
//! Every rewrite keeps the outputs up to the rounding of f32; the names of inputs, outputs and nodes
//! that stay are kept, and so are symbolic dimensions.

mod affine;
mod constants;
mod no_ops;

use super::{Model, ModelError, opset, rewrite};

/// What [`simplify`] returns.
#[derive(Debug, Clone)]
pub struct Simplified {
    /// The simplified model, with the path, hash and size of the file it came from.
    pub model: Model,
    /// What was done, one sentence each; empty if nothing.
    pub notes: Vec<String>,
}

/// Raises the operator set to 13, makes constants initializers, computes what depends on constants
/// only, folds BatchNormalization and per-channel arithmetic into the layer before, and removes what
/// does nothing or is not read.
///
/// QuantizeLinear and DequantizeLinear of weights stay: they are how an INT8 model says that its
/// weights are INT8.
///
/// # Errors
/// [`ModelError::Node`] for an operator that can't be raised to operator set 13.
pub fn simplify(model: &Model) -> Result<Simplified, ModelError> {
    let mut model = model.clone();
    let mut notes = Vec::new();
    let old = model.opset();
    drop_initializer_inputs(&mut model);
    let converted = opset::upgrade_opset(&mut model)?;
    if old < opset::TARGET {
        notes.push(format!(
            "operator set {old} raised to {}, {}",
            opset::TARGET,
            nodes(converted, "converted")
        ));
    }
    let mut note = |count: usize, what: &str| {
        if count > 0 {
            notes.push(nodes(count, what));
        }
    };
    note(constants::to_initializers(&mut model), "of type Constant made initializers");
    note(constants::fold(&mut model), "computed in advance");
    note(no_ops::remove(&mut model), "removed that did nothing");
    let folded = affine::fold(&mut model);
    note(folded.batch_normalizations, "of type BatchNormalization folded into the layer before");
    note(folded.arithmetic, "of per-channel arithmetic folded into the layer before");
    if let Some(graph) = model.proto.graph.as_mut() {
        note(rewrite::prune(graph).nodes, "removed that no output needs");
        rewrite::name_nodes(graph);
    }
    Ok(Simplified { model, notes })
}

fn nodes(count: usize, what: &str) -> String {
    format!("{count} {} {what}", if count == 1 { "node" } else { "nodes" })
}

/// Before IR version 4 every initializer was listed as an input too, with which a caller could
/// replace it; nothing may replace a weight that is folded.
fn drop_initializer_inputs(model: &mut Model) {
    if let Some(graph) = model.proto.graph.as_mut() {
        let initializers: std::collections::HashSet<&str> =
            graph.initializer.iter().map(|t| t.name.as_str()).collect();
        graph.input.retain(|i| !initializers.contains(i.name.as_str()));
    }
}

#[cfg(test)]
mod tests;
