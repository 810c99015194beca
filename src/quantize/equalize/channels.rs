//! Which channels of which tensors must share a factor, and which layers take it up.

use std::collections::HashMap;

use crate::model::graph::{self, Index};
use crate::model::pb::{GraphProto, NodeProto};
use crate::model::shapes::Shapes;

/// How a layer's constants meet the channels that it reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Every output channel reads every input channel: weights with these axes.
    Dense { input_axis: usize, output_axis: usize },
    /// Each channel has weights of its own, and is read and written alone.
    Each,
    /// A constant is added to each channel, which has the same factor before and after.
    Shift,
}

/// A node with constants for each channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    pub x: String,
    pub y: String,
    pub role: Role,
    /// Constant that is multiplied with; absent for [`Role::Shift`].
    pub weights: Option<String>,
    /// Constant that is added.
    pub bias: Option<String>,
}

/// The channels of all tensors, in classes that share a factor.
pub(super) struct Channels {
    /// First channel and count of each tensor.
    of: HashMap<String, (usize, usize)>,
    parent: Vec<usize>,
    frozen: Vec<bool>,
    /// By class the value at which something clips it: a factor must not lift it above.
    cap: Vec<f32>,
    pub layers: Vec<Layer>,
    /// Tensors that a tensor's values pass into unchanged but for signs and bounds.
    passes: HashMap<String, Vec<String>>,
}

impl Channels {
    pub(super) fn new(graph: &GraphProto, shapes: &Shapes) -> Channels {
        let index = Index::new(graph);
        let mut channels = Channels {
            of: HashMap::new(),
            parent: Vec::new(),
            frozen: Vec::new(),
            cap: Vec::new(),
            layers: Vec::new(),
            passes: HashMap::new(),
        };
        let named = graph.input.iter().map(|i| &i.name).chain(graph.node.iter().flat_map(|n| &n.output));
        for tensor in named.filter(|t| index.initializer(t).is_none()) {
            if let Some(count) = shapes.get(tensor).and_then(|s| Some(s[axis(s)?])) {
                let first = channels.parent.len();
                channels.of.insert(tensor.clone(), (first, count));
                channels.parent.extend(first..first + count);
            }
        }
        channels.frozen = vec![false; channels.parent.len()];
        channels.cap = vec![f32::INFINITY; channels.parent.len()];
        let known = Known { graph, index, shapes };
        for node in &graph.node {
            if channels.take(&known, node).is_none() {
                node.input.iter().chain(&node.output).for_each(|t| channels.freeze(t));
            }
        }
        graph.input.iter().chain(&graph.output).for_each(|port| channels.freeze(&port.name));
        channels.settle();
        channels
    }

    /// Classes of a tensor's channels, if it has any.
    pub(super) fn classes(&self, tensor: &str) -> Option<&[usize]> {
        let (first, count) = *self.of.get(tensor)?;
        self.parent.get(first..first + count)
    }

    pub(super) fn is_frozen(&self, class: usize) -> bool {
        self.frozen[class]
    }

    pub(super) fn cap(&self, class: usize) -> f32 {
        self.cap[class]
    }

    /// Number of all channels: classes are below it.
    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    /// Layers that read `tensor` or what it passes into.
    pub(super) fn readers(&self, tensor: &str) -> Vec<&Layer> {
        let mut seen = vec![tensor];
        let mut at = 0;
        while at < seen.len() {
            for next in self.passes.get(seen[at]).into_iter().flatten() {
                if !seen.contains(&next.as_str()) {
                    seen.push(next);
                }
            }
            at += 1;
        }
        let reads = |layer: &&Layer| layer.weights.is_some() && seen.contains(&layer.x.as_str());
        self.layers.iter().filter(reads).collect()
    }

