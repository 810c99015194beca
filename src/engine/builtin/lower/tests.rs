//! Each pattern, run lowered and run as tract runs the QDQ graph in FP32: at most one step apart.

mod products;
mod rows;

use ndarray::{ArrayD, IxDyn};
use tract_onnx::prelude::*;

use super::super::Builtin;
use super::*;
use crate::engine::{Engine, LoadOptions, Value};
use crate::model::graph::{node, tensor, value, with_float, with_int, with_ints};
use crate::model::{Model, pb};

mod forms;

/// Real value of one step of every quantized tensor here.
const STEP: f32 = 0.05;

/// Values in -0.5..0.5 from a linear congruential generator (Knuth's MMIX constants).
fn noise(len: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed;
    (0..len).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    })
}

/// A QDQ graph under construction; tensors are named by the caller.
#[derive(Clone, Default)]
struct Graph {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Graph {
    fn node(&mut self, node: NodeProto) {
        self.nodes.push(node);
    }

    /// `x` → `x_q` → `x_dq`, u8 with the given scale and zero point.
    fn quantize(&mut self, x: &str, scale: f32, zero_point: u8) -> String {
        self.constants.push(tensor(&format!("{x}_s"), &[], &[scale]));
        self.constants.push(tensor(&format!("{x}_z"), &[], &[zero_point]));
        self.pair(x)
    }

    /// As [`Graph::quantize`], in s8.
    fn quantize_s8(&mut self, x: &str, scale: f32, zero_point: i8) -> String {
        self.constants.push(tensor(&format!("{x}_s"), &[], &[scale]));
        self.constants.push(tensor(&format!("{x}_z"), &[], &[zero_point]));
        self.pair(x)
    }

    fn pair(&mut self, x: &str) -> String {
        let [s, z, q, dq] = ["s", "z", "q", "dq"].map(|end| format!("{x}_{end}"));
        self.node(node("QuantizeLinear", &format!("{x}_Q"), &[x, &s, &z], &[&q]));
        self.node(node("DequantizeLinear", &format!("{x}_D"), &[&q, &s, &z], &[&dq]));
        dq
    }

    /// s8 weights with one scale per index of axis 0.
    fn weights(&mut self, name: &str, shape: &[usize]) -> String {
        let len: usize = shape.iter().product();
        let values: Vec<i8> = noise(len, 7).map(|v| (v * 100.0) as i8).collect();
        let scales: Vec<f32> = (0..shape[0]).map(|o| 0.004 + 0.001 * (o % 3) as f32).collect();
        self.constants.push(tensor(&format!("{name}_q"), shape, &values));
        self.constants.push(tensor(&format!("{name}_s"), &[shape[0]], &scales));
        self.constants.push(tensor(&format!("{name}_z"), &[shape[0]], &vec![0i8; shape[0]]));
        let inputs = [format!("{name}_q"), format!("{name}_s"), format!("{name}_z")];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let dequantize = node("DequantizeLinear", &format!("{name}_D"), &inputs, &[name]);
        self.node(with_int(dequantize, "axis", 0));
        name.to_string()
    }

    fn conv(&mut self, name: &str, x: &str, in_channels: usize, out_channels: usize, group: usize) -> String {
        let w = self.weights(&format!("{name}_w"), &[out_channels, in_channels / group, 3, 3]);
        let conv = node("Conv", name, &[x, &w], &[&format!("{name}_y")]);
        let conv = with_ints(with_ints(conv, "pads", &[1, 1, 1, 1]), "kernel_shape", &[3, 3]);
        self.node(with_int(conv, "group", group as i64));
        format!("{name}_y")
    }

    fn pointwise(&mut self, name: &str, x: &str, in_channels: usize, out_channels: usize) -> String {
        let w = self.weights(&format!("{name}_w"), &[out_channels, in_channels, 1, 1]);
        self.node(node("Conv", name, &[x, &w], &[&format!("{name}_y")]));
        format!("{name}_y")
    }

