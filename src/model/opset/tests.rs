#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ndarray::ArrayD;

use super::*;
use crate::engine::{Engine, LoadOptions, builtin::Builtin};
use crate::model::graph::{value, with_float, with_ints};
use crate::model::pb::{GraphProto, ModelProto, attribute_proto::AttributeType};

fn model(opset: i64, nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> Model {
    let graph = GraphProto {
        input: vec![value("x", 1, &["N", "4", "6", "5"])],
        output: vec![value("y", 1, &[])],
        node: nodes,
        initializer: initializers,
        ..Default::default()
    };
    let proto = ModelProto {
        ir_version: 3,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
        graph: Some(graph),
        ..Default::default()
    };
    Model::from_proto("old.onnx", proto)
}

fn output(model: &Model) -> ArrayD<f32> {
    let session = Builtin.load(model, &LoadOptions::default()).unwrap();
    let shape = session.inputs()[0].shape.clone();
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
    let input = ArrayD::from_shape_vec(shape, values).unwrap().into();
    session.spawn().unwrap().run(&[input]).unwrap()[0].to_array()
}

/// Upgrades, and demands the same output as tract gives for the old form.
#[track_caller]
fn upgraded(old: Model) -> Model {
    let mut new = old.clone();
    assert_eq!(upgrade_opset(&mut new).unwrap(), 1);
    assert_eq!((new.opset(), new.proto.ir_version), (TARGET, TARGET_IR));
    let (before, after) = (output(&old), output(&new));
    assert_eq!(before.shape(), after.shape());
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= 1e-6), "{before} became {after}");
    new
}

fn one(opset: i64, node: NodeProto) -> Model {
    model(opset, vec![node], vec![])
}

#[test]
fn attributes_become_inputs() {
    let clip = with_float(with_float(node("Clip", "c", &["x"], &["y"]), "min", -0.5), "max", 0.25);
    let new = upgraded(one(9, clip));
    assert_eq!(new.graph().node[0].input, ["x", "c_min", "c_max"]);
    let open = upgraded(one(9, with_float(node("Clip", "c", &["x"], &["y"]), "max", 0.25)));
    assert_eq!(open.graph().node[0].input, ["x", "", "c_max"]);
    let pad = with_float(
        with_ints(node("Pad", "p", &["x"], &["y"]), "pads", &[0, 0, 1, 2, 0, 0, 0, 1]),
        "value",
        1.5,
    );
    upgraded(one(9, pad));
    let slice = with_ints(with_ints(node("Slice", "s", &["x"], &["y"]), "starts", &[1, 0]), "ends", &[3, 2]);
    upgraded(one(9, with_ints(slice, "axes", &[2, 1])));
    upgraded(one(12, with_ints(node("Unsqueeze", "u", &["x"], &["y"]), "axes", &[1, 5])));
    upgraded(one(11, with_ints(node("ReduceSum", "r", &["x"], &["y"]), "axes", &[2, 3])));
    let split = with_ints(node("Split", "s", &["x"], &["y", "rest"]), "split", &[1, 3]);
    upgraded(one(11, with_int(split, "axis", 1)));
}

#[test]
fn softmax_over_several_dimensions_keeps_its_meaning() {
    let new = upgraded(one(11, with_int(node("Softmax", "s", &["x"], &["y"]), "axis", 2)));
    let operators: Vec<&str> = new.graph().node.iter().map(|n| n.op_type.as_str()).collect();
    assert_eq!(operators, ["Shape", "Flatten", "Softmax", "Reshape"]);
    assert!((output(&new).sum() - 4.0).abs() < 1e-5);
}

#[test]
fn softmax_over_one_wide_dimension_stays_one_node() {
    let last = upgraded(one(11, with_int(node("Softmax", "s", &["x"], &["y"]), "axis", 3)));
    assert_eq!(attr_int(&last.graph().node[0], "axis"), Some(3));
    let nodes = vec![node("GlobalAveragePool", "pool", &["x"], &["h"]), node("Softmax", "s", &["h"], &["y"])];
    let pooled = upgraded(model(9, nodes, vec![]));
    assert_eq!(attr_int(&pooled.graph().node[1], "axis"), Some(1));
}

#[test]
fn softmax_after_a_form_that_tract_does_not_know() {
    let scales = tensor("scales", &[4], &[1f32, 1.0, 2.0, 2.0]);
    let nodes = vec![
        node("Upsample", "u", &["x", "scales"], &["h"]),
        with_int(node("Softmax", "s", &["h"], &["y"]), "axis", 3),
    ];
    let mut new = model(9, nodes, vec![scales]);
    assert_eq!(upgrade_opset(&mut new).unwrap(), 2);
    assert_eq!(output(&new).shape(), [1, 4, 12, 10]);
}

#[test]
fn upsample_becomes_resize() {
    let mut by_attribute = node("Upsample", "u", &["x"], &["y"]);
    by_attribute.attribute.push(AttributeProto {
        name: "scales".into(),
        floats: vec![1.0, 1.0, 2.0, 3.0],
        r#type: AttributeType::Floats as i32,
        ..Default::default()
    });
    let mut new = one(7, by_attribute);
    upgrade_opset(&mut new).unwrap();
    assert_eq!(new.graph().node[0].op_type, "Resize");
    let output = output(&new);
    assert_eq!(output.shape(), [1, 4, 12, 15]);
    // Nearest, rounded down: each value is repeated.
    assert_eq!(output[[0, 0, 0, 0]], output[[0, 0, 1, 2]]);
    assert_ne!(output[[0, 0, 0, 2]], output[[0, 0, 0, 3]]);
}

#[test]
fn what_has_no_new_form_is_refused_by_name() {
    let mut spatial =
        one(7, with_int(node("BatchNormalization", "bn", &["x", "g", "b", "m", "v"], &["y"]), "spatial", 0));
    let message = upgrade_opset(&mut spatial).unwrap_err().to_string();
    assert_eq!(
        message,
        "old.onnx: node 'bn' (BatchNormalization): spatial=0 of operator set 7 has no form in 13; export the \
         model with opset_version=13 or newer"
    );
}

#[test]
fn newer_models_stay_as_they_are() {
    let given = one(17, node("Relu", "r", &["x"], &["y"]));
    let mut same = given.clone();
    assert_eq!(upgrade_opset(&mut same).unwrap(), 0);
    assert_eq!(same.proto, given.proto);
}
