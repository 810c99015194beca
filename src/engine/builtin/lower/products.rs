//! MatMul of two quantized activations, and attention around two of them.

use super::super::program::{Quant, StepOp};
use super::Draft;
use super::conv::Target;
use super::moving;
use super::other::{self, UNCLAMPED};
use super::qdq::{Qdq, Reason};
use super::rows;
use crate::kernels::{Attention, ByteAttention, ByteProducts, Bytes, Products};
use crate::model::pb::NodeProto;

/// Longest sum whose largest value, 255 · 255 each, is an i32.
const MOST_INPUTS: usize = 33_000;

fn bytes(quant: Quant) -> Bytes {
    (quant.scale, quant.zero_point)
}

/// The quantized operands of `node`, their parameters, and how they lie.
fn operands<'a>(qdq: &Qdq<'a>, node: &NodeProto) -> Result<([&'a str; 2], [Quant; 2], Products), Reason> {
    let [a, b] = &node.input[..] else { return Err("it does not have two operands".into()) };
    let (a, of_a, view_a) = moving::start(qdq, a)?;
    let (b, of_b, view_b) = moving::start(qdq, b)?;
    let products = rows::laid_out(qdq, node, &view_a, &view_b)?;
    if products.k > MOST_INPUTS {
        return Err(format!("it adds up {} products", products.k));
    }
    Ok(([a, b], [of_a, of_b], products))
}

/// The step for `node`, with the scores before it where it ends an attention.
pub(super) fn matmul(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    if target.clamp != UNCLAMPED {
        return Err("an activation function follows it".into());
    }
    let ([a, b], [of_a, of_b], products) = operands(qdq, node)?;
    let out = target.quant.map(bytes);
    let macs = |products: &Products| (products.count() * products.m * products.k * products.n) as u64;
    if let Some(before) = scores(qdq, node) {
        let macs = macs(&before.products) + macs(&products);
        let attention = Attention { scores: before.products, scale: before.scale, values: products };
        let [of_q, of_k] = before.of;
        let of = [of_q, of_k, of_b].map(bytes);
        let op = StepOp::Attention(ByteAttention {
            attention,
            of,
            rounded: before.rounded,
            shares: bytes(of_a),
            out,
        });
        let inputs = vec![before.inputs[0], before.inputs[1], b];
        return Ok(Draft { kind: "Attention".into(), macs, ..other::draft(node, inputs, target, op) });
    }
    let macs = macs(&products);
    let op = StepOp::MatMul(ByteProducts { products, of: [of_a, of_b].map(bytes), out });
    Ok(Draft { macs, ..other::draft(node, vec![a, b], target, op) })
}

/// What stands before the shares of an attention.
struct Scores<'a> {
    inputs: [&'a str; 2],
    of: [Quant; 2],
    products: Products,
    rounded: Vec<(f32, Bytes)>,
    scale: f32,
}

/// The scores behind the quantized shares that `node` multiplies by values, if nothing else reads them.
fn scores<'a>(qdq: &Qdq<'a>, node: &NodeProto) -> Option<Scores<'a>> {
    let dequantize = rows::alone(qdq, &node.input[0]).filter(|n| n.op_type == "DequantizeLinear")?;
    let quantize = rows::alone(qdq, &dequantize.input[0]).filter(|n| n.op_type == "QuantizeLinear")?;
    let softmax = rows::softmax_of_rows(qdq, &quantize.input[0])?;
    let (mut tensor, mut scale, mut rounded) = (&softmax.input[0], 1.0, vec![]);
    // Backwards: a factor found here belongs to what is rounded before it.
    let product = loop {
        let before = rows::alone(qdq, tensor)?;
        match before.op_type.as_str() {
            "DequantizeLinear" => {
                let (_, quant) = qdq.activation(tensor).ok()?;
                let quantize = rows::alone(qdq, &before.input[0])?;
                rounded.push((scale, bytes(quant)));
                (tensor, scale) = (&quantize.input[0], 1.0);
            }
            "Mul" | "Div" => {
                let (x, factor) = rows::factor(qdq, before)?;
                (tensor, scale) = (x, scale * factor);
            }
            _ => break before,
        }
    };
    if !is_of_activations(qdq, product) || !scale.is_finite() {
        return None;
    }
    // Each factor before its rounding, and the last one behind all.
    let mut rounded: Vec<(f32, Bytes)> = rounded.into_iter().rev().collect();
    for (factor, _) in &mut rounded {
        std::mem::swap(factor, &mut scale);
    }
    let (inputs, of, products) = operands(qdq, product).ok()?;
    Some(Scores { inputs, of, products, rounded, scale })
}

/// The step for products that go where movements ending in `tensor`, a result of `moved`, bring them; `None` where it is
/// not that, or where an axis of the products is not one there.
pub(super) fn moved(qdq: &Qdq, moved: &NodeProto, tensor: &str, target: Target) -> Option<Draft> {
    let (source, quant, view) = moving::moved(qdq, moved, tensor).ok()?;
    let product = qdq.producer(&qdq.producer(source)?.input[0]).filter(|n| n.op_type == "MatMul")?;
    let is_whole = Some(quant) == target.quant && is_only_moved(qdq, &moved.input[0], product);
    let mut draft = matmul(qdq, product, target).ok().filter(|_| is_whole)?;
    let products = match &mut draft.op {
        StepOp::MatMul(of) => &mut of.products,
        StepOp::Attention(of) => &mut of.attention.values,
        _ => return None,
    };
    *products = rows::moved_to(products, &view)?;
    Some(draft)
}

/// Whether what `product` makes becomes `tensor` by movements and quantization, and nothing else reads it on the way.
fn is_only_moved(qdq: &Qdq, tensor: &str, product: &NodeProto) -> bool {
    let mut tensor = tensor;
    while let Some(node) = rows::alone(qdq, tensor) {
        if node.output[0] == product.output[0] {
            return true;
        }
        let is_pair = matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear");
        if !is_pair && !moving::is_view(node) {
            return false;
        }
        tensor = &node.input[0];
    }
    false
}

/// Whether `node` multiplies two activations.
pub(super) fn is_of_activations(qdq: &Qdq, node: &NodeProto) -> bool {
    let is_constant = |tensor: &String| {
        let stored = qdq.producer(tensor).filter(|n| n.op_type == "DequantizeLinear").map(|n| &n.input[0]);
        qdq.initializer(stored.unwrap_or(tensor)).is_some()
    };
    node.op_type == "MatMul" && !node.input.iter().any(is_constant)
}