    fn model(self, input: [usize; 4], outputs: &[&str]) -> Model {
        let dims: Vec<String> = input.iter().map(usize::to_string).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        let graph = pb::GraphProto {
            node: self.nodes,
            initializer: self.constants,
            input: vec![value("x", 1, &dims)],
            output: outputs.iter().map(|o| value(o, 1, &[])).collect(),
            ..Default::default()
        };
        let opset = pb::OperatorSetIdProto { version: 13, ..Default::default() };
        let proto = pb::ModelProto {
            ir_version: 8,
            graph: Some(graph),
            opset_import: vec![opset],
            ..Default::default()
        };
        Model::from_proto("test", proto)
    }
}

fn input(shape: [usize; 4]) -> ArrayD<f32> {
    let values = noise(shape.iter().product(), 3).map(|v| v * 4.0).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap()
}

/// Runs `model` both ways, compares, and gives the reasons of what was not fused.
fn check(model: &Model, shape: [usize; 4]) -> Vec<(String, String)> {
    let x = input(shape);
    let mut reference = onnx()
        .with_ignore_output_shapes(true)
        .model_for_proto_model(&model.proto)
        .and_then(|m| m.with_input_fact(0, f32::fact(shape).into()))
        .and_then(|m| m.into_optimized())
        .and_then(|m| m.into_runnable())
        .and_then(|m| m.spawn())
        .unwrap();
    let expected = reference.run(tvec!(Tensor::from(x.clone()).into_tvalue())).unwrap();
    let session = Builtin.load(model, &LoadOptions::default()).unwrap();
    let got = session.spawn().unwrap().run(&[Value::from(x)]).unwrap();
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!(got.shape(), expected.shape());
        let expected = expected.to_plain_array_view::<f32>().unwrap();
        for (a, b) in got.as_slice().iter().zip(expected.iter()) {
            assert!((a - b).abs() <= STEP * 1.01, "{a} is not {b}");
        }
    }
    let unfused = super::super::unfused(model).unwrap();
    unfused.into_iter().map(|u| (u.node, u.reason)).collect()
}

/// Islands that `model` becomes.
fn islands(model: &Model) -> usize {
    let shapes = crate::model::shapes::infer(model, 1).unwrap();
    let lowered = lower(&model.proto, &shapes).proto.graph.unwrap();
    lowered.node.iter().filter(|n| n.op_type == ISLAND).count()
}

/// The steps of the only island that `model` becomes.
fn steps(model: &Model) -> Vec<String> {
    let shapes = crate::model::shapes::infer(model, 1).unwrap();
    let lowered = lower(&model.proto, &shapes).proto.graph.unwrap();
    let [island] = &lowered.node[..] else { panic!("{} nodes", lowered.node.len()) };
    let json = &island.attribute.iter().find(|a| a.name == "program").unwrap().s;
    let program: super::super::program::Program = serde_json::from_slice(json).unwrap();
    program.steps.into_iter().map(|s| s.kind).collect()
}

#[test]
fn a_chain_with_residual_concat_pool_and_head_fuses_whole() {
    let shape = [1, 3, 9, 9];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let stem = g.conv("stem", &x, 3, 8, 1);
    let stem = g.quantize(&stem, STEP, 120);
    let depthwise = g.conv("depthwise", &stem, 8, 8, 8);
    g.node(node("Relu", "relu", &[&depthwise], &["positive"]));
    let depthwise = g.quantize("positive", STEP, 3);
    g.node(node("Add", "add", &[&stem, &depthwise], &["sum"]));
    let sum = g.quantize("sum", STEP, 100);
    let a = g.conv("a", &sum, 8, 4, 1);
    let a = g.quantize(&a, STEP, 90);
    let grouped = g.conv("grouped", &sum, 8, 6, 2);
    let grouped = g.quantize(&grouped, 0.04, 110);
    g.node(with_int(node("Concat", "concat", &[&a, &grouped], &["joined"]), "axis", 1));
    let joined = g.quantize("joined", STEP, 90);
    let pool = with_ints(node("MaxPool", "pool", &[&joined], &["pooled"]), "kernel_shape", &[2, 2]);
    g.node(with_ints(pool, "strides", &[2, 2]));
    g.constants.push(tensor("pooled_s", &[], &[STEP]));
    g.constants.push(tensor("pooled_z", &[], &[90u8]));
    let pooled = g.pair("pooled");
    g.node(node("GlobalAveragePool", "mean", &[&pooled], &["means"]));
    let means = g.quantize("means", STEP, 90);
    g.node(node("Flatten", "flatten", &[&means], &["flat"]));
    g.constants.push(tensor("flat_s", &[], &[STEP]));
    g.constants.push(tensor("flat_z", &[], &[90u8]));
    let flat = g.pair("flat");
    let w = g.weights("w", &[5, 10]);
    g.node(with_int(node("Gemm", "head", &[&flat, &w], &["y"]), "transB", 1));
    assert_eq!(check(&g.model(shape, &["y"]), shape), []);
}

