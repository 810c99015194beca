//! Runs that are stopped: by Ctrl-C, by a kill, by a machine that goes down. They go on with `--resume`,
//! and give the bytes of a run that nobody disturbed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::support::{Done, Workspace, fixture, names};

/// Copies of each tiny image: so many that collecting statistics takes a while.
const COPIES: usize = 150;

/// Files that must not depend on whether a run was stopped.
const RESULTS: [&str; 4] = ["model.int8.onnx", "manifest.json", "predictions.csv", "tensor_distance.csv"];

fn results(workspace: &Workspace) -> Vec<Vec<u8>> {
    RESULTS.iter().map(|name| workspace.output(name)).collect()
}

/// A run at work, whose lines can be waited for.
struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
    heard: String,
}

impl Running {
    fn start(workspace: &Workspace, arguments: &[&str]) -> Running {
        let mut command: Command = workspace.command(&[&["run", "run.yaml"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Running { child, lines, heard: String::new() }
    }

    /// Reads on until a line begins with `start`.
    fn wait_for(&mut self, start: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            self.heard += &line;
            if line.starts_with(start) {
                return;
            }
            line.clear();
        }
        panic!("no line begins with {start:?}:\n{}", self.heard);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    fn end(mut self) -> Done {
        // Both pipes are small; standard output holds no more than the summary.
        self.lines.read_to_string(&mut self.heard).unwrap();
        let mut done = Done::of(&self.child.wait_with_output().unwrap());
        done.stderr = self.heard;
        done
    }
}

/// Images that the checkpoint covers, and those that there are.
fn checkpoint_position(workspace: &Workspace) -> u64 {
    let checkpoint: Value = serde_json::from_slice(&workspace.output("checkpoint")).unwrap();
    checkpoint["position"].as_u64().unwrap()
}

fn lines_of_log(workspace: &Workspace) -> Vec<Value> {
    let log = String::from_utf8(workspace.output("events.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// The whole walk in one test, as making the long run is what takes time.
#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bytes() {
    let workspace = Workspace::long(COPIES);
    workspace.passes(&[]);
    let undisturbed = results(&workspace);

    // Ctrl-C.
    let mut run = Running::start(&workspace, &["--force"]);
    run.wait_for("statistics: ");
    run.wait_for("statistics: ");
    run.signal(Signal::INT);
    let done = run.end();
    assert_eq!(done.code, Some(130), "{done}");
    assert!(done.error().contains("interrupted; what was finished is kept"), "{done}");
    assert!(done.error().contains("--resume"), "{done}");
    assert_eq!(lines_of_log(&workspace).last().unwrap()["event"], "interrupted");
    assert!(!names(&workspace.path("out")).iter().any(|name| name.starts_with(".calib8-tmp-")));
    workspace.passes(&["--resume"]);
    assert!(results(&workspace) == undisturbed, "after Ctrl-C");

    // A kill that nothing can be done about, once there is a checkpoint; then a log whose last line was
    // being written, and a temporary file.
    fs::remove_dir_all(workspace.path("out")).unwrap();
    let mut run = Running::start(&workspace, &[]);
    while !workspace.path("out/checkpoint").exists() && run.child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None);
    let killed_at = checkpoint_position(&workspace);
    let mut log = fs::OpenOptions::new().append(true).open(workspace.path("out/events.jsonl")).unwrap();
    log.write_all(br#"{"time":"2026-01-01T00:00:0"#).unwrap();
    fs::write(workspace.path("out/.calib8-tmp-1-0-model.int8.onnx"), "half").unwrap();
    let done = workspace.run(&["--resume"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(results(&workspace) == undisturbed, "after a kill at image {killed_at}");
    assert!(!names(&workspace.path("out")).iter().any(|name| name.starts_with(".calib8-tmp-")));
    let events = lines_of_log(&workspace);
    assert_eq!(events.iter().filter(|event| event["event"] == "started").count(), 2);
    let second = events.iter().rposition(|event| event["event"] == "started").unwrap();
    let counted = |event: &&Value| event["event"] == "progress" && event["stage"] == "statistics";
    if let Some(first) = events[second..].iter().find(counted) {
        assert!(first["done"].as_u64().unwrap() >= killed_at, "it went on where it stopped: {first}");
    }

    // A checkpoint of which half is gone.
    let checkpoint = workspace.output("checkpoint");
    fs::write(workspace.path("out/checkpoint"), &checkpoint[..checkpoint.len() / 2]).unwrap();
    let done = workspace.run(&["--resume"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stderr.contains("out/checkpoint: the checkpoint is not used, it is cut short"), "{done}");
    assert!(results(&workspace) == undisturbed, "after a damaged checkpoint");
}

#[test]
fn ctrl_c_is_heard_in_every_stage_that_takes_long() {
    for stage in ["baseline", "measure"] {
        let workspace = Workspace::tiny();
        let mut run = Running::start(&workspace, &["--set", "performance.seconds=60"]);
        run.wait_for(&format!("{stage}: "));
        run.signal(if stage == "measure" { Signal::TERM } else { Signal::INT });
        let done = run.end();
        assert_eq!(done.code, Some(130), "{stage}: {done}");
        assert!(!workspace.path("out/summary.json").exists(), "{stage}");
    }
}

#[test]
fn images_that_changed_since_the_checkpoint_are_not_mixed_in() {
    let workspace = Workspace::tiny_with_images();
    workspace.passes(&[]);
    let first = workspace.output("model.int8.onnx");
    fs::remove_file(workspace.path("images/tiny_03.png")).unwrap();
    fs::copy(fixture("odd/exif_upright.png"), workspace.path("images/tiny_04.png")).unwrap();
    let done = workspace.run(&["--resume"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stderr.contains("it belongs to another model, dataset or preprocessing"), "{done}");
    let resumed = workspace.output("model.int8.onnx");
    assert_ne!(resumed, first);
    workspace.passes(&["--force"]);
    assert_eq!(workspace.output("model.int8.onnx"), resumed);
}

#[test]
fn a_second_run_in_the_same_folder_is_refused_with_the_name_of_the_first() {
    let workspace = Workspace::tiny();
    let mut run = Running::start(&workspace, &["--set", "performance.seconds=60"]);
    run.wait_for("measure: ");
    let holder = format!("in use by process {} on ", run.child.id());
    for arguments in [&["--resume"][..], &["--force"], &[]] {
        let done = workspace.run(arguments);
        assert!(matches!(done.code, Some(1 | 2)), "{done}");
        assert!(done.error().contains(&holder), "{holder}\n{done}");
    }
    run.signal(Signal::INT);
    assert_eq!(run.end().code, Some(130));
}
