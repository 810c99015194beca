//! Several run files: each is done whatever became of the others, and the worst decides the exit code.

use std::fs;
use std::process::Stdio;

use calib8::run::directory::{Existing, RunDirectory};
use calib8::run::events::Status;
use calib8::run::plan::Plan;
use calib8::run::status::{self, Standing};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::support::{Done, Worker, Workspace, names, tiny_run_file, wait_for};

/// A folder `queue` with run files `a.yaml`, ... that write to `out_a`, ...; each with a line of its own.
fn queue(lines: &[&str]) -> Workspace {
    let workspace = Workspace::empty();
    fs::create_dir(workspace.path("queue")).unwrap();
    for (name, line) in ["a", "b", "c"].iter().zip(lines) {
        let output = workspace.path(&format!("out_{name}"));
        let text = tiny_run_file().replace("output: out", &format!("output: {}\n{line}", output.display()));
        let text = text.replace("name: tiny", &format!("name: {name}"));
        fs::write(workspace.path(&format!("queue/{name}.yaml")), text).unwrap();
    }
    workspace
}

fn rows(done: &Done) -> Vec<Value> {
    done.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}\n{done}")))
        .collect()
}

#[test]
fn one_that_fails_does_not_end_the_others_and_the_worst_decides() {
    let workspace = queue(&["gates: {min_speedup: 1000}", "reports: [nonsense]", ""]);
    let done = workspace.calib8(&["run", "queue"]);
    assert_eq!(done.code, Some(2), "{done}");
    let table: Vec<&str> = done.stdout.trim().lines().collect();
    assert!(table[0].starts_with("RUN FILE") && table.len() == 4, "{done}");
    for (line, result) in table[1..].iter().zip(["gate failed", "failed", "finished"]) {
        assert!(line.contains(result), "{line}");
    }
    assert!(done.stderr.contains("[2/3] queue/b.yaml: failed: queue/b.yaml:"), "{done}");
    assert!(workspace.path("out_c/summary.json").exists());

    fs::remove_file(workspace.path("queue/b.yaml")).unwrap();
    let done = workspace.calib8(&["run", "queue", "--resume", "--json"]);
    assert_eq!(done.code, Some(3), "{done}");
    let rows = rows(&done);
    assert!(rows.iter().all(|row| row["result"] == "done before"), "{done}");
    assert!(rows[1]["speedup"].is_number() && rows[1]["agreement"].is_number(), "{done}");
}

#[test]
fn several_at_once_have_cores_of_their_own() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        println!("skipped: needs two cores");
        return;
    }
    let workspace = queue(&["", ""]);
    let done = workspace.calib8(&["run", "queue/a.yaml", "queue/b.yaml", "--jobs", "2", "--json"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert_eq!(rows(&done).len(), 2, "{done}");
    let share = std::thread::available_parallelism().unwrap().get() / 2;
    for name in ["out_a", "out_b"] {
        let plan = fs::read_to_string(workspace.path(name).join("run.yaml")).unwrap();
        let threads = plan.lines().find_map(|line| line.strip_prefix("threads: ")).unwrap();
        assert!((share..=share + 1).contains(&threads.parse().unwrap()), "{plan}");
    }
}

#[test]
fn two_runs_of_a_queue_do_not_write_to_one_folder() {
    let workspace = queue(&["", ""]);
    let text = fs::read_to_string(workspace.path("queue/a.yaml")).unwrap();
    fs::write(workspace.path("queue/b.yaml"), text).unwrap();
    let done = workspace.calib8(&["run", "queue", "--force", "--json"]);
    assert_eq!(done.code, Some(2), "{done}");
    let rows = rows(&done);
    assert_eq!(rows[0]["result"], "finished");
    assert!(rows[1]["reason"].as_str().unwrap().contains("another run of this queue puts its results there"));
    let done = workspace.calib8(&["run", "queue", "--output", "o"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("--output names one folder"), "{done}");
}

#[test]
fn a_dry_run_of_a_queue_touches_nothing() {
    let workspace = queue(&["", "reports: [nonsense]"]);
    let done = workspace.calib8(&["run", "queue", "--dry-run"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(
        done.stdout.contains("# queue/a.yaml\n") && done.stdout.contains("# calibration  16 images"),
        "{done}"
    );
    assert!(done.error().contains("queue/b.yaml:"), "{done}");
    assert_eq!(names(&workspace.root()), ["queue"]);
}

#[test]
fn ctrl_c_stops_the_run_at_work_and_begins_no_other() {
    let workspace = queue(&["", ""]);
    let arguments = ["run", "queue", "--json", "--set", "performance.seconds=600"];
    let child = workspace.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&workspace.path("out_a"), "a stage", |s| !s.state.stages.is_empty());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let done = Done::of(&child.wait_with_output().unwrap());
    assert_eq!(done.code, Some(130), "{done}");
    let results: Vec<Value> = rows(&done).iter().map(|row| row["result"].clone()).collect();
    assert_eq!(results, ["interrupted", "not begun"]);
    assert_eq!(status::of(&workspace.path("out_a")).standing, Standing::Interrupted);
    assert!(!workspace.path("out_b").exists());
}

#[test]
fn plans_that_wait_in_their_folders_are_a_queue_too() {
    let workspace = queue(&["", ""]);
    for name in ["a", "b"] {
        let plan = Plan::load(&workspace.path(&format!("queue/{name}.yaml")), &[]).unwrap();
        drop(RunDirectory::create(&plan.output, &plan, Existing::Refuse).unwrap());
        assert_eq!(status::of(&plan.output).standing, Standing::Waiting);
    }
    // What `launch::start_queue` gives the process that it starts, for several and for one.
    let queue =
        ["run", "--resume", "--jobs", "1", "out_a/run.yaml", "out_b/run.yaml", "--in-session", "--json"];
    let done = workspace.calib8(&queue);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(rows(&done).len() == 2 && rows(&done).iter().all(|row| row["result"] == "finished"), "{done}");
    let done =
        workspace.calib8(&["run", "--resume", "--jobs", "1", "out_a/run.yaml", "--in-session", "--json"]);
    assert_eq!(rows(&done)[0]["result"], "done before", "{done}");
}

#[test]
fn a_detached_queue_goes_on_by_itself() {
    let workspace = queue(&["", ""]);
    let done = workspace.calib8(&["run", "queue", "--detach", "--json"]);
    let queue = Worker::of(&done);
    wait_for(&workspace.path("out_a"), "a stage", |s| !s.state.stages.is_empty());
    queue.signal(Signal::HUP);
    let finished =
        |s: &status::RunStatus| s.standing == Standing::Finished(Status::Passed) && s.holder.is_none();
    for name in ["out_a", "out_b"] {
        wait_for(&workspace.path(name), name, finished);
    }
    let line: Value = serde_json::from_str(&done.stdout).unwrap();
    let log = fs::read_to_string(line["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("[1/2] a: started in "), "{log}");
}
