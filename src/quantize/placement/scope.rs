//! Which nodes `ignored_scope` means, and which names it misspells.

use std::collections::{BTreeSet, HashSet};

use crate::model::pb::GraphProto;
use crate::quantize::{IgnoredScope, QuantizeError};

/// The nodes of one graph that the user keeps in FP32.
pub(super) struct Scope<'a> {
    names: HashSet<&'a str>,
    types: HashSet<&'a str>,
}

impl<'a> Scope<'a> {
    /// Checks that all that is ignored exists.
    pub(super) fn resolve(ignored: &'a IgnoredScope, graph: &GraphProto) -> Result<Scope<'a>, QuantizeError> {
        let names: BTreeSet<&str> = graph.node.iter().map(|n| n.name.as_str()).collect();
        let types: BTreeSet<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        for (what, wanted, known) in
            [("node", &ignored.names, &names), ("operator type", &ignored.types, &types)]
        {
            if let Some(name) = wanted.iter().find(|n| !known.contains(n.as_str())) {
                return Err(QuantizeError::UnknownScope {
                    what,
                    name: name.clone(),
                    hint: near(name, known),
                });
            }
        }
        Ok(Scope {
            names: ignored.names.iter().map(String::as_str).collect(),
            types: ignored.types.iter().map(String::as_str).collect(),
        })
    }

    /// Whether this node stays FP32.
    pub(super) fn ignores(&self, name: &str, op_type: &str) -> bool {
        self.names.contains(name) || self.types.contains(op_type)
    }
}

/// `; did you mean 'a', 'b'?`, or nothing.
fn near(name: &str, known: &BTreeSet<&str>) -> String {
    let lower = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = known
        .iter()
        .filter(|k| !k.is_empty())
        .map(|k| (distance(&lower, &k.to_lowercase()), *k))
        .filter(|(d, k)| *d <= name.len().max(k.len()) / 3 || k.to_lowercase().contains(&lower))
        .collect();
    scored.sort();
    let list: Vec<String> = scored.iter().take(3).map(|(_, k)| format!("'{k}'")).collect();
    if list.is_empty() { String::new() } else { format!("; did you mean {}?", list.join(", ")) }
}

/// Levenshtein distance: insertions, deletions and replacements that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::node;

    fn graph() -> GraphProto {
        GraphProto {
            node: vec![node("Conv", "conv_1", &["x"], &["y"]), node("Add", "sum", &["y", "x"], &["z"])],
            ..Default::default()
        }
    }

    #[test]
    fn a_misspelt_name_is_an_error_that_names_its_neighbour() {
        let ignored = IgnoredScope { names: vec!["conv1".into()], types: vec![] };
        let message = Scope::resolve(&ignored, &graph()).err().unwrap().to_string();
        assert_eq!(message, "ignored_scope: the model has no node 'conv1'; did you mean 'conv_1'?");
        let ignored = IgnoredScope { names: vec![], types: vec!["Softmax".into()] };
        let message = Scope::resolve(&ignored, &graph()).err().unwrap().to_string();
        assert_eq!(message, "ignored_scope: the model has no operator type 'Softmax'");
    }

    #[test]
    fn names_and_types_are_ignored() {
        let ignored = IgnoredScope { names: vec!["conv_1".into()], types: vec!["Add".into()] };
        let graph = graph();
        let scope = Scope::resolve(&ignored, &graph).unwrap();
        assert!(scope.ignores("conv_1", "Conv"));
        assert!(scope.ignores("sum", "Add"));
        assert!(!scope.ignores("conv_2", "Conv"));
    }

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(distance("conv1", "conv_1"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("add", "sub"), 3);
    }
}
