//! The output folder: what may be replaced, and what happens when nothing can be written.

use std::fs;
use std::process::{Command, Stdio};

use super::support::{Done, Workspace, contents, fixture, names};

#[test]
fn a_folder_that_holds_a_run_is_refused_and_left_as_it_was() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    let before = contents(&workspace.root());
    for arguments in [&[][..], &["--dry-run"], &["--set", "optimize.preset=performance"]] {
        let done = workspace.run(arguments);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.error().contains("out: already holds a run; continue it with --resume"), "{done}");
    }
    let done = workspace.run(&["--resume", "--set", "optimize.preset=performance"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("another plan (see run.yaml: `preset: mixed` differs)"), "{done}");
    assert!(contents(&workspace.root()) == before, "nothing was touched");
}

#[test]
fn force_replaces_the_run_and_leaves_other_files() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    let first = workspace.output("model.int8.onnx");
    fs::write(workspace.path("out/notes.txt"), "mine").unwrap();
    workspace.passes(&["--force", "--set", "optimize.preset=performance", "--set", "reports=[predictions]"]);
    assert_ne!(workspace.output("model.int8.onnx"), first);
    assert_eq!(workspace.output("notes.txt"), b"mine");
    assert!(!workspace.path("out/annotations.csv").exists(), "of the first run, and wrong for the second");
    let log = String::from_utf8(workspace.output("events.jsonl")).unwrap();
    assert_eq!(log.matches(r#""event":"started""#).count(), 1, "a new log");
}

#[test]
fn resuming_a_finished_run_gives_the_same_again() {
    let workspace = Workspace::tiny();
    workspace.passes(&[]);
    let first = workspace.output("manifest.json");
    workspace.passes(&["--resume"]);
    assert_eq!(workspace.output("manifest.json"), first);
}

#[test]
fn an_output_that_cannot_be_made_has_its_message() {
    let workspace = Workspace::tiny();
    fs::write(workspace.path("file"), "x").unwrap();
    for (output, advice) in [("file/below", "a part of the path is a file"), ("/proc/calib8", "cannot write")]
    {
        let done = workspace.run(&["--output", output]);
        assert_eq!(done.code, Some(1), "{done}");
        assert!(done.error().contains(output) && done.error().contains(advice), "{done}");
    }
    let done = workspace.run(&["--set", "output=file"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.error().contains("'output' is a file"), "{done}");
    for arguments in [&["--output", "file"][..], &["--output", "file", "--force"]] {
        let done = workspace.run(arguments);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.error().contains("file: is a file, expected a folder for the run"), "{done}");
    }
    assert_eq!(names(&workspace.root()), ["file", "run.yaml"]);
    assert_eq!(fs::read_to_string(workspace.path("file")).unwrap(), "x");
}

#[test]
fn a_folder_that_may_not_be_written_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let workspace = Workspace::tiny();
    let locked = workspace.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(locked.join("probe"), "").is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    for output in ["locked", "locked/below"] {
        let done = workspace.run(&["--output", output]);
        assert_eq!(done.code, Some(1), "{done}");
        assert!(done.error().contains("permissions"), "{done}");
    }
}

/// Runs `calib8 run run.yaml ARGUMENTS` where no file may grow beyond `blocks` of 512 bytes: a write fails
/// in the middle of a file, as on a full disk. (The signal that would come with it is ignored.)
fn run_with_short_files(workspace: &Workspace, blocks: usize, arguments: &str) -> Done {
    let binary = env!("CARGO_BIN_EXE_calib8");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec '{binary}' run run.yaml {arguments}");
    Done::of(
        &Command::new("sh")
            .args(["-c", &script])
            .current_dir(workspace.root())
            .envs(workspace.home())
            .output()
            .unwrap(),
    )
}

fn holds_no_half_file(workspace: &Workspace) {
    let names = names(&workspace.path("out"));
    assert!(!names.iter().any(|name| name.starts_with(".calib8-tmp-")), "{names:?}");
}

