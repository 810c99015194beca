//! A product whose columns a Split shares out among quantizers, as those of queries, keys and values: a product for each
//! part, so that each is stored with its own scale and nothing is copied.

use ndarray::{ArrayD, Axis, Slice};

use super::super::conv::{self, Target};
use super::super::other::UNCLAMPED;
use super::super::qdq::Qdq;
use super::{Changes, beside, is_read_once};
use crate::model::graph;
use crate::model::pb::NodeProto;

pub(super) fn changes(qdq: &Qdq) -> Changes {
    let mut changes = Changes::default();
    for (at, node) in qdq.graph.node.iter().enumerate().filter(|(_, n)| n.op_type == "Split") {
        let Some((position, parts)) = parts(qdq, node, &mut changes) else { continue };
        changes.nodes.insert(position, vec![]);
        changes.nodes.insert(at, parts);
    }
    changes
}

/// The position of the product before `split`, and the nodes in their place.
fn parts(qdq: &Qdq, split: &NodeProto, changes: &mut Changes) -> Option<(usize, Vec<NodeProto>)> {
    let x = split.input[0].as_str();
    let (shape, position) = (qdq.shape(x).ok()?, qdq.index.producer(x)?);
    let axis = graph::attr_int(split, "axis").unwrap_or(0);
    let is_last = axis == -1 || axis + 1 == shape.len() as i64;
    let product = &qdq.graph.node[position];
    let is_quantized = |output: &String| {
        let mut readers = qdq.index.consumers(output).iter().map(|r| &qdq.graph.node[*r]);
        !qdq.index.is_output(output) && readers.all(|r| r.op_type == "QuantizeLinear")
    };
    if product.op_type != "MatMul" || !is_last || !is_read_once(qdq, x) {
        return None;
    }
    let target = Target { tensor: x, quant: None, clamp: UNCLAMPED };
    if !split.output.iter().all(is_quantized) || conv::gemm(qdq, product, target).is_err() {
        return None;
    }
    let weight = qdq.weight(&product.input[1]).ok()?;
    let columns = *shape.last()?;
    let bias = match product.input.get(2) {
        Some(name) => qdq.initializer(name).and_then(graph::to_array::<f32>)?.into_iter().collect(),
        None => vec![0.0; columns],
    };
    let scales = match weight.scales.len() {
        1 => vec![weight.scales[0]; columns],
        _ => weight.scales,
    };
    if scales.len() != columns || bias.len() != columns {
        return None;
    }
    let (mut nodes, mut first) = (vec![], 0);
    for output in &split.output {
        let width = *qdq.shape(output).ok()?.last()?;
        let part = first..first + width;
        let of_part = weight.values.slice_axis(Axis(1), Slice::from(part.clone()));
        let values: ArrayD<i8> = of_part.reversed_axes().as_standard_layout().into_owned();
        let name = beside(output, "weights");
        nodes.push(changes.weights(&name, &values, &scales[part.clone()]));
        let bias = changes.constant(beside(output, "bias"), &[width], &bias[part]);
        let gemm = graph::node("Gemm", &product.name, &[&product.input[0], &name, &bias], &[output]);
        nodes.push(graph::with_int(gemm, "transB", 1));
        first += width;
    }
    (first == columns).then_some((position, nodes))
}
