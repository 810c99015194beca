//! Sums and products of two tensors, and functions of one.

use super::super::program::{PairOp, Pairing, Quant, StepOp};
use super::conv::Target;
use super::other::{draft, quantized};
use super::qdq::{Qdq, Reason};
use super::{Draft, other};
use crate::model::function::Function;
use crate::model::graph;
use crate::model::pb::NodeProto;

/// The elementwise operators before `quantize`, as one table, if all they read is one quantized tensor.
pub(super) fn table(qdq: &Qdq, quantize: &NodeProto, out: Quant) -> Option<Draft> {
    let result = quantize.input[0].as_str();
    let found = Function::behind(qdq.graph, &qdq.index, result, &|tensor| qdq.activation(tensor).is_ok())?;
    let (input, quant) = qdq.activation(found.source).ok()?;
    let shape = qdq.shape(found.source).ok()?;
    if qdq.shape(result).ok()? != shape {
        return None;
    }
    let table: Vec<u8> = (0..=255u8).map(|q| out.quantize(found.function.at(quant.dequantize(q)))).collect();
    let node = qdq.producer(result)?;
    let target = Target { tensor: &quantize.output[0], quant: Some(out), clamp: other::UNCLAMPED };
    let mut draft = draft(node, vec![input], target, StepOp::Lookup { len: shape.iter().product() });
    draft.constants.push(graph::tensor("table", &[256], &table));
    Some(draft)
}

/// One side of a sum or product.
enum Operand<'a> {
    Tensor(&'a str, Quant),
    /// Values in C order.
    Constant(Vec<u8>, Quant),
}

impl Operand<'_> {
    fn quant(&self) -> Quant {
        match self {
            Operand::Tensor(_, quant) | Operand::Constant(_, quant) => *quant,
        }
    }
}

/// Add or Mul of two quantized operands, one of which may be constant.
pub(super) fn pairs(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    let out = quantized(target)?;
    let [a, b] = &node.input[..] else { return Err("it does not have two operands".into()) };
    let (shape_a, shape_b, shape) = (qdq.shape(a)?, qdq.shape(b)?, qdq.shape(&node.output[0])?);
    let operand = |name: &str| match qdq.constant_activation(name) {
        Some(constant) => constant.map(|(values, quant)| Operand::Constant(values, quant)),
        None => qdq.activation(name).map(|(name, quant)| Operand::Tensor(name, quant)),
    };
    let (first, second) = (operand(a)?, operand(b)?);
    let (lo, hi) = (out.quantize(target.clamp.0), out.quantize(target.clamp.1));
    if let (Operand::Tensor(a, quant_a), Operand::Tensor(b, quant_b), "Add") =
        (&first, &second, node.op_type.as_str())
        && shape_a == shape_b
    {
        let len = shape.iter().product();
        let op = StepOp::Add { len, a: *quant_a, b: *quant_b, out, lo, hi };
        return Ok(draft(node, vec![a, b], target, op));
    }
    let strides = |operand: &Operand, of: &[usize]| match operand {
        Operand::Tensor(..) => memory_strides(of),
        Operand::Constant(..) => c_strides(of),
    };
    let pairing = pairing(shape, (shape_a, &strides(&first, shape_a)), (shape_b, &strides(&second, shape_b)))
        .ok_or_else(|| format!("it broadcasts {shape_a:?} with {shape_b:?}"))?;
    let (quant_a, quant_b) = (first.quant(), second.quant());
    let (inputs, constant) = match (&first, &second) {
        (Operand::Tensor(a, _), Operand::Tensor(b, _)) => (vec![*a, *b], None),
        (Operand::Tensor(a, _), Operand::Constant(values, _)) => (vec![*a], Some((1, values))),
        (Operand::Constant(values, _), Operand::Tensor(b, _)) => (vec![*b], Some((0, values))),
        (Operand::Constant(..), Operand::Constant(..)) => return Err("both its operands are constant".into()),
    };
    let op = if node.op_type == "Mul" { PairOp::Mul } else { PairOp::Add };
    let side = constant.as_ref().map(|c| c.0);
    let op = StepOp::Pairs { op, pairing, a: quant_a, b: quant_b, out, lo, hi, constant: side };
    let mut draft = draft(node, inputs, target, op);
    if let Some((_, values)) = constant {
        draft.constants.push(graph::tensor("operand", &[values.len()], values));
    }
    Ok(draft)
}

