//! How far a run goes to keep accuracy: the methods auto and accuracy_aware, and what they leave on disk.

use std::fs;

use serde_json::Value;

use crate::support::{Workspace, fixture};

/// The classifier that comes with calib8, on images without labels, judged by agreement.
fn shapes(labels: bool) -> Workspace {
    let workspace = Workspace::empty();
    let shapes = fixture("shapes").display().to_string();
    let labels = if labels { format!(", labels: '{shapes}/eval_labels.txt'") } else { String::new() };
    let text = format!(
        "version: 1
name: shapes
model: {{path: '{shapes}/shapes.onnx'}}
preprocess: {{resize_short: 128, crop: 112, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
dataset: {{path: '{shapes}/eval'{labels}}}
optimize: {{dataset: {{path: '{shapes}/calib'}}, subset_size: 40}}
performance: {{streams: [1], seconds: 0.1, layers: false}}
output: out
"
    );
    fs::write(workspace.path("run.yaml"), text).unwrap();
    workspace
}

fn tradeoff(workspace: &Workspace) -> Value {
    serde_json::from_slice(&workspace.output("tradeoff.json")).unwrap()
}

/// One search, since judging takes time: what it finds, and that it goes on from what was judged.
#[test]
fn accuracy_aware_gives_layers_back_until_the_limit_holds() {
    let workspace = shapes(false);
    let aware = ["--set", "optimize.method=accuracy_aware", "--set", "optimize.max_drop=0.8"];
    // Ranges and biases that lose more than the default, so that there is something to do.
    let poor = ["--set", "optimize.range=min_max", "--set", "optimize.bias_correction=none"];
    let arguments = [&aware[..], &poor[..]].concat();
    let summary = workspace.passes(&arguments);
    let found = &summary["tradeoff"];
    assert_eq!((&found["metric"], &found["ended"]), (&"agreement".into(), &"within_limit".into()), "{found}");
    assert!(found["drop"].as_f64() <= Some(0.8), "{found}");
    assert_eq!(
        found["drop"],
        100.0 * (1.0 - summary["reports"]["predictions"]["agreement"].as_f64().unwrap())
    );
    let file = tradeoff(&workspace);
    let points = file["points"].as_array().unwrap();
    assert_eq!(found["points"], points.len());
    assert!(
        points[0]["fp32_layers"].as_array().unwrap().is_empty() && points[0]["drop"].as_f64() > Some(0.8)
    );
    let best = &points[file["best"].as_u64().unwrap() as usize];
    assert_eq!(best["fp32_layers"], found["fp32_layers"]);
    let kept = found["fp32_layers"].as_array().unwrap().len() as u64;
    assert!(kept > 0, "{found}");
    assert!(points.iter().all(|p| p["fps_estimated"].as_f64().unwrap() > 0.0));

    // Nothing is judged twice, and the result is the same to the byte.
    let model = workspace.output("model.int8.onnx");
    fs::remove_file(workspace.path("out/summary.json")).unwrap();
    let before = workspace.output("events.jsonl").len();
    workspace.passes(&[&arguments[..], &["--resume"]].concat());
    assert_eq!(workspace.output("model.int8.onnx"), model);
    assert_eq!(tradeoff(&workspace), file);
    let log = String::from_utf8(workspace.output("events.jsonl")).unwrap();
    assert!(!log[before..].contains("layers in FP32: drop"), "a set was judged again");
}

#[test]
fn layers_that_may_go_back_are_scored_in_shards_as_in_one_piece() {
    let workspace = shapes(false);
    let set = ["--set", "optimize.method=accuracy_aware", "--set", "optimize.max_drop=0.8"];
    let poor = ["--set", "optimize.range=min_max", "--set", "optimize.bias_correction=none"];
    let arguments = [&set[..], &poor[..]].concat();
    let harms = || -> Vec<(Value, Value)> {
        let file = tradeoff(&workspace);
        let ranking = file["ranking"].as_array().unwrap();
        ranking.iter().map(|layer| (layer["node"].clone(), layer["harm"].clone())).collect()
    };
    workspace.passes(&arguments);
    let expected = harms();
    assert!(!expected.is_empty());
    fs::remove_dir_all(workspace.path("out")).unwrap();
    let ok = |arguments: &[&str]| {
        let done = workspace.calib8(arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {done}");
    };
    ok(&[&["shard", "plan", "run.yaml", "--shards", "2"], &arguments[..]].concat());
    for step in ["statistics", "candidates", "report", "sensitivity"] {
        ok(&["shard", "run", "out", step, "1"]);
        ok(&["shard", "run", "out", step, "0"]);
        if ["statistics", "candidates"].contains(&step) {
            ok(&["shard", "merge", "out", step]);
        }
    }
    ok(&["shard", "merge", "out", "report"]);
    assert_eq!(harms(), expected, "harm is counted, times are measured");
    let summary = workspace.summary();
    assert!(!summary["tradeoff"]["fp32_layers"].as_array().unwrap().is_empty(), "{summary}");
    assert!(!String::from_utf8(workspace.output("sensitivity.csv")).unwrap().is_empty());
}

#[test]
fn accuracy_aware_leaves_a_model_alone_that_is_good_enough() {
    let workspace = shapes(true);
    let summary =
        workspace.passes(&["--set", "optimize.method=accuracy_aware", "--set", "optimize.max_drop=5"]);
    let found = &summary["tradeoff"];
    assert_eq!((&found["metric"], &found["points"]), (&"top1".into(), &1.into()), "{found}");
    assert_eq!(found["fp32_layers"].as_array().map(Vec::len), Some(0));
}

#[test]
fn auto_tells_what_each_choice_gave() {
    let workspace = shapes(false);
    workspace.passes(&["--set", "optimize.method=auto", "--set", "reports=[predictions]"]);
    let log = String::from_utf8(workspace.output("worker.log")).unwrap();
    for choice in [
        "preset performance, range mse: KL",
        "preset mixed, range min_max: KL",
        "bias correction sequential: KL",
    ] {
        assert!(log.contains(choice), "{choice}:\n{log}");
    }
}

#[test]
fn weights_have_seven_bits_in_the_layers_that_would_saturate_and_only_there() {
    let workspace = shapes(false);
    // With equalization the layers are looked for twice, and one of the two counts.
    let sets = ["optimize.avoid_saturation=true", "optimize.equalization=false", "reports=[predictions]"];
    workspace.passes(&sets.map(|set| ["--set", set]).concat());
    let log = String::from_utf8(workspace.output("worker.log")).unwrap();
    let said = log.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("sums of two products saturate in ")?;
        rest.split_whitespace().next()?.parse::<usize>().ok()
    });
    let model = calib8::model::Model::load(&workspace.path("out/model.int8.onnx")).unwrap();
    let weights = model.graph().initializer.iter().filter(|t| t.name.contains("weight_quantized"));
    let largest: Vec<u8> = weights
        .filter_map(calib8::model::graph::to_array::<i8>)
        .map(|values| values.iter().map(|w| w.unsigned_abs()).max().unwrap())
        .collect();
    let count = |most: u8| largest.iter().filter(|of_layer| **of_layer == most).count();
    assert_eq!(Some(count(63)), said, "{largest:?}\n{log}");
    assert!(count(63) > 0 && count(127) > 0 && count(63) + count(127) == largest.len(), "{largest:?}");
}
