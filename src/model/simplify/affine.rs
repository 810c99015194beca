//! BatchNormalization and per-channel constants folded into the layer before.
//!
//! A layer that is linear in its weights `w` and bias `b`, followed by `y = scale · x + shift` per
//! output channel, is the same layer with `scale · w` and `scale · b + shift`. For
//! BatchNormalization with parameters γ, β and statistics μ, σ²: `scale = γ / √(σ² + ε)` and
//! `shift = β − scale · μ` (Ioffe and Szegedy, 2015, arXiv:1502.03167, equation 3 at inference).

use std::collections::HashSet;

use crate::model::{
    Model,
    graph::{self, Index, attr_float, attr_int},
    pb::{AttributeProto, GraphProto, NodeProto, TensorProto},
    rewrite::{self, Names},
};

/// How many nodes went into the layer before them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) batch_normalizations: usize,
    /// `Add`, `Sub`, `Mul` and `Div` with a constant per channel.
    pub(super) arithmetic: usize,
}

/// `y = scale · x + shift` for each channel.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
    /// Whether the operator can shift at all; if not, a layer without bias stays without.
    shifts: bool,
}

/// A layer that can take an [`Affine`] in.
struct Layer {
    weights: Vec<f64>,
    weight_dims: Vec<usize>,
    bias: Option<Vec<f64>>,
    channels: usize,
    /// Dimensions of the output.
    rank: usize,
}

/// Folds all that can be; shared weights are copied, and old ones left for pruning.
pub(super) fn fold(model: &mut Model) -> Folded {
    let Some(graph) = model.proto.graph.as_mut() else { return Folded::default() };
    // Positions stay valid, as nodes are removed at the end, and no tensor gains a reader.
    let index = Index::new(graph);
    let mut names = Names::new(graph);
    let mut removed = HashSet::new();
    let mut folded = Folded::default();
    for position in 0..graph.node.len() {
        let Some(mut layer) = read_layer(graph, &index, &graph.node[position]) else { continue };
        let mut changed = false;
        while let Some((next, affine)) = next_affine(graph, &index, &graph.node[position], &layer) {
            let Some(result) = layer.followed_by(&affine, &graph.node[position]) else { break };
            layer = result;
            changed = true;
            let after = &graph.node[next];
            if after.op_type == "BatchNormalization" {
                folded.batch_normalizations += 1;
            } else {
                folded.arithmetic += 1;
            }
            removed.insert(next);
            graph.node[position].output[0] = after.output[0].clone();
        }
        if changed {
            write_layer(graph, &index, &mut names, position, &layer);
        }
    }
    rewrite::remove_nodes(graph, &removed);
    folded
}

fn values(tensor: &TensorProto) -> Option<Vec<f64>> {
    Some(graph::to_array::<f32>(tensor)?.iter().map(|v| f64::from(*v)).collect())
}

fn read_layer(graph: &GraphProto, index: &Index, node: &NodeProto) -> Option<Layer> {
    if !graph::is_default_domain(&node.domain) {
        return None;
    }
    let constant = |position: usize| {
        let name = node.input.get(position).filter(|i| !i.is_empty())?;
        Some(&graph.initializer[index.initializer(name)?])
    };
    let weight = constant(1)?;
    let dims: Vec<usize> = weight.dims.iter().map(|d| *d as usize).collect();
    if dims.len() < 2 {
        return None;
    }
    let (channels, rank) = match node.op_type.as_str() {
        "Conv" => (*dims.first()?, dims.len()),
        "ConvTranspose" if dims[0].is_multiple_of(groups(node)) => {
            (dims.get(1)?.checked_mul(groups(node))?, dims.len())
        }
        "Gemm" if dims.len() == 2 => (dims[usize::from(attr_int(node, "transB") != Some(1))], 2),
        _ => return None,
    };
    let bias = match node.input.get(2).filter(|i| !i.is_empty()) {
        None => None,
        Some(_) => Some(bias_per_channel(node, constant(2)?, channels)?),
    };
    Some(Layer { weights: values(weight)?, weight_dims: dims, bias, channels, rank })
}

fn groups(node: &NodeProto) -> usize {
    usize::try_from(attr_int(node, "group").unwrap_or(1)).unwrap_or(1).max(1)
}

/// Gemm's C may be one value, or a row of them, and is multiplied by beta.
fn bias_per_channel(node: &NodeProto, tensor: &TensorProto, channels: usize) -> Option<Vec<f64>> {
    let found =
        per_channel(tensor, channels, 2).or_else(|| (tensor.dims.len() == 1).then(|| values(tensor))?)?;
    let beta = if node.op_type == "Gemm" { f64::from(attr_float(node, "beta").unwrap_or(1.0)) } else { 1.0 };
    (found.len() == channels).then(|| found.iter().map(|v| v * beta).collect())
}

