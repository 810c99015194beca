//! The folder of a run: what may be in it, and who may touch it.
//!
//! calib8 writes only the names in [`ARTIFACTS`]; other files in the folder are left alone. A folder
//! that already holds any of these names is refused, unless the user says what to do with them.

use std::fs;
use std::path::{Path, PathBuf};

use super::RunError;
use super::plan::Plan;
use crate::project::lock::{LOCK_FILE, RunLock};
use crate::project::{ProjectError, atomic};

/// The plan after defaults: itself a run file.
pub const PLAN_FILE: &str = "run.yaml";

/// Everything that a run leaves in its directory, the lock aside.
pub const ARTIFACTS: &[&str] = &[
    PLAN_FILE,
    "events.jsonl",
    "state.json",
    "checkpoint",
    "worker.log",
    "summary.json",
    "manifest.json",
    "performance.json",
    "model.int8.onnx",
    "layers.csv",
    "sensitivity.csv",
    "tradeoff.json",
    "predictions.csv",
    "predictions.json",
    "annotations.csv",
    "annotations.json",
    "tensor_distance.csv",
    "tensor_distance.json",
    "report.html",
    "unreadable.csv",
    super::stages::HOSTS_FOLDER,
    super::shards::FOLDER,
];

/// The names that only a run leaves; one of them means that the folder holds a run.
const MARKS: &[&str] = &[PLAN_FILE, "events.jsonl", "summary.json"];

/// What to do when the folder already holds a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Remove its files, and only these.
    Force,
    /// Go on with it.
    Resume,
    /// Go on with it under this plan, which may be another one: what does not depend on what changed is kept.
    Replan {
        /// Whether speeds are measured again in any case.
        measures_again: bool,
    },
}

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It holds a run.
    #[error(
        "{0}: already holds a run; continue it with --resume, replace it with --force, or choose another folder with --output"
    )]
    HoldsRun(PathBuf),
    /// It is no folder.
    #[error("{0}: is a file, expected a folder for the run; choose another with --output")]
    NotAFolder(PathBuf),
    /// It holds files of ours' names that no run of ours accounts for.
    #[error(
        "{folder}: already holds {name}, which no run here has made; choose another folder with --output, or --force to replace the file"
    )]
    HoldsFile {
        /// The folder.
        folder: PathBuf,
        /// The file.
        name: &'static str,
    },
    /// It holds no run.
    #[error("{0}: holds no run (there is no run.yaml in it); name the output folder of a run")]
    NoRun(PathBuf),
    /// The run that it holds is another one.
    #[error(
        "{folder}: holds a run of another plan (see run.yaml: {difference}); choose another folder with --output, or --force to replace it"
    )]
    OtherPlan {
        /// The folder.
        folder: PathBuf,
        /// The first line that differs.
        difference: String,
    },
    /// Locked, full, read-only and the like.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The plan can't be written as YAML.
    #[error("the plan can't be written: {0}")]
    Plan(#[from] serde_yaml::Error),
}

/// The folder of a run, locked for this process until dropped.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    lock: RunLock,
}

impl RunDirectory {
    /// Makes `path` ready for a run of `plan`: checks what is there, takes the lock, clears what may
    /// be cleared, writes `run.yaml`.
    ///
    /// # Errors
    /// The folder is refused, in use, or can't be written; it is then as it was.
    pub fn create(path: &Path, plan: &Plan, existing: Existing) -> Result<Self, DirectoryError> {
        let yaml = plan.to_yaml()?;
        RunLock::check_free(path)?;
        check(path, existing, &yaml)?;
        fs::create_dir_all(path).map_err(|source| ProjectError::write(path, source))?;
        let lock = RunLock::take(path)?;
        // Another process may have begun and ended here between the first look and the lock.
        check(path, existing, &yaml)?;
        atomic::remove_leftovers(path)?;
        if existing == Existing::Force {
            remove_artifacts(path, ARTIFACTS)?;
        }
        if existing == (Existing::Replan { measures_again: true }) {
            remove_artifacts(path, &["performance.json"])?;
        }
        let directory = RunDirectory { path: path.to_path_buf(), lock };
        atomic::write(&directory.file(PLAN_FILE), yaml.as_bytes())?;
        Ok(directory)
    }

