//! Model files that can't be used: each has its message, which names the file and says what to do, and
//! none leaves anything but the log that says so.

use std::fs;

use super::support::{TRACES, Workspace, fixture, names};

const BAD: [&str; 11] = [
    "truncated.onnx",
    "random.onnx",
    "text.onnx",
    "empty.onnx",
    "unsupported_op.onnx",
    "dynamic_spatial.onnx",
    "two_inputs.onnx",
    "external_missing.onnx",
    "external_escape.onnx",
    "cyclic.onnx",
    "already_int8.onnx",
];

fn set_model(name: &str) -> String {
    format!("model.path={}", fixture("odd").join(name).display())
}

#[test]
fn every_bad_model_has_its_message() {
    let mut messages = String::new();
    for name in BAD {
        let workspace = Workspace::tiny();
        let done = workspace.run(&["--set", &set_model(name)]);
        assert_eq!(done.code, Some(1), "{name}: {done}");
        let message = workspace.normalized(done.error());
        assert!(message.contains(&format!("[fixtures]/odd/{name}: ")), "{name}: {message}");
        assert_eq!(names(&workspace.path("out")), TRACES, "{name}");

        let dry = workspace.run(&["--set", &set_model(name), "--dry-run", "--output", "other"]);
        assert_eq!((dry.code, dry.error()), (Some(1), done.error()), "{name}: a dry run says the same");
        assert!(!workspace.path("other").exists(), "{name}");
        messages += &format!("{message}\n\n");
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn the_log_of_a_run_that_failed_says_why() {
    let workspace = Workspace::tiny();
    let done = workspace.run(&["--set", &set_model("cyclic.onnx")]);
    let said = done.error().strip_prefix("error: ").unwrap();
    let log = String::from_utf8(workspace.output("events.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((last["event"].as_str(), last["message"].as_str()), (Some("failed"), Some(said)));
    let state: serde_json::Value = serde_json::from_slice(&workspace.output("state.json")).unwrap();
    assert_eq!(state["phase"]["phase"], "failed", "{state}");
    assert!(String::from_utf8(workspace.output("worker.log")).unwrap().contains(said));
}

#[test]
fn a_model_that_is_not_there_is_an_error_of_the_run_file() {
    let workspace = Workspace::tiny();
    fs::create_dir(workspace.path("folder.onnx")).unwrap();
    let text = fs::read_to_string(workspace.path("run.yaml")).unwrap();
    let mut messages = String::new();
    for path in ["gone.onnx", "folder.onnx", "run.yaml/below.onnx"] {
        let model = fixture("tiny/tiny.onnx").display().to_string();
        fs::write(workspace.path("bad.yaml"), text.replace(&model, path)).unwrap();
        let done = workspace.calib8(&["run", "bad.yaml"]);
        assert_eq!(done.code, Some(2), "{path}: {done}");
        messages += &format!("{}\n\n", workspace.normalized(done.error()));
    }
    assert_eq!(names(&workspace.root()), ["bad.yaml", "folder.onnx", "run.yaml"]);
    insta::assert_snapshot!(messages);
}

#[test]
fn a_model_that_may_not_be_read_is_an_error_of_the_run_file() {
    use std::os::unix::fs::PermissionsExt;
    let workspace = Workspace::tiny();
    let path = workspace.path("secret.onnx");
    fs::copy(fixture("tiny/tiny.onnx"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0)).unwrap();
    if fs::read(&path).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    let done = workspace.run(&["--set", "model.path=secret.onnx"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("secret.onnx") && done.error().contains("permissions"), "{done}");
    assert!(!workspace.path("out").exists());
}

/// Other commands take the same files; none of them may panic or succeed in what makes no sense.
#[test]
fn inspect_and_compare_refuse_bad_models_with_the_same_message() {
    let workspace = Workspace::tiny();
    let images = fixture("tiny/images").display().to_string();
    let good = fixture("tiny/tiny.onnx").display().to_string();
    // These can be looked at, though not calibrated.
    let sound = ["unsupported_op.onnx", "dynamic_spatial.onnx", "two_inputs.onnx", "already_int8.onnx"];
    for name in BAD {
        let bad = fixture("odd").join(name).display().to_string();
        let inspected = workspace.calib8(&["inspect", &bad]);
        let expected = if sound.contains(&name) { 0 } else { 1 };
        assert_eq!(inspected.code, Some(expected), "inspect {name}: {inspected}");
        if name == "already_int8.onnx" {
            continue;
        }
        let compared = workspace.calib8(&["compare", &good, &bad, "--dataset", &images, "--seconds", "0"]);
        assert_eq!(compared.code, Some(1), "compare {name}: {compared}");
        assert!(compared.error().contains(name), "{compared}");
        if expected == 1 {
            let why = |text: &str| text.split(": ").last().unwrap().to_string();
            assert_eq!(why(inspected.error()), why(compared.error()));
        }
    }
}
