//! `ps`, `attach`, `logs` and `cancel`, on runs that were started elsewhere.

use std::fs;
use std::process::{Child, Stdio};

use calib8::run::status::{self, Standing};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::support::{Done, Worker, Workspace, wait_for};

fn listed(workspace: &Workspace) -> Vec<Value> {
    let done = workspace.calib8(&["ps", "--json"]);
    assert_eq!(done.code, Some(0), "{done}");
    let value: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(value["schema"], "calib8/runs/1");
    value["runs"].as_array().unwrap().clone()
}

fn start(workspace: &Workspace, arguments: &[&str]) -> Child {
    workspace.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Done {
    Done::of(&child.wait_with_output().unwrap())
}

/// A detached run that measures until it is stopped.
fn long(workspace: &Workspace) -> Worker {
    let worker = Worker::of(&workspace.run(&["--detach", "--json", "--set", "performance.seconds=600"]));
    wait_for(&workspace.path("out"), "measure", |s| {
        s.state.active().is_some_and(|stage| stage.stage.name() == "measure")
    });
    worker
}

#[test]
fn a_run_is_listed_watched_left_and_stopped_from_elsewhere() {
    let workspace = Workspace::tiny();
    assert_eq!(listed(&workspace), [Value::Null; 0]);
    let worker = long(&workspace);
    let runs = listed(&workspace);
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["directory"], workspace.path("out").to_str().unwrap());
    assert_eq!((&runs[0]["name"], &runs[0]["status"]), (&"tiny".into(), &"running".into()));
    assert_eq!(runs[0]["pid"], worker.id());
    assert_eq!(runs[0]["stage"], "measure");
    let text = workspace.calib8(&["ps"]).stdout;
    assert!(text.lines().nth(1).unwrap().starts_with(&format!("running  tiny  {}", worker.id())), "{text}");

    let attached = start(&workspace, &["attach"]);
    let following = start(&workspace, &["logs", "--follow", "tiny"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    kill_process(Pid::from_child(&attached), Signal::INT).unwrap();
    let done = end(attached);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stderr.contains("statistics: done in"), "what was before is shown: {done}");
    assert!(done.stderr.contains("left; the run goes on in"), "{done}");
    assert_eq!(status::of(&workspace.path("out")).standing, Standing::Running);

    let attached = start(&workspace, &["attach", &worker.id().to_string(), "--json"]);
    let done = workspace.calib8(&["cancel", "out"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stdout.contains(&format!("process {} has stopped", worker.id())), "{done}");
    let done = end(attached);
    assert_eq!(done.code, Some(130), "{done}");
    let last: Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "interrupted");
    let done = end(following);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stdout.contains("measure: started\n") && done.stdout.ends_with("interrupted\n"), "{done}");

    assert_eq!(listed(&workspace)[0]["status"], "interrupted");
    let done = workspace.calib8(&["cancel", "out"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("nobody works there"), "{done}");
    fs::remove_dir_all(workspace.path("out")).unwrap();
    assert_eq!(listed(&workspace), [Value::Null; 0], "its folder is gone");
}

#[test]
fn a_run_that_is_over_is_shown_as_it_ended() {
    let workspace = Workspace::tiny();
    let run = workspace.run(&[]);
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(listed(&workspace)[0]["status"], "finished", "runs in the foreground are listed too");
    let done = workspace.calib8(&["attach", "out"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert_eq!(done.stdout, run.stdout, "the same summary");
    let done = workspace.calib8(&["logs", "tiny"]);
    assert_eq!(done.stdout.as_bytes(), workspace.output("worker.log"));
    let done = workspace.calib8(&["attach"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("no run is at work"), "{done}");
    let done = workspace.calib8(&["logs", "x"]);
    assert!(done.error().contains("no run is called \"x\""), "{done}");
}

#[test]
fn a_worker_that_was_killed_is_missed_by_those_who_watch() {
    let workspace = Workspace::tiny();
    let worker = long(&workspace);
    let attached = start(&workspace, &["attach", "out"]);
    worker.signal(Signal::KILL);
    let done = end(attached);
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("out: its worker died without a word; `calib8 run "), "{done}");
}