#[test]
fn convolutions_add_large_residuals_as_they_store() {
    // 64 × 64 × 40 bytes: more than the first-level caches hold.
    let shape = [1, 3, 64, 64];
    for swapped in [false, true] {
        let mut g = Graph::default();
        let x = g.quantize("x", 0.03, 128);
        let stem = g.conv("stem", &x, 3, 40, 1);
        let stem = g.quantize(&stem, STEP, 120);
        let wide = g.conv("wide", &stem, 40, 40, 1);
        let wide = g.quantize(&wide, 0.06, 101);
        let operands = if swapped { [&*wide, &*stem] } else { [&*stem, &*wide] };
        g.node(node("Add", "add", &operands, &["sum"]));
        g.node(node("Relu", "relu", &["sum"], &["positive"]));
        let sum = g.quantize("positive", STEP, 4);
        let run = |model: &Model| {
            let session = Builtin.load(model, &LoadOptions::default()).unwrap();
            let results = session.spawn().unwrap().run(&[Value::from(input(shape))]).unwrap();
            (steps(model), results[0].as_slice().to_vec())
        };
        // What is read elsewhere, too, is stored, and added by a step of its own.
        let (fused, apart) = (run(&g.clone().model(shape, &[&sum])), run(&g.model(shape, &[&sum, &wide])));
        assert_eq!(fused.0, ["Quantize", "Conv", "Conv", "Dequantize"]);
        assert_eq!(apart.0, ["Quantize", "Conv", "Conv", "Dequantize", "Add", "Dequantize"]);
        assert!(fused.1 == apart.1);
        assert!(fused.1.iter().any(|y| *y > 1.0), "there is something to compare");
    }
}

#[test]
fn an_operator_in_the_middle_that_stays_fp32_splits_the_island() {
    let shape = [1, 4, 6, 6];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let first = g.conv("first", &x, 4, 4, 1);
    let first = g.quantize(&first, STEP, 128);
    // Softmax has no INT8 form, and the residual goes round it from one island to the next.
    g.node(with_int(node("Softmax", "soft", &[&first], &["softened"]), "axis", 1));
    let soft = g.quantize("softened", STEP, 0);
    g.node(node("Add", "add", &[&first, &soft], &["sum"]));
    let sum = g.quantize("sum", STEP, 128);
    let left = check(&g.model(shape, &[&sum]), shape);
    assert_eq!(left, [("soft".to_string(), "Softmax has no INT8 form here".to_string())]);
}

#[test]
fn signed_activations_missing_zero_points_and_float_biases_are_read() {
    let shape = [1, 4, 5, 5];
    let mut g = Graph::default();
    let x = g.quantize_s8("x", 0.03, -5);
    let conv = g.conv("conv", &x, 4, 4, 1);
    g.constants.push(tensor("bias", &[4], &[0.5f32, -1.0, 0.25, 2.0]));
    if let Some(conv) = g.nodes.iter_mut().find(|n| n.name == "conv") {
        conv.input.push("bias".into());
    }
    g.node(node("Relu", "relu", &[&conv], &["r"]));
    g.constants.push(tensor("r_s", &[], &[STEP]));
    g.node(node("QuantizeLinear", "r_Q", &["r", "r_s"], &["r_q"]));
    g.node(node("DequantizeLinear", "r_D", &["r_q", "r_s"], &["y"]));
    assert_eq!(check(&g.model(shape, &["y"]), shape), []);
}

