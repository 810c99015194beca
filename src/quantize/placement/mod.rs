//! Which nodes become INT8, which tensors are quantized, and why others are not: decided from the
//! graph and its shapes alone, before any image is seen.
//!
//! Layers with weights (Conv, Gemm, MatMul) and products of two activations are the gain and are always taken. Sums, products, pools,
//! concatenations, movements of data and functions of one element are taken where they lie between INT8
//! layers, because a change to FP32 and back would cost more than they do. All else stays FP32.
//!
//! A function may be a chain of operators, such as the three of HardSwish. Only its ends are quantized:
//! between them it is a table of 256 values, and every step of rounding that is left out is accuracy won.

mod groups;
mod rules;
mod scope;

use std::collections::{HashMap, HashSet};

use rules::Rules;
use scope::Scope;

use super::{Options, QuantizeError};
use crate::model::function::Function;
use crate::model::graph::Index;
use crate::model::shapes;
use crate::model::{Model, pb};

/// How a node computes in INT8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Conv, Gemm or MatMul with constant weights, which are quantized per index of `channel_axis`.
    Weighted {
        /// Axis of the weight that counts output channels.
        channel_axis: usize,
    },
    /// MatMul of two activations.
    Product,
    /// Add of two activations.
    Add,
    /// Mul of two activations.
    Mul,
    /// One operator of a function of one element: what it makes is quantized only where the function ends.
    Function,
    /// Average over space; its output has a range of its own.
    Pool,
    /// Concatenation of activations.
    Concat,
    /// The values pass unchanged, so input and output share one scale.
    Move,
}

/// A node that becomes INT8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizedNode {
    /// Position in the graph.
    pub position: usize,
    /// Name of the node.
    pub name: String,
    /// Its operator.
    pub op_type: String,
    /// How it computes.
    pub kind: NodeKind,
    /// Position of the Relu or Clip that is its only reader and becomes part of it; of a MatMul also of the Add that
    /// is its bias.
    pub activation: Option<usize>,
    /// Tensor that leaves it, after the activation.
    pub output: String,
}

/// A tensor that gets a QuantizeLinear/DequantizeLinear pair.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedTensor {
    /// Its name; for a node with a fused activation the name after the activation.
    pub name: String,
    /// Tensors of the same number share scale and zero point.
    pub group: usize,
    /// Axis along which means are taken for bias correction, where a weighted node reads it.
    pub channel_axis: Option<usize>,
    /// What is known of its values from the graph.
    pub bounds: Bounds,
    /// If all that reads it are functions of one element: these. It may then have any zero point, which
    /// costs a table nothing, and needs no values where they are flat.
    pub functions: Vec<Function>,
}

/// What the graph says about the values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bounds {
    /// Any value.
    Any,
    /// From 0 to this, which is infinite after Relu.
    ZeroTo(f32),
}

/// A node that stays FP32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftNode {
    /// Name of the node.
    pub name: String,
    /// Its operator.
    pub op_type: String,
    /// Why.
    pub reason: String,
}

/// The outcome of [`place`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Placement {
    /// Nodes that become INT8, in graph order.
    pub nodes: Vec<QuantizedNode>,
    /// Tensors that are quantized, in the order in which they are made.
    pub tensors: Vec<QuantizedTensor>,
    /// Nodes that stay FP32, in graph order. Activations that become part of a node are in neither list.
    pub left: Vec<LeftNode>,
}

