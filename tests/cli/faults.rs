//! A disk that fails at any write of a run: the error says which file, nothing is left half written, what was
//! finished stays, and `--resume` ends in the bytes of an undisturbed run.
//!
//! `faults.c` stands before the C library and counts every call that changes something below the output folder.
//! `CALIB8_FAULTS=all` tries each of them, with one error after another, once and for good; without it some are
//! tried, spread over the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Done, Workspace, names};

const FULL: i32 = 28;
const READ_ONLY: i32 = 30;
const PERMISSION: i32 = 13;
const QUOTA: i32 = 122;
const DAMAGED: i32 = 5;

/// Numbers of the system, and what the message must advise.
const ERRORS: [(i32, &str); 5] = [
    (FULL, "free some space"),
    (READ_ONLY, "the file system is read-only"),
    (PERMISSION, "permissions"),
    (QUOTA, "quota"),
    (DAMAGED, "Input/output error"),
];
/// Calls that are tried unless all are asked for.
const SOME: usize = 8;

/// Files that must come out the same. The others hold times.
const RESULTS: [&str; 4] = ["model.int8.onnx", "manifest.json", "predictions.csv", "checkpoint"];

/// The library, built by the compiler that the build needs anyway.
fn library(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/faults.c");
    let library = folder.join("faults.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

struct Faulty {
    workspace: Workspace,
    library: PathBuf,
}

impl Faulty {
    /// Runs with the fault; the output folder is the second of two new ones, so that making folders may fail too.
    fn run(&self, at: usize, error: i32, stays: bool, count: &str) -> Done {
        let mut command = self.workspace.command(&["run", "run.yaml", "--output", "new/out"]);
        command.env("LD_PRELOAD", &self.library).env("CALIB8_FAULT_FOLDER", self.workspace.path("new"));
        command.env("CALIB8_FAULT_AT", at.to_string()).env("CALIB8_FAULT_ERRNO", error.to_string());
        command.env("CALIB8_FAULT_STAYS", if stays { "1" } else { "0" });
        if !count.is_empty() {
            command.env("CALIB8_FAULT_COUNT", self.workspace.path(count));
        }
        Done::of(&command.output().unwrap())
    }

    fn results(&self) -> Vec<Option<Vec<u8>>> {
        RESULTS.iter().map(|name| fs::read(self.workspace.path("new/out").join(name)).ok()).collect()
    }
}

#[test]
fn a_write_that_fails_is_an_error_and_what_was_finished_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(folder.path()) else {
        println!("skipped: there is no compiler named cc here");
        return;
    };
    let workspace = Workspace::tiny();
    workspace.add("threads: 1");
    let faulty = Faulty { workspace, library };
    let workspace = &faulty.workspace;
    let done = faulty.run(0, 0, false, "calls");
    assert_eq!(done.code, Some(0), "{done}");
    let calls = fs::read_to_string(workspace.path("calls")).unwrap_or_default();
    if calls.is_empty() {
        println!("skipped: this program can't be given another library to start with");
        return;
    }
    let calls: Vec<&str> = calls.lines().collect();
    let undisturbed = faulty.results();
    assert!(undisturbed.iter().all(Option::is_some), "all results are there");
    let all = std::env::var("CALIB8_FAULTS").is_ok_and(|value| value == "all");
    let step = if all { 1 } else { calls.len().div_ceil(SOME) };
    let (mut tried, mut survived, mut resumed) = (0, 0, 0);
    for at in (1..=calls.len()).step_by(step) {
        let (error, advice) = ERRORS[at / step % ERRORS.len()];
        let stays = at / step / ERRORS.len() % 2 == 1;
        fs::remove_dir_all(workspace.path("new")).unwrap_or_default();
        let what = format!("call {at} of {} ({}), error {error}, stays: {stays}", calls.len(), calls[at - 1]);
        let done = faulty.run(at, error, stays, "");
        tried += 1;
        let out = workspace.path("new/out");
        if done.code == Some(0) {
            // Only what nobody needs may fail unnoticed: the log for people, cleaning up.
            survived += 1;
            let warned = done.stderr.contains("the event log is not complete: ");
            println!("{what}: no harm{}", if warned { ", and a warning" } else { "" });
        } else {
            assert_eq!(done.code, Some(1), "{what}: {done}");
            assert!(done.error().contains("/new"), "{what}: no path is named: {done}");
            assert!(done.error().contains(advice), "{what}: no advice: {done}");
        }
        if !stays {
            let left = names(&out).into_iter().find(|name| name.starts_with(".calib8-tmp-"));
            assert!(left.is_none() || calls[at - 1] == "unlink", "{what}: {left:?}");
        }
        for (name, whole) in RESULTS.iter().zip(&undisturbed) {
            // The checkpoint grows in steps.
            if let Some(found) = fs::read(out.join(name)).ok().filter(|_| *name != "checkpoint") {
                assert!(Some(&found) == whole.as_ref(), "{what}: {name} is not whole");
            }
        }
        if !all || at % 4 == 0 {
            resumed += 1;
            let again = workspace.run(&["--output", "new/out", "--resume"]);
            assert_eq!(again.code, Some(0), "{what}, resumed: {again}");
            assert!(faulty.results() == undisturbed, "{what}: other results after --resume");
            let left = names(&out).into_iter().find(|name| name.starts_with(".calib8-tmp-"));
            assert!(left.is_none(), "{what}: {left:?}");
        }
    }
    println!(
        "{tried} faults at {} calls, {survived} without harm; {resumed} runs taken up again",
        calls.len()
    );
}

#[test]
fn a_file_system_without_locks_is_said_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(folder.path()) else {
        println!("skipped: there is no compiler named cc here");
        return;
    };
    let workspace = Workspace::tiny();
    for no_locks in ["37", "95"] {
        let mut command = workspace.command(&["run", "run.yaml", "--force"]);
        let done = command.env("LD_PRELOAD", &library).env("CALIB8_FAULT_LOCKS", no_locks).output().unwrap();
        let done = Done::of(&done);
        assert_eq!(done.code, Some(0), "{done}");
        let expected = "out: this file system keeps no locks (NFS without its lock service is one)";
        assert!(done.stderr.contains(expected), "{done}");
        assert!(workspace.summary()["warnings"].to_string().contains("keeps no locks"));
    }
    workspace.passes(&["--force"]);
    assert!(!workspace.summary()["warnings"].to_string().contains("locks"), "with locks nothing is said");
}
