//! From an ONNX graph to islands of fused steps, on the `ModelProto`, before tract sees it.
//!
//! 0. What other tools write in other ways takes the form that the patterns know ([`forms`]).
//! 1. *Match*, backwards from the outputs: each `QuantizeLinear` whose value comes from an operator
//!    over dequantized tensors becomes one step; one that does not is a border (f32 → u8), and a
//!    `DequantizeLinear` that something in FP32 reads is a border back. FP32 operators become FP32
//!    steps ([`float`]). What has neither form stays ONNX and runs in tract, so the result is right
//!    whatever is matched.
//! 2. *Level*: the number of islands that a tensor has passed. Steps of one level form one island;
//!    since a path through FP32 operators raises the level, islands never depend on each other in
//!    a circle.
//! 3. *Build*: number the buffers, write concatenated channels in place, lay the image out for the
//!    first convolution, and replace each level's steps by one node.

mod build;
mod conv;
mod elementwise;
mod float;
mod forms;
mod moving;
mod other;
mod products;
mod qdq;
mod rows;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use std::collections::HashSet;

use super::float::FloatOp;
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
#[derive(Default)]
struct Fate {
    /// It runs in tract.
    kept: bool,
    /// What it becomes in an island, and the borders behind it, in order. Neither this nor `kept`:
    /// nothing needs it any more.
    drafts: Vec<Draft>,
}

impl Fate {
    fn gone() -> Fate {
        Fate::default()
    }

    fn kept() -> Fate {
        Fate { kept: true, drafts: Vec::new() }
    }

    fn step(draft: Draft) -> Fate {
        Fate { kept: false, drafts: vec![draft] }
    }
}