/// Decides what becomes INT8. The model should come from [`prepare`](super::prepare).
///
/// # Errors
/// `ignored_scope` names what does not exist, the graph can't be analysed, or nothing can become INT8.
pub fn place(model: &Model, options: &Options) -> Result<Placement, QuantizeError> {
    let graph = model.graph();
    let scope = Scope::resolve(&options.ignored, graph)?;
    let mut shapes = shapes::infer(model, 1)?;
    shapes.extend(model.inputs().into_iter().map(|i| i.name).zip(shapes::input_shapes(model, 1)?));
    let placer = Placer { graph, rules: Rules { graph, index: Index::new(graph), shapes, scope } };
    let (nodes, mut left, mut tensors) = placer.settle();
    if !nodes.iter().any(|n| matches!(n.kind, NodeKind::Weighted { .. })) {
        let reason =
            left.first().map_or("it has no operators".into(), |(_, l)| format!("'{}': {}", l.name, l.reason));
        return Err(QuantizeError::NothingToQuantize { path: model.path.clone(), reason });
    }
    groups::assign(graph, &placer.rules.index, &nodes, &mut tensors);
    placer.give_functions(&nodes, &mut tensors);
    left.sort_by_key(|(position, _)| *position);
    Ok(Placement { nodes, tensors, left: left.into_iter().map(|(_, l)| l).collect() })
}

struct Placer<'a> {
    graph: &'a pb::GraphProto,
    rules: Rules<'a>,
}

