//! FP32 operators over whole rows, and products of two activations: what attention and normalization need.

use super::super::float::FloatOp;
use super::super::program::StepOp;
use super::Draft;
use super::elementwise::memory_strides;
use super::float::{by_channel, draft, inside};
use super::moving::{self, View};
use super::qdq::{Qdq, Reason};
use crate::kernels::{Attention, Products};
use crate::model::graph;
use crate::model::pb::NodeProto;

/// The axis `axis` of a tensor as an island holds it: elements along it, and elements from one to the next.
fn along(shape: &[usize], axis: i64) -> Result<(usize, usize), Reason> {
    let rank = shape.len() as i64;
    let wrapped = if axis < 0 { axis + rank } else { axis };
    let at = usize::try_from(wrapped).ok().filter(|a| *a < shape.len());
    let at = at.ok_or_else(|| format!("it has no axis {axis}"))?;
    let step = memory_strides(shape).get(at).copied().unwrap_or(1);
    Ok((shape[at], step))
}

/// Softmax over one axis.
pub(super) fn softmax(qdq: &Qdq, node: &NodeProto) -> Result<Draft, Reason> {
    let shape = qdq.shape(&node.input[0])?;
    // Before opset 13, the default is axis 1 and all axes from there on are one.
    let default = if qdq.opset < 13 { 1 } else { -1 };
    let axis = graph::attr_int(node, "axis").unwrap_or(default);
    let is_last = axis == -1 || axis + 1 == shape.len() as i64;
    if qdq.opset < 13 && !is_last {
        return Err("it is over several axes".into());
    }
    let (len, inner) = along(shape, axis)?;
    let total: usize = shape.iter().product();
    if total == 0 {
        return Err("its input is empty".into());
    }
    Ok(draft(node, 1, FloatOp::Softmax { total, len, inner }, vec![]))
}

/// The mean over the last axis of a tensor that is no image.
pub(super) fn row_means(qdq: &Qdq, node: &NodeProto) -> Result<Draft, Reason> {
    let shape = qdq.shape(&node.input[0])?;
    let axes = match moving::constant_indices(qdq, node, 1) {
        Some((axes, _)) => axes,
        None => graph::attr_ints(node, "axes").map(<[i64]>::to_vec).unwrap_or_default(),
    };
    let is_last = matches!(axes[..], [axis] if axis == -1 || axis + 1 == shape.len() as i64);
    let (Some(&len), false, true) = (shape.last(), shape.len() == 4, is_last) else {
        return Err("it is not over the last axis".into());
    };
    let total: usize = shape.iter().product();
    if total == 0 {
        return Err("its input is empty".into());
    }
    Ok(draft(node, 1, FloatOp::RowMeans { rows: total / len, len }, vec![]))
}

/// Layer normalization that ends in `node`: an operator of its own, or `(x − mean) / √(variance + ε)` with or without
/// factors and a bias for each channel.
pub(super) fn normalization(qdq: &Qdq, node: &NodeProto) -> Option<Draft> {
    let (x, epsilon, weights, bias) = match node.op_type.as_str() {
        "LayerNormalization" => whole_normalization(qdq, node)?,
        "Add" | "Mul" | "Div" => spelled_normalization(qdq, node)?,
        _ => return None,
    };
    let shape = qdq.shape(x).ok().filter(|shape| shape.len() != 4 && !shape.contains(&0))?;
    let (len, total) = (*shape.last()?, shape.iter().product::<usize>());
    let weights = weights.unwrap_or_else(|| vec![1.0; len]);
    let bias = bias.unwrap_or_else(|| vec![0.0; len]);
    if (weights.len(), bias.len()) != (len, len) || !epsilon.is_finite() || epsilon < 0.0 {
        return None;
    }
    let constants = graph::tensor("factors", &[2, len], &[weights, bias].concat());
    let op = FloatOp::Normalize { rows: total / len, len, epsilon };
    let kind = "LayerNormalization".into();
    Some(Draft { kind, inputs: vec![inside(x)], ..draft(node, 0, op, vec![constants]) })
}

/// What is normalized, ε, factors and bias.
type Normalization<'n> = (&'n str, f32, Option<Vec<f32>>, Option<Vec<f32>>);

fn whole_normalization<'n>(qdq: &Qdq<'n>, node: &'n NodeProto) -> Option<Normalization<'n>> {
    let axis = graph::attr_int(node, "axis").unwrap_or(-1);
    let rank = qdq.shape(&node.input[0]).ok()?.len() as i64;
    let values = |at: usize| match node.input.get(at).filter(|name| !name.is_empty()) {
        Some(name) => {
            let values = qdq.initializer(name).and_then(graph::to_array::<f32>)?;
            Some(Some(values.iter().copied().collect::<Vec<f32>>()))
        }
        None => Some(None),
    };
    let is_one_result = node.output.iter().filter(|output| !output.is_empty()).count() == 1;
    let is_last = axis == -1 || axis + 1 == rank;
    let epsilon = graph::attr_float(node, "epsilon").unwrap_or(1e-5);
    (is_last && is_one_result).then_some((node.input[0].as_str(), epsilon, values(1)?, values(2)?))
}

