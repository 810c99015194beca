//! Work in a process of its own: it begins, outlives who started it, and ends as in the foreground.

use std::fs;

use calib8::project::lock::RunLock;
use calib8::run::events::Status;
use calib8::run::status::{self, Standing};
use rustix::process::Signal;

use super::support::{Worker, Workspace, names, wait_for};

const FINISHED: Standing = Standing::Finished(Status::Passed);

#[test]
fn a_detached_run_makes_what_a_run_in_the_foreground_makes() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    let foreground =
        ["model.int8.onnx", "predictions.csv", "manifest.json"].map(|name| workspace.output(name));
    fs::remove_dir_all(workspace.path("out")).unwrap();

    let done = workspace.run(&["--detach", "--json"]);
    let _worker = Worker::of(&done);
    let line: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(line["directory"], workspace.path("out").to_str().unwrap());
    wait_for(&workspace.path("out"), "finished", |s| s.standing == FINISHED && s.holder.is_none());
    let detached = ["model.int8.onnx", "predictions.csv", "manifest.json"].map(|name| workspace.output(name));
    assert!(detached == foreground);
    let log = String::from_utf8(workspace.output("worker.log")).unwrap();
    assert!(log.contains("statistics: done in "), "{log}");
    assert!(!names(&workspace.path("out")).iter().any(|name| name.starts_with(".calib8-tmp-")));
}

#[test]
fn a_worker_is_in_a_session_of_its_own_hears_no_hang_up_and_stops_when_asked() {
    let workspace = Workspace::tiny();
    let worker = Worker::of(&workspace.run(&["--detach", "--json", "--set", "performance.seconds=60"]));
    let out = workspace.path("out");
    let measures =
        |s: &status::RunStatus| s.state.active().is_some_and(|stage| stage.stage.name() == "measure");
    wait_for(&out, "measure", measures);
    let stat = fs::read_to_string(format!("/proc/{}/stat", worker.id())).unwrap();
    // Behind the name in parentheses: state, parent, group, session.
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap().to_string();
    assert_eq!(session, worker.id().to_string());

    worker.signal(Signal::HUP);
    let done = workspace.run(&["--detach", "--resume"]);
    assert!(done.error().contains("in use by process"), "{done}");
    assert_eq!(status::of(&out).standing, Standing::Running, "after the hang-up");
    worker.signal(Signal::TERM);
    wait_for(&out, "stopped", |s| s.holder.is_none());
    assert_eq!(status::of(&out).standing, Standing::Interrupted);
    let log = String::from_utf8(workspace.output("worker.log")).unwrap();
    assert!(log.ends_with("interrupted\n"), "{log}");
}

#[test]
fn a_killed_worker_shows_as_interrupted_and_is_taken_up_again() {
    let workspace = Workspace::tiny();
    let worker = Worker::of(&workspace.run(&["--detach", "--json", "--set", "performance.seconds=60"]));
    let out = workspace.path("out");
    wait_for(&out, "a stage", |s| !s.state.stages.is_empty());
    worker.signal(Signal::KILL);
    wait_for(&out, "killed", |s| s.standing == Standing::Interrupted);
    drop(worker);

    let again =
        Worker::of(&workspace.run(&["--detach", "--json", "--resume", "--set", "performance.seconds=60"]));
    wait_for(&out, "at work again", |s| s.standing == Standing::Running && s.state.pid.is_some());
    again.signal(Signal::TERM);
    wait_for(&out, "stopped", |s| s.holder.is_none());
}

#[test]
fn what_a_run_in_the_foreground_is_refused_for_a_detached_one_is_too() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    let done = workspace.run(&["--detach"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("out: already holds a run; continue it with --resume"), "{done}");
    let done = workspace.run(&["--detach", "--set", "dataset.path=none"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("'dataset.path' does not exist"), "{done}");
}

#[test]
fn a_worker_begins_only_where_a_run_is() {
    let workspace = Workspace::tiny();
    let done = workspace.calib8(&["worker", "elsewhere"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("elsewhere: holds no run (there is no run.yaml in it)"), "{done}");
    assert_eq!(names(&workspace.root()), ["run.yaml"]);
}

#[test]
fn a_worker_whose_inputs_went_away_says_so_and_leaves_the_lock() {
    let workspace = Workspace::tiny_with_images();
    workspace.passes(&[]);
    fs::remove_dir_all(workspace.path("images")).unwrap();
    let done = workspace.calib8(&["worker", "out"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("'dataset.path' does not exist"), "{done}");
    assert!(RunLock::holder(&workspace.path("out")).is_none());
}