impl Placer<'_> {
    /// INT8 nodes, those that are not, and the tensors to quantize. A function that starts from the result of
    /// another one reads that in INT8 if it is quantized for somebody else, which is known only afterwards:
    /// so this goes on until nothing changes.
    fn settle(&self) -> (Vec<QuantizedNode>, Vec<(usize, LeftNode)>, Vec<QuantizedTensor>) {
        let mut ends: HashSet<String> = HashSet::new();
        loop {
            let (mut nodes, mut left) = self.candidates(&ends);
            self.prune(&mut nodes, &mut left);
            let tensors = self.tensors(&nodes);
            let known = ends.len();
            let functions = nodes.iter().filter(|n| n.kind == NodeKind::Function);
            let quantized: HashSet<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
            ends.extend(functions.map(|n| n.output.clone()).filter(|o| quantized.contains(o.as_str())));
            if ends.len() == known {
                return (nodes, left, tensors);
            }
        }
    }

    /// Nodes that could become INT8 by what they read, and those that could not. `ends` are results of
    /// functions that are quantized.
    fn candidates(&self, ends: &HashSet<String>) -> (Vec<QuantizedNode>, Vec<(usize, LeftNode)>) {
        let (mut nodes, mut left) = (Vec::new(), Vec::new());
        let mut fused = HashSet::new();
        // Tensors that exist in INT8: results of INT8 nodes, what layers with weights read, and what the operands of
        // products are moved from.
        let mut int8: HashSet<&str> = HashSet::new();
        for node in &self.graph.node {
            match self.rules.kind(node, None) {
                Ok(NodeKind::Weighted { .. }) => _ = int8.insert(&node.input[0]),
                Ok(NodeKind::Product) => int8.extend(node.input.iter().map(|i| self.rules.moved_from(i))),
                _ => {}
            }
        }
        // Those of them that functions start from.
        let mut starts: HashSet<&str> = int8.clone();
        starts.extend(ends.iter().map(String::as_str));
        for (position, node) in self.graph.node.iter().enumerate() {
            if fused.contains(&position) || node.op_type == "Constant" {
                continue;
            }
            let kind = match self.rules.function(node, &starts) {
                Some(_) => Ok(NodeKind::Function),
                None => self.rules.kind(node, Some(&int8)),
            };
            match kind {
                Ok(kind) => {
                    let activation = self.rules.activation(node, kind);
                    fused.extend(activation);
                    let output = &self.graph.node[activation.unwrap_or(position)].output[0];
                    int8.insert(output);
                    if kind != NodeKind::Function {
                        starts.insert(output);
                    }
                    nodes.push(QuantizedNode {
                        position,
                        name: node.name.clone(),
                        op_type: node.op_type.clone(),
                        kind,
                        activation,
                        output: output.clone(),
                    });
                }
                Err(reason) => left.push((position, self.left(position, reason))),
            }
        }
        (nodes, left)
    }

    fn left(&self, position: usize, reason: String) -> LeftNode {
        let node = &self.graph.node[position];
        LeftNode { name: node.name.clone(), op_type: node.op_type.clone(), reason }
    }

    /// Takes out nodes without weights whose result no INT8 node reads: they would only add error.
    fn prune(&self, nodes: &mut Vec<QuantizedNode>, left: &mut Vec<(usize, LeftNode)>) {
        let mut kept: HashSet<usize> = nodes.iter().map(|n| n.position).collect();
        for node in nodes.iter().rev() {
            let read = self.rules.index.consumers(&node.output).iter().any(|c| kept.contains(c));
            if !read && !matches!(node.kind, NodeKind::Weighted { .. } | NodeKind::Product) {
                kept.remove(&node.position);
                left.push((node.position, self.left(node.position, "no INT8 node reads its result".into())));
                if let Some(activation) = node.activation {
                    left.push((activation, self.left(activation, "the node before it is FP32".into())));
                }
            }
        }
        nodes.retain(|n| kept.contains(&n.position));
    }

    /// What the INT8 nodes read and make, in order. Layers with weights have kernels with FP32 results, which
    /// are used where nobody needs them in INT8; depthwise convolutions have none.
    fn tensors(&self, nodes: &[QuantizedNode]) -> Vec<QuantizedTensor> {
        let by_position: HashMap<usize, &QuantizedNode> = nodes.iter().map(|n| (n.position, n)).collect();
        let mut names: Vec<&str> = Vec::new();
        let mut known = HashSet::new();
        let mut add = |name| {
            if known.insert(name) {
                names.push(name);
            }
        };
        for node in nodes {
            let inputs = &self.graph.node[node.position].input;
            let data = match node.kind {
                // Whoever reads its end asks for that.
                NodeKind::Function => continue,
                NodeKind::Add | NodeKind::Mul | NodeKind::Product | NodeKind::Concat => &inputs[..],
                _ => &inputs[..1],
            };
            data.iter().for_each(|i| add(i));
            let read = self.rules.index.consumers(&node.output).iter().any(|c| by_position.contains_key(c));
            if read || !self.rules.has_float_result(&self.graph.node[node.position]) {
                add(&node.output);
            }
        }
        let order = |name: &str| self.rules.index.producer(name).map_or(0, |p| p + 1);
        names.sort_by_key(|name| order(name));
        let mut bounds: HashMap<&str, Bounds> = HashMap::new();
        for name in &names {
            let producer = self.rules.index.producer(name);
            let moved = producer.and_then(|p| by_position.get(&p)).filter(|n| keeps_bounds(n.kind));
            let of = match (moved, producer) {
                (Some(node), _) => {
                    let inputs = &self.graph.node[node.position].input;
                    let data = if node.kind == NodeKind::Concat { &inputs[..] } else { &inputs[..1] };
                    let first = bounds.get(data[0].as_str()).copied().unwrap_or(Bounds::Any);
                    let same = data.iter().all(|i| bounds.get(i.as_str()) == Some(&first));
                    if same { first } else { Bounds::Any }
                }
                (None, Some(p)) => self.rules.result_bounds(&self.graph.node[p]),
                (None, None) => Bounds::Any,
            };
            bounds.insert(name, of);
        }
        names
            .iter()
            .map(|name| QuantizedTensor {
                name: name.to_string(),
                group: 0,
                channel_axis: self.channel_axis(name, &by_position),
                bounds: bounds[name],
                functions: Vec::new(),
            })
            .collect()
    }

    /// Tells tensors that only functions read which these are.
    fn give_functions(&self, nodes: &[QuantizedNode], tensors: &mut [QuantizedTensor]) {
        let functions: HashSet<usize> =
            nodes.iter().filter(|n| n.kind == NodeKind::Function).map(|n| n.position).collect();
        let names: HashSet<String> = tensors.iter().map(|t| t.name.clone()).collect();
        let starts: HashSet<&str> = names.iter().map(String::as_str).collect();
        let mut of: HashMap<String, Vec<Function>> = HashMap::new();
        for name in &names {
            let maker = self.rules.index.producer(name).filter(|p| functions.contains(p));
            if let Some(found) = maker.and_then(|p| self.rules.function(&self.graph.node[p], &starts)) {
                of.entry(found.source.into()).or_default().push(found.function);
            }
        }
        let mut members: HashMap<usize, usize> = HashMap::new();
        tensors.iter().for_each(|t| *members.entry(t.group).or_default() += 1);
        for tensor in tensors {
            let readers = self.rules.index.consumers(&tensor.name);
            let alone = members[&tensor.group] == 1 && !self.rules.index.is_output(&tensor.name);
            if alone && readers.iter().all(|r| functions.contains(r)) {
                tensor.functions = of.remove(&tensor.name).unwrap_or_default();
            }
        }
    }

    /// The axis of `tensor` that the first layer with weights among its readers sums over.
    fn channel_axis(&self, tensor: &str, nodes: &HashMap<usize, &QuantizedNode>) -> Option<usize> {
        let reader = self.rules.index.consumers(tensor).iter().filter_map(|c| nodes.get(c)).find(|n| {
            matches!(n.kind, NodeKind::Weighted { .. }) && self.graph.node[n.position].input[0] == tensor
        })?;
        match reader.op_type.as_str() {
            "MatMul" => self.rules.shapes.get(tensor)?.len().checked_sub(1),
            _ => Some(1),
        }
    }
}