    /// Takes in one node; `None` if its tensors must keep their channels as they are.
    fn take(&mut self, known: &Known, node: &NodeProto) -> Option<()> {
        let y = node.output.first()?;
        let x = node.input.first()?;
        match node.op_type.as_str() {
            "Conv" | "Gemm" | "MatMul" => {
                self.layers.push(known.weighted(node)?);
                Some(())
            }
            "Relu" | "LeakyRelu" | "MaxPool" | "AveragePool" | "GlobalAveragePool" | "Identity" => {
                self.join(x, y)
            }
            "Flatten" if known.pixels(x) == Some(1) => self.join(x, y),
            "Clip" => {
                let bound = |at: usize| match node.input.get(at).filter(|name| !name.is_empty()) {
                    Some(name) => known.scalar(name).map(Some),
                    None => Some(None),
                };
                let (low, high) = (bound(1)?, bound(2)?);
                if low.is_some_and(|low| low != 0.0) || high.is_some_and(|high| high <= 0.0) {
                    return None;
                }
                self.join(x, y)?;
                let (first, count) = *self.of.get(y)?;
                self.cap[first..first + count].fill(high.unwrap_or(f32::INFINITY));
                Some(())
            }
            "Concat" if graph::attr_int(node, "axis") == Some(1) => {
                let count = |t: &String| self.of.get(t).map(|of| of.1);
                let counts: Vec<usize> = node.input.iter().map(count).collect::<Option<_>>()?;
                let (mut to, total) = *self.of.get(y)?;
                if known.rank(y) != Some(4) || counts.iter().sum::<usize>() != total {
                    return None;
                }
                for (input, count) in node.input.iter().zip(counts) {
                    let from = self.of.get(input)?.0;
                    (0..count).for_each(|c| self.union(from + c, to + c));
                    self.pass(input, y);
                    to += count;
                }
                Some(())
            }
            "Add" | "Mul" => self.binary(known, node),
            _ => None,
        }
    }

    fn binary(&mut self, known: &Known, node: &NodeProto) -> Option<()> {
        let ([a, b], y) = (&node.input[..], node.output.first()?) else { return None };
        let multiplies = node.op_type == "Mul";
        for (x, constant) in [(a, b), (b, a)] {
            if known.index.initializer(constant).is_some() {
                known.each(constant, x)?;
                if multiplies {
                    let (weights, bias) = (Some(constant.clone()), None);
                    self.layers.push(Layer { x: x.clone(), y: y.clone(), role: Role::Each, weights, bias });
                    return Some(());
                }
                let (weights, bias) = (None, Some(constant.clone()));
                self.layers.push(Layer { x: x.clone(), y: y.clone(), role: Role::Shift, weights, bias });
                return self.join(x, y);
            }
        }
        if !multiplies && known.shapes.get(a) == known.shapes.get(b) {
            self.join(a, y)?;
            return self.join(b, y);
        }
        // Squeeze and excitation: one number for each channel scales it.
        let (x, gate) = if known.pixels(a) == Some(1) { (b, a) } else { (a, b) };
        if !multiplies
            || known.pixels(gate) != Some(1)
            || known.pixels(x)? == 1
            || known.rank(gate) != Some(4)
        {
            return None;
        }
        self.freeze(gate);
        self.join(x, y)
    }

    fn join(&mut self, x: &str, y: &str) -> Option<()> {
        let (from, to) = (*self.of.get(x)?, *self.of.get(y)?);
        if from.1 != to.1 {
            return None;
        }
        (0..from.1).for_each(|c| self.union(from.0 + c, to.0 + c));
        self.pass(x, y);
        Some(())
    }

    fn pass(&mut self, x: &str, y: &str) {
        self.passes.entry(x.into()).or_default().push(y.into());
    }

    fn freeze(&mut self, tensor: &str) {
        if let Some((first, count)) = self.of.get(tensor) {
            self.frozen[*first..first + count].fill(true);
        }
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }

    fn union(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }

    /// Every channel names its class, and the class knows what any of its channels knew.
    fn settle(&mut self) {
        for at in 0..self.parent.len() {
            let class = self.root(at);
            self.parent[at] = class;
            self.frozen[class] |= self.frozen[at];
            self.cap[class] = self.cap[class].min(self.cap[at]);
        }
    }
}

