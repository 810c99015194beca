//! Changing a graph: order of nodes, fresh names, renaming tensors, removing what nothing reads.
//!
//! A node with a subgraph (`If`, `Loop`, `Scan`) also reads tensors of the outer graph from inside
//! it; everything here follows those reads, so that a rewrite never takes a tensor away from one.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

/// The subgraphs of a node.
pub fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a: &AttributeProto| a.g.iter().chain(&a.graphs))
}

/// Every tensor name that `node` reads: its inputs, and names read in its subgraphs (names that are
/// local to a subgraph included, which is harmless because ONNX lets no two tensors share a name).
pub fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
    for graph in subgraphs(node) {
        names.extend(graph.node.iter().flat_map(reads));
        names.extend(graph.output.iter().map(|o| o.name.as_str()));
    }
    names
}

/// Makes every reader of `from` read `to` instead. Graph outputs keep their name.
pub fn rename_reads(graph: &mut GraphProto, from: &str, to: &str) {
    for node in &mut graph.node {
        for input in node.input.iter_mut().filter(|i| *i == from) {
            *input = to.into();
        }
        for attribute in &mut node.attribute {
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                rename_reads(inner, from, to);
                for output in inner.output.iter_mut().filter(|o| o.name == from) {
                    output.name = to.into();
                }
            }
        }
    }
}

/// Removes the nodes at the given positions.
pub fn remove_nodes(graph: &mut GraphProto, positions: &HashSet<usize>) {
    let mut position = 0;
    graph.node.retain(|_| {
        position += 1;
        !positions.contains(&(position - 1))
    });
}

/// How much [`prune`] removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Nodes none of whose outputs were read.
    pub nodes: usize,
    /// Initializers that nothing read.
    pub initializers: usize,
}

/// Removes nodes that no output of the graph depends on, initializers that nothing reads, and the
/// type notes (`value_info`) of tensors that are gone. Nodes must be in topological order.
pub fn prune(graph: &mut GraphProto) -> Pruned {
    let mut needed: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut dead = HashSet::new();
    for (position, node) in graph.node.iter().enumerate().rev() {
        if node.output.iter().any(|o| needed.contains(o)) {
            needed.extend(reads(node).into_iter().map(String::from));
        } else {
            dead.insert(position);
        }
    }
    remove_nodes(graph, &dead);
    let before = graph.initializer.len();
    graph.initializer.retain(|t| needed.contains(&t.name));
    let made: HashSet<&str> = graph.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
    graph.value_info.retain(|v| made.contains(v.name.as_str()));
    Pruned { nodes: dead.len(), initializers: before - graph.initializer.len() }
}

/// Puts the nodes in an order in which each comes after those whose outputs it reads, and changes
/// nothing if they already are.
///
/// # Errors
/// The names of the nodes on a cycle, in the direction of the data.
pub fn topological_sort(graph: &mut GraphProto) -> Result<(), Vec<String>> {
    let producer: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(i, n)| n.output.iter().filter(|o| !o.is_empty()).map(move |o| (o.as_str(), i)))
        .collect();
    let parents: Vec<Vec<usize>> = graph
        .node
        .iter()
        .map(|n| reads(n).into_iter().filter_map(|r| producer.get(r).copied()).collect())
        .collect();
    let sorted = parents.iter().enumerate().all(|(i, p)| p.iter().all(|parent| *parent < i));
    if sorted {
        return Ok(());
    }
    let order = depth_first(&parents)
        .map_err(|cycle| cycle.into_iter().map(|i| graph.node[i].name.clone()).collect::<Vec<_>>())?;
    let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
    graph.node = order.into_iter().filter_map(|i| nodes[i].take()).collect();
    Ok(())
}

/// Parents first; without recursion, because a hostile file can be a chain of a million nodes.
fn depth_first(parents: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; parents.len()];
    let mut order = Vec::with_capacity(parents.len());
    for root in 0..parents.len() {
        if marks[root] != Mark::New {
            continue;
        }
        marks[root] = Mark::Open;
        let mut path = vec![(root, 0)];
        while let Some((node, next)) = path.last_mut() {
            let (node, parent) = (*node, parents[*node].get(*next).copied());
            *next += 1;
            match parent {
                None => {
                    marks[node] = Mark::Done;
                    order.push(node);
                    path.pop();
                }
                Some(parent) if marks[parent] == Mark::New => {
                    marks[parent] = Mark::Open;
                    path.push((parent, 0));
                }
                Some(parent) if marks[parent] == Mark::Open => {
                    let start = path.iter().position(|(n, _)| *n == parent).unwrap_or(0);
                    return Err(path[start..].iter().rev().map(|(n, _)| *n).collect());
                }
                Some(_) => {}
            }
        }
    }
    Ok(order)
}

/// Gives out names that nothing in a graph has yet.
#[derive(Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
    /// The last number given out after each wish.
    counts: HashMap<String, usize>,
}

impl Names {
    /// Knows every tensor and node name of `graph` and its subgraphs.
    pub fn new(graph: &GraphProto) -> Names {
        let mut names = Names::default();
        names.take(graph);
        names
    }

