//! The whole journey on the tiny model: the files that a run leaves, what is in them, and that the
//! same inputs give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use calib8::engine::builtin::{Builtin, unfused};
use calib8::engine::{Engine, LoadOptions};
use calib8::kernels::Isa;
use calib8::model::Model;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::support::{Done, TRACES, Workspace, contents, fixture, names};

/// Gates that no tiny model and no busy machine fail.
const GATES: &str = "gates: {min_speedup: 0, min_agreement: 0, max_drop: 100}";

/// A finished run and what it left, for the tests that only look.
struct Journey {
    done: Done,
    files: BTreeMap<String, Vec<u8>>,
    summary: Value,
}

static JOURNEY: LazyLock<Journey> = LazyLock::new(|| {
    let workspace = Workspace::tiny();
    workspace.add(GATES);
    let done = workspace.run(&["--set", "performance.layers=true"]);
    let out = workspace.path("out");
    let files = names(&out).into_iter().map(|name| (name.clone(), fs::read(out.join(name)).unwrap()));
    Journey { files: files.collect(), summary: workspace.summary(), done }
});

fn text(name: &str) -> &'static str {
    std::str::from_utf8(&JOURNEY.files[name]).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Every path of a JSON value with the type of what is there; a list stands for its first item.
fn types(value: &Value, path: &str, lines: &mut String) {
    let kind = match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                types(value, &format!("{path}{dot}{key}"), lines);
            }
            return;
        }
        Value::Array(items) => match items.first() {
            Some(first) => return types(first, &format!("{path}[]"), lines),
            None => "empty list",
        },
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Number(n) if n.is_u64() => "integer",
        Value::Number(_) => "number",
    };
    *lines += &format!("{path}: {kind}\n");
}

#[test]
fn a_run_that_passes_exits_with_0_and_leaves_these_files() {
    assert_eq!(JOURNEY.done.code, Some(0), "{}", JOURNEY.done);
    let found: Vec<&str> = JOURNEY.files.keys().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "annotations.csv",
            "annotations.json",
            "checkpoint",
            "events.jsonl",
            "layers.csv",
            "lock",
            "manifest.json",
            "model.int8.onnx",
            "performance.json",
            "predictions.csv",
            "predictions.json",
            "report.html",
            "run.yaml",
            "sensitivity.csv",
            "state.json",
            "summary.json",
            "tensor_distance.csv",
            "tensor_distance.json",
            "worker.log",
        ]
    );
}

#[test]
fn the_summary_on_the_terminal_tells_what_matters() {
    let said = &JOURNEY.done.stdout;
    for word in ["INT8", "1 stream, batch 1", "smaller", "16 images", "top-1", "passed  min_speedup", "files"]
    {
        assert!(said.contains(word), "{word:?} in\n{said}");
    }
    assert!(said.contains("report.html") && said.contains("model.int8.onnx"), "{said}");
}

/// The contract of `summary.json`: other programs read these names and types.
#[test]
fn the_summary_keeps_its_contract() {
    let mut lines = String::new();
    types(&JOURNEY.summary, "", &mut lines);
    // Whether a distance has a fraction, or is null because the outputs are equal, depends on the model.
    insta::assert_snapshot!(lines);
    assert_eq!(JOURNEY.summary["schema"], "calib8/summary/1");
    assert_eq!(JOURNEY.summary["status"], "passed");
}

#[test]
fn the_summary_agrees_with_the_files_it_is_about() {
    let summary = &JOURNEY.summary;
    let parent = fs::read(fixture("tiny/tiny.onnx")).unwrap();
    for (model, bytes) in [("parent", &parent), ("optimized", &JOURNEY.files["model.int8.onnx"])] {
        assert_eq!(summary[model]["sha256"].as_str(), Some(sha256(bytes).as_str()), "{model}");
        assert_eq!(summary[model]["bytes"].as_u64(), Some(bytes.len() as u64), "{model}");
    }
    assert_eq!(
        (&summary["parent"]["precision"], &summary["optimized"]["precision"]),
        (&"fp32".into(), &"int8".into())
    );
    let layers = |key: &str| summary["optimized"][key].as_u64().unwrap();
    assert!(0 < layers("quantized_layers") && layers("quantized_layers") <= layers("layers"));

    assert_eq!(summary["calibration"]["images"], 16);
    let isa: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    assert_eq!(summary["host"]["isa"], serde_json::json!(isa));

    let models: Vec<&Value> =
        summary["performance"].as_array().unwrap().iter().map(|row| &row["model"]).collect();
    assert_eq!(models, ["parent", "optimized"]);
    for row in summary["performance"].as_array().unwrap() {
        let fps = ["low", "median", "high"].map(|key| number(&row["fps"][key]));
        let latency = ["p50", "p90", "p99"].map(|key| number(&row["latency_ms"][key]));
        assert!(fps.is_sorted() && latency.is_sorted() && latency[0] > 0.0 && fps[1] > 0.0, "{row}");
    }
    let speedup = &summary["speedup"][0];
    assert!(["low", "ratio", "high"].map(|key| number(&speedup[key])).is_sorted(), "{speedup}");

    let gates: Vec<&Value> = summary["gates"].as_array().unwrap().iter().map(|gate| &gate["name"]).collect();
    assert_eq!(gates, ["min_speedup", "min_agreement", "max_drop"]);
    assert_eq!(summary["gates"][0]["value"], speedup["ratio"]);
    assert_eq!(summary["gates"][1]["value"], summary["reports"]["predictions"]["agreement"]);
}

