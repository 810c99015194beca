//! Rules of single operators that tract, and what is built here, rely on without looking: a graph that breaks one would
//! make it work, or take memory, without end, or read what is not its own or not there.

use std::collections::HashMap;

use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, NodeProto};

use super::{graph, printable};

/// Whether every node keeps them.
///
/// # Errors
/// The first node that does not, and how.
pub(super) fn check(graph: &GraphProto) -> Result<(), String> {
    let ranks = ranks(graph);
    for node in &graph.node {
        broken(node, &ranks).map_or(Ok(()), |what| {
            Err(format!("node '{}' ({}): {what}", printable(&node.name), printable(&node.op_type)))
        })?;
    }
    Ok(())
}

/// The number of dimensions of each tensor for which the file says it.
fn ranks(graph: &GraphProto) -> HashMap<&str, usize> {
    let declared = graph.input.iter().filter_map(|value| {
        let Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
        let rank = tensor.shape.as_ref()?.dim.len();
        // Without any dimension the shape is more likely unknown.
        (rank > 0).then_some((value.name.as_str(), rank))
    });
    let constants = graph::constants(graph);
    let made = graph.node.iter().filter_map(|node| {
        let rank = match node.op_type.as_str() {
            "Shape" => 1,
            "Reshape" => graph::to_array::<i64>(constants.get(node.input.get(1)?.as_str())?)?.len(),
            _ => return None,
        };
        Some((node.output.first()?.as_str(), rank))
    });
    let stored = constants.iter().map(|(name, tensor)| (*name, tensor.dims.len()));
    declared.chain(made).chain(stored).collect()
}

/// Operators over images: batch, channels, and more.
const OF_CHANNELS: [&str; 9] = [
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "InstanceNormalization",
    "LRN",
    "MaxPool",
];

