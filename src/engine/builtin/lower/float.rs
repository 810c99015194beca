//! Operators that compute in FP32 inside an island: the whole parent, and what a quantized model left
//! in FP32.
//!
//! An FP32 tensor inside an island has a name of its own ([`inside`]), since the same tensor may exist
//! in tract too, in NCHW; `Import` and `Export` steps lead from one to the other. A connected set of
//! such operators is taken only where it contains a convolution or meets quantized tensors: elsewhere
//! the two changes of layout would cost more than the kernels gain.

use std::collections::HashSet;

use super::super::float::{FloatConv, FloatOp, Function, Pairing, Range};
use super::super::program::StepOp;
use super::moving::{self, View};
use super::qdq::{Qdq, Reason};
use super::{Draft, Needs, conv, other, rows};
use crate::kernels::{Binary, Unary};
use crate::model::graph;
use crate::model::pb::{NodeProto, TensorProto};

/// Ends the name of an FP32 tensor inside an island; no ONNX name contains it.
const INSIDE: &str = "\u{1}inside";

/// The name of tensor `name` inside an island.
pub(super) fn inside(name: &str) -> String {
    format!("{name}{INSIDE}")
}

/// The tensor behind a name that [`inside`] made.
pub(super) fn outside(name: &str) -> Option<&str> {
    name.strip_suffix(INSIDE)
}

/// The nodes that become FP32 steps.
pub(super) fn region(qdq: &Qdq) -> HashSet<usize> {
    let nodes = &qdq.graph.node;
    let is_able = |n: &usize| single(qdq, &nodes[*n]).is_ok() || splits(qdq, &nodes[*n]);
    let able: HashSet<usize> = (0..nodes.len()).filter(is_able).collect();
    let mut region = HashSet::new();
    let mut seen = HashSet::new();
    for start in 0..nodes.len() {
        if !able.contains(&start) || !seen.insert(start) {
            continue;
        }
        let (mut members, mut open, mut pays) = (vec![], vec![start], false);
        while let Some(at) = open.pop() {
            members.push(at);
            let node = &nodes[at];
            pays |= node.op_type == "Conv";
            let before = node.input.iter().filter_map(|i| qdq.index.producer(i));
            let after = node.output.iter().flat_map(|o| qdq.index.consumers(o).iter().copied());
            for next in before.chain(after) {
                pays |= match nodes[next].op_type.as_str() {
                    "DequantizeLinear" => qdq.activation(&nodes[next].output[0]).is_ok(),
                    "QuantizeLinear" => true,
                    "Conv" => qdq.activation(&nodes[next].input[0]).is_ok(),
                    _ => false,
                };
                if able.contains(&next) && seen.insert(next) {
                    open.push(next);
                }
            }
        }
        if pays {
            region.extend(members);
        }
    }
    region
}

/// Whether a node is a Split each of whose results is a view of its input.
fn splits(qdq: &Qdq, node: &NodeProto) -> bool {
    let is_view = |o: &String| o.is_empty() || moving::moved_float(qdq, node, o).is_ok();
    node.op_type == "Split" && qdq.initializer(&node.input[0]).is_none() && node.output.iter().all(is_view)
}

/// The steps of a Split: a copy for each result that is needed; `None` for every other operator.
pub(super) fn parts(qdq: &Qdq, node: &NodeProto, needs: &Needs) -> Option<Vec<Draft>> {
    if !splits(qdq, node) {
        return None;
    }
    let mut drafts = vec![];
    for output in node.output.iter().filter(|o| !o.is_empty()) {
        let (in_tract, in_island) = (needs.floats.contains(output), needs.inside.contains(&inside(output)));
        if !in_tract && !in_island {
            continue;
        }
        let (source, view) = moving::moved_float(qdq, node, output).ok()?;
        let op = FloatOp::Move { copying: view.copying(None), fill: None };
        let name = format!("{} ({output})", node.name);
        drafts.push(Draft {
            name,
            inputs: vec![inside(&source)],
            output: inside(output),
            ..draft(node, 0, op, vec![])
        });
        if in_tract {
            drafts.push(export(qdq, output).ok()?);
        }
    }
    Some(drafts)
}