/// The numbers of the reports, counted again from the tables.
#[test]
fn the_summary_agrees_with_the_tables() {
    let reports = &JOURNEY.summary["reports"];
    let rows = |name: &str| -> Vec<Value> { serde_json::from_str(text(name)).unwrap() };
    let share = |count: usize, of: usize| count as f64 / of as f64;

    let predictions = rows("predictions.json");
    let same = predictions.iter().filter(|row| row["class_optimized"] == row["class_parent"]).count();
    assert_eq!(number(&reports["predictions"]["agreement"]), share(same, 16));
    assert_eq!(reports["predictions"]["erroneous"], 16 - same);
    let ends = ["low", "agreement", "high"].map(|key| number(&reports["predictions"][key]));
    assert!(ends.is_sorted(), "{ends:?}");

    // Against the labels as the fixture has them, not as the table repeats them.
    let labels = fs::read_to_string(fixture("tiny/labels.txt")).unwrap();
    let label = |image: &Value| {
        let line = labels.lines().find(|line| line.split(' ').next() == image.as_str()).unwrap();
        line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    for (model, class) in [("parent", "class_parent"), ("optimized", "class_optimized")] {
        let right =
            predictions.iter().filter(|row| row[class].as_u64() == Some(label(&row["image"]))).count();
        assert_eq!(number(&reports["annotations"][model]["top1"]), share(right, 16), "{model}");
    }
    let top1 = |model: &str| number(&reports["annotations"][model]["top1"]);
    assert_eq!(number(&reports["annotations"]["drop"]), top1("parent") - top1("optimized"));

    let distances = rows("tensor_distance.json");
    let largest = distances.iter().map(|row| number(&row["max_abs"])).fold(0.0, f64::max);
    assert_eq!(number(&reports["tensor_distance"][0]["max_abs"]), largest);
}

#[test]
fn the_tables_have_these_columns_and_a_row_for_each_image() {
    let names =
        ["predictions.csv", "annotations.csv", "tensor_distance.csv", "layers.csv", "sensitivity.csv"];
    let headers: Vec<&str> = names.iter().map(|name| text(name).lines().next().unwrap()).collect();
    insta::assert_snapshot!(headers.join("\n\n"));
    let images = support_images();
    for name in &names[..3] {
        let rows: Vec<&str> = text(name).split_terminator("\r\n").skip(1).collect();
        let found: Vec<&str> = rows.iter().map(|row| row.split(',').next().unwrap()).collect();
        assert_eq!(found, images, "{name}");
    }
}

fn support_images() -> Vec<String> {
    names(&fixture("tiny/images"))
}

#[test]
fn the_report_needs_nothing_but_itself() {
    // Names, not addresses; and an icon of no bytes, so that no browser asks for one.
    let page = text("report.html").replace("http://www.w3.org/", "");
    let page = page.replace(r#"<link rel="icon" href="data:,">"#, "");
    for outside in ["http://", "https://", "src=\"//", "<link", "@import", "<iframe"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for attribute in ["src=\"", "url("] {
        for (at, _) in page.match_indices(attribute) {
            let value = page[at + attribute.len()..].trim_start_matches(['"', '\'']);
            let inside = value.starts_with("data:") || value.starts_with('#');
            assert!(inside, "{}", &value[..value.len().min(60)]);
        }
    }
    assert!(page.starts_with("<!doctype html>") || page.starts_with("<!DOCTYPE html>"));
    assert!(page.contains("</html>"));
    assert!(page.contains("tiny"));
}

#[test]
fn the_int8_model_loads_with_nothing_unfused_and_keeps_its_interface() {
    let workspace = Workspace::empty();
    let path = workspace.path("model.onnx");
    fs::write(&path, &JOURNEY.files["model.int8.onnx"]).unwrap();
    let (int8, fp32) = (Model::load(&path).unwrap(), Model::load(&fixture("tiny/tiny.onnx")).unwrap());
    let load =
        |model: &Model| Builtin.load(model, &LoadOptions { batch: 3, ..LoadOptions::default() }).unwrap();
    let (optimized, parent) = (load(&int8), load(&fp32));
    assert_eq!(optimized.inputs(), parent.inputs());
    assert_eq!(optimized.outputs(), parent.outputs());
    let unfused: Vec<String> =
        unfused(&int8).unwrap().iter().map(|u| format!("{} ({}): {}", u.node, u.op_type, u.reason)).collect();
    assert_eq!(unfused, [""; 0]);
    assert!(int8.opset() >= 13, "per-channel DequantizeLinear came with 13");
}

#[test]
fn layers_are_told_with_both_precisions() {
    let table = text("layers.csv");
    let conv = table.lines().find(|line| line.contains("Conv,fp32") && line.contains("Conv,int8"));
    assert!(conv.is_some(), "{table}");
}

#[test]
fn the_events_on_standard_output_are_those_of_the_log() {
    let workspace = Workspace::tiny();
    let done = workspace.run(&["--json"]);
    assert_eq!(done.code, Some(0), "{done}");
    let events: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &events[0];
    assert_eq!((first["event"].as_str(), first["plan"].as_str()), (Some("started"), Some("tiny")));
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), last["exit_code"].as_u64()), (Some("finished"), Some(0)));
    for event in &events {
        assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
        assert!(event["elapsed"].is_number(), "{event}");
    }
    let finished = |stage: &str| events.iter().any(|e| e["event"] == "stage_finished" && e["stage"] == stage);
    for stage in [
        "prepare",
        "baseline",
        "statistics",
        "quantize",
        "correct",
        "verify",
        "measure",
        "sensitivity",
        "report",
    ] {
        assert!(finished(stage), "{stage}");
    }
    assert_eq!(done.stdout.as_bytes(), workspace.output("events.jsonl"));
    for artifact in events.iter().filter(|event| event["event"] == "artifact") {
        let bytes = workspace.output(artifact["path"].as_str().unwrap());
        assert_eq!(artifact["sha256"].as_str(), Some(sha256(&bytes).as_str()), "{artifact}");
    }
}