#[test]
fn a_write_that_fails_in_the_middle_of_a_file_leaves_no_half_of_it() {
    let workspace = Workspace::tiny();
    // Too short for the checkpoint, which is the first large file.
    let done = run_with_short_files(&workspace, 20, "");
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("out/checkpoint: cannot write: "), "{done}");
    holds_no_half_file(&workspace);
    assert!(!workspace.path("out/checkpoint").exists());
    assert!(!workspace.path("out/model.int8.onnx").exists());

    workspace.passes(&["--resume"]);
    let model = workspace.output("model.int8.onnx");
    // Too short for the model, of which the last run's stays whole.
    let done = run_with_short_files(&workspace, model.len() / 512 - 1, "--resume");
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("out/model.int8.onnx: cannot write: "), "{done}");
    holds_no_half_file(&workspace);
    assert_eq!(workspace.output("model.int8.onnx"), model);
}

/// On a small disk of its own, where the system lets a user mount one.
#[test]
fn a_full_disk_is_an_error_that_says_what_to_do() {
    let workspace = Workspace::tiny();
    fs::create_dir(workspace.path("disk")).unwrap();
    let binary = env!("CARGO_BIN_EXE_calib8");
    let mount = |kilobytes: usize, then: &str| {
        let script = format!("mount -t tmpfs -o size={kilobytes}k tmpfs disk || exit 99; {then}");
        let command = ["--user", "--map-root-user", "--mount", "sh", "-c", &script];
        Command::new("unshare").args(command).current_dir(workspace.root()).envs(workspace.home()).output()
    };
    if !mount(64, "true").is_ok_and(|output| output.status.success()) {
        println!("skipped: no disk can be mounted here");
        return;
    }
    for kilobytes in [4, 16, 40, 64, 96] {
        let then = format!("'{binary}' run run.yaml --output disk/out; code=$?; ls -A disk/out; exit $code");
        let done = Done::of(&mount(kilobytes, &then).unwrap());
        assert_eq!(done.code, Some(1), "{kilobytes} kB: {done}");
        assert!(done.error().contains("disk/out"), "{kilobytes} kB: {done}");
        assert!(done.error().contains("free some space"), "{kilobytes} kB: {done}");
        assert!(!done.stdout.contains(".calib8-tmp-"), "{kilobytes} kB: {done}");
        assert!(!done.stdout.contains("summary.json"), "{kilobytes} kB: {done}");
    }
}

#[test]
fn standard_output_on_a_full_disk_is_an_error() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full here");
        return;
    };
    let workspace = Workspace::tiny();
    let model = fixture("tiny/tiny.onnx").display().to_string();
    let commands = [
        &["run", "run.yaml", "--dry-run"][..],
        &["run", "run.yaml", "--dry-run", "--json"],
        &["inspect", &model],
        &["doctor"],
        &["completions", "bash"],
    ];
    for arguments in commands {
        let stdout = Stdio::from(full.try_clone().unwrap());
        let output = workspace.command(arguments).stdout(stdout).stderr(Stdio::piped()).output().unwrap();
        let done = Done::of(&output);
        assert_eq!(done.code, Some(1), "{arguments:?}: {done}");
        assert!(done.error().contains("No space left on device"), "{arguments:?}: {done}");
    }
}

#[test]
fn files_are_made_with_the_umask_of_the_user() {
    use std::os::unix::fs::PermissionsExt;
    let workspace = Workspace::tiny();
    let binary = env!("CARGO_BIN_EXE_calib8");
    let script = format!("umask 027; exec '{binary}' run run.yaml");
    let mut command = Command::new("sh");
    let done =
        command.args(["-c", &script]).current_dir(workspace.root()).envs(workspace.home()).output().unwrap();
    let done = Done::of(&done);
    assert_eq!(done.code, Some(0), "{done}");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&workspace.path("out")), 0o750);
    for name in names(&workspace.path("out")) {
        assert_eq!(mode(&workspace.path("out").join(&name)), 0o640, "{name}");
    }
}
