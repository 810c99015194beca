//! The steps of a run in shards, and how each is cut.

use serde::{Deserialize, Serialize};

use super::MOST;
use crate::run::events::Stage;

/// A step of a run that is cut into shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Statistics of the calibration images.
    Statistics,
    /// Candidates for the INT8 model: the choices of `auto`, the layers that `accuracy_aware` may give back. None with
    /// the default method.
    Candidates,
    /// Both models on the images of the dataset.
    Report,
    /// What INT8 costs each layer, on a few images.
    Sensitivity,
    /// Both models measured on kinds of node, each a shard; none where the run file names none.
    Performance,
}

impl Step {
    /// All, in order. Candidates need the statistics put together. The report needs the INT8 model, and so do those
    /// after it, which do not need one another.
    pub const ALL: [Step; 5] =
        [Step::Statistics, Step::Candidates, Step::Report, Step::Sensitivity, Step::Performance];

    /// Its word on the command line and in paths.
    pub fn name(self) -> &'static str {
        match self {
            Step::Statistics => "statistics",
            Step::Candidates => "candidates",
            Step::Report => "report",
            Step::Sensitivity => "sensitivity",
            Step::Performance => "performance",
        }
    }

    /// The stage of a run that it is.
    pub fn stage(self) -> Stage {
        match self {
            Step::Statistics => Stage::Statistics,
            Step::Candidates => Stage::Tradeoff,
            Step::Report => Stage::Report,
            Step::Sensitivity => Stage::Sensitivity,
            Step::Performance => Stage::Measure,
        }
    }

    /// What its shards are made of, in the plural.
    pub fn items(self) -> &'static str {
        match self {
            Step::Statistics | Step::Report | Step::Sensitivity => "images",
            Step::Candidates => "candidates",
            Step::Performance => "kinds of node",
        }
    }

    /// Whether it begins once the INT8 model is made.
    pub fn needs_model(self) -> bool {
        !matches!(self, Step::Statistics | Step::Candidates)
    }
}

/// How one step is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Shards, none of them empty.
    pub shards: usize,
    /// Images of all shards together, or what else the step is made of.
    pub items: usize,
}

impl Cut {
    /// `items` in at most `shards` shards.
    pub(super) fn new(shards: usize, items: usize) -> Cut {
        Cut { shards: shards.clamp(1, MOST).min(items), items }
    }

    /// The items of a shard.
    pub(super) fn range(self, shard: usize) -> std::ops::Range<usize> {
        shard * self.items / self.shards..(shard + 1) * self.items / self.shards
    }
}
