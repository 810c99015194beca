//! Tensors that a few bytes of a file ask for, and that no machine holds.
//!
//! Nodes whose inputs are all known are computed while a model is loaded. A node that makes a tensor as large as
//! a number in the file says would take that much memory before anything else is known of the graph.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::{graph, printable};

/// Elements that such a node may make: 1 GiB of floats. Real models make a few thousand.
const MOST_ELEMENTS: u64 = 1 << 28;

/// Bytes that any one tensor may take, activations too.
pub(super) const MOST_BYTES: u64 = 16 << 30;

/// Whether every node that makes a tensor from numbers in the file makes one that can be held.
///
/// # Errors
/// The first that does not, with what it asks for.
pub(super) fn check(graph: &GraphProto) -> Result<(), String> {
    let constants = graph::constants(graph);
    for node in &graph.node {
        let elements = elements(node, &constants).unwrap_or(0);
        if elements > MOST_ELEMENTS {
            return Err(format!(
                "node '{}' ({}) makes a tensor of {elements} elements or more, expected at most {MOST_ELEMENTS}",
                printable(&node.name),
                printable(&node.op_type)
            ));
        }
    }
    Ok(())
}

/// Bytes of f32 that `shape` takes, `None` where they are more than 64 bits can count.
pub(super) fn bytes(shape: &[usize]) -> Option<u64> {
    shape.iter().try_fold(size_of::<f32>() as u64, |bytes, side| bytes.checked_mul(*side as u64))
}

/// Elements that `node` makes at least, as far as constants alone say; as many as fit where there are more.
fn elements(node: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> Option<u64> {
    let tensor = |position: usize| constants.get(node.input.get(position)?.as_str()).copied();
    let whole = |position: usize| -> Option<Vec<u64>> {
        let values = graph::to_array::<i64>(tensor(position)?)?;
        // Negative sides are errors of their own, found by whoever computes the node.
        Some(values.iter().map(|value| u64::try_from(*value).unwrap_or(0)).collect())
    };
    let product = |sides: Vec<u64>| sides.into_iter().fold(1, u64::saturating_mul);
    match node.op_type.as_str() {
        "ConstantOfShape" => whole(0).map(product),
        "Expand" | "Tile" => whole(1).map(product),
        "Resize" => whole(3).map(product),
        "OneHot" => whole(1).map(product),
        "Range" => {
            let number = |position: usize| {
                let of = tensor(position)?;
                let float =
                    graph::to_array::<f32>(of).and_then(|values| values.first().map(|v| f64::from(*v)));
                float.or_else(|| graph::to_array::<i64>(of)?.first().map(|value| *value as f64))
            };
            let count = (number(1)? - number(0)?) / number(2)?;
            // A division by zero is infinite, and NaN becomes 0.
            Some(count.ceil().max(0.0) as u64)
        }
        "Pad" => {
            let pads = whole(1)?;
            let shape: Vec<u64> = match tensor(0) {
                Some(data) => data.dims.iter().map(|side| u64::try_from(*side).unwrap_or(0)).collect(),
                // Of an unknown tensor each side is 1 at least.
                None => vec![1; pads.len() / 2],
            };
            let axes = shape.len();
            let around = |axis: usize| {
                let pad = |at: usize| pads.get(at).copied().unwrap_or(0);
                shape[axis].saturating_add(pad(axis)).saturating_add(pad(axis + axes))
            };
            Some(product((0..axes).map(around).collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor};

    fn of(op: &str, inputs: &[&str], initializer: Vec<TensorProto>) -> Result<(), String> {
        check(&GraphProto { node: vec![node(op, "n", inputs, &["y"])], initializer, ..Default::default() })
    }

    #[test]
    fn what_numbers_in_the_file_ask_for_is_counted() {
        let shape = |sides: &[i64]| vec![tensor("s", &[sides.len()], sides), tensor("one", &[1, 1], &[1f32])];
        for op in ["ConstantOfShape", "Expand", "Tile", "OneHot"] {
            let inputs: &[&str] = if op == "ConstantOfShape" { &["s"] } else { &["x", "s"] };
            assert_eq!(of(op, inputs, shape(&[1 << 14, 1 << 14])), Ok(()), "{op}");
            let error = of(op, inputs, shape(&[1 << 14, 1 << 15])).unwrap_err();
            assert!(
                error.starts_with(&format!("node 'n' ({op}) makes a tensor of 536870912 elements")),
                "{error}"
            );
            assert!(of(op, inputs, shape(&[i64::MAX, i64::MAX])).is_err(), "{op}");
        }
        for data in ["x", "one"] {
            assert_eq!(of("Pad", &[data, "s"], shape(&[0, 3, 0, 3])), Ok(()));
            assert!(of("Pad", &[data, "s"], shape(&[0, 1 << 29, 0, 0])).is_err());
            assert!(of("Pad", &[data, "s"], shape(&[0, i64::MAX, 0, i64::MAX])).is_err());
        }
    }

    #[test]
    fn a_range_is_counted_whatever_its_type_and_step() {
        let of = |numbers: [i64; 3]| {
            let [from, to, by] = ["from", "to", "by"];
            let ints = [(from, 0), (to, 1), (by, 2)].map(|(name, i)| tensor(name, &[], &[numbers[i]]));
            let floats =
                [(from, 0), (to, 1), (by, 2)].map(|(name, i)| tensor(name, &[], &[numbers[i] as f32]));
            let results = [ints, floats]
                .map(|tensors| super::tests::of("Range", &[from, to, by], tensors.to_vec()).is_ok());
            assert_eq!(results[0], results[1], "{numbers:?}");
            results[0]
        };
        assert!(of([0, 1000, 1]) && of([1000, 0, -1]) && of([0, 1 << 40, 1 << 30]) && of([0, -5, 1]));
        assert!(!of([0, 1 << 40, 1]) && !of([0, 5, 0]) && !of([1 << 40, 0, -1]));
    }
}