/// A tensor of tract's, brought inside.
pub(super) fn import(qdq: &Qdq, tensor: &str) -> Result<Draft, Reason> {
    let op = match *qdq.shape(tensor)? {
        [batch, channels, height, width] => FloatOp::Import { batch, channels, height, width, stem: None },
        ref other => {
            let width = other.iter().product();
            FloatOp::Import { batch: 1, channels: 1, height: 1, width, stem: None }
        }
    };
    Ok(border("Import", tensor, tensor.into(), inside(tensor), op))
}

/// An FP32 tensor of an island, given to tract.
pub(super) fn export(qdq: &Qdq, tensor: &str) -> Result<Draft, Reason> {
    let op = match *qdq.shape(tensor)? {
        [batch, channels, height, width] => FloatOp::Export { batch, channels, pixels: height * width },
        ref other => FloatOp::Export { batch: 1, channels: other.iter().product(), pixels: 1 },
    };
    Ok(border("Export", tensor, inside(tensor), tensor.into(), op))
}

fn border(kind: &str, tensor: &str, input: String, output: String, op: FloatOp) -> Draft {
    Draft {
        name: tensor.into(),
        kind: kind.into(),
        macs: 0,
        inputs: vec![input],
        output,
        op: StepOp::Float(op),
        constants: Vec::new(),
    }
}

/// The step for `node` together with the operators before it that it absorbs: a Conv, Gemm or sum
/// behind a Relu or Clip, a Conv or Gemm before a sum. Only what nothing else reads is absorbed.
pub(super) fn step(qdq: &Qdq, node: &NodeProto, region: &HashSet<usize>) -> Result<Draft, Reason> {
    let alone = |tensor: &str| -> Option<&NodeProto> {
        let single = qdq.index.consumers(tensor).len() == 1 && !qdq.index.is_output(tensor);
        let producer = qdq.index.producer(tensor).filter(|p| single && region.contains(p))?;
        Some(&qdq.graph.node[producer])
    };
    let mut range = (f32::NEG_INFINITY, f32::INFINITY);
    let mut last = node;
    while let Some((lo, hi)) = qdq.clamp(last) {
        let Some(before) = alone(&last.input[0]).filter(|n| absorbs_clamp(qdq, n)) else { break };
        range = (lo.clamp(range.0, range.1), hi.clamp(range.0, range.1));
        last = before;
    }
    let mut draft = single(qdq, last)?;
    if last.op_type == "Add"
        && matches!(draft.op, StepOp::Float(FloatOp::Binary { pairing: Pairing::Same { .. }, .. }))
    {
        // The later of two products: the other one's result exists by then.
        let products = [0, 1].map(|side| {
            let product = alone(&last.input[side]).filter(|n| takes_residual(qdq, n))?;
            Some((qdq.index.producer(&last.input[side]), product, side))
        });
        if let Some((_, product, side)) = products.into_iter().flatten().max_by_key(|p| p.0)
            && draft.inputs[0] != draft.inputs[1]
        {
            let residual = draft.inputs[1 - side].clone();
            draft = single(qdq, product)?;
            draft.inputs.push(residual);
        }
    }
    if let Some((product, bias)) = by_channel(qdq, last, "Add").and_then(|(x, bias)| Some((alone(x)?, bias)))
    {
        draft = with_bias(qdq, product, &bias).unwrap_or(draft);
    }
    let mut before = last;
    while moving::is_view(before)
        && let Some(earlier) = alone(&before.input[0])
    {
        before = earlier;
    }
    if moving::is_view(last) && before.op_type == "MatMul" {
        draft = rows::moved_products(qdq, before, last).unwrap_or(draft);
    }
    draft.output = inside(&node.output[0]);
    limit(&mut draft.op, range);
    Ok(draft)
}

/// The operand that an Add or Mul, as `op` says, gives a constant for each channel, and the constants.
pub(super) fn by_channel<'n>(qdq: &Qdq, node: &'n NodeProto, op: &str) -> Option<(&'n str, Vec<f32>)> {
    let (x, values) = match &node.input[..] {
        [a, b] if node.op_type == op => {
            constant(qdq, b).map(|v| (a, v)).or_else(|| Some((b, constant(qdq, a)?)))?
        }
        _ => return None,
    };
    let out = qdq.shape(&node.output[0]).ok()?;
    let channels = *if out.len() == 4 { out.get(1) } else { out.last() }?;
    Some((x.as_str(), per_channel(&values, channels, out.len())?))
}

