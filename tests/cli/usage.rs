//! Arguments, exit codes and messages: what can be said without running a model.

use std::fs;
use std::process::{Command, Stdio};

use super::support::{Done, Workspace, names};

#[test]
fn help_documents_the_exit_codes() {
    let folder = Workspace::tiny();
    let done = folder.calib8(&["--help"]);
    assert_eq!(done.code, Some(0));
    for line in ["0    done", "1    failed", "2    wrong usage", "3    a gate failed", "130  interrupted"] {
        assert!(done.stdout.contains(line), "{line:?} in\n{}", done.stdout);
    }
}

#[test]
fn wrong_usage_is_2() {
    let folder = Workspace::tiny();
    for arguments in [&[][..], &["fly"], &["run"], &["run", "run.yaml", "--resume", "--force"]] {
        assert_eq!(folder.calib8(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_wrong_run_file_is_2_with_its_place_and_nothing_is_made() {
    let folder = Workspace::tiny();
    let done = folder.calib8(&["run", "run.yaml", "--set", "optimize.presets=mixed"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.starts_with("error: --set optimize.presets=mixed: unknown key 'presets'"), "{done}");
    fs::write(folder.path("bad.yaml"), "version: 1\nnme: demo\n").unwrap();
    let done = folder.calib8(&["run", "bad.yaml"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("bad.yaml:2:1: unknown key 'nme'"), "{done}");
    assert_eq!(names(&folder.root()), ["bad.yaml", "run.yaml"]);
}

#[test]
fn a_missing_run_file_is_2() {
    let folder = Workspace::tiny();
    let done = folder.calib8(&["run", "none.yaml"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("none.yaml: cannot read the run file: No such file"), "{done}");
}

#[test]
fn a_dry_run_prints_the_plan_and_touches_nothing() {
    let folder = Workspace::tiny();
    let done = folder.calib8(&["run", "run.yaml", "--dry-run"]);
    assert_eq!(done.code, Some(0), "{done}");
    let text = done.stdout;
    assert!(text.contains("subset_size: 300") && text.contains("# calibration  16 images"), "{text}");
    assert!(text.contains("# warning: no images to calibrate on are given"), "{text}");
    assert_eq!(names(&folder.root()), ["run.yaml"]);
}

#[test]
fn a_dry_run_is_json_when_asked() {
    let folder = Workspace::tiny();
    let done = folder.calib8(&["run", "run.yaml", "--dry-run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(json["plan"]["name"], "tiny");
    assert_eq!(json["dataset_images"], 16);
}

#[test]
fn the_plan_that_a_dry_run_prints_is_a_run_file() {
    let folder = Workspace::tiny();
    let first = folder.calib8(&["run", "run.yaml", "--dry-run"]).stdout;
    fs::write(folder.path("again.yaml"), &first).unwrap();
    let second = folder.calib8(&["run", "again.yaml", "--dry-run"]).stdout;
    let plan = |text: &str| text.split("\n#").next().unwrap().to_string();
    assert_eq!(plan(&second), plan(&first));
}

#[test]
fn a_folder_that_holds_a_run_is_refused_with_2() {
    let folder = Workspace::tiny();
    let out = folder.path("out");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("summary.json"), "{}").unwrap();
    for arguments in [&["run", "run.yaml"][..], &["run", "run.yaml", "--dry-run"]] {
        let done = folder.calib8(arguments);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stderr.contains("already holds a run; continue it with --resume"), "{done}");
    }
    assert_eq!(names(&out), ["summary.json"]);
}

#[test]
fn an_output_that_cannot_be_written_is_1() {
    let folder = Workspace::tiny();
    let done = folder.calib8(&["run", "run.yaml", "--output", "run.yaml/below"]);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.stderr.contains("a part of the path is a file"), "{done}");
}

#[test]
fn completions_name_the_commands() {
    let folder = Workspace::tiny();
    for shell in ["bash", "zsh", "fish"] {
        let done = folder.calib8(&["completions", shell]);
        assert_eq!(done.code, Some(0));
        assert!(done.stdout.contains("dry-run"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Workspace::tiny();
    let mut child = Command::new(env!("CARGO_BIN_EXE_calib8"))
        .args(["completions", "bash"])
        .current_dir(folder.root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = Done::of(&child.wait_with_output().unwrap());
    assert_eq!(done.code, Some(0), "{done}");
    assert_eq!(done.stderr, "");
}