fn spelled_normalization<'n>(qdq: &Qdq<'n>, node: &'n NodeProto) -> Option<Normalization<'n>> {
    let mean_of = |tensor: &str| -> Option<&'n str> {
        let mean = qdq.producer(tensor).filter(|n| n.op_type == "ReduceMean")?;
        let keeps = graph::attr_int(mean, "keepdims").unwrap_or(1) != 0;
        (keeps && row_means(qdq, mean).is_ok()).then_some(mean.input[0].as_str())
    };
    let (mut last, mut weights, mut bias) = (node, None, None);
    if let Some((x, values)) = by_channel(qdq, last, "Add") {
        (last, bias) = (qdq.producer(x)?, Some(values));
    }
    if let Some((x, values)) = by_channel(qdq, last, "Mul") {
        (last, weights) = (qdq.producer(x)?, Some(values));
    }
    let [centred, deviation] = &last.input[..] else { return None };
    let root = qdq.producer(deviation).filter(|n| n.op_type == "Sqrt" && last.op_type == "Div")?;
    let shifted = qdq.producer(&root.input[0]).filter(|n| n.op_type == "Add")?;
    let [variance, epsilon] = &shifted.input[..] else { return None };
    let (variance, epsilon) = match (qdq.scalar(epsilon), qdq.scalar(variance)) {
        (Some(value), _) => (variance, value),
        (None, Some(value)) => (epsilon, value),
        (None, None) => return None,
    };
    let squares = qdq.producer(mean_of(variance)?)?;
    let is_square = match (squares.op_type.as_str(), &squares.input[..]) {
        ("Mul", [a, b]) => a == centred && b == centred,
        ("Pow", [a, power]) => a == centred && qdq.scalar(power) == Some(2.0),
        _ => false,
    };
    let subtraction = qdq.producer(centred).filter(|n| n.op_type == "Sub" && is_square)?;
    let [x, mean] = &subtraction.input[..] else { return None };
    (mean_of(mean)? == x).then_some((x.as_str(), epsilon, weights, bias))
}

/// MatMul of two activations, with the scores before it where it ends an attention.
pub(super) fn matmul(qdq: &Qdq, node: &NodeProto) -> Result<Draft, Reason> {
    let (inputs, values) = products(qdq, node)?;
    let of = |products: &Products| (products.count() * products.m * products.k * products.n) as u64;
    if let Some((of_scores, scores, scale)) = scores(qdq, node) {
        let macs = of(&scores) + of(&values);
        let inputs = of_scores.into_iter().chain(inputs.into_iter().skip(1)).collect();
        let op = FloatOp::Attention(Attention { scores, scale, values });
        let kind = "Attention".into();
        return Ok(Draft { kind, macs, inputs, ..draft(node, 0, op, vec![]) });
    }
    Ok(Draft { macs: of(&values), inputs, ..draft(node, 0, FloatOp::MatMul(values), vec![]) })
}

/// Products of two activations, by `node`, that go where the movement ending in `moved` would bring them; `None` where
/// an axis of theirs is not one there.
pub(super) fn moved_products(qdq: &Qdq, node: &NodeProto, moved: &NodeProto) -> Option<Draft> {
    let (source, view) = moving::moved_float(qdq, moved, &moved.output[0]).ok()?;
    let mut draft = matmul(qdq, node).ok().filter(|_| source == node.output[0])?;
    let products = match &mut draft.op {
        StepOp::Float(FloatOp::MatMul(products)) => products,
        StepOp::Float(FloatOp::Attention(attention)) => &mut attention.values,
        _ => return None,
    };
    *products = moved_to(products, &view)?;
    Some(draft)
}

/// `products` written where `view`, a view of their result, has its elements as a tensor of its own.
pub(super) fn moved_to(products: &Products, view: &View) -> Option<Products> {
    let copying = view.copying(None);
    let place = |count: usize, step: usize| match count {
        1 => Some(0),
        _ => copying.dims.iter().find(|d| (d.count, d.from) == (count, step)).map(|d| d.to),
    };
    let out = [place(products.m, products.out[0])?, place(products.n, products.out[1])?];
    let outer =
        products.outer.iter().map(|(count, [a, b, out])| Some((*count, [*a, *b, place(*count, *out)?])));
    let outer = outer.collect::<Option<Vec<_>>>()?;
    let total: usize = products.count() * products.m * products.n;
    let is_whole = copying.len == total && copying.dims.iter().map(|d| d.count).product::<usize>() == total;
    is_whole.then(|| Products { outer, out, ..products.clone() })
}

/// The node that makes `tensor`, if only one other reads it.
pub(super) fn alone<'a>(qdq: &Qdq<'a>, tensor: &str) -> Option<&'a NodeProto> {
    let is_single = qdq.index.consumers(tensor).len() == 1 && !qdq.index.is_output(tensor);
    qdq.producer(tensor).filter(|_| is_single)
}

