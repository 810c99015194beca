//! Single layers cut out of an INT8 model, each with its quantizers, as models of their own.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::QuantizeError;
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, EngineError, LoadOptions, Runner, Session, Shown, Value};
use crate::model::graph::Index;
use crate::model::{Model, pb};

/// Where a session has the values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Input,
    Output(usize),
}

impl Place {
    pub(super) fn find(session: &dyn Session, tensor: &str) -> Result<Place, QuantizeError> {
        if session.inputs().iter().any(|i| i.name == tensor) {
            return Ok(Place::Input);
        }
        let at = session.outputs().iter().position(|o| o.name == tensor);
        at.map(Place::Output).ok_or_else(|| QuantizeError::MissingStatistics { tensor: tensor.into() })
    }

    /// One inference in which each of `places` is shown to `see`, with its position in the list.
    pub(super) fn watch(
        places: &[Place],
        runner: &mut dyn Runner,
        input: &Value,
        mut see: impl FnMut(usize, &Shown<'_>),
    ) -> Result<(), EngineError> {
        let mut show = |place: Place, tensor: Shown<'_>| {
            for (at, _) in places.iter().enumerate().filter(|(_, p)| **p == place) {
                see(at, &tensor);
            }
        };
        show(Place::Input, input.shown());
        runner.watch(std::slice::from_ref(input), &mut |number, tensor| show(Place::Output(number), tensor))
    }

    pub(super) fn value<'a>(self, input: &'a Value, outputs: &'a [Value]) -> &'a Value {
        match self {
            Place::Input => input,
            Place::Output(at) => &outputs[at],
        }
    }
}

/// Loads `model` so that it gives out `tensors` beside its own outputs.
pub(super) fn with_outputs(
    model: &Model,
    tensors: BTreeSet<String>,
) -> Result<Box<dyn Session>, QuantizeError> {
    let given: HashSet<String> = model.inputs().into_iter().chain(model.outputs()).map(|p| p.name).collect();
    let extra_outputs = tensors.into_iter().filter(|t| !given.contains(t)).collect();
    Ok(Builtin.load(model, &LoadOptions { extra_outputs, ..LoadOptions::default() })?)
}

/// Cuts single layers out of an INT8 model.
pub(super) struct Cutter<'a> {
    graph: &'a pb::GraphProto,
    index: Index,
}

/// A layer with its quantizers: positions of its nodes, and for each input the name that it has here
/// and in the FP32 model.
#[derive(Default)]
pub(super) struct Cut {
    nodes: BTreeSet<usize>,
    pub inputs: Vec<(String, String)>,
}

impl Cutter<'_> {
    pub(super) fn new(graph: &pb::GraphProto) -> Cutter<'_> {
        Cutter { graph, index: Index::new(graph) }
    }

    /// The INT8 model's name for the stored and dequantized form of an FP32 tensor.
    pub(super) fn dequantized(&self, tensor: &str) -> String {
        let pair = format!("{tensor}_DequantizeLinear");
        let node = self.graph.node.iter().find(|n| n.name == pair);
        node.map_or_else(|| tensor.to_string(), |n| n.output[0].clone())
    }

    /// From the result of a layer back to the quantizers of those tensors that are `kept`, by their FP32 names, which
    /// are its inputs if all are.
    pub(super) fn cut(&self, result: &str, kept: &dyn Fn(&str) -> bool) -> Cut {
        let mut cut = Cut::default();
        let mut start = result.to_string();
        if let Some((dequantize, quantize)) = self.pair(result) {
            cut.nodes.extend([dequantize, quantize]);
            start = self.graph.node[quantize].input[0].clone();
        }
        let mut open = vec![start];
        while let Some(tensor) = open.pop() {
            let Some(position) = self.index.producer(&tensor) else {
                if self.index.initializer(&tensor).is_none() {
                    cut.input(&tensor, &tensor);
                }
                continue;
            };
            if let Some((dequantize, quantize)) = self.pair(&tensor) {
                cut.nodes.extend([dequantize, quantize]);
                let quantize = &self.graph.node[quantize];
                let original = quantize.name.strip_suffix("_QuantizeLinear").unwrap_or(&quantize.input[0]);
                match kept(original) {
                    true => cut.input(&quantize.input[0], original),
                    false => open.push(quantize.input[0].clone()),
                }
            } else if cut.nodes.insert(position) {
                // Pushed from the last, so that they are taken from the first: an Add's inputs keep their order.
                open.extend(self.graph.node[position].input.iter().rev().filter(|i| !i.is_empty()).cloned());
            }
        }
        // What is computed here is no input, even where a quantizer reads it beside an FP32 node.
        let made: HashSet<&String> = cut.nodes.iter().flat_map(|at| &self.graph.node[*at].output).collect();
        cut.inputs.retain(|(name, _)| !made.contains(name));
        cut
    }

    /// Positions of the DequantizeLinear that makes `tensor` and of the QuantizeLinear before it.
    fn pair(&self, tensor: &str) -> Option<(usize, usize)> {
        let dequantize = self.index.producer(tensor)?;
        let quantize = self.index.producer(self.graph.node[dequantize].input.first()?)?;
        let is = |at: usize, op_type: &str| self.graph.node[at].op_type == op_type;
        (is(dequantize, "DequantizeLinear") && is(quantize, "QuantizeLinear"))
            .then_some((dequantize, quantize))
    }
}

impl Cut {
    /// Layers with weights that it has of `graph`, which it was cut from.
    pub(super) fn layers(&self, graph: &pb::GraphProto) -> usize {
        let weighted = |at: &&usize| matches!(graph.node[**at].op_type.as_str(), "Conv" | "Gemm" | "MatMul");
        self.nodes.iter().filter(weighted).count()
    }

    fn input(&mut self, name: &str, original: &str) {
        if !self.inputs.iter().any(|(n, _)| n == name) {
            self.inputs.push((name.into(), original.into()));
        }
    }

    /// The layer as a model whose inputs have the shapes that the FP32 model's tensors have.
    pub(super) fn model(
        &self,
        whole: &pb::ModelProto,
        result: &str,
        shapes: &HashMap<&str, &[usize]>,
    ) -> Model {
        use crate::model::graph::value;
        const FLOAT: i32 = pb::tensor_proto::DataType::Float as i32;
        let empty = pb::GraphProto::default();
        let graph = whole.graph.as_ref().unwrap_or(&empty);
        let nodes: Vec<pb::NodeProto> = self.nodes.iter().map(|at| graph.node[*at].clone()).collect();
        let read: HashSet<&str> = nodes.iter().flat_map(|n| n.input.iter().map(String::as_str)).collect();
        let port = |(name, original): &(String, String)| {
            let shape = shapes.get(original.as_str()).copied().unwrap_or(&[]);
            let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
            value(name, FLOAT, &dims.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let cut = pb::GraphProto {
            name: graph.name.clone(),
            input: self.inputs.iter().map(port).collect(),
            output: vec![pb::ValueInfoProto { name: result.into(), ..Default::default() }],
            initializer: graph
                .initializer
                .iter()
                .filter(|i| read.contains(i.name.as_str()))
                .cloned()
                .collect(),
            node: nodes,
            ..Default::default()
        };
        let proto = pb::ModelProto {
            ir_version: whole.ir_version,
            opset_import: whole.opset_import.clone(),
            graph: Some(cut),
            ..Default::default()
        };
        Model::from_proto(format!("{result}.onnx"), proto)
    }
}