#[test]
fn functions_of_one_element_become_tables() {
    let shape = [1, 4, 5, 5];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    g.node(with_float(node("LeakyRelu", "leaky", &[&x], &["a"]), "alpha", 0.1));
    let a = g.quantize("a", STEP, 40);
    g.node(node("Sigmoid", "sigmoid", &[&a], &["b"]));
    let b = g.quantize("b", STEP, 0);
    g.node(node("Tanh", "tanh", &[&b], &["c"]));
    let c = g.quantize("c", STEP, 0);
    assert_eq!(check(&g.model(shape, &[&c]), shape), []);
}

#[test]
fn a_tensor_read_in_both_worlds_is_given_to_both() {
    let shape = [2, 4, 6, 6];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let conv = g.conv("conv", &x, 4, 6, 1);
    let y = g.quantize(&conv, STEP, 128);
    let next = g.conv("next", &y, 6, 6, 6);
    let next = g.quantize(&next, STEP, 128);
    // The raw result, its quantized form, and what follows are all outputs.
    assert_eq!(check(&g.model(shape, &[&conv, &y, &next]), shape), []);
}

#[test]
fn a_gated_block_is_one_island() {
    let shape = [2, 4, 6, 5];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let conv = g.conv("conv", &x, 4, 6, 1);
    let conv = g.quantize(&conv, STEP, 60);
    // x · sigmoid(x) in two nodes.
    g.node(node("Sigmoid", "sigmoid", &[&conv], &["s"]));
    g.node(node("Mul", "swish", &[&conv, "s"], &["swished"]));
    let swish = g.quantize("swished", STEP, 10);
    g.node(node("GlobalAveragePool", "pool", &[&swish], &["pooled"]));
    let pooled = g.quantize("pooled", STEP / 4.0, 40);
    let squeezed = g.pointwise("squeeze", &pooled, 6, 3);
    g.node(node("Relu", "relu", &[&squeezed], &["positive"]));
    let squeezed = g.quantize("positive", STEP / 4.0, 0);
    let excited = g.pointwise("excite", &squeezed, 3, 6);
    let excited = g.quantize(&excited, STEP / 4.0, 128);
    // Clip(x + 3, 0, 6) · 1/6 in three nodes.
    for (name, value) in [("three", 3f32), ("zero", 0.0), ("six", 6.0), ("sixth", 1.0 / 6.0)] {
        g.constants.push(tensor(name, &[], &[value]));
    }
    g.node(node("Add", "plus", &[&excited, "three"], &["sum"]));
    g.node(node("Clip", "clip", &["sum", "zero", "six"], &["clipped"]));
    g.node(node("Mul", "times", &["clipped", "sixth"], &["gate"]));
    let gate = g.quantize("gate", 1.0 / 255.0, 0);
    g.node(node("Mul", "gated", &[&gate, &swish], &["product"]));
    let product = g.quantize("product", STEP, 12);
    let model = g.model(shape, &[&product]);
    assert_eq!(check(&model, shape), []);
    assert_eq!(islands(&model), 1);
}

#[test]
fn operands_of_other_shapes_and_constant_ones_are_broadcast() {
    let shape = [2, 3, 4, 5];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let conv = g.conv("conv", &x, 3, 3, 1);
    let y = g.quantize(&conv, STEP, 100);
    g.constants.push(tensor("each_q", &[3, 1, 1], &[0u8, 130, 255]));
    g.constants.push(tensor("map_q", &[4, 5], &(0..20).map(|v| (v * 12) as i8).collect::<Vec<_>>()));
    for (name, zero_point) in
        [("each", tensor("each_z", &[], &[7u8])), ("map", tensor("map_z", &[], &[-3i8]))]
    {
        g.constants.extend([tensor(&format!("{name}_s"), &[], &[0.01f32]), zero_point]);
        let [q, s, z] = ["q", "s", "z"].map(|end| format!("{name}_{end}"));
        g.node(node("DequantizeLinear", &format!("{name}_D"), &[&q, &s, &z], &[name]));
    }
    g.node(node("Mul", "scale", &["each", &y], &["scaled"]));
    let scaled = g.quantize("scaled", STEP, 90);
    g.node(node("Add", "offset", &[&scaled, "map"], &["moved"]));
    let moved = g.quantize("moved", STEP, 110);
    let mean = with_ints(node("ReduceMean", "mean", &[&moved], &["m"]), "axes", &[2, 3]);
    g.node(with_int(mean, "keepdims", 1));
    let mean = g.quantize("m", STEP / 2.0, 128);
    g.node(node("Add", "centre", &[&moved, &mean], &["centred"]));
    g.node(node("Relu", "relu", &["centred"], &["positive"]));
    let last = g.quantize("positive", STEP, 0);
    let model = g.model(shape, &[&last]);
    assert_eq!(check(&model, shape), []);
    assert_eq!(islands(&model), 1);
}