/// The scores behind the shares that `node` multiplies by values, if nothing else reads them: queries and keys, their
/// products, and the factor.
fn scores(qdq: &Qdq, node: &NodeProto) -> Option<(Vec<String>, Products, f32)> {
    let (product, scale) = before_softmax(qdq, &node.input[0])?;
    let (inputs, products) = self::products(qdq, product).ok()?;
    Some((inputs, products, scale))
}

/// The product of two activations whose rows, times the factor, a Softmax makes `shares` of; nothing else reads what is
/// between them.
fn before_softmax<'a>(qdq: &Qdq<'a>, shares: &str) -> Option<(&'a NodeProto, f32)> {
    let softmax = softmax_of_rows(qdq, shares)?;
    let (mut before, mut scale) = (alone(qdq, &softmax.input[0])?, 1.0);
    if let Some((x, factor)) = factor(qdq, before) {
        (before, scale) = (alone(qdq, x)?, factor);
    }
    let is_constant = |tensor: &String| qdq.initializer(tensor).is_some();
    let is_product = before.op_type == "MatMul" && !before.input.iter().any(is_constant);
    (is_product && scale.is_finite()).then_some((before, scale))
}

/// The Softmax over the last axis that makes `shares`, if only one node reads those.
pub(super) fn softmax_of_rows<'a>(qdq: &Qdq<'a>, shares: &str) -> Option<&'a NodeProto> {
    let softmax = alone(qdq, shares).filter(|n| n.op_type == "Softmax")?;
    let rank = qdq.shape(&softmax.input[0]).ok()?.len() as i64;
    let axis = graph::attr_int(softmax, "axis").unwrap_or(if qdq.opset < 13 { 1 } else { -1 });
    (axis == -1 || axis + 1 == rank).then_some(softmax)
}

/// What `node` multiplies by a constant number, or divides by its inverse, and the number.
pub(super) fn factor<'n>(qdq: &Qdq, node: &'n NodeProto) -> Option<(&'n String, f32)> {
    let [x, factor] = &node.input[..] else { return None };
    let factor = qdq.scalar(factor)?;
    match node.op_type.as_str() {
        "Mul" => Some((x, factor)),
        "Div" => Some((x, 1.0 / factor)),
        _ => None,
    }
}

/// The operands of a MatMul of two activations, and how they lie; views of other tensors are read where those are.
fn products(qdq: &Qdq, node: &NodeProto) -> Result<(Vec<String>, Products), Reason> {
    let [a, b] = &node.input[..] else { return Err("it does not have two operands".into()) };
    let operand = |name: &str| -> Result<(String, View), Reason> {
        let moved = qdq.producer(name).filter(|n| moving::is_view(n));
        let found = moved.and_then(|n| moving::moved_float(qdq, n, name).ok());
        let found = found.filter(|(_, view)| view.strides().is_some());
        match found {
            Some(found) => Ok(found),
            None => Ok((name.into(), View::of(qdq.shape(name)?))),
        }
    };
    let ((a, view_a), (b, view_b)) = (operand(a)?, operand(b)?);
    let products = laid_out(qdq, node, &view_a, &view_b)?;
    Ok((vec![inside(&a), inside(&b)], products))
}

/// How the operands and results of the products `node` lie, where the operands are these views.
pub(super) fn laid_out(qdq: &Qdq, node: &NodeProto, a: &View, b: &View) -> Result<Products, Reason> {
    let (of_a, of_b) = (qdq.shape(&node.input[0])?, qdq.shape(&node.input[1])?);
    let of_out = qdq.shape(&node.output[0])?;
    let rank = of_out.len();
    let same_rank = of_a.len() == rank && of_b.len() == rank;
    if rank < 2 || !same_rank || of_out.contains(&0) || of_a.contains(&0) {
        return Err(format!("it multiplies {of_a:?} by {of_b:?}"));
    }
    let irregular = || Reason::from("its operands lie irregularly");
    let (at_a, steps_a) = a.strides().ok_or_else(irregular)?;
    let (at_b, steps_b) = b.strides().ok_or_else(irregular)?;
    let steps_out = memory_strides(of_out);
    let outer = (0..rank - 2).map(|axis| {
        // An operand with one element there is used again.
        let step = |shape: &[usize], steps: &[usize]| if shape[axis] == 1 { 0 } else { steps[axis] };
        (of_out[axis], [step(of_a, &steps_a), step(of_b, &steps_b), steps_out[axis]])
    });
    let last_two = |steps: &[usize]| [steps[rank - 2], steps[rank - 1]];
    Ok(Products {
        outer: outer.collect(),
        m: of_out[rank - 2],
        k: of_a[rank - 1],
        n: of_out[rank - 1],
        first: [at_a, at_b],
        a: last_two(&steps_a),
        b: last_two(&steps_b),
        out: last_two(&steps_out),
    })
}
