//! Rules of single operators that tract relies on without looking: a graph that breaks one would make it work, or
//! take memory, without end.

use tract_onnx::pb::{GraphProto, NodeProto};

use super::{graph, printable};

/// Whether every node keeps them.
///
/// # Errors
/// The first node that does not, and how.
pub(super) fn check(graph: &GraphProto) -> Result<(), String> {
    for node in &graph.node {
        broken(node).map_or(Ok(()), |what| {
            Err(format!("node '{}' ({}): {what}", printable(&node.name), printable(&node.op_type)))
        })?;
    }
    Ok(())
}

fn broken(node: &NodeProto) -> Option<String> {
    match node.op_type.as_str() {
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
    use crate::model::graph::{node, with_ints};

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