#[test]
fn convolutions_with_fp32_results_leave_the_island_dequantized() {
    let shape = [2, 4, 5, 6];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let a = g.conv("a", &x, 4, 4, 1);
    let a = g.quantize(&a, STEP, 128);
    let grouped = g.conv("grouped", &a, 4, 6, 2);
    let point = g.pointwise("point", &a, 4, 5);
    g.node(node("Sigmoid", "sigmoid", &[&point], &["s"]));
    g.node(with_int(node("Concat", "join", &[&grouped, "s", &point], &["joined"]), "axis", 1));
    let depthwise = g.conv("depthwise", &a, 4, 4, 4);
    let model = g.model(shape, &["joined", &depthwise]);
    let reason = "it is a depthwise convolution whose result is read in FP32";
    assert_eq!(check(&model, shape), [("depthwise".to_string(), reason.to_string())]);
}

#[test]
fn a_pooled_head_leaves_the_island_as_its_mean() {
    let shape = [2, 3, 8, 8];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let conv = g.conv("conv", &x, 3, 5, 1);
    let conv = g.quantize(&conv, STEP, 77);
    g.node(node("GlobalAveragePool", "mean", &[&conv], &["means"]));
    g.node(node("Flatten", "flatten", &["means"], &["y"]));
    assert_eq!(check(&g.model(shape, &["y"]), shape), []);
}

#[test]
fn what_cannot_be_fused_says_why() {
    let shape = [1, 4, 6, 6];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let conv = g.conv("conv", "x", 4, 4, 1);
    let conv = g.quantize(&conv, STEP, 128);
    g.constants.push(tensor("one", &[1, 4, 1, 1], &[1.0f32; 4]));
    g.node(node("Add", "shift", &[&conv, "one"], &["shifted"]));
    let shifted = g.quantize("shifted", STEP, 128);
    g.node(node("Add", "sum", &[&x, &shifted], &["y"]));
    let left = check(&g.model(shape, &["y"]), shape);
    let reason = |name: &str| left.iter().find(|(n, _)| n == name).map(|(_, r)| r.as_str());
    assert_eq!(reason("conv"), Some("its input 'x' is not quantized"));
    assert_eq!(reason("shift"), Some("its input 'one' is not quantized"));
    assert_eq!(reason("sum"), Some("its result is read in FP32, without quantization"));
}

fn with_text(mut node: NodeProto, name: &str, value: &str) -> NodeProto {
    let r#type = pb::attribute_proto::AttributeType::String as i32;
    node.attribute.push(pb::AttributeProto {
        name: name.into(),
        s: value.into(),
        r#type,
        ..Default::default()
    });
    node
}

impl Graph {
    /// `x` → `x_q` → `x_dq` with the step and a zero point of 100.
    fn same(&mut self, x: &str) -> String {
        self.quantize(x, STEP, 100)
    }

    fn indices(&mut self, name: &str, shape: &[usize], values: &[i64]) -> String {
        self.constants.push(tensor(name, shape, values));
        name.into()
    }
}