/// Operators with windows.
const OF_WINDOWS: [&str; 7] =
    ["AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "QLinearConv"];

/// The farthest that a window may reach, step or stand over: products of two of them can be counted in 64 bits.
const FARTHEST: i64 = 1 << 31;

/// What is wrong with the numbers of a window, if anything is.
fn window(node: &NodeProto) -> Option<String> {
    let wrong = |name: &str, least: i64| {
        let numbers = graph::attr_ints(node, name)?;
        let out = numbers.iter().any(|number| !(least..=FARTHEST).contains(number));
        out.then(|| format!("its {name} are {numbers:?}, expected numbers from {least} to {FARTHEST}"))
    };
    let positive = ["kernel_shape", "strides", "dilations"].into_iter().find_map(|name| wrong(name, 1));
    positive.or_else(|| ["pads", "output_padding"].into_iter().find_map(|name| wrong(name, 0)))
}

/// Operators that read nothing.
const SOURCES: [&str; 5] = ["Constant", "Optional", "RandomNormal", "RandomUniform", "SequenceEmpty"];

/// The least number of inputs of operators that read more than one.
const LEAST_INPUTS: [(&str, usize); 27] = [
    ("Add", 2),
    ("BatchNormalization", 5),
    ("Conv", 2),
    ("ConvInteger", 2),
    ("ConvTranspose", 2),
    ("DequantizeLinear", 2),
    ("Div", 2),
    ("Expand", 2),
    ("Gather", 2),
    ("Gemm", 2),
    ("InstanceNormalization", 3),
    ("LayerNormalization", 2),
    ("MatMul", 2),
    ("MatMulInteger", 2),
    ("Mul", 2),
    ("PRelu", 2),
    ("Pow", 2),
    ("QLinearAdd", 7),
    ("QLinearConv", 8),
    ("QLinearGlobalAveragePool", 5),
    ("QLinearMatMul", 8),
    ("QLinearMul", 7),
    ("QuantizeLinear", 2),
    ("Reshape", 2),
    ("Sub", 2),
    ("Tile", 2),
    ("Where", 3),
];

/// What a node lacks, if it lacks inputs or an output.
fn lacking(node: &NodeProto) -> Option<String> {
    let op = node.op_type.as_str();
    let least = LEAST_INPUTS.iter().find(|(name, _)| *name == op).map_or(1, |(_, least)| *least);
    if node.output.is_empty() {
        return Some("it has no output".into());
    }
    (node.input.len() < least && !SOURCES.contains(&op))
        .then(|| format!("it has {} inputs, expected at least {least}", node.input.len()))
}

fn broken(node: &NodeProto, ranks: &HashMap<&str, usize>) -> Option<String> {
    if let Some(what) = lacking(node) {
        return Some(what);
    }
    if OF_WINDOWS.contains(&node.op_type.as_str())
        && let Some(what) = window(node)
    {
        return Some(what);
    }
    match node.op_type.as_str() {
        op if OF_CHANNELS.contains(&op) => {
            let input = node.input.first()?;
            let rank = *ranks.get(input.as_str())?;
            (rank < 2).then(|| {
                format!("its input '{}' has {rank} dimensions, expected batch and channels", printable(input))
            })
        }
        "Transpose" => {
            let perm = graph::attr_ints(node, "perm")?;
            let mut sorted = perm.to_vec();
            sorted.sort_unstable();
            let right = sorted.iter().copied().eq(0..perm.len() as i64);
            (!right).then(|| {
                format!("its perm {perm:?} is no permutation of 0 to {}", perm.len().saturating_sub(1))
            })
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor, with_ints};

    #[test]
    fn operators_have_the_inputs_that_they_compute_with() {
        let of = |op: &str, inputs: &[&str], outputs: &[&str]| {
            check(&GraphProto { node: vec![node(op, "n", inputs, outputs)], ..Default::default() })
        };
        let error = of("GlobalAveragePool", &[], &["y"]).unwrap_err();
        assert_eq!(error, "node 'n' (GlobalAveragePool): it has 0 inputs, expected at least 1");
        let error = of("Conv", &["x"], &["y"]).unwrap_err();
        assert_eq!(error, "node 'n' (Conv): it has 1 inputs, expected at least 2");
        assert_eq!(of("Relu", &["x"], &[]).unwrap_err(), "node 'n' (Relu): it has no output");
        assert_eq!(of("Constant", &[], &["y"]), Ok(()));
        assert_eq!(of("Gemm", &["x", "w"], &["y"]), Ok(()));
    }

    #[test]
    fn what_has_channels_has_a_batch_before_them() {
        let of = |dims: &[usize]| {
            let values = vec![1f32; dims.iter().product()];
            let graph = GraphProto {
                node: vec![
                    node("Reshape", "flat", &["x", "shape"], &["row"]),
                    node("BatchNormalization", "b", &["g", "s", "s", "s", "s"], &["y"]),
                    node("BatchNormalization", "c", &["row", "s", "s", "s", "s"], &["z"]),
                ],
                initializer: vec![tensor("g", dims, &values), tensor("shape", &[2], &[2i64, -1])],
                ..Default::default()
            };
            check(&graph)
        };
        assert_eq!(of(&[2, 3]), Ok(()));
        let error = of(&[3]).unwrap_err();
        assert_eq!(
            error,
            "node 'b' (BatchNormalization): its input 'g' has 1 dimensions, expected batch and channels"
        );
    }

    #[test]
    fn the_numbers_of_a_window_are_positive_and_can_be_multiplied() {
        let of = |name: &str, numbers: &[i64]| {
            let conv = with_ints(node("Conv", "c", &["x", "w"], &["y"]), name, numbers);
            check(&GraphProto { node: vec![conv], ..Default::default() })
        };
        for name in ["kernel_shape", "strides", "dilations"] {
            assert_eq!(of(name, &[1, FARTHEST]), Ok(()), "{name}");
            for bad in [0, -1, i64::MIN, FARTHEST + 1, i64::MAX] {
                let error = of(name, &[1, bad]).unwrap_err();
                assert_eq!(
                    error,
                    format!(
                        "node 'c' (Conv): its {name} are [1, {bad}], expected numbers from 1 to 2147483648"
                    )
                );
            }
        }
        assert_eq!(of("pads", &[0, 0, 3, FARTHEST]), Ok(()));
        assert!(of("pads", &[0, 0, -1, 0]).is_err() && of("pads", &[0, 0, 0, FARTHEST + 1]).is_err());
    }

    #[test]
    fn a_permutation_has_each_axis_once() {
        let of = |perm: &[i64]| {
            let transpose = with_ints(node("Transpose", "t", &["x"], &["y"]), "perm", perm);
            check(&GraphProto { node: vec![transpose], ..Default::default() })
        };
        for good in [&[0, 2, 3, 1][..], &[0], &[]] {
            assert_eq!(of(good), Ok(()));
        }
        for bad in [&[0, 2, 2, 1][..], &[1, 2, 3, 4], &[0, -1, 1, 2], &[0, 1 << 40]] {
            let error = of(bad).unwrap_err();
            assert!(error.starts_with("node 't' (Transpose): its perm ["), "{error}");
        }
    }
}