/// The only reader of what `node` makes, if it is an [`Affine`] of it.
fn next_affine(
    graph: &GraphProto,
    index: &Index,
    node: &NodeProto,
    layer: &Layer,
) -> Option<(usize, Affine)> {
    let output = node.output.first()?;
    let [next] = index.consumers(output) else { return None };
    if index.is_output(output) {
        return None;
    }
    let after = &graph.node[*next];
    let constant = |name: &String| Some(&graph.initializer[index.initializer(name)?]);
    if !graph::is_default_domain(&after.domain) || after.output.first().is_none_or(String::is_empty) {
        return None;
    }
    let channels = layer.channels;
    let affine = if after.op_type == "BatchNormalization" {
        batch_normalization(after, output, channels, index, constant)?
    } else {
        let [a, b] = after.input.as_slice() else { return None };
        let (other, is_first) = if a == output { (b, true) } else { (a, false) };
        let c = per_channel(constant(other)?, channels, layer.rank)?;
        let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
        let negated = || c.iter().map(|v| -v).collect();
        match (after.op_type.as_str(), is_first) {
            ("Add", _) => Affine { scale: ones, shift: c, shifts: true },
            ("Sub", true) => Affine { scale: ones, shift: negated(), shifts: true },
            ("Sub", false) => Affine { scale: vec![-1.0; channels], shift: c, shifts: true },
            ("Mul", _) => Affine { scale: c, shift: zeros, shifts: false },
            ("Div", true) => {
                Affine { scale: c.iter().map(|v| 1.0 / v).collect(), shift: zeros, shifts: false }
            }
            _ => return None,
        }
    };
    Some((*next, affine))
}

fn batch_normalization<'a>(
    node: &NodeProto,
    input: &str,
    channels: usize,
    index: &Index,
    constant: impl Fn(&String) -> Option<&'a TensorProto>,
) -> Option<Affine> {
    let [x, parameters @ ..] = node.input.as_slice() else { return None };
    let read =
        |name: &String| !name.is_empty() && (!index.consumers(name).is_empty() || index.is_output(name));
    if x != input || attr_int(node, "training_mode") == Some(1) || node.output[1..].iter().any(read) {
        return None;
    }
    let parameters: Option<Vec<Vec<f64>>> = parameters.iter().map(|p| values(constant(p)?)).collect();
    let parameters = parameters.filter(|p| p.iter().all(|v| v.len() == channels))?;
    let [gamma, beta, mean, variance] = parameters.as_slice() else { return None };
    let epsilon = f64::from(attr_float(node, "epsilon").unwrap_or(1e-5));
    let scale: Vec<f64> = gamma.iter().zip(variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift = (0..channels).map(|c| beta[c] - scale[c] * mean[c]).collect();
    Some(Affine { scale, shift, shifts: true })
}

/// One value per channel, from a constant that broadcasts over all but dimension 1 of `rank`.
fn per_channel(tensor: &TensorProto, channels: usize, rank: usize) -> Option<Vec<f64>> {
    let dims: Vec<usize> = tensor.dims.iter().map(|d| *d as usize).collect();
    let from_channel = rank.checked_sub(1)?;
    let channel = dims.len().checked_sub(from_channel);
    let others_are_one = dims.iter().enumerate().all(|(i, d)| Some(i) == channel || *d == 1);
    if dims.len() > rank || !others_are_one {
        return None;
    }
    match values(tensor)?.as_slice() {
        [one] => Some(vec![*one; channels]),
        all if all.len() == channels => Some(all.to_vec()),
        _ => None,
    }
}

impl Layer {
    /// The layer with `affine` in it, or `None` if a number leaves the range of f32.
    fn followed_by(&self, affine: &Affine, node: &NodeProto) -> Option<Layer> {
        let weights: Vec<f64> = self
            .weights
            .iter()
            .enumerate()
            .map(|(i, w)| w * affine.scale[self.channel_of(i, node)])
            .collect();
        let bias = match &self.bias {
            None if !affine.shifts => None,
            bias => Some(
                (0..self.channels)
                    .map(|c| bias.as_ref().map_or(0.0, |b| b[c]) * affine.scale[c] + affine.shift[c])
                    .collect::<Vec<f64>>(),
            ),
        };
        let fits = |v: &f64| (*v as f32).is_finite();
        let all_fit = weights.iter().chain(bias.iter().flatten()).all(fits);
        all_fit.then(|| Layer { weights, bias, weight_dims: self.weight_dims.clone(), ..*self })
    }

    /// The output channel that the weight at position `i` works for.
    fn channel_of(&self, i: usize, node: &NodeProto) -> usize {
        let dims = &self.weight_dims;
        let inner = |from: usize| dims[from..].iter().product::<usize>().max(1);
        match node.op_type.as_str() {
            "ConvTranspose" => {
                let (row, column) = (i / inner(1), i / inner(2) % dims[1]);
                let rows_per_group = (dims[0] / groups(node)).max(1);
                row / rows_per_group * dims[1] + column
            }
            "Gemm" if attr_int(node, "transB") != Some(1) => i % dims[1],
            _ => i / inner(1),
        }
    }
}

fn write_layer(graph: &mut GraphProto, index: &Index, names: &mut Names, position: usize, layer: &Layer) {
    let node = graph.node[position].clone();
    let mut store = |graph: &mut GraphProto, slot: usize, role: &str, dims: &[usize], values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        let old = node.input.get(slot).cloned().unwrap_or_default();
        let own =
            index.initializer(&old).filter(|_| index.consumers(&old).len() == 1 && !index.is_output(&old));
        match own {
            Some(at) => graph.initializer[at] = graph::tensor(&old, dims, &values),
            None => {
                let name = names.fresh(&format!("{}.{role}", node.name));
                graph.initializer.push(graph::tensor(&name, dims, &values));
                let inputs = &mut graph.node[position].input;
                inputs.resize(inputs.len().max(slot + 1), String::new());
                inputs[slot] = name;
            }
        }
    };
    store(graph, 1, "weight", &layer.weight_dims, &layer.weights);
    if let Some(bias) = &layer.bias {
        store(graph, 2, "bias", &[layer.channels], bias);
        // The bias that was written has beta in it.
        if node.op_type == "Gemm" {
            graph.node[position].attribute.retain(|a: &AttributeProto| a.name != "beta");
        }
    }
}