/// A product that starts from `bias` beside its own.
fn with_bias(qdq: &Qdq, product: &NodeProto, bias: &[f32]) -> Option<Draft> {
    let mut draft = single(qdq, product).ok()?;
    if !matches!(draft.op, StepOp::Float(FloatOp::Conv(_) | FloatOp::Gemm { .. })) {
        return None;
    }
    let own = graph::to_array::<f32>(draft.constants.get(1)?)?;
    let sums: Vec<f32> = own.iter().zip(bias).map(|(own, more)| own + more).collect();
    if sums.len() != own.len() {
        return None;
    }
    draft.constants[1] = graph::tensor("bias", &[sums.len()], &sums);
    Some(draft)
}

fn absorbs_clamp(qdq: &Qdq, node: &NodeProto) -> bool {
    let op = single(qdq, node).map(|d| d.op);
    qdq.clamp(node).is_some()
        || matches!(op, Ok(StepOp::Float(FloatOp::Conv(_) | FloatOp::Gemm { .. } | FloatOp::Binary { .. })))
}

fn takes_residual(qdq: &Qdq, node: &NodeProto) -> bool {
    match single(qdq, node).map(|d| d.op) {
        Ok(StepOp::Float(FloatOp::Conv(conv))) => !conv.is_depthwise(),
        Ok(StepOp::Float(FloatOp::Gemm { .. })) => true,
        _ => false,
    }
}

fn limit(op: &mut StepOp, to: (f32, f32)) {
    let StepOp::Float(op) = op else { return };
    match op {
        FloatOp::Conv(FloatConv { range, .. })
        | FloatOp::Gemm { range, .. }
        | FloatOp::Binary { range, .. }
        | FloatOp::Unary { function: Function::Clamp(range), .. } => {
            let (lo, hi) = range.bounds();
            *range = Range::new((lo.clamp(to.0, to.1), hi.clamp(to.0, to.1)));
        }
        _ => {}
    }
}

/// The step for one node on its own.
fn single(qdq: &Qdq, node: &NodeProto) -> Result<Draft, Reason> {
    if node.output.len() != 1 || node.input.is_empty() {
        return Err("it has several results".into());
    }
    let draft = step_of(qdq, node)?;
    match draft.inputs.iter().filter_map(|i| outside(i)).find(|i| qdq.initializer(i).is_some()) {
        Some(constant) => Err(format!("its operand '{constant}' is constant")),
        None => Ok(draft),
    }
}

/// The operand of a GELU that ends in the Mul `node`: the factors x, 1 + erf(x/√2) and 1/2, multiplied in any order.
fn gelu<'n>(qdq: &Qdq<'n>, node: &'n NodeProto) -> Option<&'n str> {
    let near = |x: f32, y: f32| (x - y).abs() < 1e-4;
    let (mut factors, mut scale, mut open) = (vec![], 1.0, vec![]);
    open.extend(node.input.iter().map(|i| (i.as_str(), 0)));
    while let Some((tensor, depth)) = open.pop() {
        if let Some(factor) = qdq.scalar(tensor) {
            scale *= factor;
        } else if let Some(inner) = qdq.producer(tensor).filter(|n| n.op_type == "Mul" && depth < 2) {
            open.extend(inner.input.iter().map(|i| (i.as_str(), depth + 1)));
        } else {
            factors.push(tensor);
        }
    }
    let [a, b] = factors[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(x, other)| {
        let operands = |tensor: &str, op: &str| -> Option<(&'n str, f32)> {
            let node = qdq.producer(tensor).filter(|n| n.op_type == op)?;
            let [a, b] = &node.input[..] else { return None };
            let swapped = || (op != "Div").then(|| qdq.scalar(a)).flatten().map(|a| (b.as_str(), a));
            qdq.scalar(b).map(|b| (a.as_str(), b)).or_else(swapped)
        };
        let (erf, one) = operands(other, "Add")?;
        let erf = qdq.producer(erf).filter(|n| n.op_type == "Erf")?;
        let by = operands(&erf.input[0], "Div").map(|(x, by)| (x, 1.0 / by));
        let (inner, factor) = by.or_else(|| operands(&erf.input[0], "Mul"))?;
        let is_gelu = near(one, 1.0) && near(scale, 0.5) && near(factor, std::f32::consts::FRAC_1_SQRT_2);
        (inner == x && is_gelu).then_some(x)
    })
}

