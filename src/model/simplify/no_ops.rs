//! Nodes that give out what they read.

use std::collections::{HashMap, HashSet};

use crate::model::{
    Dim, Model,
    graph::{self, Index, attr_int, attr_ints, attr_str},
    pb::NodeProto,
    rewrite,
    shapes::{self, Facts},
};

/// Removes nodes that do nothing at inference; returns how many.
pub(super) fn remove(model: &mut Model) -> usize {
    let index = Index::new(model.graph());
    let facts = if model.graph().node.iter().any(needs_facts) { facts(model) } else { Facts::new() };
    let graph = model.graph();
    let mut removed = HashSet::new();
    // What each removed output becomes; nodes are in topological order, so an entry is final.
    let mut alias: HashMap<String, String> = HashMap::new();
    for (position, node) in graph.node.iter().enumerate() {
        if !does_nothing(node, &index, graph, &facts) {
            continue;
        }
        let (input, output) = (&node.input[0], &node.output[0]);
        let source = alias.get(input).unwrap_or(input).clone();
        if !index.is_output(output) {
            alias.insert(output.clone(), source);
            removed.insert(position);
        } else if !index.is_output(&source) && index.producer(&source).is_some() {
            // The producer takes over the name of the output, which must stay.
            for target in alias.values_mut().filter(|v| **v == source) {
                output.clone_into(target);
            }
            alias.insert(source, output.clone());
            removed.insert(position);
        }
    }
    let Some(graph) = model.proto.graph.as_mut() else { return 0 };
    rewrite::remove_nodes(graph, &removed);
    for node in &mut graph.node {
        for output in &mut node.output {
            if let Some(name) = alias.get(output) {
                output.clone_from(name);
            }
        }
    }
    for (from, to) in &alias {
        rewrite::rename_reads(graph, from, to);
    }
    removed.len()
}

fn needs_facts(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Cast" | "Reshape")
}

/// Shapes and types with a batch that no constant of a Reshape has by chance; empty if unknown.
fn facts(model: &Model) -> Facts {
    let symbolic = |port: crate::model::Port| matches!(port.dims.first(), Some(Dim::Symbol(_)));
    let batch = if model.inputs().into_iter().any(symbolic) { 3 } else { 1 };
    shapes::facts(model, batch).unwrap_or_default()
}

fn does_nothing(
    node: &NodeProto,
    index: &Index,
    graph: &crate::model::pb::GraphProto,
    facts: &Facts,
) -> bool {
    let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else { return false };
    if input.is_empty() || output.is_empty() || !graph::is_default_domain(&node.domain) {
        return false;
    }
    let constant = |position: usize| {
        let name = node.input.get(position).filter(|i| !i.is_empty())?;
        Some(&graph.initializer[index.initializer(name)?])
    };
    let unread =
        |name: &String| name.is_empty() || (index.consumers(name).is_empty() && !index.is_output(name));
    match node.op_type.as_str() {
        "Identity" => true,
        "Dropout" => {
            let off = match node.input.get(2) {
                Some(name) if !name.is_empty() => constant(2).is_some_and(|t| t.raw_data == [0]),
                _ => true,
            };
            off && node.output[1..].iter().all(unread)
        }
        "Concat" | "Max" | "Mean" | "Min" | "Sum" => node.input.len() == 1,
        "Transpose" => attr_ints(node, "perm").is_some_and(|p| p.iter().zip(0..).all(|(a, b)| *a == b)),
        "Pad" => {
            let is_constant = matches!(attr_str(node, "mode"), None | Some("constant" | "reflect" | "edge"));
            let pads = constant(1).and_then(graph::to_array::<i64>);
            is_constant && pads.is_some_and(|p| p.iter().all(|n| *n == 0))
        }
        "Cast" => {
            let to = attr_int(node, "to").and_then(|to| shapes::datum_type(to as i32));
            facts.get(input).is_some_and(|f| Some(f.datum_type) == to)
        }
        "Reshape" => {
            let shape = |name: &String| facts.get(name).map(|f| &f.shape);
            shape(input).is_some() && shape(input) == shape(output)
        }
        _ => false,
    }
}
