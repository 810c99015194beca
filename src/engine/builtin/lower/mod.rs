//! From a QDQ graph to islands of fused INT8 steps, on the `ModelProto`, before tract sees it.
//!
//! 1. *Match*, backwards from the outputs: each `QuantizeLinear` whose value comes from an operator
//!    over dequantized tensors becomes one step; one that does not is a border (f32 → u8), and a
//!    `DequantizeLinear` that something in FP32 reads is a border back. What has no INT8 form stays
//!    ONNX and runs in tract, so the result is right whatever is matched.
//! 2. *Level*: the number of islands that a tensor has passed. Steps of one level form one island;
//!    since a path through FP32 operators raises the level, islands never depend on each other in
//!    a circle.
//! 3. *Build*: number the buffers, write concatenated channels in place, lay the image out for the
//!    first convolution, and replace each level's steps by one node.

mod build;
mod conv;
mod other;
mod qdq;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use std::collections::HashSet;

use super::program::{Quant, StepOp};
use crate::model::pb::{self, GraphProto, NodeProto, TensorProto};
use crate::model::shapes::Shapes;
use conv::Target;
use qdq::{Qdq, Reason};

/// Operator type of an island in the lowered graph.
pub(super) const ISLAND: &str = "Calib8Island";

/// One step before its tensors are numbered.
#[derive(Debug, Clone)]
struct Draft {
    name: String,
    kind: String,
    macs: u64,
    /// Names of the tensors read: u8 ones by the name of the `QuantizeLinear` output.
    inputs: Vec<String>,
    output: String,
    op: StepOp,
    constants: Vec<TensorProto>,
}

/// What becomes of a node.
enum Fate {
    /// Nothing needs it any more.
    Gone,
    /// It runs in tract.
    Kept,
    Step(Box<Draft>),
}

/// An operator of a quantized model that runs in FP32, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unfused {
    /// Name of the node.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// The reason, a clause about the operator.
    pub reason: String,
}

/// The lowered model and what was done.
pub(super) struct Lowered {
    pub proto: pb::ModelProto,
    pub unfused: Vec<Unfused>,
}

/// Whether lowering has anything to do.
pub(super) fn is_quantized(graph: &GraphProto) -> bool {
    graph.node.iter().any(|n| n.op_type == "QuantizeLinear")
}

/// Lowers `proto`, whose tensors have the concrete `shapes`; `outputs` are the tensors to give out.
pub(super) fn lower(proto: &pb::ModelProto, shapes: &Shapes) -> Lowered {
    let empty = GraphProto::default();
    let graph = proto.graph.as_ref().unwrap_or(&empty);
    let qdq = Qdq::new(graph, shapes);
    let (fates, unfused) = match_all(&qdq);
    let mut lowered = proto.clone();
    lowered.graph = Some(build::build(&qdq, fates));
    Lowered { proto: lowered, unfused }
}

/// The needs of what was already decided, walking backwards.
#[derive(Default)]
struct Needs<'a> {
    floats: HashSet<&'a str>,
    quantized: HashSet<String>,
}

fn match_all<'a>(qdq: &Qdq<'a>) -> (Vec<Fate>, Vec<Unfused>) {
    let nodes = &qdq.graph.node;
    let mut needs = Needs::default();
    needs.floats.extend(qdq.graph.output.iter().map(|o| o.name.as_str()));
    let mut fates: Vec<Fate> = Vec::with_capacity(nodes.len());
    let mut unfused = Vec::new();
    for node in nodes.iter().rev() {
        let fate = match node.op_type.as_str() {
            "QuantizeLinear" => quantize_fate(qdq, node, &needs, &mut unfused),
            "DequantizeLinear" => dequantize_fate(qdq, node, &needs),
            _ => float_fate(qdq, node, &needs, &mut unfused),
        };
        match &fate {
            Fate::Gone => {}
            Fate::Kept => needs.floats.extend(node.input.iter().map(String::as_str)),
            Fate::Step(draft) if matches!(draft.op, StepOp::Quantize { .. }) => {
                needs.floats.insert(node.input[0].as_str());
            }
            Fate::Step(draft) => needs.quantized.extend(draft.inputs.iter().cloned()),
        }
        fates.push(fate);
    }
    fates.reverse();
    unfused.reverse();
    (fates, unfused)
}

fn quantize_fate(qdq: &Qdq, node: &NodeProto, needs: &Needs, unfused: &mut Vec<Unfused>) -> Fate {
    let output = node.output[0].as_str();
    if needs.floats.contains(output) {
        return Fate::Kept;
    }
    if !needs.quantized.contains(output) {
        return Fate::Gone;
    }
    let Ok(quant) = qdq.quant(node) else { return Fate::Kept };
    match step_before(qdq, node, quant) {
        Ok(draft) => return Fate::Step(Box::new(draft)),
        Err(Some(reason)) => unfused.push(reason),
        Err(None) => {}
    }
    match border(qdq, &node.input[0]) {
        Ok((batch, channels, height, width)) => Fate::Step(Box::new(Draft {
            name: node.name.clone(),
            kind: "Quantize".into(),
            macs: 0,
            inputs: vec![node.input[0].clone()],
            output: output.into(),
            op: StepOp::Quantize { batch, channels, height, width, quant, stem: None },
            constants: Vec::new(),
        })),
        Err(_) => Fate::Kept,
    }
}

