//! A worker that is killed at any moment: the run is taken up again, and ends in the bytes of an
//! undisturbed one.
//!
//! The moments are spread over the events of a run, each a random while behind one. `CALIB8_KILLS=50` tries more of
//! them.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::support::{Done, Workspace, fixture, names};

/// Moments that are tried unless `CALIB8_KILLS` says otherwise.
const KILLS: u64 = 10;
/// Copies of each tiny image, to calibrate on: several checkpoints.
const COPIES: usize = 20;
/// Files that do not depend on when a run was stopped. The others hold times.
const RESULTS: [&str; 8] = [
    "model.int8.onnx",
    "manifest.json",
    "predictions.csv",
    "predictions.json",
    "annotations.csv",
    "annotations.json",
    "tensor_distance.csv",
    "checkpoint",
];

fn results(workspace: &Workspace) -> Vec<Vec<u8>> {
    RESULTS.iter().map(|name| workspace.output(name)).collect()
}

/// SplitMix64.
fn random(seed: u64) -> f64 {
    let z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

#[test]
fn a_run_killed_at_any_moment_ends_in_the_bytes_of_an_undisturbed_one() {
    let kills = std::env::var("CALIB8_KILLS").map_or(KILLS, |number| number.parse().unwrap());
    let workspace = Workspace::long(COPIES);
    workspace.passes(&[]);
    let lines = || fs::read_to_string(workspace.path("out/events.jsonl")).unwrap_or_default().lines().count();
    let whole = lines();
    let undisturbed = results(&workspace);
    let mut hit = 0;
    for kill in 0..kills {
        fs::remove_dir_all(workspace.path("out")).unwrap_or_default();
        let mut command = workspace.command(&["run", "run.yaml"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // By what the run has said so far and not by the clock, which another load would set wrong.
        let line = (whole as f64 * (kill as f64 + random(kill)) / kills as f64) as usize;
        while lines() < line && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20).mul_f64(random(kill + kills)));
        hit += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let stage = fs::read_to_string(workspace.path("out/events.jsonl")).unwrap_or_default();
        let last = stage.lines().last().unwrap_or("nothing was logged").to_string();
        let done = workspace.run(&["--resume"]);
        assert_eq!(done.code, Some(0), "kill {kill} behind line {line}, at {last}: {done}");
        assert!(results(&workspace) == undisturbed, "kill {kill} behind line {line}, at {last}");
        let left = names(&workspace.path("out"));
        assert!(!left.iter().any(|name| name.starts_with(".calib8-tmp-")), "kill {kill}: {left:?}");
    }
    println!("{hit} of {kills} kills hit a run at work");
    assert!(hit * 2 > kills, "the kills came too late to say anything: {hit} of {kills}");
}

#[test]
fn a_checkpoint_of_another_version_is_not_used_and_that_is_said() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    let undisturbed = workspace.output("model.int8.onnx");
    let mut checkpoint: serde_json::Value = serde_json::from_slice(&workspace.output("checkpoint")).unwrap();
    checkpoint["version"] = 99.into();
    fs::write(workspace.path("out/checkpoint"), checkpoint.to_string()).unwrap();
    let done = workspace.run(&["--resume"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.stderr.contains("the checkpoint is not used, it is of version 99, expected 2"), "{done}");
    assert_eq!(workspace.output("model.int8.onnx"), undisturbed);
}

#[test]
fn speeds_that_were_measured_are_kept_when_a_run_is_taken_up_again() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    let measured = workspace.output("performance.json");
    fs::remove_file(workspace.path("out/summary.json")).unwrap();
    workspace.passes(&["--resume"]);
    assert_eq!(workspace.output("performance.json"), measured);
    fs::write(workspace.path("out/performance.json"), &measured[..measured.len() / 2]).unwrap();
    workspace.passes(&["--resume"]);
    assert_ne!(workspace.output("performance.json"), measured, "half a file is measured anew");
}

/// The labels are a pipe that nobody writes to, so that the first signal finds work that can't stop.
#[test]
fn a_second_signal_ends_a_run_at_once() {
    let workspace = Workspace::tiny();
    let pipe = workspace.path("labels");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let images = fixture("tiny/images");
    workspace.set_dataset(&format!("dataset: {{path: '{}', labels: labels}}", images.display()));
    let mut child =
        workspace.command(&["run", "run.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The run file is checked: the pipe is opened once, and that waits for a writer.
    drop(fs::OpenOptions::new().write(true).open(&pipe).unwrap());
    let log = workspace.path("out/events.jsonl");
    let patience = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&log).unwrap_or_default().contains("stage_started") {
        assert!(Instant::now() < patience, "the run did not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    let process = Pid::from_child(&child);
    kill_process(process, Signal::TERM).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let still = child.try_wait().unwrap().is_none();
    kill_process(process, Signal::TERM).unwrap();
    let done = Done::of(&child.wait_with_output().unwrap());
    assert!(still, "the first signal asks: {done}");
    assert_eq!(done.code, Some(130), "{done}");
}
