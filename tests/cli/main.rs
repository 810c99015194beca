//! The command line from outside: exit codes, messages, and what is left on disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn calib8(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_calib8")).args(arguments).current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a run file whose paths exist.
fn workspace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("images")).unwrap();
    fs::write(path.join("images/a.png"), "x").unwrap();
    fs::write(path.join("model.onnx"), "x").unwrap();
    let text =
        "version: 1\nname: demo\nmodel: {path: model.onnx}\npreprocess: unit\ndataset: {path: images}\n";
    fs::write(path.join("run.yaml"), text).unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn help_documents_the_exit_codes() {
    let folder = workspace();
    let output = calib8(folder.path(), &["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for line in ["0    done", "1    failed", "2    wrong usage", "3    a gate failed", "130  interrupted"] {
        assert!(stdout(&output).contains(line), "{line:?} in\n{}", stdout(&output));
    }
}

#[test]
fn wrong_usage_is_2() {
    let folder = workspace();
    for arguments in [&[][..], &["fly"], &["run"], &["run", "run.yaml", "--resume", "--force"]] {
        assert_eq!(calib8(folder.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_wrong_run_file_is_2_with_its_place_and_nothing_is_made() {
    let folder = workspace();
    let output = calib8(folder.path(), &["run", "run.yaml", "--set", "optimize.presets=mixed"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("error: --set optimize.presets=mixed: unknown key 'presets'"),
        "{output:?}"
    );
    fs::write(folder.path().join("bad.yaml"), "version: 1\nnme: demo\n").unwrap();
    let output = calib8(folder.path(), &["run", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("bad.yaml:2:1: unknown key 'nme'"), "{output:?}");
    assert_eq!(names(folder.path()), ["bad.yaml", "images", "model.onnx", "run.yaml"]);
}

#[test]
fn a_missing_run_file_is_2() {
    let folder = workspace();
    let output = calib8(folder.path(), &["run", "none.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("none.yaml: cannot read the run file: No such file"), "{output:?}");
}

#[test]
fn a_dry_run_prints_the_plan_and_touches_nothing() {
    let folder = workspace();
    let output = calib8(folder.path(), &["run", "run.yaml", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    assert!(text.contains("subset_size: 300") && text.contains("# calibration  1 images"), "{text}");
    assert!(text.contains("# warning: no images to calibrate on are given"), "{text}");
    assert_eq!(names(folder.path()), ["images", "model.onnx", "run.yaml"]);
}

#[test]
fn a_dry_run_is_json_when_asked() {
    let folder = workspace();
    let output = calib8(folder.path(), &["run", "run.yaml", "--dry-run", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["plan"]["name"], "demo");
    assert_eq!(json["dataset_images"], 1);
}

#[test]
fn the_plan_that_a_dry_run_prints_is_a_run_file() {
    let folder = workspace();
    let first = stdout(&calib8(folder.path(), &["run", "run.yaml", "--dry-run"]));
    fs::write(folder.path().join("again.yaml"), &first).unwrap();
    let second = stdout(&calib8(folder.path(), &["run", "again.yaml", "--dry-run"]));
    let plan = |text: &str| text.split("\n#").next().unwrap().to_string();
    assert_eq!(plan(&second), plan(&first));
}

#[test]
fn a_folder_that_holds_a_run_is_refused_with_2() {
    let folder = workspace();
    let out = folder.path().join("out/demo");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("summary.json"), "{}").unwrap();
    for arguments in [&["run", "run.yaml"][..], &["run", "run.yaml", "--dry-run"]] {
        let output = calib8(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains("already holds a run; continue it with --resume"), "{output:?}");
    }
    assert_eq!(names(&out), ["summary.json"]);
}

#[test]
fn an_output_that_cannot_be_written_is_1() {
    let folder = workspace();
    let output = calib8(folder.path(), &["run", "run.yaml", "--output", "model.onnx/below"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("a part of the path is a file"), "{output:?}");
}

#[test]
fn completions_name_the_commands() {
    let folder = workspace();
    for shell in ["bash", "zsh", "fish"] {
        let output = calib8(folder.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("dry-run"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = workspace();
    let mut child = Command::new(env!("CARGO_BIN_EXE_calib8"))
        .args(["completions", "bash"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stderr(&output), "");
}
