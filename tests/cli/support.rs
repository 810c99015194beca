//! A folder to work in, the binary run there, and what became of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use calib8::run::status;
use rustix::process::{Pid, Signal, kill_process};

/// A file of `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Names in a folder, sorted; none if there is no folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every file below a folder with its bytes.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names(folder) {
        let path = folder.join(name);
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

/// What a run leaves that did not get as far as to make a model: only what says why.
pub const TRACES: [&str; 5] = ["events.jsonl", "lock", "run.yaml", "state.json", "worker.log"];

/// How a command ended.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// # Panics
    /// The command did: whatever it was given, that is a defect.
    pub fn of(output: &Output) -> Done {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let done =
            Done { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        let panicked = ["panicked at", "RUST_BACKTRACE"].iter().any(|sign| done.stderr.contains(sign));
        assert!(!panicked && done.code.is_none_or(|code| code != 101), "{done}");
        done
    }

    /// The message of a command that failed, from `error:` on.
    pub fn error(&self) -> &str {
        let start = self.stderr.find("error: ").unwrap_or_else(|| panic!("no error:\n{self}"));
        self.stderr[start..].trim_end()
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A temporary folder with a run file for the tiny model, and one that stands for the user's home.
pub struct Workspace(tempfile::TempDir, tempfile::TempDir);

impl Workspace {
    /// Nothing in it.
    pub fn empty() -> Workspace {
        Workspace(tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
    }

    /// `run.yaml` takes the tiny model and its labelled images to `out`, as fast as a run can be.
    pub fn tiny() -> Workspace {
        let workspace = Workspace::empty();
        fs::write(workspace.path("run.yaml"), tiny_run_file()).unwrap();
        workspace
    }

    /// As [`Workspace::tiny`], on copies of the images in `images/`, without labels.
    pub fn tiny_with_images() -> Workspace {
        let workspace = Workspace::tiny();
        workspace.copy_images("images");
        workspace.set_dataset("dataset: {path: images}");
        workspace
    }

    /// As [`Workspace::tiny`], calibrating with one thread on so many copies of each image.
    pub fn long(copies: usize) -> Workspace {
        let workspace = Workspace::tiny();
        fs::create_dir(workspace.path("many")).unwrap();
        for name in names(&fixture("tiny/images")) {
            let bytes = fs::read(fixture("tiny/images").join(&name)).unwrap();
            for copy in 0..copies {
                fs::write(workspace.path("many").join(format!("{copy:03}_{name}")), &bytes).unwrap();
            }
        }
        workspace.add("optimize: {dataset: {path: many}, subset_size: 100000}");
        workspace.add("threads: 1");
        workspace
    }

    /// Copies the images of the tiny model into a folder of this one.
    pub fn copy_images(&self, folder: &str) {
        fs::create_dir_all(self.path(folder)).unwrap();
        for name in names(&fixture("tiny/images")) {
            fs::copy(fixture("tiny/images").join(&name), self.path(folder).join(&name)).unwrap();
        }
    }

    /// Replaces the `dataset:` line of the run file.
    pub fn set_dataset(&self, line: &str) {
        let text = fs::read_to_string(self.path("run.yaml")).unwrap();
        let lines = text.lines().map(|old| if old.starts_with("dataset:") { line } else { old });
        fs::write(self.path("run.yaml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
    }

    /// Adds a line to the run file.
    pub fn add(&self, line: &str) {
        let text = fs::read_to_string(self.path("run.yaml")).unwrap();
        fs::write(self.path("run.yaml"), format!("{text}\n{line}\n")).unwrap();
    }

    /// The folder, with links resolved as the messages of the binary have it.
    pub fn root(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// The binary with arguments, to be run in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_calib8"));
        command.args(arguments).current_dir(self.root()).env_remove("RUST_BACKTRACE").envs(self.home());
        command
    }

    /// Variables that keep the binary from the files of whoever runs the tests.
    pub fn home(&self) -> [(&'static str, PathBuf); 4] {
        let home = self.1.path();
        [
            ("XDG_STATE_HOME", home.join("state")),
            ("XDG_DATA_HOME", home.join("data")),
            ("CALIB8_WORKSPACE", home.join("workspace")),
            ("CALIB8_CACHE", "off".into()),
        ]
    }

    /// Runs the binary in this folder.
    pub fn calib8(&self, arguments: &[&str]) -> Done {
        Done::of(&self.command(arguments).output().unwrap())
    }

    /// `calib8 run run.yaml` with more arguments.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.calib8(&[&["run", "run.yaml"], arguments].concat())
    }

    /// `calib8 run run.yaml`, which must succeed; gives its summary.
    pub fn passes(&self, arguments: &[&str]) -> serde_json::Value {
        let done = self.run(arguments);
        assert_eq!(done.code, Some(0), "{done}");
        self.summary()
    }

    /// `summary.json` of the run in `out`.
    pub fn summary(&self) -> serde_json::Value {
        serde_json::from_slice(&self.output("summary.json")).unwrap()
    }

    /// A file of the run in `out`.
    pub fn output(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("out").join(name)).unwrap_or_else(|error| panic!("out/{name}: {error}"))
    }

    /// A text with the paths of this machine taken out of it.
    pub fn normalized(&self, text: &str) -> String {
        let root = self.root().display().to_string();
        text.replace(&root, "[folder]").replace(&fixture("").display().to_string(), "[fixtures]/")
    }
}

/// A worker that does not outlive its test.
pub struct Worker(Pid);

impl Worker {
    /// Of what `--detach --json` printed.
    pub fn of(done: &Done) -> Worker {
        assert_eq!(done.code, Some(0), "{done}");
        let line: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        Worker(Pid::from_raw(i32::try_from(line["pid"].as_i64().unwrap()).unwrap()).unwrap())
    }

    /// Its process.
    pub fn id(&self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// Waits until the run in `folder` stands so.
pub fn wait_for(folder: &Path, what: &str, done: impl Fn(&status::RunStatus) -> bool) {
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let status = status::of(folder);
        if done(&status) {
            return;
        }
        assert!(Instant::now() < patience, "{what}: {status:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The run file of [`Workspace::tiny`].
pub fn tiny_run_file() -> String {
    let tiny = fixture("tiny").display().to_string();
    format!(
        "version: 1
name: tiny
model: {{path: '{tiny}/tiny.onnx'}}
preprocess: {{resize_short: 18, crop: 16, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
dataset: {{path: '{tiny}/images', labels: '{tiny}/labels.txt', classes: '{tiny}/classes.txt'}}
performance: {{streams: [1], seconds: 0.1, layers: false}}
output: out
"
    )
}