/// The axis of the channels of a tensor of this shape: the second of images and of vectors, the last of
/// sequences.
pub(super) fn axis(shape: &[usize]) -> Option<usize> {
    match shape.len() {
        2 | 4 => Some(1),
        3 => Some(2),
        _ => None,
    }
}

/// What is known of the graph.
struct Known<'a> {
    graph: &'a GraphProto,
    index: Index,
    shapes: &'a Shapes,
}

impl Known<'_> {
    /// The dimensions of a constant that no other node reads.
    fn own(&self, constant: &str) -> Option<&[i64]> {
        let at = self.index.initializer(constant)?;
        let alone = self.index.consumers(constant).len() == 1 && !self.index.is_output(constant);
        alone.then(|| &self.graph.initializer[at].dims[..])
    }

    fn scalar(&self, constant: &str) -> Option<f32> {
        let values = graph::to_array::<f32>(&self.graph.initializer[self.index.initializer(constant)?])?;
        values.first().copied().filter(|_| values.len() == 1)
    }

    fn rank(&self, tensor: &str) -> Option<usize> {
        self.shapes.get(tensor).map(Vec::len)
    }

    /// Values of each channel.
    fn pixels(&self, tensor: &str) -> Option<usize> {
        let shape = self.shapes.get(tensor)?;
        Some(shape.iter().product::<usize>() / shape[axis(shape)?].max(1))
    }

    /// Whether `constant` has one value for each channel of `x`, and belongs to one node.
    fn each(&self, constant: &str, x: &str) -> Option<()> {
        let shape = self.shapes.get(x)?;
        let at = axis(shape)?;
        let dims = self.own(constant)?;
        let count = shape[at] as i64;
        let from_end = shape.len() - at;
        let fits = dims.len() >= from_end
            && dims.len() <= shape.len()
            && dims[dims.len() - from_end] == count
            && dims.iter().product::<i64>() == count
            && count > 1;
        fits.then_some(())
    }

    fn weighted(&self, node: &NodeProto) -> Option<Layer> {
        let (x, weights) = (node.input.first()?, node.input.get(1)?);
        let dims = self.own(weights)?;
        let bias = node.input.get(2).filter(|name| !name.is_empty());
        let channels = |tensor: &str| self.shapes.get(tensor).and_then(|s| Some(s[axis(s)?] as i64));
        let y = node.output.first()?;
        let (read, written) = (channels(x)?, channels(y)?);
        if let Some(bias) = bias {
            (self.own(bias)?.iter().product::<i64>() == written).then_some(())?;
        }
        let role = match node.op_type.as_str() {
            "Conv" if self.rank(x) == Some(4) => match graph::attr_int(node, "group").unwrap_or(1) {
                1 => Role::Dense { input_axis: 1, output_axis: 0 },
                group if group == read && group == written => Role::Each,
                _ => return None,
            },
            "Gemm" => {
                let one = |name| graph::attr_float(node, name).unwrap_or(1.0) == 1.0;
                let output_axis = usize::from(graph::attr_int(node, "transB").unwrap_or(0) == 0);
                if !one("alpha") || !one("beta") || graph::attr_int(node, "transA").unwrap_or(0) != 0 {
                    return None;
                }
                Role::Dense { input_axis: 1 - output_axis, output_axis }
            }
            "MatMul" if dims.len() == 2 && self.rank(x).is_some_and(|rank| rank == 2 || rank == 3) => {
                Role::Dense { input_axis: 0, output_axis: 1 }
            }
            _ => return None,
        };
        let fits = match role {
            Role::Dense { input_axis, output_axis } => {
                dims[input_axis] == read && dims[output_axis] == written
            }
            _ => dims[0] == read,
        };
        let layer =
            Layer { x: x.clone(), y: y.clone(), role, weights: Some(weights.clone()), bias: bias.cloned() };
        fits.then_some(layer)
    }
}
