//! The built-in engine against onnxruntime.

use std::process::Command;

use calib8::engine::builtin::{Builtin, unfused};
use calib8::engine::{Engine, LoadOptions, Value as Tensor};
use calib8::kernels::Isa;
use calib8::model::Model;
use ndarray::ArrayD;
use serde_json::Value;

use super::stored::{Stored, fixture};

/// The outputs of a model on images given as one array, run one by one as onnxruntime did.
fn outputs(model: &Model, shape: &[usize], images: &[f32], batch: usize) -> Vec<f32> {
    let session = Builtin.load(model, &LoadOptions { batch, ..LoadOptions::default() }).unwrap();
    let mut runner = session.spawn().unwrap();
    let shape = [&[batch], &shape[1..]].concat();
    let images = images.chunks(shape.iter().product());
    images
        .flat_map(|image| {
            let input = ArrayD::from_shape_vec(shape.clone(), image.to_vec()).unwrap();
            runner.run(&[Tensor::from(input)]).unwrap()[0].as_slice().to_vec()
        })
        .collect()
}

fn load(item: &Value) -> Model {
    Model::load(&fixture(item["model"].as_str().unwrap())).unwrap()
}

/// The stored input of an INT8 model: floats, or pixels that are still to be normalised.
fn input(stored: &Stored, item: &Value) -> (Vec<usize>, Vec<f32>) {
    if item.get("input").is_some() {
        return stored.floats(&item["input"]);
    }
    let (shape, pixels) = stored.bytes(&item["pixels"]);
    let [count, height, width, channels] = shape[..] else { panic!("{shape:?}") };
    let per_channel = |key: &str| -> Vec<f32> {
        item[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
    };
    let (mean, std) = (per_channel("mean"), per_channel("std"));
    let mut values = Vec::with_capacity(pixels.len());
    for image in pixels.chunks(height * width * channels) {
        for c in 0..channels {
            let channel = image.iter().skip(c).step_by(channels);
            values.extend(channel.map(|pixel| (f32::from(*pixel) / 255.0 - mean[c]) / std[c]));
        }
    }
    (vec![count, channels, height, width], values)
}

/// Bit for bit in the tier that `CALIB8_ISA` names. Run by [`every_tier_equals_onnxruntime_bit_for_bit`] in a
/// process of its own for each tier, as a variable of the environment belongs to the whole process.
#[test]
#[ignore = "run in a child process by every_tier_equals_onnxruntime_bit_for_bit"]
fn int8_models_equal_onnxruntime_in_this_tier() {
    for stored in ["int8", "qoperator"].map(Stored::open) {
        equals_bit_for_bit(&stored);
    }
}

fn equals_bit_for_bit(stored: &Stored) {
    for item in stored.items() {
        let (model, (shape, images)) = (load(item), input(stored, item));
        let (_, expected) = stored.floats(&item["output"]);
        for batch in [1, shape[0]] {
            let found = outputs(&model, &shape, &images, batch);
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&found),
                bits(&expected),
                "{}, batch {batch}:\n{found:?}\n{expected:?}",
                item["model"]
            );
        }
    }
}

#[test]
fn every_tier_equals_onnxruntime_bit_for_bit() {
    for tier in Isa::available().into_iter().map(Isa::name) {
        let name = "engine::int8_models_equal_onnxruntime_in_this_tier";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args([name, "--exact", "--ignored"]).env("CALIB8_ISA", tier).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{tier}:\n{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "{tier}: the test was not found:\n{said}");
    }
}

#[test]
fn no_operator_of_onnxruntimes_models_is_left_unfused() {
    let stored = ["int8", "qoperator"].map(Stored::open);
    for item in stored.iter().flat_map(Stored::items) {
        let left = unfused(&load(item)).unwrap();
        let told: Vec<String> =
            left.iter().map(|u| format!("{} ({}): {}", u.node, u.op_type, u.reason)).collect();
        assert_eq!(told, [""; 0], "{}", item["model"]);
    }
}

#[test]
fn fp32_models_agree_with_onnxruntime() {
    let stored = Stored::open("float");
    let mut models: Vec<&str> = Vec::new();
    for item in stored.items() {
        let (shape, images) = stored.floats(&item["input"]);
        let (_, expected) = stored.floats(&item["output"]);
        let model = load(item);
        for batch in [1, shape[0]] {
            let found = outputs(&model, &shape, &images, batch);
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(&expected) {
                assert!(
                    (a - b).abs() <= 1e-5 * b.abs().max(1.0),
                    "{} ({}): {a}, expected {b}",
                    item["model"],
                    item["kind"]
                );
            }
        }
        models.push(item["model"].as_str().unwrap());
    }
    models.dedup();
    assert_eq!(models, ["tiny/tiny.onnx", "tiny/attention.onnx"]);
}
