//! What can go wrong with shards.

use std::path::PathBuf;

use super::Step;

/// An error of a shard, of its piece, or of a merge.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The run is not cut.
    #[error("{}: is not cut into shards; `calib8 shard plan FILE.yaml --shards N` does that", directory.display())]
    NotSharded {
        /// The run directory.
        directory: PathBuf,
    },
    /// The run is cut, and not as asked for.
    #[error(
        "{}: is cut into other shards already; give the same --shards to go on with them, or --force to begin anew",
        directory.display()
    )]
    CutOtherwise {
        /// The run directory.
        directory: PathBuf,
    },
    /// There is no shard of that number.
    #[error("shard {shard} of {}: there are {shards}, counted from 0", step.name())]
    NoSuchShard {
        /// The step.
        step: Step,
        /// The number.
        shard: usize,
        /// How many there are.
        shards: usize,
    },
    /// The report's shards come too early.
    #[error(
        "{}: the INT8 model is not made yet; when the shards of statistics have ended, `calib8 shard merge {} \
         statistics` makes it",
        directory.display(),
        directory.display()
    )]
    NoModel {
        /// The run directory.
        directory: PathBuf,
    },
    /// The candidates' shards come too early.
    #[error(
        "{}: the statistics are not put together yet; when their shards have ended, `calib8 shard merge {} statistics` \
         does that",
        directory.display(),
        directory.display()
    )]
    NoStatistics {
        /// The run directory.
        directory: PathBuf,
    },
    /// Shards have not ended.
    #[error("{} of {shards} shards of {} have no result: {list}", missing, step.name())]
    Missing {
        /// The step.
        step: Step,
        /// How many have none.
        missing: usize,
        /// How many there are.
        shards: usize,
        /// Which, how they stand, and what to do.
        list: String,
    },
    /// A file is not what was written.
    #[error("{}: {why}; remove it and run the shard again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file is of another calib8.
    #[error(
        "{}: was made by calib8 {found}, this is {}; use one version for all shards of a run",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// That version.
        found: String,
    },
    /// A piece is of other inputs.
    #[error(
        "{}: belongs to another model, other images or another preprocessing than there are now; run the shard again: \
         {again}",
        path.display()
    )]
    OtherInputs {
        /// The piece.
        path: PathBuf,
        /// The command.
        again: String,
    },
    /// The number of images has changed.
    #[error(
        "{}: has {found} images, but the run was cut with {expected}; put them back, or cut {} anew with `calib8 shard \
         plan --force`",
        root.display(),
        directory.display()
    )]
    OtherImages {
        /// The dataset.
        root: PathBuf,
        /// Images that are there.
        found: usize,
        /// Images that were there.
        expected: usize,
        /// The run directory.
        directory: PathBuf,
    },
    /// A time limit ended the shard before anything was kept.
    #[error(
        "the time limit is too short: not one image was finished; grant more time for each shard, or cut the run into \
         more shards"
    )]
    NothingInTime,
}

impl ShardError {
    /// Whether the command itself is what is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        use ShardError::{CutOtherwise, NoSuchShard, NotSharded};
        matches!(self, NotSharded { .. } | CutOtherwise { .. } | NoSuchShard { .. })
    }
}
