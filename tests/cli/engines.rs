//! Foreign engines: what is said when they are missing, and their rows where they are installed.

use std::fs;

use calib8::engine::{EngineName, Libraries};

use super::support::{Workspace, fixture};

/// The foreign engines that this environment has; says which it lacks.
fn present() -> Vec<EngineName> {
    let is_there = |engine: &EngineName| match engine.open(&Libraries::default()) {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    };
    [EngineName::Onnxruntime, EngineName::Openvino].into_iter().filter(is_there).collect()
}

#[test]
fn an_engine_that_is_missing_is_a_row_with_the_reason_and_no_failure() {
    let workspace = Workspace::tiny();
    let nothing = workspace.path("nothing");
    fs::create_dir(&nothing).unwrap();
    let libraries =
        format!("performance.libraries={{onnxruntime: '{0}', openvino: '{0}'}}", nothing.display());
    let set = ["--set", "performance.engines=[builtin, onnxruntime, openvino]", "--set", &libraries];
    let summary = workspace.passes(&set);
    assert!(summary["performance"].as_array().unwrap().iter().all(|row| row["engine"] == "builtin"));
    let engines = summary["engines"].as_array().unwrap();
    let error = |i: usize| engines[i]["error"].as_str().unwrap_or_default().to_string();
    assert_eq!(engines.len(), 3);
    assert_eq!(error(0), "");
    assert!(
        error(1).contains("performance.libraries.onnxruntime") && error(1).contains("nothing"),
        "{engines:?}"
    );
    assert!(error(2).contains("libopenvino_c"), "{engines:?}");
    let page = String::from_utf8(workspace.output("report.html")).unwrap();
    assert!(page.contains("openvino: not measured"), "the page says so, too");
}

#[test]
fn a_library_that_is_none_is_refused_with_a_reason() {
    let workspace = Workspace::tiny();
    for (key, name) in [("onnxruntime", "libonnxruntime.so"), ("openvino", "libopenvino_c.so")] {
        let fake = workspace.path(name);
        fs::write(&fake, "no library").unwrap();
        let libraries = format!("performance.libraries.{key}={}", fake.display());
        let engines = format!("performance.engines=[builtin, {key}]");
        let summary = workspace.passes(&["--force", "--set", &engines, "--set", &libraries]);
        let error = summary["engines"][1]["error"].as_str().unwrap();
        assert!(error.contains(name) && error.contains("can't be used"), "{error}");
    }
}

#[test]
fn threads_of_a_stream_are_a_setting_on_every_engine() {
    for engine in [EngineName::Builtin].into_iter().chain(present()) {
        let workspace = Workspace::tiny();
        let engines = format!("performance.engines=[{}]", engine.name());
        let set = ["--set", &engines, "--set", "performance.threads=[1, 2]"];
        let summary = workspace.passes(&set);
        let threads = |list: &str| -> Vec<u64> {
            let rows = summary[list].as_array().unwrap();
            rows.iter().map(|row| row["threads"].as_u64().unwrap()).collect()
        };
        assert_eq!(threads("performance"), [1, 1, 2, 2], "{}: {summary}", engine.name());
        assert_eq!(threads("speedup"), [1, 2]);
        let page = String::from_utf8(workspace.output("report.html")).unwrap();
        assert!(page.contains("Threads per stream") && page.contains("1 stream × 2 threads"), "{engine:?}");
        let history = workspace.calib8(&["history", "out"]);
        assert!(history.stdout.contains("THREADS EACH"), "{history}");
    }
}

#[test]
fn engines_that_are_there_have_rows_that_say_what_really_ran() {
    for engine in present() {
        let workspace = Workspace::tiny();
        let engines = format!("performance.engines=[builtin, {}]", engine.name());
        let reports = format!("reports_engine={}", engine.name());
        let set =
            ["--set", &engines, "--set", "performance.batch=[1, 2]", "--set", "performance.streams=[1, 2]"];
        let summary = workspace.passes(&[&set[..], &["--set", &reports]].concat());
        let error = &summary["engines"][1]["error"];
        assert!(error.is_null(), "{error}");
        let rows: Vec<_> = summary["performance"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["engine"] == engine.name())
            .collect();
        assert_eq!(rows.len(), 8, "2 models, 2 batch sizes, 2 numbers of streams");
        for row in rows {
            assert!(row["fps"]["median"].as_f64().unwrap() > 0.0);
            let expected = if row["model"] == "parent" { "fp32" } else { "int8" };
            assert_eq!(row["precision"], expected, "{row}");
        }
        let performance: serde_json::Value =
            serde_json::from_slice(&workspace.output("performance.json")).unwrap();
        assert_eq!(performance["loads"].as_array().unwrap().len(), 4, "2 models on 2 engines");
        assert_eq!(performance["complete"], true);
        // INT8 may differ: other roundings, and where there is no VNNI perhaps 16-bit sums that saturate.
        assert_eq!(summary["reports"]["predictions"]["images"], 16);
    }
}

#[test]
fn a_model_gives_on_another_engine_what_it_gives_on_ours() {
    for engine in present() {
        let workspace = Workspace::empty();
        let (model, images) = (fixture("tiny/tiny.onnx"), fixture("tiny/images"));
        let steps = "{resize_short: 18, crop: 16, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], \
                     std: [0.229, 0.224, 0.225]}";
        let (model, images) = (model.to_str().unwrap(), images.to_str().unwrap());
        let files = ["compare", model, model, "--dataset", images, "--preprocess", steps];
        let how = ["--seconds", "0.1", "--second-engine", engine.name(), "--json"];
        let done = workspace.calib8(&[&files[..], &how].concat());
        assert_eq!(done.code, Some(0), "{done}");
        let found: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        let distance = &found["reports"]["tensor_distance"][0];
        assert!(distance["max_abs"].as_f64().unwrap() < 1e-3, "{distance}");
        assert_eq!(found["reports"]["predictions"]["agreement"], 1.0);
        assert_eq!(found["performance"][0]["engine"], "builtin");
        assert_eq!(found["performance"][1]["engine"], engine.name());
    }
}

#[test]
fn doctor_names_every_engine() {
    let done = Workspace::empty().calib8(&["doctor", "--json"]);
    let facts: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let engines = facts["engines"].as_array().unwrap();
    assert_eq!(
        engines.iter().map(|e| &e["name"]).collect::<Vec<_>>(),
        ["builtin", "onnxruntime", "openvino"]
    );
    assert!(engines.iter().all(|e| !e["state"].as_str().unwrap().is_empty()), "{engines:?}");
}