fn border(qdq: &Qdq, tensor: &str) -> Result<(usize, usize, usize, usize), Reason> {
    Ok(match *qdq.shape(tensor)? {
        [batch, channels, height, width] => (batch, channels, height, width),
        ref other => (1, 1, 1, other.iter().product()),
    })
}

/// The operator whose result `quantize` stores, as one step; `Err(None)` if there is none (an input
/// of the graph).
fn step_before(qdq: &Qdq, quantize: &NodeProto, quant: Quant) -> Result<Draft, Option<Unfused>> {
    let mut clamp = (f32::NEG_INFINITY, f32::INFINITY);
    let mut tensor = quantize.input[0].as_str();
    let mut node = qdq.producer(tensor).ok_or(None)?;
    // Walks from the quantizer back over Relu and Clip, as long as only it reads them.
    while let Some((lo, hi)) = qdq.clamp(node) {
        let alone = qdq.index.consumers(tensor).len() == 1 && !qdq.index.is_output(tensor);
        let before = qdq.producer(&node.input[0]).filter(|n| n.op_type != "DequantizeLinear");
        let (Some(before), true) = (before, alone) else { break };
        clamp = (clamp.0.max(lo), clamp.1.min(hi));
        tensor = node.input[0].as_str();
        node = before;
    }
    let target = Target { tensor: &quantize.output[0], quant: Some(quant), clamp };
    step(qdq, node, target)
        .map_err(|reason| Some(Unfused { node: node.name.clone(), op_type: node.op_type.clone(), reason }))
}

fn step(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    match node.op_type.as_str() {
        "Conv" => conv::conv(qdq, node, target),
        "Gemm" | "MatMul" => conv::gemm(qdq, node, target),
        "Add" => other::add(qdq, node, target),
        "MaxPool" => other::max_pool(qdq, node, target),
        "AveragePool" => other::average_pool(qdq, node, target),
        "GlobalAveragePool" | "ReduceMean" => other::global_average_pool(qdq, node, target),
        "Concat" => other::concat(qdq, node, target),
        "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => other::reshape(qdq, node, target),
        _ => other::lookup(qdq, node, target),
    }
}

fn dequantize_fate(qdq: &Qdq, node: &NodeProto, needs: &Needs) -> Fate {
    let output = node.output[0].as_str();
    if !needs.floats.contains(output) {
        return Fate::Gone;
    }
    let Ok((tensor, quant)) = qdq.activation(output) else { return Fate::Kept };
    let Ok((batch, channels, height, width)) = border(qdq, output) else { return Fate::Kept };
    Fate::Step(Box::new(Draft {
        name: node.name.clone(),
        kind: "Dequantize".into(),
        macs: 0,
        inputs: vec![tensor.into()],
        output: output.into(),
        op: StepOp::Dequantize { batch, channels, pixels: height * width, quant },
        constants: Vec::new(),
    }))
}

/// Operators with an FP32 result: a Gemm, MatMul or global mean over quantized operands still
/// computes in INT8; everything else runs in tract.
fn float_fate(qdq: &Qdq, node: &NodeProto, needs: &Needs, unfused: &mut Vec<Unfused>) -> Fate {
    if !node.output.iter().any(|o| needs.floats.contains(o.as_str())) {
        return Fate::Gone;
    }
    let clamp = (f32::NEG_INFINITY, f32::INFINITY);
    let target = Target { tensor: &node.output[0], quant: None, clamp };
    let step = match node.op_type.as_str() {
        "Gemm" | "MatMul" => conv::gemm(qdq, node, target),
        "GlobalAveragePool" => other::global_average_pool(qdq, node, target),
        "Conv" | "Add" | "MaxPool" | "AveragePool" | "Concat" => {
            Err("its result is read in FP32, without quantization".into())
        }
        other => Err(format!("{other} has no INT8 form here")),
    };
    match step {
        Ok(draft) => Fate::Step(Box::new(draft)),
        Err(reason) => {
            let reads_quantized = node.input.iter().any(|i| qdq.activation(i).is_ok());
            let has_weights = matches!(node.op_type.as_str(), "Gemm" | "MatMul");
            if (reads_quantized || has_weights) && !unfused.iter().any(|u| u.node == node.name) {
                unfused.push(Unfused { node: node.name.clone(), op_type: node.op_type.clone(), reason });
            }
            Fate::Kept
        }
    }
}