    /// Takes the lock of a folder that holds a run, to begin that run or to go on with it, and reads its
    /// plan.
    ///
    /// # Errors
    /// No run is there, it is in use, or its plan can't be used any more.
    pub fn reopen(path: &Path) -> Result<(Self, Plan), RunError> {
        let path = &std::path::absolute(path).map_err(|source| ProjectError::read(path, source))?;
        let file = path.join(PLAN_FILE);
        if !file.is_file() {
            return Err(DirectoryError::NoRun(path.to_path_buf()).into());
        }
        let lock = RunLock::take(path)?;
        atomic::remove_leftovers(path)?;
        let plan = Plan::load(&file, &[])?;
        Ok((RunDirectory { path: path.to_path_buf(), lock }, plan))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the user should know of the folder: that its file system keeps no locks.
    pub fn warning(&self) -> Option<String> {
        (!self.lock.is_kept()).then(|| {
            format!(
                "{}: this file system keeps no locks (NFS without its lock service is one), so a second run in this \
                 folder would not be noticed; start none until this one has ended",
                self.path.display()
            )
        })
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Whether `path` may be used for the plan in `yaml`. Changes nothing.
///
/// # Errors
/// The folder is refused.
pub fn check(path: &Path, existing: Existing, yaml: &str) -> Result<(), DirectoryError> {
    if path.exists() && !path.is_dir() {
        return Err(DirectoryError::NotAFolder(path.to_path_buf()));
    }
    let there = |name: &&&str| path.join(name).symlink_metadata().is_ok();
    let holds_run = MARKS.iter().any(|mark| there(&mark));
    match existing {
        Existing::Force => Ok(()),
        Existing::Replan { .. } if holds_run => Ok(()),
        Existing::Replan { .. } => Err(DirectoryError::NoRun(path.to_path_buf())),
        Existing::Resume if holds_run => same_plan(path, yaml),
        Existing::Refuse if holds_run => Err(DirectoryError::HoldsRun(path.to_path_buf())),
        Existing::Refuse | Existing::Resume => match ARTIFACTS.iter().find(there) {
            Some(name) => Err(DirectoryError::HoldsFile { folder: path.to_path_buf(), name }),
            None => Ok(()),
        },
    }
}

fn same_plan(path: &Path, yaml: &str) -> Result<(), DirectoryError> {
    let file = path.join(PLAN_FILE);
    let stored = fs::read_to_string(&file).map_err(|source| ProjectError::read(&file, source))?;
    let mut lines = yaml.lines();
    let differs = stored.lines().find(|line| lines.next() != Some(line)).or_else(|| lines.next());
    match differs {
        None => Ok(()),
        Some(line) => Err(DirectoryError::OtherPlan {
            folder: path.to_path_buf(),
            difference: format!("`{}` differs", line.trim()),
        }),
    }
}

fn remove_artifacts(path: &Path, names: &[&str]) -> Result<(), ProjectError> {
    for name in names.iter().filter(|name| **name != LOCK_FILE) {
        let file = path.join(name);
        let Ok(metadata) = file.symlink_metadata() else { continue };
        let removed = if metadata.is_dir() { fs::remove_dir_all(&file) } else { fs::remove_file(&file) };
        removed.map_err(|source| ProjectError::write(&file, source))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn plan(folder: &Path, name: &str) -> Plan {
        fs::create_dir_all(folder.join("images")).unwrap();
        fs::write(folder.join("m.onnx"), "x").unwrap();
        let text = format!(
            "{{version: 1, name: {name}, model: {{path: m.onnx}}, dataset: {{path: images}}, preprocess: {{crop: 8}}}}"
        );
        Plan::parse(Path::new("run.yaml"), folder, &text, &[]).unwrap()
    }

    struct Setup {
        _folder: tempfile::TempDir,
        output: PathBuf,
        plan: Plan,
        other: Plan,
    }

    fn setup() -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let (plan, other) = (plan(folder.path(), "a"), plan(folder.path(), "b"));
        Setup { output: folder.path().join("deep/out"), plan, other, _folder: folder }
    }

    #[test]
    fn a_folder_with_a_run_is_refused_and_left_as_it_was() {
        let s = setup();
        drop(RunDirectory::create(&s.output, &s.plan, Existing::Refuse).unwrap());
        let before = fs::read(s.output.join("run.yaml")).unwrap();
        let message = RunDirectory::create(&s.output, &s.other, Existing::Refuse).unwrap_err().to_string();
        assert!(message.contains("already holds a run; continue it with --resume"), "{message}");
        assert_eq!(fs::read(s.output.join("run.yaml")).unwrap(), before);
    }

    #[test]
    fn force_removes_the_files_of_the_run_and_no_others() {
        let s = setup();
        drop(RunDirectory::create(&s.output, &s.plan, Existing::Refuse).unwrap());
        for name in ["summary.json", "model.int8.onnx", "notes.txt"] {
            fs::write(s.output.join(name), "x").unwrap();
        }
        fs::create_dir(s.output.join("checkpoint")).unwrap();
        let directory = RunDirectory::create(&s.output, &s.other, Existing::Force).unwrap();
        assert!(!directory.file("summary.json").exists());
        assert!(!directory.file("checkpoint").exists());
        assert_eq!(fs::read_to_string(directory.file("notes.txt")).unwrap(), "x");
        assert!(fs::read_to_string(directory.file("run.yaml")).unwrap().contains("name: b"));
    }

    #[test]
    fn resume_takes_only_the_same_plan() {
        let s = setup();
        drop(RunDirectory::create(&s.output, &s.plan, Existing::Resume).expect("nothing there: a new run"));
        drop(RunDirectory::create(&s.output, &s.plan, Existing::Resume).expect("the same plan"));
        let message = RunDirectory::create(&s.output, &s.other, Existing::Resume).unwrap_err().to_string();
        assert!(message.contains("another plan (see run.yaml: `name: a` differs)"), "{message}");
    }

    #[test]
    fn a_foreign_file_of_our_name_is_not_overwritten() {
        let s = setup();
        fs::create_dir_all(&s.output).unwrap();
        fs::write(s.output.join("report.html"), "mine").unwrap();
        let message = RunDirectory::create(&s.output, &s.plan, Existing::Refuse).unwrap_err().to_string();
        assert!(message.contains("already holds report.html, which no run here has made"), "{message}");
        assert_eq!(fs::read_dir(&s.output).unwrap().count(), 1, "not even a lock file was left");
    }

    #[test]
    fn other_files_do_not_matter() {
        let s = setup();
        fs::create_dir_all(&s.output).unwrap();
        fs::write(s.output.join("notes.txt"), "mine").unwrap();
        RunDirectory::create(&s.output, &s.plan, Existing::Refuse).unwrap();
    }

    #[test]
    fn a_folder_in_use_is_refused_even_with_force() {
        let s = setup();
        let first = RunDirectory::create(&s.output, &s.plan, Existing::Refuse).unwrap();
        let message = RunDirectory::create(&s.output, &s.plan, Existing::Force).unwrap_err().to_string();
        assert!(message.contains("in use by process"), "{message}");
        assert!(first.file("run.yaml").exists());
    }

    #[test]
    fn an_output_below_a_file_is_a_clear_error() {
        let s = setup();
        fs::create_dir_all(s.output.parent().unwrap()).unwrap();
        fs::write(&s.output, "a file").unwrap();
        let below = s.output.join("sub");
        let message = RunDirectory::create(&below, &s.plan, Existing::Refuse).unwrap_err().to_string();
        assert!(message.contains("a part of the path is a file"), "{message}");
    }
}
