//! The workspace from the command line: import, optimize, measure, report, and what is listed of them.

use std::fs;

use serde_json::Value;

use super::support::{Done, Worker, Workspace, fixture, wait_for};

/// Imports the tiny model with its labelled images as the project `tiny`.
fn import(workspace: &Workspace) -> Done {
    let tiny = fixture("tiny").display().to_string();
    workspace.calib8(&[
        "import",
        &format!("{tiny}/tiny.onnx"),
        &format!("{tiny}/images"),
        "--labels",
        &format!("{tiny}/labels.txt"),
        "--classes",
        &format!("{tiny}/classes.txt"),
        "--preprocess",
        "{resize_short: 18, crop: 16, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
        "--json",
    ])
}

fn listed(workspace: &Workspace) -> Value {
    let done = workspace.calib8(&["projects", "--json"]);
    assert_eq!(done.code, Some(0), "{done}");
    let value: Value = serde_json::from_str(&done.stdout).unwrap();
    value["projects"].clone()
}

const FAST: [&str; 6] = [
    "--set",
    "performance.streams=[1]",
    "--set",
    "performance.seconds=0.1",
    "--set",
    "performance.layers=false",
];

#[test]
fn a_project_is_imported_optimized_measured_and_reported_step_by_step() {
    let workspace = Workspace::empty();
    let done = workspace.calib8(&["projects"]);
    assert!(done.stdout.contains("calib8 import MODEL.onnx DATASET makes one"), "{done}");
    let done = import(&workspace);
    assert_eq!(done.code, Some(0), "{done}");
    let project: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(project["id"], "tiny");
    assert!(project["baseline"]["fps"]["median"].as_f64().unwrap() > 0.0, "{done}");

    let done = workspace.calib8(&[&["optimize", "tiny"], &FAST[..]].concat());
    assert_eq!(done.code, Some(0), "{done}");
    let done = workspace.calib8(
        &[&["optimize", "tiny", "--set", "optimize.preset=performance", "--detach"], &FAST[..]].concat(),
    );
    assert_eq!(done.code, Some(0), "{done}");
    let second = workspace.home()[2].1.join("projects/tiny/runs/int8-performance");
    wait_for(&second, "finished", |s| s.standing.name() == "finished" && s.holder.is_none());
    let rows = listed(&workspace);
    assert_eq!(rows[0]["fps"], project["baseline"]["fps"]["median"]);
    let variants = rows[0]["variants"].as_array().unwrap();
    assert_eq!(variants[0]["id"], "tiny/int8-mixed");
    assert_eq!(variants[1]["name"], "INT8 performance");
    for variant in variants {
        assert_eq!(variant["status"], "finished");
        assert!(variant["fps"].is_number() && variant["speedup"].is_number() && variant["bytes"].is_number());
        assert!(variant["agreement"].is_number() && variant["drop"].is_number());
    }
    let table = workspace.calib8(&["projects"]).stdout;
    assert!(table.lines().nth(2).unwrap().starts_with("  INT8 mixed  "), "{table}");

    // The same model, measured in another setting.
    let read = |name: &str| fs::read(second.join(name)).unwrap();
    let (model, performance) = (read("model.int8.onnx"), read("performance.json"));
    let done =
        workspace.calib8(&["measure", "tiny", "INT8 performance", "--set", "performance.batch=[1, 2]"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert_eq!(read("model.int8.onnx"), model);
    let again: Value = serde_json::from_slice(&read("performance.json")).unwrap();
    assert_eq!(again["speedup"].as_array().unwrap().len(), 2);
    assert_ne!(read("performance.json"), performance);

    // Other reports, with the speeds as they were.
    let performance = read("performance.json");
    let done = workspace.calib8(&["report", "tiny", "int8-performance", "--set", "reports=[predictions]"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert_eq!(read("performance.json"), performance);
    let summary: Value = serde_json::from_slice(&read("summary.json")).unwrap();
    assert!(summary["reports"]["predictions"].is_object() && summary["reports"]["annotations"].is_null());
    assert_eq!(summary["speedup"].as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_meant_is_said() {
    let workspace = Workspace::empty();
    let done = workspace.calib8(&["optimize", "tiny"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("holds no project"), "{done}");
    assert_eq!(import(&workspace).code, Some(0));
    for (arguments, what) in [
        (&["optimize", "x"][..], "holds no project \"x\"; there are: tiny"),
        (&["optimize", "tiny", "--set", "optimize.presets=mixed"], "unknown key 'presets'"),
        (&["measure", "tiny"], "tiny has no variant yet; `calib8 optimize tiny` makes one"),
    ] {
        let done = workspace.calib8(arguments);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.error().contains(what), "{done}");
    }
    let worker = Worker::of(&workspace.calib8(&["optimize", "tiny", "--detach", "--json"]));
    let done = workspace.calib8(&["report", "tiny", "--set", "optimize.preset=mixed"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("this step takes keys of reports, gates, threads"), "{done}");
    let done = workspace.calib8(&["measure", "tiny"]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("in use by process"), "{done}");
    drop(worker);
}

#[test]
fn a_model_that_does_not_fit_its_images_makes_no_project() {
    let workspace = Workspace::empty();
    let tiny = fixture("tiny").display().to_string();
    let images = format!("{tiny}/images");
    let done = workspace.calib8(&["import", &format!("{tiny}/tiny.onnx"), &images]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("preprocessing gives images of"), "{done}");
    let done = workspace.calib8(&["import", "none.onnx", &images]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("none: 'model.path' does not exist"), "{done}");
    assert_eq!(listed(&workspace), Value::Array(vec![]));
}
