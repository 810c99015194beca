#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ndarray::ArrayD;

use super::*;
use crate::engine::{Engine, LoadOptions, builtin::Builtin};
use crate::model::graph::{self, node, tensor, value, with_float, with_int, with_ints, with_tensor};
use crate::model::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

/// Numbers of no pattern between -1 and 1, the same for the same seed.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32) * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn weights(name: &str, shape: &[usize]) -> TensorProto {
    tensor(name, shape, &noise(name.len() as u32 + 7, shape.iter().product()))
}

fn positive(name: &str, len: usize) -> TensorProto {
    let values: Vec<f32> = noise(len as u32, len).iter().map(|v| v.abs() + 0.1).collect();
    tensor(name, &[len], &values)
}

fn model(opset: i64, shape: &[&str], nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> Model {
    let graph = GraphProto {
        input: vec![value("x", 1, shape)],
        output: vec![value("y", 1, &[])],
        node: nodes,
        initializer: initializers,
        ..Default::default()
    };
    let proto = ModelProto {
        ir_version: 7,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
        graph: Some(graph),
        ..Default::default()
    };
    Model::from_proto("test.onnx", proto)
}

fn outputs(model: &Model) -> Vec<ArrayD<f32>> {
    let session = Builtin.load(model, &LoadOptions::default()).unwrap();
    let inputs: Vec<_> = session
        .inputs()
        .iter()
        .map(|i| ArrayD::from_shape_vec(i.shape.clone(), noise(3, i.shape.iter().product())).unwrap().into())
        .collect();
    let outputs = session.spawn().unwrap().run(&inputs).unwrap();
    outputs.iter().map(|o| o.to_array()).collect()
}

/// Simplifies, and demands the same outputs within 1e-5 of their largest value.
#[track_caller]
fn same(model: &Model) -> Simplified {
    let simplified = simplify(model).unwrap();
    for (before, after) in outputs(model).iter().zip(outputs(&simplified.model)) {
        assert_eq!(before.shape(), after.shape());
        assert!(!before.is_empty());
        let largest = before.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
        for (b, a) in before.iter().zip(&after) {
            assert!((b - a).abs() <= 1e-5 * largest, "{b} became {a}, largest {largest}");
        }
    }
    simplified
}

fn operators(simplified: &Simplified) -> Vec<&str> {
    simplified.model.graph().node.iter().map(|n| n.op_type.as_str()).collect()
}

const IMAGE: [&str; 4] = ["N", "4", "6", "6"];

fn batch_normalization(input: &str, output: &str) -> NodeProto {
    let inputs = [input, "gamma", "beta", "mean", "variance"];
    with_float(node("BatchNormalization", "bn", &inputs, &[output]), "epsilon", 1e-3)
}

fn statistics(channels: usize) -> Vec<TensorProto> {
    vec![
        weights("gamma", &[channels]),
        weights("beta", &[channels]),
        weights("mean", &[channels]),
        positive("variance", channels),
    ]
}

#[test]
fn batch_normalization_goes_into_the_convolution_before() {
    for (group, bias) in [(1, true), (2, false), (4, true)] {
        let inputs: &[&str] = if bias { &["x", "w", "b"] } else { &["x", "w"] };
        let mut initializers = statistics(8);
        initializers.push(weights("w", &[8, 4 / group, 3, 3]));
        initializers.extend(bias.then(|| weights("b", &[8])));
        let conv = with_int(node("Conv", "conv", inputs, &["h"]), "group", group as i64);
        let simplified = same(&model(13, &IMAGE, vec![conv, batch_normalization("h", "y")], initializers));
        assert_eq!(operators(&simplified), ["Conv"]);
        assert_eq!(simplified.model.graph().node[0].name, "conv");
        assert_eq!(simplified.model.graph().initializer.len(), 2);
        assert_eq!(simplified.notes, ["1 node of type BatchNormalization folded into the layer before"]);
        assert_eq!(simplified.model.inputs()[0].dims[0], crate::model::Dim::Symbol("N".into()));
    }
}

#[test]
fn batch_normalization_goes_into_transposed_convolutions_with_groups() {
    let mut initializers = statistics(6);
    initializers.push(weights("w", &[4, 3, 2, 2]));
    let conv = with_int(node("ConvTranspose", "up", &["x", "w"], &["h"]), "group", 2);
    let simplified = same(&model(13, &IMAGE, vec![conv, batch_normalization("h", "y")], initializers));
    assert_eq!(operators(&simplified), ["ConvTranspose"]);
}

#[test]
fn batch_normalization_goes_into_gemm_with_alpha_and_beta() {
    for trans_b in [0, 1] {
        let mut initializers = statistics(5);
        initializers.push(weights("w", if trans_b == 1 { &[5, 4] } else { &[4, 5] }));
        initializers.push(weights("b", &[1, 5]));
        let gemm = node("Gemm", "fc", &["x", "w", "b"], &["h"]);
        let gemm = with_float(with_float(with_int(gemm, "transB", trans_b), "alpha", 0.5), "beta", 2.0);
        let simplified =
            same(&model(13, &["N", "4"], vec![gemm, batch_normalization("h", "y")], initializers));
        assert_eq!(operators(&simplified), ["Gemm"]);
    }
}

#[test]
fn batch_normalization_stays_where_the_convolution_is_read_twice_or_is_an_output() {
    let mut initializers = statistics(4);
    initializers.push(weights("w", &[4, 4, 1, 1]));
    let nodes = vec![
        node("Conv", "conv", &["x", "w"], &["h"]),
        batch_normalization("h", "n"),
        node("Add", "add", &["h", "n"], &["y"]),
    ];
    let simplified = same(&model(13, &IMAGE, nodes, initializers.clone()));
    assert_eq!(operators(&simplified), ["Conv", "BatchNormalization", "Add"]);

    let nodes = vec![node("Conv", "conv", &["x", "w"], &["h"]), batch_normalization("h", "y")];
    let mut twice = model(13, &IMAGE, nodes, initializers);
    twice.proto.graph.as_mut().unwrap().output.push(value("h", 1, &[]));
    assert_eq!(operators(&same(&twice)), ["Conv", "BatchNormalization"]);
}

#[test]
fn shared_weights_are_copied_before_folding() {
    let mut initializers = statistics(4);
    initializers.push(weights("w", &[4, 4, 1, 1]));
    let nodes = vec![
        node("Conv", "one", &["x", "w"], &["h"]),
        batch_normalization("h", "n"),
        node("Conv", "two", &["n", "w"], &["y"]),
    ];
    let simplified = same(&model(13, &IMAGE, nodes, initializers));
    assert_eq!(operators(&simplified), ["Conv", "Conv"]);
    let graph = simplified.model.graph();
    assert_eq!(graph.node[0].input[1], "one.weight");
    assert_eq!(graph.node[1].input[1], "w");
}

#[test]
fn per_channel_arithmetic_goes_into_the_layer_before() {
    let initializers = vec![
        weights("w", &[8, 4, 3, 3]),
        weights("add", &[1, 8, 1, 1]),
        weights("mul", &[8, 1, 1]),
        tensor("one", &[], &[0.7f32]),
        weights("sub", &[8, 1, 1]),
    ];
    let nodes = vec![
        node("Conv", "conv", &["x", "w"], &["a"]),
        node("Mul", "mul", &["mul", "a"], &["b"]),
        node("Add", "add", &["b", "add"], &["c"]),
        node("Div", "div", &["c", "one"], &["d"]),
        node("Sub", "sub", &["sub", "d"], &["y"]),
    ];
    assert_eq!(operators(&same(&model(13, &IMAGE, nodes, initializers))), ["Conv"]);
}

#[test]
fn arithmetic_that_is_not_per_channel_stays() {
    // Along the last dimension, although it has as many values as there are channels.
    let initializers = vec![weights("w", &[6, 4, 1, 1]), weights("row", &[6])];
    let nodes = vec![node("Conv", "conv", &["x", "w"], &["h"]), node("Add", "add", &["h", "row"], &["y"])];
    assert_eq!(operators(&same(&model(13, &IMAGE, nodes, initializers))), ["Conv", "Add"]);
    // A constant divided by the output is not linear in it.
    let initializers = vec![weights("w", &[6, 4, 1, 1]), tensor("one", &[], &[1f32])];
    let nodes = vec![node("Conv", "conv", &["x", "w"], &["h"]), node("Div", "div", &["one", "h"], &["y"])];
    assert_eq!(operators(&same(&model(13, &IMAGE, nodes, initializers))), ["Conv", "Div"]);
}

#[test]
fn a_convolution_that_is_only_scaled_gets_no_bias() {
    let initializers = vec![weights("w", &[8, 4, 1, 1]), tensor("half", &[], &[0.5f32])];
    let nodes = vec![node("Conv", "conv", &["x", "w"], &["h"]), node("Mul", "mul", &["h", "half"], &["y"])];
    let simplified = same(&model(13, &IMAGE, nodes, initializers));
    assert_eq!(simplified.model.graph().node[0].input, ["x", "w"]);
}

#[test]
fn constants_are_computed_in_advance_but_weights_stay_quantized() {
    let initializers = vec![
        tensor("q", &[4, 4, 1, 1], &[3i8; 16]),
        tensor("scale", &[], &[0.1f32]),
        tensor("a", &[2], &[0i64, -1]),
        tensor("unused", &[3], &[0f32; 3]),
    ];
    let nodes = vec![
        with_tensor(node("Constant", "k", &[], &["ones"]), "value", tensor("", &[2], &[1i64, 1])),
        node("Mul", "shape", &["a", "ones"], &["target"]),
        node("DequantizeLinear", "dq", &["q", "scale"], &["w"]),
        node("Conv", "conv", &["x", "w"], &["h"]),
        node("Reshape", "flat", &["h", "target"], &["y"]),
    ];
    let simplified = same(&model(13, &IMAGE, nodes, initializers));
    assert_eq!(operators(&simplified), ["DequantizeLinear", "Conv", "Reshape"]);
    let target = simplified.model.graph().initializer.iter().find(|t| t.name == "target").unwrap();
    assert_eq!(graph::to_array::<i64>(target).unwrap().into_raw_vec_and_offset().0, [0, -1]);
    assert_eq!(simplified.model.graph().initializer.len(), 3);
}

#[test]
fn a_small_constant_that_expands_to_a_huge_one_is_left() {
    let initializers = vec![tensor("n", &[3], &[1i64 << 40, 1 << 20, 1 << 20])];
    let nodes =
        vec![node("ConstantOfShape", "huge", &["n"], &["h"]), node("Add", "add", &["x", "h"], &["y"])];
    let simplified = simplify(&model(13, &IMAGE, nodes, initializers)).unwrap();
    assert_eq!(operators(&simplified), ["ConstantOfShape", "Add"]);
}

#[test]
fn nodes_that_do_nothing_go_and_outputs_keep_their_names() {
    let initializers = vec![
        tensor("pads", &[8], &[0i64; 8]),
        tensor("shape", &[4], &[0i64, 4, 6, 6]),
        tensor("ratio", &[], &[0.5f32]),
    ];
    let nodes = vec![
        node("Identity", "i0", &["x"], &["a"]),
        node("Relu", "relu", &["a"], &["b"]),
        node("Dropout", "drop", &["b", "ratio"], &["c", "mask"]),
        node("Pad", "pad", &["c", "pads"], &["d"]),
        with_int(node("Cast", "cast", &["d"], &["e"]), "to", 1),
        node("Reshape", "same", &["e", "shape"], &["f"]),
        with_ints(node("Transpose", "t", &["f"], &["g"]), "perm", &[0, 1, 2, 3]),
        node("Sigmoid", "sigmoid", &["b"], &["z"]),
        node("Identity", "i1", &["g"], &["y"]),
        node("Identity", "i2", &["g"], &["y2"]),
    ];
    let mut given = model(13, &IMAGE, nodes, initializers);
    given.proto.graph.as_mut().unwrap().output.extend([value("y2", 1, &[]), value("z", 1, &[])]);
    let simplified = same(&given);
    // The second output that is the same tensor needs its Identity.
    assert_eq!(operators(&simplified), ["Relu", "Sigmoid", "Identity"]);
    let names: Vec<String> = simplified.model.outputs().into_iter().map(|o| o.name).collect();
    assert_eq!(names, ["y", "y2", "z"]);
    assert_eq!(simplified.model.graph().node[0].output, ["y"]);
}

#[test]
fn an_identity_between_input_and_output_stays() {
    let simplified = same(&model(13, &IMAGE, vec![node("Identity", "i", &["x"], &["y"])], vec![]));
    assert_eq!(operators(&simplified), ["Identity"]);
}

#[test]
fn a_reshape_that_holds_for_one_batch_only_stays() {
    let initializers = vec![tensor("shape", &[4], &[1i64, 4, 6, 6])];
    let nodes = vec![node("Reshape", "r", &["x", "shape"], &["h"]), node("Relu", "relu", &["h"], &["y"])];
    assert_eq!(operators(&same(&model(13, &IMAGE, nodes, initializers))), ["Reshape", "Relu"]);
}

#[test]
fn initializers_among_the_inputs_of_old_files_are_inputs_no_more() {
    let nodes = vec![node("Conv", "conv", &["x", "w"], &["y"])];
    let mut given = model(9, &IMAGE, nodes, vec![weights("w", &[8, 4, 1, 1])]);
    given.proto.graph.as_mut().unwrap().input.insert(0, value("w", 1, &["8", "4", "1", "1"]));
    let simplified = same(&given);
    assert_eq!(simplified.model.graph().input.len(), 1);
    assert_eq!(simplified.model.opset(), 13);
}
