//! Node by node from FP32 to INT8.

use std::collections::{HashMap, HashSet};

use ndarray::ArrayD;

use super::LayerReport;
use crate::model::graph::{self, Index};
use crate::model::pb;
use crate::quantize::correction::bias_shift;
use crate::quantize::range::ActivationParameters;
use crate::quantize::weights::{QuantizedWeights, WeightBits, quantize_bias, quantize_weights};
use crate::quantize::{
    BiasCorrection, BiasShifts, Bounds, NodeKind, Options, Placement, QuantizedNode, QuantizedTensor,
    Statistics,
};

/// Writes the nodes and constants of the INT8 graph, one FP32 node after the other.
pub(super) struct Writer<'a> {
    graph: &'a pb::GraphProto,
    index: Index,
    placement: &'a Placement,
    statistics: &'a Statistics,
    options: &'a Options,
    shifts: &'a BiasShifts,
    parameters: Vec<ActivationParameters>,
    /// Tensors that leave INT8 nodes.
    made: HashSet<&'a str>,
    tensors: HashMap<&'a str, &'a QuantizedTensor>,
    pub nodes: Vec<pb::NodeProto>,
    pub initializers: Vec<pb::TensorProto>,
    /// Names of initializers written so far.
    written: HashSet<String>,
    pub warnings: Vec<String>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        graph: &'a pb::GraphProto,
        placement: &'a Placement,
        statistics: &'a Statistics,
        options: &'a Options,
        shifts: &'a BiasShifts,
        parameters: Vec<ActivationParameters>,
    ) -> Writer<'a> {
        Writer {
            graph,
            index: Index::new(graph),
            placement,
            statistics,
            options,
            shifts,
            parameters,
            made: placement.nodes.iter().map(|n| n.output.as_str()).collect(),
            tensors: placement.tensors.iter().map(|t| (t.name.as_str(), t)).collect(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            written: HashSet::new(),
            warnings: Vec::new(),
        }
    }

    /// Writes everything; returns a row for each node of the FP32 graph.
    pub(super) fn write(&mut self) -> Vec<LayerReport> {
        let int8: HashMap<usize, &QuantizedNode> =
            self.placement.nodes.iter().map(|n| (n.position, n)).collect();
        let activations: HashMap<usize, &QuantizedNode> =
            self.placement.nodes.iter().filter_map(|n| Some((n.activation?, n))).collect();
        let reasons: HashMap<&str, &str> =
            self.placement.left.iter().map(|l| (l.name.as_str(), l.reason.as_str())).collect();
        let mut layers = Vec::new();
        for tensor in &self.placement.tensors {
            if self.index.producer(&tensor.name).is_none() {
                self.pair(tensor);
            }
        }
        for (position, node) in self.graph.node.iter().enumerate() {
            let mut layer = LayerReport {
                node: node.name.clone(),
                op_type: node.op_type.clone(),
                quantized: false,
                reason: reasons.get(node.name.as_str()).map_or(String::new(), |r| r.to_string()),
                output: None,
                output_range: None,
                weight_bits: None,
                bias_correction: 0.0,
            };
            if let Some(int8) = int8.get(&position) {
                layer.quantized = true;
                self.int8_node(node, int8, &mut layer);
            } else if let Some(owner) = activations.get(&position) {
                let implied = self.absorbed(owner);
                let is_bias = node.op_type == "Add" && self.tensors.contains_key(owner.output.as_str());
                layer.quantized = implied || is_bias;
                if !layer.quantized {
                    layer.reason = "its result is FP32".into();
                }
                if !implied {
                    let mut kept = node.clone();
                    kept.output[0] = self.raw_name(&node.output[0]);
                    self.nodes.push(kept);
                }
            } else {
                let mut kept = node.clone();
                kept.input.iter_mut().for_each(|i| *i = self.read_by_float(i));
                self.nodes.push(kept);
            }
            let ends = node.output.iter().filter_map(|o| self.tensors.get(o.as_str()).copied());
            for tensor in ends.collect::<Vec<_>>() {
                let parameters = self.parameters[tensor.group];
                layer.output = Some(parameters);
                layer.output_range = Some(parameters.range());
                self.pair(tensor);
            }
            if node.op_type != "Constant" {
                layers.push(layer);
            }
        }
        layers
    }

    /// An INT8 node: it reads dequantized tensors, and its activation is left out where Q implies it.
    fn int8_node(&mut self, node: &pb::NodeProto, int8: &QuantizedNode, layer: &mut LayerReport) {
        let mut written = node.clone();
        for input in &mut written.input {
            if self.tensors.contains_key(input.as_str()) {
                *input = self.dequantized_name(input);
            }
        }
        if int8.activation.is_none() || self.absorbed(int8) {
            written.output[0] = self.raw_name(&int8.output);
        }
        if let NodeKind::Weighted { channel_axis } = int8.kind {
            self.weighted(node, int8, channel_axis, &mut written, layer);
        }
        self.nodes.push(written);
    }

    /// Weights and bias of a layer as integers, and the correction of the bias.
    fn weighted(
        &mut self,
        node: &pb::NodeProto,
        int8: &QuantizedNode,
        axis: usize,
        written: &mut pb::NodeProto,
        layer: &mut LayerReport,
    ) {
        let input = self.tensors.get(node.input[0].as_str()).copied();
        let (Some(input), Some(weights)) = (input, self.constant(&node.input[1])) else { return };
        let x_scale = self.parameters[input.group].scale;
        let mut bias: Option<Vec<f32>> =
            node.input.get(2).and_then(|name| self.constant(name)).map(|b| b.into_iter().collect());
        let narrow = self.options.seven_bit.contains(&node.name);
        let bits = if narrow { WeightBits::Seven } else { WeightBits::Eight };
        let mut quantized = quantize_weights(&weights, axis, bias.as_deref(), x_scale, bits);
        if let Some(shift) = self.shift(node, int8, axis, input, &weights, &quantized) {
            let bias = bias.get_or_insert_with(|| vec![0.0; shift.len()]);
            bias.iter_mut().zip(&shift).for_each(|(b, s)| *b += s);
            layer.bias_correction = shift.iter().fold(0f32, |m, s| m.max(s.abs()));
            quantized = quantize_weights(&weights, axis, Some(bias), x_scale, bits);
        }
        layer.weight_bits = Some(bits.count());
        let shared = self.index.consumers(&node.input[1]).len() > 1;
        let base = if shared { format!("{}/{}", node.name, node.input[1]) } else { node.input[1].clone() };
        let values: Vec<i8> = quantized.values.iter().copied().collect();
        self.initializer(graph::tensor(&format!("{base}_quantized"), weights.shape(), &values));
        written.input[1] = self.dequantize(&base, axis, &quantized.scales, 0i8);
        if let Some(bias) = bias {
            let name = node.input.get(2).filter(|n| !n.is_empty()).cloned();
            let shared = name.as_ref().is_some_and(|n| self.index.consumers(n).len() > 1);
            let base = match name {
                Some(name) if !shared => name,
                _ => format!("{}/bias", node.name),
            };
            let (values, scales) = quantize_bias(&bias, &quantized.scales, x_scale);
            self.initializer(graph::tensor(&format!("{base}_quantized"), &[values.len()], &values));
            written.input.truncate(2);
            written.input.push(self.dequantize(&base, 0, &scales, 0i32));
        }
    }

    /// What is added to the bias of a layer: what was found beforehand, or else the fast correction.
    fn shift(
        &mut self,
        node: &pb::NodeProto,
        int8: &QuantizedNode,
        axis: usize,
        input: &QuantizedTensor,
        weights: &ArrayD<f32>,
        quantized: &QuantizedWeights,
    ) -> Option<Vec<f32>> {
        if self.options.bias_correction == BiasCorrection::None || node.op_type == "MatMul" {
            return None;
        }
        if let Some(shift) = self.shifts.get(&node.name).filter(|s| s.len() == quantized.scales.len()) {
            return Some(shift.clone());
        }
        let means = self.statistics.tensor(&input.name).map(|s| s.channel_means()).unwrap_or_default();
        let shift = bias_shift(weights, quantized, axis, &means, self.output_range(int8));
        if shift.is_none() {
            let what = "the bias correction is out of proportion and was left out";
            self.warnings.push(format!("'{}': {what}", node.name));
        }
        shift.filter(|s| s.iter().any(|s| *s != 0.0))
    }

    /// Width of the range of a node's result, where it is known.
    fn output_range(&self, int8: &QuantizedNode) -> f32 {
        self.tensors.get(int8.output.as_str()).map_or(f32::MAX, |t| {
            let (low, high) = self.parameters[t.group].range();
            high - low
        })
    }

    /// DequantizeLinear of the constant `{base}_quantized` with one scale per channel; returns its result.
    fn dequantize<T: graph::Element>(&mut self, base: &str, axis: usize, scales: &[f32], zero: T) -> String {
        let [stored, scale, zero_point, real] =
            ["quantized", "scale", "zero_point", "dequantized"].map(|end| format!("{base}_{end}"));
        self.initializer(graph::tensor(&scale, &[scales.len()], scales));
        self.initializer(graph::tensor(&zero_point, &[scales.len()], &vec![zero; scales.len()]));
        let name = format!("{base}_DequantizeLinear");
        let node = graph::node("DequantizeLinear", &name, &[&stored, &scale, &zero_point], &[&real]);
        self.nodes.push(graph::with_int(node, "axis", axis as i64));
        real
    }

    /// QuantizeLinear and DequantizeLinear of an activation. Members of a group share their constants.
    fn pair(&mut self, tensor: &QuantizedTensor) {
        let first = self.placement.tensors.iter().find(|t| t.group == tensor.group);
        let group = first.map_or(&tensor.name, |t| &t.name);
        let (scale, zero_point) = (format!("{group}_scale"), format!("{group}_zero_point"));
        let parameters = self.parameters[tensor.group];
        self.initializer(graph::tensor(&scale, &[], &[parameters.scale]));
        self.initializer(graph::tensor(&zero_point, &[], &[parameters.zero_point]));
        let name = &tensor.name;
        let (raw, stored, real) =
            (self.raw_name(name), format!("{name}_quantized"), self.dequantized_name(name));
        for (op_type, from, to) in [("QuantizeLinear", &raw, &stored), ("DequantizeLinear", &stored, &real)] {
            let node = format!("{name}_{op_type}");
            self.nodes.push(graph::node(op_type, &node, &[from, &scale, &zero_point], &[to]));
        }
    }

    fn initializer(&mut self, tensor: pb::TensorProto) {
        if self.written.insert(tensor.name.clone()) {
            self.initializers.push(tensor);
        }
    }

    fn constant(&self, name: &str) -> Option<ArrayD<f32>> {
        graph::to_array(&self.graph.initializer[self.index.initializer(name)?])
    }

    /// Whether Q after `int8` does what its activation does: it saturates at 0 and at or below the limit.
    fn absorbed(&self, int8: &QuantizedNode) -> bool {
        let Some(tensor) = self.tensors.get(int8.output.as_str()) else { return false };
        let parameters = self.parameters[tensor.group];
        let limit = match tensor.bounds {
            Bounds::Any => return false,
            Bounds::ZeroTo(limit) => limit,
        };
        // The scale is limit / 255 rounded to f32, so the product may exceed the limit by rounding.
        int8.activation.is_some()
            && parameters.zero_point == 0
            && parameters.range().1 <= limit * (1.0 + 1e-6)
    }

    /// Name of a tensor before Q: another one where the graph's output must carry the name after DQ.
    fn raw_name(&self, tensor: &str) -> String {
        if self.renamed(tensor) { format!("{tensor}_raw") } else { tensor.into() }
    }

    /// Name of a tensor after Q and DQ.
    fn dequantized_name(&self, tensor: &str) -> String {
        if self.renamed(tensor) { tensor.into() } else { format!("{tensor}_dequantized") }
    }

    fn renamed(&self, tensor: &str) -> bool {
        self.index.is_output(tensor) && self.made.contains(tensor) && self.tensors.contains_key(tensor)
    }

    /// What an FP32 node reads in place of `tensor`: the result of an INT8 node exists only quantized.
    fn read_by_float(&self, tensor: &str) -> String {
        if self.made.contains(tensor) && self.tensors.contains_key(tensor) {
            self.dequantized_name(tensor)
        } else {
            tensor.into()
        }
    }
}
