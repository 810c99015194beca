//! Why a run did not come to its end, and what the process says with its exit code.

use super::directory::DirectoryError;
use super::events::Stage;
use super::interrupt::EXIT_INTERRUPTED;
use super::launch::LaunchError;
use super::plan::PlanError;
use super::shards::ShardError;
use super::slurm::SlurmError;
use crate::project::ProjectError;

/// An error of the run room.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run file can't be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The output folder can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file can't be read or written.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// A worker can't be started or stopped.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Shards are missing, damaged, or not those of this run.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Slurm is not there, or refuses.
    #[error(transparent)]
    Slurm(#[from] SlurmError),
    /// A stage failed.
    #[error("{}: {source}", stage.name())]
    Stage {
        /// Which.
        stage: Stage,
        /// What the room said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The user stopped the run; what was finished is in the run directory.
    #[error("interrupted; what was finished is kept, and the same command with --resume goes on")]
    Interrupted,
}

impl RunError {
    /// An error of a room, with the stage it came up in.
    pub fn stage(stage: Stage, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        RunError::Stage { stage, source: source.into() }
    }

    /// What the process exits with: 1 failed, 2 wrong usage or run file, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Plan(_) => 2,
            RunError::Directory(DirectoryError::Project(_) | DirectoryError::Plan(_)) => 1,
            RunError::Directory(_) => 2,
            RunError::Shard(error) if error.is_usage() => 2,
            RunError::Project(_)
            | RunError::Launch(_)
            | RunError::Shard(_)
            | RunError::Slurm(_)
            | RunError::Stage { .. } => 1,
            RunError::Interrupted => EXIT_INTERRUPTED,
        }
    }
}