fn step_of(qdq: &Qdq, node: &NodeProto) -> Result<Draft, Reason> {
    if let Some(x) = Some(node).filter(|n| n.op_type == "Mul").and_then(|n| gelu(qdq, n)) {
        let len = qdq.shape(x)?.iter().product();
        let op = FloatOp::Unary { len, function: Function::Other(Unary::Gelu) };
        return Ok(Draft { inputs: vec![inside(x)], ..draft(node, 0, op, vec![]) });
    }
    if let Some(function) = function(qdq, node) {
        let len = qdq.shape(&node.input[0])?.iter().product();
        return Ok(draft(node, 1, FloatOp::Unary { len, function }, vec![]));
    }
    if let Some(draft) = rows::normalization(qdq, node) {
        return Ok(draft);
    }
    match node.op_type.as_str() {
        "Conv" => float_conv(qdq, node),
        "MatMul" if node.input.get(1).is_some_and(|b| qdq.initializer(b).is_none()) => {
            rows::matmul(qdq, node)
        }
        "Gemm" | "MatMul" => gemm(qdq, node),
        "Softmax" => rows::softmax(qdq, node),
        "Add" => binary(qdq, node, Binary::Add),
        "Sub" => binary(qdq, node, Binary::Sub),
        "Mul" => binary(qdq, node, Binary::Mul),
        "Div" => binary(qdq, node, Binary::Div),
        "MaxPool" | "AveragePool" => pool(qdq, node),
        "GlobalAveragePool" | "ReduceMean" => {
            let Ok((batch, channels, pixels)) = other::means_of_images(qdq, node) else {
                return rows::row_means(qdq, node);
            };
            Ok(draft(node, 1, FloatOp::GlobalAveragePool { batch, channels, pixels }, vec![]))
        }
        "Concat" => {
            let (pixels, channels) = other::joined_channels(qdq, node)?;
            let in_place = vec![false; channels.len()];
            Ok(draft(node, node.input.len(), FloatOp::Concat { pixels, channels, in_place }, vec![]))
        }
        "Resize" => Ok(draft(node, 1, FloatOp::Resize(other::scaling(qdq, node)?), vec![])),
        "Pad" => {
            let (pads, value) = moving::padding(qdq, node)?;
            let copying = View::of(qdq.shape(&node.input[0])?).copying(Some(&pads[..]));
            Ok(draft(node, 1, FloatOp::Move { copying, fill: Some(value.to_bits()) }, vec![]))
        }
        _ if moving::is_movement(node) => {
            let (source, view) = moving::moved_float(qdq, node, &node.output[0])?;
            let op = FloatOp::Move { copying: view.copying(None), fill: None };
            Ok(Draft { inputs: vec![inside(&source)], ..draft(node, 1, op, vec![]) })
        }
        other => Err(format!("{other} has no FP32 form here")),
    }
}

pub(super) fn draft(node: &NodeProto, inputs: usize, op: FloatOp, constants: Vec<TensorProto>) -> Draft {
    Draft {
        name: node.name.clone(),
        kind: node.op_type.clone(),
        macs: 0,
        inputs: node.input[..inputs].iter().map(|i| inside(i)).collect(),
        output: inside(&node.output[0]),
        op: StepOp::Float(op),
        constants,
    }
}

const UNLIMITED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

fn function(qdq: &Qdq, node: &NodeProto) -> Option<Function> {
    if let Some((lo, hi)) = qdq.clamp(node) {
        return (lo <= hi).then(|| Function::Clamp(Range::new((lo, hi))));
    }
    let attribute = |name: &str, default: f32| graph::attr_float(node, name).unwrap_or(default);
    Some(Function::Other(match node.op_type.as_str() {
        "LeakyRelu" => Unary::LeakyRelu { alpha: attribute("alpha", 0.01) },
        "HardSigmoid" => Unary::HardSigmoid { alpha: attribute("alpha", 0.2), beta: attribute("beta", 0.5) },
        "HardSwish" => Unary::HardSwish,
        "Sigmoid" => Unary::Sigmoid,
        "Tanh" => Unary::Tanh,
        "Exp" => Unary::Exp,
        "Erf" => Unary::Erf,
        "Sqrt" => Unary::Sqrt,
        "Pow" if qdq.scalar(node.input.get(1)?) == Some(2.0) => Unary::Square,
        _ => return None,
    }))
}