/// Elements from one index of each axis to the next, in C order.
pub(super) fn c_strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// Elements from one index of each axis to the next, in an island's layout: NHWC for rank 4.
pub(super) fn memory_strides(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [_, channels, height, width] => vec![height * width * channels, 1, width * channels, channels],
        _ => c_strides(shape),
    }
}

/// The axes of `shape` from outermost to innermost in an island's layout.
pub(super) fn memory_order(rank: usize) -> Vec<usize> {
    if rank == 4 { vec![0, 2, 3, 1] } else { (0..rank).collect() }
}

/// How two operands (shape and strides) meet in a result of `shape`, by ONNX's rules of broadcasting.
fn pairing(shape: &[usize], a: (&[usize], &[usize]), b: (&[usize], &[usize])) -> Option<Pairing> {
    let step = |(of, strides): (&[usize], &[usize]), axis: usize| {
        let missing = shape.len() - of.len().min(shape.len());
        match axis.checked_sub(missing) {
            Some(own) if of[own] == shape[axis] => Some(strides[own]),
            Some(own) if of[own] != 1 => None,
            _ => Some(0),
        }
    };
    let mut dims: Vec<(usize, [usize; 2])> = Vec::new();
    for axis in memory_order(shape.len()).into_iter().filter(|axis| shape[*axis] != 1) {
        let (count, steps) = (shape[axis], [step(a, axis)?, step(b, axis)?]);
        match dims.last_mut() {
            // Where both go on as they went, two dimensions are one.
            Some((outer, above)) if (0..2).all(|i| above[i] == steps[i] * count) => {
                (*outer, *above) = (*outer * count, steps);
            }
            _ => dims.push((count, steps)),
        }
    }
    // Rows are consecutive results, whose operands must be so, too, or be repeated.
    if dims.last().is_some_and(|(_, steps)| steps.iter().any(|s| *s > 1)) {
        dims.push((1, [0, 0]));
    }
    let columns = dims.pop().unwrap_or((1, [0, 0]));
    let rows = dims.pop().unwrap_or((1, [0, 0]));
    Some(Pairing { outer: dims, rows, columns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shape: &[usize], a: &[usize], b: &[usize]) -> Option<Pairing> {
        pairing(shape, (a, &memory_strides(a)), (b, &memory_strides(b)))
    }

    #[test]
    fn dimensions_that_go_on_alike_become_one() {
        let same = of(&[2, 3, 4, 5], &[2, 3, 4, 5], &[2, 3, 4, 5]);
        assert_eq!(same, Some(Pairing { outer: vec![], rows: (1, [0, 0]), columns: (120, [1, 1]) }));
        let gate = of(&[2, 3, 4, 5], &[2, 3, 4, 5], &[2, 3, 1, 1]);
        assert_eq!(
            gate,
            Some(Pairing { outer: vec![(2, [60, 3])], rows: (20, [3, 0]), columns: (3, [1, 1]) })
        );
        let weighed = of(&[1, 3, 4, 5], &[1, 3, 4, 5], &[1, 1, 4, 5]);
        assert_eq!(weighed, Some(Pairing { outer: vec![], rows: (20, [3, 1]), columns: (3, [1, 0]) }));
        let rows = of(&[2, 6, 8], &[2, 6, 8], &[8]);
        assert_eq!(rows, Some(Pairing { outer: vec![], rows: (12, [8, 0]), columns: (8, [1, 1]) }));
    }

    #[test]
    fn a_tensor_of_lower_rank_keeps_its_own_layout() {
        // [C, H, W] in C order against NHWC: its channels are far apart.
        let map = of(&[1, 2, 3, 4], &[1, 2, 3, 4], &[2, 3, 4]);
        let want = Pairing { outer: vec![(12, [2, 1])], rows: (2, [1, 12]), columns: (1, [0, 0]) };
        assert_eq!(map, Some(want));
        assert_eq!(of(&[2, 3], &[2, 3], &[2, 2]), None);
    }
}
