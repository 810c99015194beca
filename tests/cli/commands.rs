//! The commands beside `run`: `inspect`, `compare`, `doctor`, `measure-raw`.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use super::support::{Done, Workspace, fixture, names};

const PREPROCESS: &str = "{resize_short: 18, crop: 16, scale: 0.00392156862745098, \
                          mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}";

fn path(name: &str) -> String {
    fixture(name).display().to_string()
}

fn json(done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{done}");
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"))
}

fn compare(workspace: &Workspace, first: &str, second: &str, more: &[&str]) -> Done {
    let images = path("tiny/images");
    let arguments =
        ["compare", first, second, "--dataset", &images, "--preprocess", PREPROCESS, "--seconds", "0"];
    workspace.calib8(&[&arguments, more].concat())
}

#[test]
fn inspect_tells_what_a_model_holds() {
    let workspace = Workspace::empty();
    let tiny = path("tiny/tiny.onnx");
    let found = json(&workspace.calib8(&["inspect", &tiny, "--json"]));
    assert_eq!(found["inputs"][0]["name"], "input");
    assert_eq!(found["outputs"][0]["name"], "logits");
    let page = workspace.calib8(&["inspect", &tiny]);
    assert_eq!(page.code, Some(0), "{page}");
    for word in ["tiny.onnx", "input", "logits", "Conv", "Gemm", "BatchNormalization"] {
        assert!(page.stdout.contains(word), "{word}: {page}");
    }
    let layers = workspace.calib8(&["inspect", &tiny, "--layers"]);
    assert!(layers.stdout.lines().count() > page.stdout.lines().count() + 5, "{layers}");
    assert_eq!(names(&workspace.root()), [""; 0]);
}

/// The run and the comparison must say the same about the same two models.
#[test]
fn compare_agrees_with_the_run_that_made_the_model() {
    let workspace = Workspace::tiny();
    let summary = workspace.passes(&[]);
    let made = workspace.path("out/model.int8.onnx").display().to_string();
    let labels = path("tiny/labels.txt");
    let more = ["--labels", &labels, "--json", "--output", "compared"];
    let found = json(&compare(&workspace, &path("tiny/tiny.onnx"), &made, &more));
    assert_eq!(found["schema"], "calib8/comparison/1");
    assert_eq!(found["first"]["sha256"], summary["parent"]["sha256"]);
    assert_eq!(found["second"]["sha256"], summary["optimized"]["sha256"]);
    assert_eq!(found["second"]["precision"], "int8");
    for (key, of) in [("predictions", "agreement"), ("predictions", "images"), ("annotations", "drop")] {
        assert_eq!(found["reports"][key][of], summary["reports"][key][of], "{key}.{of}");
    }
    // The run simplifies its parent, which moves the last bits of its outputs.
    let mse = |value: &Value| value["reports"]["tensor_distance"][0]["mse"].as_f64().unwrap();
    assert!((mse(&found) / mse(&summary) - 1.0).abs() < 1e-3, "{} and {}", mse(&found), mse(&summary));
    let written = names(&workspace.path("compared"));
    for name in ["annotations.csv", "predictions.csv", "report.html", "tensor_distance.csv"] {
        assert!(written.iter().any(|n| n == name), "{name} in {written:?}");
    }
    let text = compare(&workspace, &path("tiny/tiny.onnx"), &made, &[]);
    assert!(text.stdout.contains("agreement") && text.stdout.contains("16 images"), "{text}");
    assert!(text.stdout.contains("left out    annotations"), "{text}");
}

#[test]
fn a_model_compared_with_itself_is_equal() {
    let workspace = Workspace::empty();
    for model in ["tiny/tiny.onnx", "odd/already_int8.onnx"] {
        let found = json(&compare(&workspace, &path(model), &path(model), &["--json"]));
        assert_eq!(found["reports"]["predictions"]["agreement"], 1.0, "{model}");
        assert_eq!(found["reports"]["tensor_distance"][0]["max_abs"], 0.0, "{model}");
    }
}

#[test]
fn the_model_of_another_tool_can_be_compared() {
    let workspace = Workspace::empty();
    let found =
        json(&compare(&workspace, &path("tiny/tiny.onnx"), &path("golden/tiny.ort.qdq.onnx"), &["--json"]));
    let agreement = found["reports"]["predictions"]["agreement"].as_f64().unwrap();
    assert!(agreement > 0.5, "{agreement}");
    assert_eq!(found["second"]["precision"], "int8");
}

#[test]
fn models_of_other_inputs_are_not_compared() {
    let workspace = Workspace::empty();
    let done = compare(&workspace, &path("tiny/tiny.onnx"), &path("shapes/shapes.onnx"), &[]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("shapes.onnx takes [3, 112, 112]"), "{done}");
    let done =
        workspace.calib8(&["compare", &path("tiny/tiny.onnx"), &path("tiny/tiny.onnx"), "--dataset", "gone"]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("gone: this folder does not exist"), "{done}");
    let (tiny, images) = (path("tiny/tiny.onnx"), path("tiny/images"));
    let done = workspace.calib8(&["compare", &tiny, &tiny, "--dataset", &images, "--preprocess", "imagenet"]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("imagenet-torchvision"), "{done}");
}

#[test]
fn doctor_tells_what_the_machine_offers() {
    let workspace = Workspace::empty();
    let page = workspace.calib8(&["doctor"]);
    assert_eq!(page.code, Some(0), "{page}");
    assert!(page.stdout.contains("builtin") && page.stdout.contains("scalar"), "{page}");
    let found = json(&workspace.calib8(&["doctor", "--json"]));
    assert_eq!(found["schema"], "calib8/doctor/1");
    let done = Done::of(&workspace.command(&["doctor"]).env("CALIB8_ISA", "mmx").output().unwrap());
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.stdout.contains("CALIB8_ISA=mmx"), "{done}");
}

/// The protocol: `ready`, then for each number so many times in milliseconds on one line.
#[test]
fn measure_raw_answers_each_number_with_that_many_times() {
    let workspace = Workspace::empty();
    for arguments in [&[][..], &["--streams", "2"], &["--threads", "2"], &["--batch", "4"]] {
        let model = path("golden/tiny.ort.qdq.onnx");
        let mut command = workspace.command(&[&["measure-raw", &model], arguments].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut requests, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut answers = BufReader::new(answers).lines();
        let mut next = || answers.next().unwrap().unwrap();
        assert_eq!(next(), "ready");
        for count in [3, 1, 0, 5] {
            writeln!(requests, "{count}").unwrap();
            let times: Vec<f64> = next().split_whitespace().map(|word| word.parse().unwrap()).collect();
            assert_eq!(times.len(), count, "{arguments:?}");
            assert!(times.iter().all(|ms| *ms > 0.0), "{times:?}");
        }
        drop(requests);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn measure_raw_refuses_what_is_no_number() {
    let workspace = Workspace::empty();
    let mut command = workspace.command(&["measure-raw", &path("tiny/tiny.onnx")]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"2\nmany\n").unwrap();
    let done = Done::of(&child.wait_with_output().unwrap());
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("\"many\" is not a number of inferences"), "{done}");
    assert_eq!(done.stdout.lines().count(), 2, "ready and the first answer: {done}");
}