#[test]
fn a_dry_run_makes_nothing_and_foretells_the_run() {
    let workspace = Workspace::tiny_with_images();
    let before = contents(&workspace.root());
    let done = workspace.run(&["--dry-run", "--json"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert_eq!(contents(&workspace.root()), before);
    let forecast: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(forecast["dataset_images"], 16);
    let written = String::from_utf8(JOURNEY.files["run.yaml"].clone()).unwrap();
    assert!(written.contains("subset_size: 300"), "the plan after defaults: {written}");
}

#[test]
fn the_run_files_to_copy_are_valid() {
    let workspace = Workspace::empty();
    let quickstart = fixture("../config/quickstart.yaml").display().to_string();
    let done = workspace.calib8(&["run", &quickstart, "--dry-run", "--output", "out"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stdout.contains("# calibration  150 images"), "{done}");
    assert!(!workspace.path("out").exists());
}

#[test]
fn set_overrides_the_run_file() {
    let workspace = Workspace::tiny();
    let arguments = [
        "--set",
        "reports=[predictions]",
        "--set",
        "optimize.preset=performance",
        "--set",
        "performance.batch=[2]",
    ];
    let summary = workspace.passes(&arguments);
    assert_eq!(summary["speedup"][0]["batch"], 2);
    let plan = String::from_utf8(workspace.output("run.yaml")).unwrap();
    assert!(plan.contains("preset: performance"), "{plan}");
    let reports: Vec<_> = names(&workspace.path("out")).into_iter().filter(|n| n.ends_with(".csv")).collect();
    assert_eq!(reports, ["layers.csv", "predictions.csv", "sensitivity.csv"]);
    assert_ne!(workspace.output("model.int8.onnx"), JOURNEY.files["model.int8.onnx"], "another preset");
}

#[test]
fn what_is_to_stay_in_fp32_does() {
    let workspace = Workspace::tiny();
    workspace.add("optimize: {ignored_scope: {types: [Gemm]}}");
    let summary = workspace.passes(&[]);
    let all = JOURNEY.summary["optimized"]["quantized_layers"].as_u64().unwrap();
    assert_eq!(summary["optimized"]["quantized_layers"], all - 1);
}

#[test]
fn a_gate_that_fails_is_exit_code_3_with_everything_on_disk() {
    let workspace = Workspace::tiny();
    workspace.add("gates: {min_speedup: 1000, min_agreement: 0}");
    let done = workspace.run(&[]);
    assert_eq!(done.code, Some(3), "{done}");
    assert!(done.stdout.contains("FAILED  min_speedup 1000: "), "{done}");
    assert!(done.stdout.contains("passed  min_agreement 0: "), "{done}");
    let summary = workspace.summary();
    assert_eq!(summary["status"], "gate_failed");
    let passed: Vec<_> = summary["gates"].as_array().unwrap().iter().map(|gate| &gate["passed"]).collect();
    assert_eq!(passed, [false, true]);
    let found = names(&workspace.path("out"));
    assert!(JOURNEY.files.keys().all(|name| found.contains(name)), "{found:?}");
}

#[test]
fn without_labels_the_annotations_are_left_out_with_the_reason() {
    let workspace = Workspace::tiny_with_images();
    let done = workspace.run(&[]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stdout.contains("left out   annotations: "), "{done}");
    let reports = &workspace.summary()["reports"];
    assert_eq!(reports.get("annotations"), None);
    assert_eq!(reports["left_out"][0]["kind"], "annotations");
    let reason = reports["left_out"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("label"), "{reason}");
    assert!(!names(&workspace.path("out")).iter().any(|name| name.starts_with("annotations")));
    assert!(String::from_utf8(workspace.output("report.html")).unwrap().contains(reason));
}

#[test]
fn a_gate_on_a_report_that_is_left_out_fails_with_the_reason() {
    let workspace = Workspace::tiny_with_images();
    workspace.add("gates: {max_drop: 5}");
    let done = workspace.run(&[]);
    assert_eq!(done.code, Some(3), "{done}");
    assert!(
        done.stdout.contains("FAILED  max_drop 5: no value: the report annotations was left out"),
        "{done}"
    );
}

/// Bytes must not depend on when or how a run was made: not on the run, the threads or the tier.
#[test]
fn the_same_inputs_give_the_same_bytes() {
    const FILES: [&str; 5] =
        ["model.int8.onnx", "predictions.csv", "annotations.csv", "tensor_distance.csv", "run.yaml"];
    let workspace = Workspace::tiny();
    workspace.passes(&["--set", "threads=2"]);
    let all = |workspace: &Workspace| -> Vec<Vec<u8>> {
        FILES.iter().chain(&["manifest.json"]).map(|name| workspace.output(name)).collect()
    };
    let first = all(&workspace);
    workspace.passes(&["--set", "threads=2", "--force"]);
    assert!(all(&workspace) == first, "a second run");

    let manifest = |bytes: &[u8]| {
        let mut json: Value = serde_json::from_slice(bytes).unwrap();
        json["plan"]["threads"] = Value::Null;
        json
    };
    for tier in Isa::available().into_iter().map(Isa::name) {
        let mut command = workspace.command(&["run", "run.yaml", "--force", "--set", "threads=1"]);
        let done = Done::of(&command.env("CALIB8_ISA", tier).output().unwrap());
        assert_eq!(done.code, Some(0), "{tier}: {done}");
        for (name, expected) in FILES.iter().zip(&first).take(4) {
            assert!(&workspace.output(name) == expected, "{name} with one thread on {tier}");
        }
        assert_eq!(manifest(&workspace.output("manifest.json")), manifest(&first[5]));
    }
}

#[test]
fn a_tier_that_does_not_exist_is_an_error() {
    let workspace = Workspace::tiny();
    let done = Done::of(&workspace.command(&["run", "run.yaml"]).env("CALIB8_ISA", "mmx").output().unwrap());
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("CALIB8_ISA=mmx: no instruction set has this name"), "{done}");
    assert_eq!(names(&workspace.path("out")), TRACES);
}

/// Attention: what has no INT8 form stays FP32, and the rest is quantized.
#[test]
fn a_model_with_attention_is_quantized_in_part() {
    let workspace = Workspace::tiny();
    let model = format!("model.path={}", fixture("tiny/attention.onnx").display());
    let summary = workspace.passes(&["--set", &model, "--set", "performance.layers=true"]);
    let layers = |key: &str| summary["optimized"][key].as_u64().unwrap();
    assert!(layers("quantized_layers") > 0);
    let agreement = number(&summary["reports"]["predictions"]["agreement"]);
    assert!(agreement > 0.5, "four classes: by chance it would be a quarter, not {agreement}");
    let table = String::from_utf8(workspace.output("layers.csv")).unwrap();
    assert!(table.lines().any(|line| line.contains("Attention,fp32")), "{table}");
    let warnings = summary["warnings"].to_string();
    assert!(
        warnings.contains("run in tract: 2 (Gemm, ReduceMean)"),
        "the mean over tokens, and what is behind it: {warnings}"
    );
}
