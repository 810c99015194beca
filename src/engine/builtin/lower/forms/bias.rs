//! MatMul of a quantized tensor by quantized weights, and an Add of a constant for each column: one product that starts
//! from a bias, as a Gemm does.
//!
//! The bias is rounded to the step of the accumulators, the product of the two scales, as that of a Gemm or Conv is.

use super::super::Draft;
use super::super::conv::{self, Target};
use super::super::float::by_channel;
use super::super::other::UNCLAMPED;
use super::super::qdq::Qdq;
use super::{Changes, beside, is_read_once, with_input};
use crate::model::graph;

pub(super) fn changes(qdq: &Qdq) -> Changes {
    let mut changes = Changes::default();
    for (at, node) in qdq.graph.node.iter().enumerate() {
        let Some((x, bias)) = by_channel(qdq, node, "Add").filter(|(x, _)| is_read_once(qdq, x)) else {
            continue;
        };
        let Some(position) = qdq.index.producer(x) else { continue };
        let product = &qdq.graph.node[position];
        if product.op_type != "MatMul" || qdq.shape(x) != qdq.shape(&node.output[0]) {
            continue;
        }
        // Only what then is a step for sure: no other engine knows a MatMul of three operands.
        let target = Target { tensor: x, quant: None, clamp: UNCLAMPED };
        if !conv::gemm(qdq, product, target).is_ok_and(|step| fits(&step, &bias)) {
            continue;
        }
        let name = changes.constant(beside(x, "bias"), &[bias.len()], &bias);
        let mut with_bias = with_input(product.clone(), 2, &name);
        with_bias.output.clone_from(&node.output);
        changes.nodes.insert(position, vec![]);
        changes.nodes.insert(at, vec![with_bias]);
    }
    changes
}

/// Whether the accumulators of a product have room for `bias`.
fn fits(product: &Draft, bias: &[f32]) -> bool {
    let [_, own, steps] = &product.constants[..] else { return false };
    let (Some(own), Some(steps)) = (graph::to_array::<i32>(own), graph::to_array::<f32>(steps)) else {
        return false;
    };
    let room = |own: i32| f64::from(i32::MAX) - f64::from(own).abs() - 1.0;
    bias.len() == own.len()
        && own
            .iter()
            .zip(&steps)
            .zip(bias)
            .all(|((own, step), bias)| f64::from((bias / step).abs()) <= room(*own))
}