#[test]
fn a_channel_shuffle_is_one_step_for_each_half() {
    let shape = [1, 8, 4, 6];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let conv = g.conv("conv", &x, 8, 8, 1);
    let y = g.same(&conv);
    let (to, back) = (g.indices("to", &[3], &[4, 2, 24]), g.indices("back", &[5], &[2, 1, 4, 4, 6]));
    g.node(node("Reshape", "r1", &[&y, &to], &["a"]));
    let a = g.same("a");
    g.node(with_ints(node("Transpose", "t", &[&a], &["b"]), "perm", &[1, 0, 2]));
    let b = g.same("b");
    g.node(node("Reshape", "r2", &[&b, &back], &["c"]));
    let c = g.same("c");
    let mut halves = Vec::new();
    for (half, index) in [("even", 0), ("odd", 1)] {
        let at = g.indices(&format!("{half}_at"), &[], &[index]);
        g.node(with_int(node("Gather", half, &[&c, &at], &[&format!("{half}_half")]), "axis", 0));
        halves.push(g.same(&format!("{half}_half")));
    }
    g.node(with_int(node("Concat", "join", &[&halves[1], &halves[0]], &["joined"]), "axis", 1));
    let joined = g.same("joined");
    let last = g.conv("last", &joined, 8, 4, 1);
    let last = g.quantize(&last, STEP, 128);
    let model = g.model(shape, &[&last]);
    assert_eq!(check(&model, shape), []);
    assert_eq!(steps(&model), ["Quantize", "Conv", "Gather", "Gather", "Concat", "Conv", "Dequantize"]);
}

#[test]
fn movements_and_resizing_stay_inside_the_island() {
    let shape = [2, 4, 6, 5];
    for mode in [
        "nearest asymmetric floor",
        "linear asymmetric floor",
        "linear align_corners floor",
        "linear half_pixel floor",
    ] {
        let words: Vec<&str> = mode.split(' ').collect();
        let mut g = Graph::default();
        let x = g.quantize("x", 0.03, 128);
        let conv = g.conv("conv", &x, 4, 8, 1);
        let y = g.same(&conv);
        let pads = g.indices("pads", &[8], &[0, 0, 1, 0, 0, 0, 0, 1]);
        g.node(node("Pad", "pad", &[&y, &pads], &["padded"]));
        let y = g.same("padded");
        let [starts, ends, axes, by] =
            [("starts", [1, 0]), ("ends", [7, -2]), ("axes", [1, 3]), ("by", [2, 1])]
                .map(|(name, values)| g.indices(name, &[2], &values));
        g.node(node("Slice", "slice", &[&y, &starts, &ends, &axes, &by], &["sliced"]));
        let y = g.same("sliced");
        let deep = with_int(node("SpaceToDepth", "deepen", &[&y], &["deep"]), "blocksize", 1);
        g.node(deep);
        let y = g.same("deep");
        let last = g.conv("last", &y, 3, 8, 1);
        let last = g.same(&last);
        g.node(with_text(
            with_int(node("DepthToSpace", "flat", &[&last], &["wide"]), "blocksize", 2),
            "mode",
            "CRD",
        ));
        let y = g.same("wide");
        g.constants.push(tensor("scales", &[4], &[1f32, 1.0, 2.0, 3.0]));
        let resize = with_text(node("Resize", "resize", &[&y, "", "scales"], &["resized"]), "mode", words[0]);
        let resize = with_text(resize, "coordinate_transformation_mode", words[1]);
        g.node(with_text(resize, "nearest_mode", words[2]));
        let y = g.same("resized");
        g.node(with_ints(node("Transpose", "turn", &[&y], &["turned"]), "perm", &[0, 2, 3, 1]));
        let y = g.same("turned");
        let model = g.model(shape, &[&y]);
        assert_eq!(check(&model, shape), [], "{mode}");
        assert_eq!(islands(&model), 1, "{mode}");
    }
}

#[test]
fn what_moves_in_fp32_behind_a_layer_stays_inside_too() {
    let shape = [1, 4, 6, 5];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let mut rows = Vec::new();
    for name in ["boxes", "scores"] {
        let head = g.conv(name, &x, 4, 6, 1);
        g.node(with_ints(
            node("Transpose", &format!("{name}_t"), &[&head], &[&format!("{name}_last")]),
            "perm",
            &[0, 2, 3, 1],
        ));
        let to = g.indices(&format!("{name}_to"), &[3], &[1, -1, 2]);
        g.node(node(
            "Reshape",
            &format!("{name}_r"),
            &[&format!("{name}_last"), &to],
            &[&format!("{name}_rows")],
        ));
        rows.push(format!("{name}_rows"));
    }
    g.node(with_int(node("Concat", "join", &[&rows[0], &rows[1]], &["y"]), "axis", 1));
    let model = g.model(shape, &["y"]);
    assert_eq!(check(&model, shape), []);
    assert_eq!(steps(&model), ["Quantize", "Conv", "Conv", "Concat", "Export"]);
}