fn constant(qdq: &Qdq, name: &str) -> Option<ndarray::ArrayD<f32>> {
    qdq.initializer(name).and_then(graph::to_array::<f32>)
}

/// The bias of `channels` channels behind input 2, zeros if there is none.
fn bias(qdq: &Qdq, node: &NodeProto, channels: usize) -> Result<Vec<f32>, Reason> {
    let Some(name) = node.input.get(2).filter(|n| !n.is_empty()) else { return Ok(vec![0.0; channels]) };
    let bias = constant(qdq, name).ok_or("its bias is not constant f32")?;
    match bias.len() {
        1 => Ok(vec![bias.iter().copied().next().unwrap_or(0.0); channels]),
        n if n == channels => Ok(bias.iter().copied().collect()),
        n => Err(format!("its bias has {n} values for {channels} channels")),
    }
}

fn float_conv(qdq: &Qdq, node: &NodeProto) -> Result<Draft, Reason> {
    let weights =
        node.input.get(1).and_then(|w| constant(qdq, w)).ok_or("its weights are not constant f32")?;
    let (in_shape, out_shape) = (qdq.shape(&node.input[0])?, qdq.shape(&node.output[0])?);
    let &[out_channels, in_per_group, kh, kw] = weights.shape() else {
        return Err("it is not two-dimensional".into());
    };
    let group = graph::attr_int(node, "group").unwrap_or(1).max(1) as usize;
    let in_channels = in_per_group * group;
    if in_shape.get(1) != Some(&in_channels) || !out_channels.is_multiple_of(group) || weights.is_empty() {
        return Err(format!("its weights {:?} do not fit its input {in_shape:?}", weights.shape()));
    }
    let window = conv::window(node, [kh, kw], in_shape, out_shape)?;
    let bias = bias(qdq, node, out_channels)?;
    let values = graph::in_order(&weights);
    let batch = in_shape[0];
    let op = FloatOp::Conv(FloatConv {
        batch,
        window,
        in_channels,
        out_channels,
        group,
        range: Range::new(UNLIMITED),
        stem: None,
        out_stride: out_channels,
        out_offset: 0,
    });
    let constants = vec![
        graph::tensor("weights", weights.shape(), &values),
        graph::tensor("bias", &[out_channels], &bias),
    ];
    let macs = (batch * window.out_pixels() * out_channels * in_per_group * kh * kw) as u64;
    Ok(Draft { macs, ..draft(node, 1, op, constants) })
}

/// Gemm, and MatMul by a constant matrix.
fn gemm(qdq: &Qdq, node: &NodeProto) -> Result<Draft, Reason> {
    let transposes_b = conv::gemm_flags(node)?;
    let weights =
        node.input.get(1).and_then(|w| constant(qdq, w)).ok_or("its weights are not constant f32")?;
    let in_shape = qdq.shape(&node.input[0])?;
    if weights.ndim() != 2 || in_shape.len() < 2 || in_shape.len() == 4 || weights.is_empty() {
        return Err("its operands are not matrices".into());
    }
    let weights = if transposes_b { weights } else { weights.reversed_axes() };
    let &[n, k] = weights.shape() else { return Err("its operands are not matrices".into()) };
    if in_shape.last() != Some(&k) {
        return Err(format!("its weights {:?} do not fit its input {in_shape:?}", weights.shape()));
    }
    let m = in_shape.iter().product::<usize>() / k;
    let values = graph::in_order(&weights);
    let bias = bias(qdq, node, n)?;
    let constants = vec![graph::tensor("weights", &[n, k], &values), graph::tensor("bias", &[n], &bias)];
    let op = FloatOp::Gemm { m, k, n, range: Range::new(UNLIMITED) };
    Ok(Draft { macs: (m * k * n) as u64, ..draft(node, 1, op, constants) })
}

