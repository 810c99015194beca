//! Values that are no numbers, and numbers at the edge of what f32 holds: each has a defined end, which is tested
//! here from outside.
//!
//! | where | what becomes of it |
//! |---|---|
//! | weights, bias | an error that names the node, before the first image |
//! | input, activations of quantized layers | an error that names the tensor and the number of images |
//! | outputs of the parent, or of the INT8 model | the image counts as failed in each report, with the reason |
//! | constant channels, all-zero weights, all-zero images | quantized exactly |
//! | scales that would underflow | kept at the smallest that products survive |

use std::fs;

use calib8::model::graph::{node, tensor, with_ints};
use calib8::model::pb::{NodeProto, TensorProto};
use prost::Message;

use super::model;
use super::support::Workspace;

/// A classifier of 4 classes: a convolution with these weights and this bias, its mean over the image, and `end`.
fn write(workspace: &Workspace, weights: &[f32], bias: &[f32], middle: &str, end: Option<&str>) {
    let mut nodes: Vec<NodeProto> = vec![
        with_ints(node("Conv", "conv", &["x", "w", "b"], &["c"]), "pads", &[1, 1, 1, 1]),
        node(middle, "middle", &["c"], &["r"]),
        with_ints(node("Conv", "second", &["r", "v"], &["d"]), "kernel_shape", &[1, 1]),
        node("GlobalAveragePool", "pool", &["d"], &["p"]),
        node("Flatten", "flat", &["p"], &[if end.is_some() { "f" } else { "y" }]),
    ];
    nodes.extend(end.map(|op| node(op, "end", &["f"], &["y"])));
    let one_by_one: Vec<f32> = (0..16).map(|i| ((i * 7) % 11) as f32 / 5.0 - 1.0).collect();
    let initializer: Vec<TensorProto> = vec![
        tensor("w", &[4, 3, 3, 3], weights),
        tensor("b", &[4], bias),
        tensor("v", &[4, 4, 1, 1], &one_by_one),
    ];
    let proto = model::of(model::graph(&["N", "3", "16", "16"], &["N", "4"], nodes, initializer));
    fs::write(workspace.path("m.onnx"), proto.encode_to_vec()).unwrap();
}

const MODEL: [&str; 2] = ["--set", "model.path=m.onnx"];

fn weights() -> Vec<f32> {
    (0..108).map(|i| ((i * 13) % 29) as f32 / 29.0 - 0.5).collect()
}

#[test]
fn weights_that_are_no_numbers_are_named_before_the_first_image() {
    let workspace = Workspace::tiny();
    for (bad, place) in
        [(f32::NAN, "weight 'w'"), (f32::INFINITY, "weight 'w'"), (f32::NEG_INFINITY, "bias 'b'")]
    {
        let (mut weights, mut bias) = (weights(), [0.1f32; 4]);
        if place.starts_with("bias") {
            bias[2] = bad
        } else {
            weights[5] = bad
        }
        write(&workspace, &weights, &bias, "Relu", None);
        let done = workspace.run(&[&MODEL[..], &["--force"]].concat());
        assert_eq!(done.code, Some(1), "{done}");
        let expected = format!("m.onnx: node 'conv': its {place} holds 1 values that are NaN or infinite");
        assert!(done.error().contains(&expected), "{done}");
    }
}

#[test]
fn activations_and_inputs_that_are_no_numbers_are_named() {
    let workspace = Workspace::tiny();
    // e to the power of hundreds.
    let large: Vec<f32> = weights().iter().map(|w| w * 1e4).collect();
    write(&workspace, &large, &[200.0; 4], "Exp", None);
    let done = workspace.run(&MODEL);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(
        done.error().contains("has NaN or infinite values in ") && done.error().contains(" of 16 images"),
        "{done}"
    );
    write(&workspace, &weights(), &[0.1; 4], "Relu", None);
    let overflow = ["--force", "--set", "preprocess={resize_short: 18, crop: 16, scale: 1.0e+38}"];
    let done = workspace.run(&[&MODEL[..], &overflow].concat());
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("tensor 'x' has NaN or infinite values in 16 of 16 images"), "{done}");
}

#[test]
fn outputs_that_are_no_numbers_are_counted_image_by_image() {
    let workspace = Workspace::tiny();
    // The logarithm of a negative number.
    write(&workspace, &weights(), &[0.1; 4], "Relu", Some("Log"));
    let done = workspace.run(&MODEL);
    assert_eq!(done.code, Some(0), "{done}");
    let predictions = &workspace.summary()["reports"]["predictions"];
    let failed = predictions["failed"].as_u64().unwrap();
    assert!(failed > 0 && predictions["images"] == 16, "{predictions}");
    let csv = String::from_utf8(workspace.output("predictions.csv")).unwrap();
    assert!(
        csv.lines().filter(|line| line.contains("NaN")).count() as u64 >= failed,
        "the reason stands in the row"
    );
}

#[test]
fn constant_channels_and_zeros_are_exact() {
    let workspace = Workspace::tiny();
    // Two channels without weights, one of them without a bias too.
    let mut weights = weights();
    weights[..54].fill(0.0);
    write(&workspace, &weights, &[0.75, 0.0, 0.1, -0.1], "Relu", None);
    let summary = workspace.passes(&MODEL);
    assert_eq!(summary["reports"]["predictions"]["failed"], 0);
    // All of them, without anything to tell images apart.
    write(&workspace, &[0.0; 108], &[0.0; 4], "Relu", None);
    let summary = workspace.passes(&[&MODEL[..], &["--force"]].concat());
    let predictions = &summary["reports"]["predictions"];
    assert_eq!(
        (&predictions["failed"], &predictions["agreement"]),
        (&0.into(), &1.0.into()),
        "{predictions}"
    );
}

#[test]
fn black_images_are_images() {
    let workspace = Workspace::tiny();
    fs::create_dir(workspace.path("black")).unwrap();
    for number in 0..4 {
        image::RgbImage::new(16, 16).save(workspace.path(&format!("black/{number}.png"))).unwrap();
    }
    workspace.set_dataset("dataset: {path: black}");
    write(&workspace, &weights(), &[0.0; 4], "Relu", None);
    let unit = ["--set", "preprocess={crop: 16, scale: 0.0039}"];
    let summary = workspace.passes(&[&MODEL[..], &unit].concat());
    let predictions = &summary["reports"]["predictions"];
    assert_eq!(
        (&predictions["failed"], &predictions["agreement"]),
        (&0.into(), &1.0.into()),
        "{predictions}"
    );
}

#[test]
fn scales_that_would_underflow_give_numbers() {
    for (factor, bias) in [(1e-30f32, 0.0f32), (1e-38, 0.0), (1e-44, 0.0), (1e-30, 0.5), (1e30, 0.0)] {
        let workspace = Workspace::tiny();
        let weights: Vec<f32> = weights().iter().map(|w| w * factor).collect();
        write(&workspace, &weights, &[bias; 4], "Relu", None);
        let done = workspace.run(&MODEL);
        assert_eq!(done.code, Some(0), "{factor}: {done}");
        let predictions = &workspace.summary()["reports"]["predictions"];
        assert_eq!(predictions["failed"], 0, "{factor}: {predictions}");
        assert!(!done.stderr.contains("not finite"), "{factor}: {done}");
    }
}
