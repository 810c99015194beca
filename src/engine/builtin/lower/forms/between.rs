//! Tensors between quantized ones that carry no quantization of their own: NNCF puts none behind MaxPool,
//! Concat, Relu and what only moves data.
//!
//! Their elements are elements of quantized tensors of one scale (or its zero), so quantizing them with that
//! scale again changes nothing, and what reads them reads a quantized tensor.

use std::collections::HashMap;

use super::super::Quant;
use super::super::moving;
use super::super::qdq::Qdq;
use super::{Changes, beside};
use crate::model::graph;
use crate::model::pb::NodeProto;

/// The quantization of a tensor.
#[derive(Clone)]
struct Found {
    quant: Quant,
    /// Inputs of a QuantizeLinear: scale and zero point.
    parameters: Vec<String>,
}

pub(super) fn changes(qdq: &Qdq) -> Changes {
    let mut changes = Changes::default();
    let mut found: HashMap<String, Found> = HashMap::new();
    // The quantized form of a tensor, by its name.
    let mut quantized: HashMap<String, String> = HashMap::new();
    for (at, node) in qdq.graph.node.iter().enumerate() {
        if node.op_type == "QuantizeLinear" {
            continue;
        }
        let mut node = node.clone();
        if node.op_type == "DequantizeLinear" {
            if let Ok((_, quant)) = qdq.activation(&node.output[0]) {
                let parameters = node.input[1..].to_vec();
                found.insert(node.output[0].clone(), Found { quant, parameters });
            }
            continue;
        }
        let mut is_changed = false;
        for input in &mut node.input {
            if let Some(name) = quantized.get(input.as_str()) {
                *input = name.clone();
                is_changed = true;
            }
        }
        let mut nodes = vec![node];
        if let Some(source) = carried(qdq, &nodes[0], &found) {
            let wanted: Vec<String> = nodes[0].output.iter().filter(|o| pays(qdq, o)).cloned().collect();
            for tensor in wanted {
                let [q, dq] = ["again", "back"].map(|what| beside(&tensor, what));
                for (op_type, input, output) in
                    [("QuantizeLinear", &tensor, &q), ("DequantizeLinear", &q, &dq)]
                {
                    let name = format!("{tensor} {op_type}");
                    let mut node = graph::node(op_type, &name, &[input], &[output]);
                    node.input.extend(source.parameters.iter().cloned());
                    nodes.push(node);
                    let shape = qdq.shape(&tensor).unwrap_or_default().to_vec();
                    changes.shapes.insert(output.clone(), shape);
                }
                found.insert(dq.clone(), source.clone());
                quantized.insert(tensor, dq);
                is_changed = true;
            }
        }
        if is_changed {
            changes.nodes.insert(at, nodes);
        }
    }
    changes
}

/// The quantization that the elements of `node`'s results have from its inputs.
fn carried(qdq: &Qdq, node: &NodeProto, found: &HashMap<String, Found>) -> Option<Found> {
    let source = found.get(node.input.first()?)?;
    let is_kept = match node.op_type.as_str() {
        "MaxPool" => node.output.len() == 1,
        "Relu" => true,
        "Concat" => node.input.iter().all(|i| found.get(i).is_some_and(|f| f.quant == source.quant)),
        "Resize" => graph::attr_str(node, "mode").unwrap_or("nearest") == "nearest",
        "Pad" => moving::padding(qdq, node)
            .is_ok_and(|(_, value)| source.quant.dequantize(source.quant.quantize(value)) == value),
        _ => moving::is_movement(node),
    };
    is_kept.then(|| source.clone())
}

/// Whether someone reads `tensor` who would read it quantized.
fn pays(qdq: &Qdq, tensor: &str) -> bool {
    let mut readers = qdq.index.consumers(tensor).iter().map(|r| &qdq.graph.node[*r]);
    let is_known = qdq.shape(tensor).is_ok() && !qdq.index.is_output(tensor);
    is_known && readers.any(|r| r.op_type != "QuantizeLinear")
}
