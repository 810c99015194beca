//! Tensors that a few bytes of a file ask for, and that no machine holds.
//!
//! What depends on constants only is computed while a model is loaded, and a number in the file says how large it
//! is. So sizes come first, twice: [`check`] looks at single nodes of a file that was just read, before anyone
//! else does, and [`super::measured`] at every tensor whose shape follows from those before it.

use std::collections::HashMap;
use std::path::Path;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::prelude::TractError;

use super::{ModelError, check, graph, printable, windows};

/// Elements that a node may make from numbers in the file: 1 GiB of floats. Real models make a few thousand.
const MOST_ELEMENTS: u64 = 1 << 28;

/// Bytes that any one tensor may take, activations too.
pub(super) const MOST_BYTES: u64 = 4 << 30;

/// Bytes that all tensors may take that are computed from constants, besides what the weights allow.
const MOST_COMPUTED: u64 = 1 << 30;

/// Bytes that may be computed from each byte of weights: dequantized, transposed and reshaped ones are several
/// times as large as what the file holds.
const COMPUTED_PER_BYTE: u64 = 8;

/// A tensor that takes more than may be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("node '{node}' ({op_type}) makes a tensor of the shape {shape:?}: {excess}", excess = excess.of(*bytes))]
pub(super) struct TooMuch {
    pub node: String,
    pub op_type: String,
    pub shape: Vec<usize>,
    /// Bytes that it takes, or with those before it.
    pub bytes: u64,
    pub excess: Excess,
}

/// Which limit a tensor breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Excess {
    /// That of one tensor.
    Tensor,
    /// That of all tensors which constants determine.
    Constants { room: u64 },
    /// That of all windows together.
    Windows,
    /// That of what one node does.
    Work { products: u64, most: u64 },
}

impl Excess {
    fn of(self, bytes: u64) -> String {
        match self {
            Excess::Tensor => format!("{}, and one may take {}", gib(bytes), gib(MOST_BYTES)),
            Excess::Constants { room } => {
                format!(
                    "what is computed from constants takes {} with it, and may take {}",
                    gib(bytes),
                    gib(room)
                )
            }
            Excess::Windows => {
                let most = gib(windows::MOST_BYTES);
                format!("the places in all windows up to this one take {}, and may take {most}", gib(bytes))
            }
            Excess::Work { products, most } => {
                format!("that takes {products} products, and may take {most}")
            }
        }
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

/// Bytes that constants of `graph` may make when no more than `most` are to be spent on them.
pub(super) fn room(graph: &GraphProto, most: u64) -> u64 {
    let weights = graph.initializer.iter().filter_map(|tensor| check::byte_size(tensor).ok());
    let weights = weights.fold(0, u64::saturating_add);
    MOST_COMPUTED.saturating_add(COMPUTED_PER_BYTE.saturating_mul(weights)).min(most)
}

/// The error that `error` of the analysis of `graph` stands for, if it is about a tensor that can't be held.
pub(super) fn unholdable(path: &Path, graph: &GraphProto, error: &TractError) -> Option<ModelError> {
    let found: &TooMuch = error.chain().find_map(|cause| cause.downcast_ref())?;
    let node = graph.node.iter().find(|node| node.name == found.node);
    let op_type = node.map_or(&found.op_type, |node| &node.op_type);
    Some(ModelError::Unholdable {
        path: path.into(),
        node: printable(&found.node).into_owned().into(),
        op_type: printable(op_type).into_owned().into(),
        shape: found.shape.as_slice().into(),
        what: found.excess.of(found.bytes).into(),
        hint: match found.excess {
            Excess::Tensor | Excess::Work { .. } => {
                "give the model a smaller input or batch, or export it again"
            }
            Excess::Windows => "export the model again with a global pool, or with smaller kernels",
            Excess::Constants { .. } => {
                "export the model again with its constants folded, or give calib8 more memory"
            }
        },
    })
}

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
    let numbers = |position: usize| -> Option<Vec<i64>> {
        Some(graph::to_array::<i64>(tensor(position)?)?.into_iter().collect())
    };
    // Negative sides are errors, but whoever multiplies them first may get any number.
    let whole = |position: usize| -> Option<Vec<u64>> {
        Some(numbers(position)?.into_iter().map(i64::unsigned_abs).collect())
    };
    let product = |sides: Vec<u64>| sides.into_iter().fold(1, u64::saturating_mul);
    match node.op_type.as_str() {
        "ConstantOfShape" => whole(0).map(product),
        // Made while the file is read, where no rule is asked.
        "ConstantLike" if node.input.is_empty() => {
            let sides = graph::attr_ints(node, "shape")?;
            Some(product(sides.iter().map(|side| side.unsigned_abs()).collect()))
        }
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
            // Negative ones cut off.
            let pads: Vec<u64> = numbers(1)?.into_iter().map(|pad| u64::try_from(pad).unwrap_or(0)).collect();
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
    use crate::model::graph::{node, tensor, with_ints};

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
            // Their product is small in 64 bits.
            assert!(of(op, inputs, shape(&[(1 << 57) + 1, -(1 << 57) + 1, 3])).is_err(), "{op}");
        }
        for data in ["x", "one"] {
            assert_eq!(of("Pad", &[data, "s"], shape(&[0, 3, 0, 3])), Ok(()));
            assert!(of("Pad", &[data, "s"], shape(&[0, 1 << 29, 0, 0])).is_err());
            assert!(of("Pad", &[data, "s"], shape(&[0, i64::MAX, 0, i64::MAX])).is_err());
        }
    }

    #[test]
    fn a_constant_without_inputs_is_counted() {
        let of = |sides: &[i64]| {
            let made = with_ints(node("ConstantLike", "n", &[], &["y"]), "shape", sides);
            check(&GraphProto { node: vec![made], ..Default::default() })
        };
        assert_eq!(of(&[1 << 14, 1 << 14]), Ok(()));
        assert!(of(&[1 << 14, 1 << 15]).is_err() && of(&[i64::MAX, -1, i64::MIN]).is_err());
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