/// Whether the output lies within the bounds of the inputs.
fn keeps_bounds(kind: NodeKind) -> bool {
    matches!(kind, NodeKind::Move | NodeKind::Concat | NodeKind::Pool)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{self, node, with_int, with_ints};
    use crate::quantize::IgnoredScope;
    use crate::quantize::testing::Builder;

    fn placed(model: &Model) -> Placement {
        place(model, &Options::default()).unwrap()
    }

    fn tensors(placement: &Placement) -> Vec<(&str, usize)> {
        placement.tensors.iter().map(|t| (t.name.as_str(), t.group)).collect()
    }

    fn reason<'a>(placement: &'a Placement, name: &str) -> &'a str {
        placement.left.iter().find(|l| l.name == name).map_or("", |l| &l.reason)
    }

    #[test]
    fn a_residual_block_is_int8_up_to_the_float_logits() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let stem = b.conv("stem", "input", 4, 4, 3, 1);
        let stem = b.op("Relu", "relu", &[&stem]);
        let branch = b.conv("branch", &stem, 4, 4, 3, 4);
        let sum = b.op("Add", "sum", &[&branch, &stem]);
        let pooled = b.op("GlobalAveragePool", "pool", &[&sum]);
        let flat = b.op("Flatten", "flat", &[&pooled]);
        let logits = b.gemm("head", &flat, 4, 3);
        let placement = placed(&b.model(&logits, &[1, 3]));
        let nodes: Vec<_> = placement.nodes.iter().map(|n| (n.name.as_str(), n.kind, n.activation)).collect();
        assert_eq!(
            nodes,
            [
                ("stem", NodeKind::Weighted { channel_axis: 0 }, Some(1)),
                ("branch", NodeKind::Weighted { channel_axis: 0 }, None),
                ("sum", NodeKind::Add, None),
                ("pool", NodeKind::Pool, None),
                ("flat", NodeKind::Move, None),
                ("head", NodeKind::Weighted { channel_axis: 0 }, None),
            ]
        );
        assert_eq!(
            tensors(&placement),
            [("input", 0), (&*stem, 1), (&*branch, 2), (&*sum, 3), (&*pooled, 4), (&*flat, 4)]
        );
        assert!(placement.left.is_empty());
        assert_eq!(placement.tensors[1].bounds, Bounds::ZeroTo(f32::INFINITY));
    }

    #[test]
    fn a_pooled_head_stays_float_after_its_conv() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("conv", "input", 4, 4, 3, 1);
        let x = b.op("GlobalAveragePool", "pool", &[&x]);
        let x = b.op("Flatten", "flat", &[&x]);
        let placement = placed(&b.model(&x, &[1, 4]));
        assert_eq!(placement.nodes.len(), 1);
        assert_eq!(reason(&placement, "pool"), "no INT8 node reads its result");
        assert_eq!(reason(&placement, "flat"), "no INT8 node reads its result");
    }

    fn concat(second: &str, other_reader: bool) -> Placement {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let left = b.conv("left", "input", 4, 2, 1, 1);
        let left = b.op("Relu", "left_relu", &[&left]);
        let right = b.conv("right", "input", 4, 2, 3, 1);
        let right = if second.is_empty() { right } else { b.op(second, "right_act", &[&right]) };
        let joined = b.push(with_int(node("Concat", "join", &[&left, &right], &[]), "axis", 1));
        let mut x = b.conv("next", &joined, 4, 2, 1, 1);
        if other_reader {
            x = b.op("Add", "extra", &[&x, &left]);
        }
        let x = b.conv("last", &x, 2, 2, 1, 1);
        placed(&b.model(&x, &[1, 2, 8, 8]))
    }

    #[test]
    fn a_concat_of_tensors_it_alone_reads_shares_one_scale() {
        let groups: Vec<usize> = concat("Relu", false).tensors.iter().map(|t| t.group).collect();
        assert_eq!(groups, [0, 1, 1, 1, 2]);
    }

    #[test]
    fn a_concat_keeps_its_own_scale_beside_other_readers_or_other_signs() {
        let groups: Vec<usize> = concat("Relu", true).tensors.iter().map(|t| t.group).collect();
        assert_eq!(groups, [0, 1, 2, 3, 4, 5]);
        let groups: Vec<usize> = concat("", false).tensors.iter().map(|t| t.group).collect();
        assert_eq!(groups, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_has_no_int8_form_is_left_with_the_reason() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("a", "input", 4, 4, 1, 1);
        let gate = b.op("Softmax", "gate", &[&x]);
        let x = b.op("Mul", "product", &[&x, &gate]);
        let each = b.constant("each", &[4, 1, 1], &[1.0; 4]);
        let y = b.op("Add", "offset", &[&x, &each]);
        let x = b.conv("b", &y, 4, 4, 1, 1);
        let placement = placed(&b.model(&x, &[1, 4, 8, 8]));
        assert_eq!(placement.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(reason(&placement, "gate"), "no INT8 form in this version");
        assert!(reason(&placement, "offset").ends_with("is FP32"), "{:?}", placement.left);
        // The result of `a` is read in FP32 alone and stays so.
        assert_eq!(placement.tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["input", &y]);
    }

    #[test]
    fn a_gated_block_is_int8_and_only_the_ends_of_its_functions_are_quantized() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let a = b.conv("a", "input", 4, 4, 3, 1);
        let gate = b.op("Sigmoid", "sigmoid", &[&a]);
        let swish = b.op("Mul", "swish", &[&a, &gate]);
        let pooled = b.op("GlobalAveragePool", "pool", &[&swish]);
        let squeezed = b.conv("squeeze", &pooled, 4, 2, 1, 1);
        let relu = b.op("Relu", "relu", &[&squeezed]);
        let excited = b.conv("excite", &relu, 2, 4, 1, 1);
        let three = b.constant("three", &[1], &[3.0]);
        let (low, six) = (b.constant("low", &[], &[0.0]), b.constant("six", &[], &[6.0]));
        let sum = b.op("Add", "plus3", &[&excited, &three]);
        let clipped = b.op("Clip", "clip", &[&sum, &low, &six]);
        let gate = b.op("Div", "by6", &[&clipped, &six]);
        let gated = b.op("Mul", "gated", &[&swish, &gate]);
        let y = b.conv("last", &gated, 4, 4, 1, 1);
        let placement = placed(&b.model(&y, &[1, 4, 8, 8]));
        assert_eq!(placement.left, []);
        let names: Vec<&str> = placement.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["input", &a, &swish, &pooled, &relu, &excited, &gate, &gated]);
        let read_by_functions: Vec<&str> =
            placement.tensors.iter().filter(|t| !t.functions.is_empty()).map(|t| t.name.as_str()).collect();
        assert_eq!(read_by_functions, [&a, &excited]);
        assert_eq!(placement.nodes.iter().find(|n| n.name == "gated").unwrap().kind, NodeKind::Mul);
        assert_eq!(placement.nodes.iter().find(|n| n.name == "swish").unwrap().kind, NodeKind::Function);
    }

    #[test]
    fn movements_and_resizing_share_the_scale_of_what_they_move() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let a = b.conv("a", "input", 4, 4, 3, 1);
        let order = with_ints(node("Transpose", "turn", &[&a], &[]), "perm", &[0, 1, 3, 2]);
        let turned = b.push(order);
        let scales = b.constant("scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
        let larger = b.op("Resize", "resize", &[&turned, "", &scales]);
        let y = b.conv("b", &larger, 4, 4, 3, 1);
        let placement = placed(&b.model(&y, &[1, 4, 16, 16]));
        assert_eq!(tensors(&placement), [("input", 0), (&*a, 1), (&*turned, 1), (&*larger, 1)]);
        assert_eq!(placement.left, []);
    }

    #[test]
    fn a_gelu_behind_a_product_and_its_bias_is_a_function_of_their_result() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.op("GlobalAveragePool", "pool", &["input"]);
        let x = b.op("Flatten", "flat", &[&x]);
        let (values, two) = (b.noise(32), b.noise(16));
        let first = b.constant("first.weight", &[4, 8], &values);
        let bias = b.constant("first.bias", &[1, 8], &values[..8]);
        let second = b.constant("second.weight", &[8, 2], &two);
        let numbers = [("root", 0.5f32.sqrt()), ("one", 1.0), ("half", 0.5)];
        let [root, one, half] = numbers.map(|(name, value)| b.constant(name, &[], &[value]));
        let x = b.op("MatMul", "first", &[&x, &first]);
        let x = b.op("Add", "biased", &[&x, &bias]);
        let y = b.op("Mul", "scaled", &[&x, &root]);
        let y = b.op("Erf", "erf", &[&y]);
        let y = b.op("Add", "shifted", &[&y, &one]);
        let y = b.op("Mul", "gated", &[&x, &y]);
        let gelu = b.op("Mul", "gelu", &[&y, &half]);
        let y = b.op("MatMul", "second", &[&gelu, &second]);
        let placement = placed(&b.model(&y, &[1, 2]));
        let biased = placement.tensors.iter().find(|t| t.name == x).unwrap();
        assert_eq!(biased.functions.len(), 1);
        assert!(placement.tensors.iter().any(|t| t.name == gelu));
        let first = placement.nodes.iter().find(|n| n.name == "first").unwrap();
        assert_eq!((first.activation.is_some(), &first.output), (true, &x));
        // What comes before the first product.
        let left: Vec<&str> = placement.left.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(left, ["pool", "flat"]);
    }

    #[test]
    fn a_function_of_a_quantized_result_of_another_starts_from_that() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let a = b.conv("a", "input", 4, 4, 1, 1);
        let first = b.op("Sigmoid", "first", &[&a]);
        let second = b.op("Tanh", "second", &[&first]);
        let x = b.conv("x", &first, 4, 4, 1, 1);
        let y = b.conv("y", &second, 4, 4, 1, 1);
        let y = b.op("Add", "sum", &[&x, &y]);
        let y = b.conv("last", &y, 4, 4, 1, 1);
        let placement = placed(&b.model(&y, &[1, 4, 8, 8]));
        let functions =
            |name: &str| placement.tensors.iter().find(|t| t.name == name).unwrap().functions.len();
        assert_eq!((functions(&a), functions(&first), functions(&second)), (1, 0, 0));
    }

    #[test]
    fn the_ignored_scope_stays_fp32() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("a", "input", 4, 4, 1, 1);
        let x = b.op("Relu", "relu", &[&x]);
        let x = b.conv("b", &x, 4, 4, 1, 1);
        let model = b.model(&x, &[1, 4, 8, 8]);
        let ignored = IgnoredScope { names: vec!["a".into()], types: vec![] };
        let placement = place(&model, &Options { ignored, ..Options::default() }).unwrap();
        assert_eq!(placement.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(reason(&placement, "a"), "listed in ignored_scope");
        let ignored = IgnoredScope { names: vec![], types: vec!["Conv".into()] };
        let message = place(&model, &Options { ignored, ..Options::default() }).err().unwrap().to_string();
        assert!(message.contains("no node can be quantized ('a': listed in ignored_scope)"), "{message}");
    }

    #[test]
    fn relu6_bounds_its_tensor_and_a_clip_below_zero_is_no_activation() {
        for (low, bounds) in [(0.0, Bounds::ZeroTo(6.0)), (-1.0, Bounds::Any)] {
            let mut b = Builder::new(&[1, 4, 8, 8]);
            let low = b.constant("low", &[], &[low]);
            let six = b.constant("six", &[], &[6.0]);
            let x = b.conv("a", "input", 4, 4, 1, 1);
            let y = b.op("Clip", "clip", &[&x, &low, &six]);
            let z = b.conv("b", &y, 4, 4, 1, 1);
            let placement = placed(&b.model(&z, &[1, 4, 8, 8]));
            let fused = placement.nodes[0].activation.is_some();
            assert_eq!(fused, bounds != Bounds::Any);
            let clipped = placement.tensors.iter().find(|t| t.name == y).unwrap();
            assert_eq!(clipped.bounds, bounds);
        }
    }

    #[test]
    fn operands_of_a_product_are_quantized_before_they_are_moved() {
        let mut b = Builder::new(&[1, 4, 4, 4]);
        let flat = b.constant("flat", &[3], &[0.0; 3]);
        let x = b.conv("stem", "input", 4, 4, 1, 1);
        let x = b.op("Reshape", "tokens", &[&x, &flat]);
        let shares = b.op("Softmax", "shares", &[&x]);
        let turned = b.push(with_ints(node("Transpose", "turned", &[&x], &[]), "perm", &[0, 2, 1]));
        let y = b.op("MatMul", "mixed", &[&shares, &turned]);
        let mut model = b.model(&y, &[1, 4, 4]);
        if let Some(graph) = &mut model.proto.graph {
            graph.initializer.retain(|t| t.name != "flat");
            graph.initializer.push(graph::tensor("flat", &[3], &[1i64, 4, 16]));
        }
        let found = placed(&model);
        let kinds: Vec<_> = found.nodes.iter().map(|n| (n.name.as_str(), n.kind)).collect();
        assert_eq!(
            kinds[1..],
            [("tokens", NodeKind::Move), ("turned", NodeKind::Move), ("mixed", NodeKind::Product)]
        );
        // The result of the convolution, moved twice, has one scale, and the shares lie between 0 and 1.
        let groups: Vec<_> = found.tensors.iter().map(|t| (t.name.as_str(), t.group, t.bounds)).collect();
        let one = Bounds::ZeroTo(1.0);
        let all = [("stem.out", 1), ("tokens.out1", 1), ("shares.out2", 2), ("turned.out3", 1)];
        let all = all.map(|(n, group)| (n, group, if group == 2 { one } else { Bounds::Any }));
        assert_eq!(groups[1..], all);
    }
}