fn binary(qdq: &Qdq, node: &NodeProto, op: Binary) -> Result<Draft, Reason> {
    let [a, b] = &node.input[..] else { return Err("it does not have two operands".into()) };
    let out = qdq.shape(&node.output[0])?;
    let range = Range::new(UNLIMITED);
    let (channels, pixels) = match *out {
        [_, channels, height, width] => (channels, height * width),
        ref other => (other.last().copied().unwrap_or(1), 1),
    };
    let batch = out.iter().product::<usize>() / (channels * pixels).max(1);
    if batch * channels * pixels == 0 {
        return Err("its result is empty".into());
    }
    let step = |first: &str, second: Option<&str>, pairing: Pairing, constants: Vec<TensorProto>| Draft {
        inputs: [Some(first), second].into_iter().flatten().map(inside).collect(),
        ..draft(node, 0, FloatOp::Binary { op, pairing, range }, constants)
    };
    for (x, other, swapped) in [(a, b, false), (b, a, true)] {
        let Some(values) = constant(qdq, other) else { continue };
        if constant(qdq, x).is_some() || qdq.shape(x)? != out {
            break;
        }
        let Some(each) = per_channel(&values, channels, out.len()) else {
            // A constant as large as the result, such as embeddings of positions.
            let commutes = matches!(op, Binary::Add | Binary::Mul);
            if qdq.shape(other)? != out || out.len() == 4 || (swapped && !commutes) {
                return Err("it broadcasts a constant".into());
            }
            let all = graph::in_order(&values);
            let constant = graph::tensor("operand", &[all.len()], &all);
            return Ok(step(x, None, Pairing::Same { len: all.len() }, vec![constant]));
        };
        let constant = graph::tensor("operand", &[channels], &each);
        let pairing = Pairing::Channels { batch: 1, pixels: batch * pixels, channels, swapped };
        return Ok(step(x, None, pairing, vec![constant]));
    }
    let (of_a, of_b) = (qdq.shape(a)?, qdq.shape(b)?);
    if qdq.initializer(a).is_some() || qdq.initializer(b).is_some() {
        return Err("it broadcasts a constant".into());
    }
    if of_a == of_b {
        return Ok(step(a, Some(b), Pairing::Same { len: batch * channels * pixels }, vec![]));
    }
    for (x, of_x, other, of_other, swapped) in [(a, of_a, b, of_b, false), (b, of_b, a, of_a, true)] {
        if of_x == out && out.len() == 4 && *of_other == [batch, channels, 1, 1] {
            return Ok(step(x, Some(other), Pairing::Channels { batch, pixels, channels, swapped }, vec![]));
        }
    }
    // One value for each row of a tensor that is no image.
    for (x, of_x, other, of_other, swapped) in [(a, of_a, b, of_b, false), (b, of_b, a, of_a, true)] {
        let rows = out.iter().product::<usize>() / channels;
        let is_each = of_other.len() == out.len() && of_other.last() == Some(&1);
        if of_x == out && out.len() != 4 && is_each && of_other.iter().product::<usize>() == rows {
            return Ok(step(x, Some(other), Pairing::Rows { rows, len: channels, swapped }, vec![]));
        }
    }
    Err(format!("it broadcasts {of_a:?} with {of_b:?}"))
}

/// One value for each channel, if `values` broadcasts so against a tensor of `rank`.
fn per_channel(values: &ndarray::ArrayD<f32>, channels: usize, rank: usize) -> Option<Vec<f32>> {
    if values.len() == 1 {
        return values.iter().next().map(|v| vec![*v; channels]);
    }
    let from_end = if rank == 4 { 3 } else { 1 };
    let axis = values.ndim().checked_sub(from_end)?;
    (values.len() == channels && values.shape()[axis] == channels).then(|| values.iter().copied().collect())
}

fn pool(qdq: &Qdq, node: &NodeProto) -> Result<Draft, Reason> {
    let (shape, out_shape) = (qdq.shape(&node.input[0])?, qdq.shape(&node.output[0])?);
    let window = conv::window(node, other::kernel(node)?, shape, out_shape)?;
    let (batch, channels) = (shape[0], shape[1]);
    let op = if node.op_type == "MaxPool" {
        FloatOp::MaxPool { batch, channels, window }
    } else {
        let count_include_pad = graph::attr_int(node, "count_include_pad").unwrap_or(0) != 0;
        FloatOp::AveragePool { batch, channels, window, count_include_pad }
    };
    Ok(draft(node, 1, op, vec![]))
}