    fn take(&mut self, graph: &GraphProto) {
        self.taken.extend(graph.input.iter().chain(&graph.output).map(|v| v.name.clone()));
        self.taken.extend(graph.initializer.iter().map(|t| t.name.clone()));
        for node in &graph.node {
            self.taken.insert(node.name.clone());
            self.taken.extend(node.input.iter().chain(&node.output).cloned());
            subgraphs(node).for_each(|g| self.take(g));
        }
    }

    /// `wish`, or `wish_1`, `wish_2`, … if that is taken; never the same name twice.
    pub fn fresh(&mut self, wish: &str) -> String {
        let mut name = wish.to_string();
        while !self.taken.insert(name.clone()) {
            let count = self.counts.entry(wish.into()).or_default();
            *count += 1;
            name = format!("{wish}_{count}");
        }
        name
    }
}

/// Gives every node a name of its own: the name of its first output if it has none (as tract and
/// most tools do), and a number after a name that an earlier node has. ONNX demands neither, but
/// layers are chosen, reported and compared by name.
pub fn name_nodes(graph: &mut GraphProto) {
    let mut names = Names::default();
    names.taken.extend(graph.node.iter().map(|n| n.name.clone()));
    let mut seen: HashSet<String> = HashSet::new();
    for node in &mut graph.node {
        if node.name.is_empty() {
            let wish = node.output.iter().find(|o| !o.is_empty()).unwrap_or(&node.op_type);
            node.name = names.fresh(wish);
        } else if !seen.insert(node.name.clone()) {
            node.name = names.fresh(&node.name);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor};
    use tract_onnx::pb::ValueInfoProto;

    fn value(name: &str) -> ValueInfoProto {
        ValueInfoProto { name: name.into(), ..Default::default() }
    }

    fn chain(nodes: Vec<NodeProto>) -> GraphProto {
        GraphProto { input: vec![value("x")], output: vec![value("y")], node: nodes, ..Default::default() }
    }

    #[test]
    fn sorts_nodes_and_leaves_sorted_ones_alone() {
        let mut graph = chain(vec![node("Relu", "b", &["h"], &["y"]), node("Relu", "a", &["x"], &["h"])]);
        topological_sort(&mut graph).unwrap();
        assert_eq!(graph.node[0].name, "a");
        let before = graph.clone();
        topological_sort(&mut graph).unwrap();
        assert_eq!(graph, before);
    }

    #[test]
    fn names_the_nodes_of_a_cycle() {
        let mut graph = chain(vec![
            node("Add", "a", &["x", "q"], &["p"]),
            node("Relu", "b", &["p"], &["q"]),
            node("Relu", "c", &["q"], &["y"]),
        ]);
        let mut cycle = topological_sort(&mut graph).unwrap_err();
        cycle.sort();
        assert_eq!(cycle, ["a", "b"]);
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let mut nodes: Vec<NodeProto> = (0..100_000)
            .map(|i| node("Relu", &format!("n{i}"), &[&format!("t{i}")], &[&format!("t{}", i + 1)]))
            .collect();
        nodes.reverse();
        let mut graph = chain(nodes);
        topological_sort(&mut graph).unwrap();
        assert_eq!(graph.node[0].name, "n0");
    }

    #[test]
    fn prunes_what_no_output_needs_but_keeps_what_a_subgraph_reads() {
        let mut branch = node("If", "if", &["x"], &["y"]);
        let inner = GraphProto {
            node: vec![node("Add", "in", &["x", "w"], &["z"])],
            output: vec![value("z")],
            ..Default::default()
        };
        branch.attribute.push(AttributeProto { g: Some(inner), ..Default::default() });
        let mut graph = chain(vec![node("Relu", "dead", &["x"], &["unread"]), branch]);
        graph.initializer = vec![tensor("w", &[1], &[1f32]), tensor("unused", &[1], &[1f32])];
        assert_eq!(prune(&mut graph), Pruned { nodes: 1, initializers: 1 });
        assert_eq!(graph.initializer[0].name, "w");
        rename_reads(&mut graph, "w", "v");
        assert_eq!(reads(&graph.node[0]), ["x", "x", "v", "z"]);
    }

    #[test]
    fn fresh_names_are_fresh() {
        let mut names = Names::new(&chain(vec![node("Relu", "a", &["x"], &["y"])]));
        assert_eq!(names.fresh("w"), "w");
        assert_eq!(names.fresh("w"), "w_1");
        assert_eq!(names.fresh("x"), "x_1");
    }

    #[test]
    fn nodes_get_names_of_their_own() {
        let mut graph = chain(vec![
            node("Relu", "", &["x"], &["h"]),
            node("Relu", "r", &["h"], &["i"]),
            node("Relu", "r", &["i"], &["j"]),
            node("Relu", "h", &["j"], &["y"]),
        ]);
        name_nodes(&mut graph);
        let names: Vec<&str> = graph.node.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["h_1", "r", "r_1", "h"]);
    }
}
