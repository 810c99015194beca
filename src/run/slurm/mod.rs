//! A run on a Slurm cluster: its shards as job arrays, with jobs between and behind them that merge.
//!
//! ```text
//! statistics[0..n] ──afterany──> model ──afterok──> report[0..m], sensitivity[0..s], performance on each kind of node
//!        └────────────────────────┴──────────────────────┴──afterany──> end
//! ```
//!
//! Where candidates for the INT8 model are compared, `candidates[0..c]` and `choice` stand behind `model`.
//!
//! The last job runs in any case: it ends the run, or finds out which shard is missing and fails the run with
//! what that shard said. A job that can't run any more since one before it failed is taken out of the queue by
//! Slurm itself. A task whose time is nearly up stops, keeps what it has, and requeues itself; so does one that
//! was killed, a few times.
//!
//! Nothing is remembered of the cluster but the numbers of the jobs: how they stand is asked of `squeue`, and how those
//! ended that failed, of `sacct` or `scontrol`.

mod ended;
mod queue;
mod submit;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use ended::unfinished;
pub use queue::{Alive, alive};
pub use submit::submit;

use super::RunError;
use super::shards::{FOLDER, Step};
use crate::project::ProjectError;

/// Name and version of the format of `jobs.json`.
const SCHEMA: &str = "calib8/slurm/1";

/// What can go wrong between calib8 and Slurm.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    /// There is no Slurm here.
    #[error(
        "{program} can't be started ({source}): Slurm's commands must be on the PATH of the machine that submits"
    )]
    Start {
        /// The command.
        program: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Slurm refused.
    #[error("{program} failed: {said}")]
    Refused {
        /// The command.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// Its answer is not understood.
    #[error("{program} answered {said:?}, expected the number of a job")]
    Answer {
        /// The command.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// A path that a job script can't name.
    #[error("{}: a run on Slurm needs a path that is text without line breaks", .0.display())]
    Path(PathBuf),
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Shards of statistics.
    Statistics,
    /// Their merge, and the INT8 model, or what candidates for it are made from.
    Model,
    /// Shards of candidates.
    Candidates,
    /// Their merge, and the INT8 model.
    Choice,
    /// Shards of the report.
    Report,
    /// Shards of sensitivity.
    Sensitivity,
    /// Speeds on one kind of node.
    Performance,
    /// Their merge, and the end of the run.
    End,
}

impl What {
    /// Its word in names of jobs.
    pub fn name(self) -> &'static str {
        match self {
            What::Statistics => "statistics",
            What::Model => "model",
            What::Candidates => "candidates",
            What::Choice => "choice",
            What::Report => "report",
            What::Sensitivity => "sensitivity",
            What::Performance => "performance",
            What::End => "end",
        }
    }

    /// The step whose shards it does, if it does not merge.
    fn step(self) -> Option<Step> {
        match self {
            What::Statistics => Some(Step::Statistics),
            What::Candidates => Some(Step::Candidates),
            What::Report => Some(Step::Report),
            What::Sensitivity => Some(Step::Sensitivity),
            What::Performance => Some(Step::Performance),
            What::Model | What::Choice | What::End => None,
        }
    }
}

/// A job, or a job array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub what: What,
    /// How many tasks it has.
    pub tasks: usize,
    /// The shard of its first task, or of task 0 of an array.
    #[serde(default)]
    pub first: usize,
}

/// `shards/slurm/jobs.json`: the jobs that were submitted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    schema: String,
    /// When.
    pub submitted: String,
    /// In order.
    pub jobs: Vec<Job>,
}

impl Jobs {
    /// The jobs of the run in `directory`; `None` if none were submitted.
    pub fn of(directory: &Path) -> Option<Jobs> {
        let bytes = std::fs::read(folder(directory).join("jobs.json")).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|jobs: &Jobs| jobs.schema == SCHEMA)
    }

    /// Their numbers, for Slurm's commands.
    fn ids(&self) -> Vec<String> {
        self.jobs.iter().map(|job| job.id.to_string()).collect()
    }
}

fn folder(directory: &Path) -> PathBuf {
    directory.join(FOLDER).join("slurm")
}

/// Takes the jobs of the run in `directory` out of the queue and stops those at work. Gives how many were alive;
/// `None` if none were submitted or all have ended.
///
/// # Errors
/// Slurm refuses, or is not there.
pub fn cancel(directory: &Path) -> Result<Option<usize>, RunError> {
    let Some(jobs) = Jobs::of(directory) else { return Ok(None) };
    let alive = queue::alive_now(&jobs)?;
    if alive.is_none() {
        return Ok(None);
    }
    // Slurm sends SIGTERM and grants some seconds, in which what is done is kept.
    command("scancel", &jobs.ids())?;
    queue::forget();
    Ok(Some(alive.tasks()))
}

/// Runs one of Slurm's commands; gives what it printed.
fn command(program: &'static str, arguments: &[String]) -> Result<String, RunError> {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .map_err(|source| SlurmError::Start { program, source })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if !output.status.success() {
        return Err(SlurmError::Refused { program, said: text(&output.stderr) }.into());
    }
    Ok(text(&output.stdout))
}

/// Puts `bytes` into the folder of Slurm's files.
fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), RunError> {
    let folder = folder(directory);
    std::fs::create_dir_all(&folder).map_err(|source| ProjectError::write(&folder, source))?;
    Ok(crate::project::atomic::write(&folder.join(name), bytes)?)
}