/// The fates of all nodes.
struct Matched {
    fates: Vec<Fate>,
    /// Inputs of the graph that islands read in FP32.
    imports: Vec<Draft>,
    unfused: Vec<Unfused>,
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

/// Lowers `proto`, whose tensors have the concrete `shapes`; `outputs` are the tensors to give out.
pub(super) fn lower(proto: &pb::ModelProto, shapes: &Shapes) -> Lowered {
    let empty = GraphProto::default();
    let graph = proto.graph.as_ref().unwrap_or(&empty);
    let opset = proto.opset_import.iter().find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let opset = opset.map_or(0, |o| o.version);
    let known = forms::known(graph, shapes, opset);
    let qdq = Qdq::new(&known.graph, &known.shapes, opset);
    let Matched { fates, imports, mut unfused } = match_all(&qdq);
    unfused.retain(|u| graph.node.iter().any(|n| n.name == u.node && n.op_type == u.op_type));
    for found in &known.unfused {
        // The reason for which it became FP32, not what became of it.
        if let Some(listed) = unfused.iter_mut().find(|u| u.node == found.node) {
            listed.reason.clone_from(&found.reason);
        }
    }
    let mut lowered = proto.clone();
    lowered.graph = Some(build::build(&qdq, fates, imports));
    Lowered { proto: lowered, unfused }
}

/// The needs of what was already decided, walking backwards.
#[derive(Default)]
struct Needs {
    /// Tensors that tract reads.
    floats: HashSet<String>,
    /// u8 tensors, and FP32 tensors inside islands, by the name that steps have for them.
    inside: HashSet<String>,
}

impl Needs {
    fn add(&mut self, draft: &Draft) {
        let names = draft.inputs.iter().cloned();
        if draft.op.enters() { self.floats.extend(names) } else { self.inside.extend(names) }
    }
}

fn match_all(qdq: &Qdq) -> Matched {
    let nodes = &qdq.graph.node;
    let region = float::region(qdq);
    let mut needs = Needs::default();
    needs.floats.extend(qdq.graph.output.iter().map(|o| o.name.clone()));
    let mut fates: Vec<Fate> = Vec::with_capacity(nodes.len());
    let mut unfused = Vec::new();
    for (position, node) in nodes.iter().enumerate().rev() {
        let fate = match node.op_type.as_str() {
            "QuantizeLinear" => quantize_fate(qdq, node, &region, &needs, &mut unfused),
            "DequantizeLinear" => dequantize_fate(qdq, node, &needs),
            _ => float_fate(qdq, node, region.contains(&position).then_some(&region), &needs, &mut unfused),
        };
        if fate.kept {
            needs.floats.extend(node.input.iter().cloned());
        }
        // Each draft's own result is behind the needs of those after it.
        for draft in fate.drafts.iter().rev() {
            needs.add(draft);
        }
        fates.push(fate);
    }
    fates.reverse();
    unfused.reverse();
    let inputs = qdq.graph.input.iter().filter(|i| needs.inside.contains(&float::inside(&i.name)));
    let imports = inputs.filter_map(|i| float::import(qdq, &i.name).ok()).collect();
    Matched { fates, imports, unfused }
}

fn quantize_fate(
    qdq: &Qdq,
    node: &NodeProto,
    region: &HashSet<usize>,
    needs: &Needs,
    unfused: &mut Vec<Unfused>,
) -> Fate {
    let output = node.output[0].as_str();
    if needs.floats.contains(output) {
        return Fate::kept();
    }
    if !needs.inside.contains(output) {
        return Fate::gone();
    }
    let Ok(quant) = qdq.quant(node) else { return Fate::kept() };
    match step_before(qdq, node, quant) {
        Ok(draft) => return Fate::step(draft),
        Err(Some(reason)) => unfused.push(reason),
        Err(None) => {}
    }
    let input = node.input[0].as_str();
    let draft = |input: String, op: StepOp| Draft {
        name: node.name.clone(),
        kind: "Quantize".into(),
        macs: 0,
        inputs: vec![input],
        output: output.into(),
        op,
        constants: Vec::new(),
    };
    let is_inside = qdq.index.producer(input).is_some_and(|p| region.contains(&p));
    match border(qdq, input) {
        Ok((batch, channels, height, width)) if is_inside => {
            let len = batch * channels * height * width;
            Fate::step(draft(float::inside(input), StepOp::Float(FloatOp::Quantize { len, quant })))
        }
        Ok((batch, channels, height, width)) => {
            let op = StepOp::Quantize { batch, channels, height, width, quant, stem: None };
            Fate::step(draft(input.into(), op))
        }
        Err(_) => Fate::kept(),
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
    let mut clamp = other::UNCLAMPED;
    let mut tensor = quantize.input[0].as_str();
    let mut node = qdq.producer(tensor).ok_or(None)?;
    if let Some(draft) = elementwise::table(qdq, quantize, quant) {
        return Ok(draft);
    }
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
    step(qdq, node, tensor, target)
        .map_err(|reason| Some(Unfused { node: node.name.clone(), op_type: node.op_type.clone(), reason }))
}

/// The step for `tensor`, a result of `node`.
fn step(qdq: &Qdq, node: &NodeProto, tensor: &str, target: Target) -> Result<Draft, Reason> {
    match node.op_type.as_str() {
        "Conv" => conv::conv(qdq, node, target),
        "MatMul" if products::is_of_activations(qdq, node) => products::matmul(qdq, node, target),
        "Gemm" | "MatMul" => conv::gemm(qdq, node, target),
        "Add" | "Mul" => elementwise::pairs(qdq, node, target),
        "MaxPool" => other::max_pool(qdq, node, target),
        "AveragePool" => other::average_pool(qdq, node, target),
        "GlobalAveragePool" | "ReduceMean" => other::global_average_pool(qdq, node, target),
        "Concat" => other::concat(qdq, node, target),
        "Resize" => other::resize(qdq, node, target),
        _ if moving::is_movement(node) => match products::moved(qdq, node, tensor, target) {
            Some(draft) => Ok(draft),
            None => other::movement(qdq, node, tensor, target),
        },
        other => {
            qdq.activation(node.input.first().map_or("", String::as_str))?;
            Err(format!("{other} has no INT8 form here"))
        }
    }
}

fn dequantize_fate(qdq: &Qdq, node: &NodeProto, needs: &Needs) -> Fate {
    let output = node.output[0].as_str();
    let inside = float::inside(output);
    let (in_tract, in_island) = (needs.floats.contains(output), needs.inside.contains(&inside));
    if !in_tract && !in_island {
        return Fate::gone();
    }
    let (Ok((tensor, quant)), Ok((batch, channels, height, width))) =
        (qdq.activation(output), border(qdq, output))
    else {
        return kept(qdq, node, needs);
    };
    let draft = |output: String, op: StepOp| Draft {
        name: node.name.clone(),
        kind: "Dequantize".into(),
        macs: 0,
        inputs: vec![tensor.into()],
        output,
        op,
        constants: Vec::new(),
    };
    let pixels = height * width;
    let len = batch * channels * pixels;
    let into_island = in_island.then(|| draft(inside, StepOp::Float(FloatOp::Dequantize { len, quant })));
    let to_tract =
        in_tract.then(|| draft(output.into(), StepOp::Dequantize { batch, channels, pixels, quant }));
    Fate { kept: false, drafts: into_island.into_iter().chain(to_tract).collect() }
}

/// The node runs in tract; islands that read its results import them.
fn kept(qdq: &Qdq, node: &NodeProto, needs: &Needs) -> Fate {
    let read = node.output.iter().filter(|o| needs.inside.contains(&float::inside(o)));
    Fate { kept: true, drafts: read.filter_map(|o| float::import(qdq, o).ok()).collect() }
}

fn float_fate(
    qdq: &Qdq,
    node: &NodeProto,
    region: Option<&HashSet<usize>>,
    needs: &Needs,
    unfused: &mut Vec<Unfused>,
) -> Fate {
    let Some(output) = node.output.first().map(String::as_str) else { return Fate::gone() };
    let in_tract = node.output.iter().any(|o| needs.floats.contains(o));
    let in_island = node.output.iter().any(|o| needs.inside.contains(&float::inside(o)));
    if !in_tract && !in_island {
        return Fate::gone();
    }
    if let Some(drafts) = region.and_then(|_| float::parts(qdq, node, needs)) {
        return Fate { kept: false, drafts };
    }
    let target = Target { tensor: output, quant: None, clamp: other::UNCLAMPED };
    let step = match node.op_type.as_str() {
        "Conv" => conv::conv(qdq, node, target),
        "MatMul" if products::is_of_activations(qdq, node) => products::matmul(qdq, node, target),
        "Gemm" | "MatMul" => conv::gemm(qdq, node, target),
        "GlobalAveragePool" | "ReduceMean" => other::global_average_pool(qdq, node, target),
        "Add" | "Mul" | "MaxPool" | "AveragePool" | "Concat" => {
            Err("its result is read in FP32, without quantization".into())
        }
        other => Err(format!("{other} has no INT8 form here")),
    };
    let step = step.or_else(|reason| {
        let reads_quantized = node.input.iter().any(|i| qdq.activation(i).is_ok());
        let has_weights = qdq.is_quantized && matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
        if (reads_quantized || has_weights) && !unfused.iter().any(|u| u.node == node.name) {
            unfused.push(Unfused { node: node.name.clone(), op_type: node.op_type.clone(), reason });
        }
        region.ok_or_else(Reason::new).and_then(|region| float::step(qdq, node, region))
    });
    match step {
        Ok(draft) if in_tract && !in_island && draft.op.leaves() => Fate::step(draft),
        Ok(draft) => {
            let step = Draft { output: float::inside(output), ..draft };
            let export = in_tract.then(|| float::export(qdq, output).ok()).flatten();
            Fate { kept: false, drafts: [step].into_iter().chain(export).collect() }
        }
        Err(_) => kept(qdq, node, needs),
    }
}
