//! Small graphs for the tests of this room, and the way from them to INT8.

use ndarray::Array3;

use super::{BiasShifts, ObserveOptions, Options, Quantized, Statistics, observe, place, quantize};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions};
use crate::model::{Model, graph, pb};
use crate::progress::Silent;

/// Builds a graph with one input named `input`.
pub(super) struct Builder {
    graph: pb::GraphProto,
    seed: u32,
}

impl Builder {
    pub(super) fn new(shape: &[usize]) -> Builder {
        let graph =
            pb::GraphProto { name: "test".into(), input: vec![value("input", shape)], ..Default::default() };
        Builder { graph, seed: 1 }
    }

    /// Adds a constant and returns its name.
    pub(super) fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.graph.initializer.push(graph::tensor(name, shape, values));
        name.into()
    }

    /// Numbers in -1..1 that are the same in every run.
    pub(super) fn noise(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| {
                self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (self.seed >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// A square convolution with "same" padding and a bias; returns its output.
    pub(super) fn conv(
        &mut self,
        name: &str,
        x: &str,
        cin: usize,
        cout: usize,
        kernel: usize,
        group: usize,
    ) -> String {
        let shape = [cout, cin / group, kernel, kernel];
        let (weights, bias) = (self.noise(shape.iter().product()), self.noise(cout));
        let w = self.constant(&format!("{name}.weight"), &shape, &weights);
        let b = self.constant(&format!("{name}.bias"), &[cout], &bias);
        let y = format!("{name}.out");
        let mut node = graph::node("Conv", name, &[x, &w, &b], &[&y]);
        node = graph::with_int(node, "group", group as i64);
        node = graph::with_ints(node, "pads", &[(kernel / 2) as i64; 4]);
        self.graph.node.push(node);
        y
    }

    /// A Gemm with `transB`; returns its output.
    pub(super) fn gemm(&mut self, name: &str, x: &str, cin: usize, cout: usize) -> String {
        let (weights, bias) = (self.noise(cin * cout), self.noise(cout));
        let w = self.constant(&format!("{name}.weight"), &[cout, cin], &weights);
        let b = self.constant(&format!("{name}.bias"), &[cout], &bias);
        let y = format!("{name}.out");
        self.graph.node.push(graph::with_int(graph::node("Gemm", name, &[x, &w, &b], &[&y]), "transB", 1));
        y
    }

    /// Any operator with one output; returns it.
    pub(super) fn op(&mut self, op_type: &str, name: &str, inputs: &[&str]) -> String {
        self.push(graph::node(op_type, name, inputs, &[]))
    }

    /// A node whose output is named here and returned.
    pub(super) fn push(&mut self, mut node: pb::NodeProto) -> String {
        let y = format!("{}.out{}", node.name, self.graph.node.len());
        node.output = vec![y.clone()];
        self.graph.node.push(node);
        y
    }

    /// The model whose only output is `output`.
    pub(super) fn model(mut self, output: &str, shape: &[usize]) -> Model {
        self.graph.output = vec![value(output, shape)];
        let proto = pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(self.graph),
            ..Default::default()
        };
        Model::from_proto("test.onnx", proto)
    }
}

/// Quantizes `model` from six of the images of [`image`].
pub(super) fn quantized(model: &Model, options: &Options, threads: usize) -> Quantized {
    quantized_with(model, options, threads, &BiasShifts::new())
}

/// As [`quantized`], with these corrections.
#[allow(clippy::unwrap_used)]
pub(super) fn quantized_with(
    model: &Model,
    options: &Options,
    threads: usize,
    shifts: &BiasShifts,
) -> Quantized {
    let placement = place(model, options).unwrap();
    let names = |ports: Vec<crate::model::Port>| ports.into_iter().map(|p| p.name).collect::<Vec<_>>();
    let extra_outputs = placement.observed(&names(model.inputs()), &names(model.outputs()));
    let session = Builtin.load(model, &LoadOptions { extra_outputs, ..LoadOptions::default() }).unwrap();
    let shape = session.inputs()[0].shape.clone();
    let images = (0..6).map(move |i| image(&shape, i));
    let observing = ObserveOptions { threads, total: 6, checkpoint_every: 0, peek: &|_| {} };
    let statistics =
        observe(session.as_ref(), &placement, images, Statistics::default(), observing, &Silent, |_| {})
            .unwrap();
    quantize(model, &placement, &statistics, options, shifts).unwrap()
}

/// An image of the given NCHW shape, another for each seed.
pub(super) fn image(shape: &[usize], seed: usize) -> Array3<f32> {
    Array3::from_shape_fn((shape[1], shape[2], shape[3]), |(c, y, x)| {
        ((c * 7 + y * 3 + x * 5 + seed * 11) % 13) as f32 / 6.5 - 1.0
    })
}

fn value(name: &str, shape: &[usize]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = shape
        .iter()
        .map(|d| Dimension { value: Some(Value::DimValue(*d as i64)), ..Default::default() })
        .collect();
    let tensor = pb::type_proto::Tensor { elem_type: 1, shape: Some(pb::TensorShapeProto { dim }) };
    let r#type =
        pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}
