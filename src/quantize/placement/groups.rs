//! Tensors that share one scale, so that the node between them only moves bytes.

use std::collections::HashMap;

use super::{NodeKind, QuantizedNode, QuantizedTensor};
use crate::model::graph::Index;
use crate::model::pb::GraphProto;

/// Numbers the groups in `tensors`, from 0 in the order of their first member.
///
/// Input and output of a movement of data share a group. So do the inputs and the output of a
/// Concat, if they have the same bounds (or else a Relu before it could not be part of its layer)
/// and each input serves the Concat alone (or else other readers would pay with resolution).
pub(super) fn assign(
    graph: &GraphProto,
    index: &Index,
    nodes: &[QuantizedNode],
    tensors: &mut [QuantizedTensor],
) {
    let at: HashMap<String, usize> = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
    let mut parent: Vec<usize> = (0..tensors.len()).collect();
    let mut join = |a: &str, b: &str| {
        if let (Some(a), Some(b)) = (at.get(a), at.get(b)) {
            let (a, b) = (root(&parent, *a), root(&parent, *b));
            parent[a.max(b)] = a.min(b);
        }
    };
    let moves: HashMap<&str, &QuantizedNode> =
        nodes.iter().filter(|n| n.kind == NodeKind::Move).map(|n| (n.output.as_str(), n)).collect();
    let exclusive = |tensor: &str| {
        let mut tensor = tensor;
        loop {
            if index.consumers(tensor).len() != 1 {
                return false;
            }
            match moves.get(tensor) {
                Some(node) => tensor = &graph.node[node.position].input[0],
                None => return true,
            }
        }
    };
    for node in nodes {
        let inputs = &graph.node[node.position].input;
        match node.kind {
            NodeKind::Move => join(&inputs[0], &node.output),
            NodeKind::Concat => {
                let same = |i: &String| at.get(i).map(|i| tensors[*i].bounds);
                let alike = inputs.iter().all(|i| same(i) == same(&inputs[0]));
                if alike && inputs.iter().all(|i| exclusive(i)) {
                    inputs.iter().for_each(|i| join(i, &node.output));
                }
            }
            _ => {}
        }
    }
    let mut numbers = HashMap::new();
    for (i, tensor) in tensors.iter_mut().enumerate() {
        let next = numbers.len();
        tensor.group = *numbers.entry(root(&parent, i)).or_insert(next);
    }
}

fn root(parent: &[usize], mut i: usize) -> usize {
    while parent[i] != i {
        i = parent[i];
    }
    i
}
