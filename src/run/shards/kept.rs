//! How the INT8 model was made, kept at the first merge: to find it out again by measuring takes the second as long as
//! it took the first.

use serde::{Deserialize, Serialize};

use super::Shards;
use crate::model::Model;
use crate::project::{ProjectError, atomic, hash};
use crate::quantize::{BiasShifts, Options, Statistics};
use crate::run::RunError;
use crate::run::plan::{Method, Plan};
use crate::run::stages::checkpoint::Checkpoint;

/// The file of it all but the other form of the parent.
pub(super) const RECIPE: &str = "recipe.json";
/// That form.
const MODEL: &str = "equalized.onnx";
/// What belongs to it as the statistics belong to the parent.
const STATISTICS: &str = "equalized.statistics";

/// What was found out by measuring while the INT8 model was made.
#[derive(Debug, Clone)]
pub(in crate::run) struct Kept {
    pub options: Options,
    pub shifts: BiasShifts,
    /// The parent in another form, and its statistics, if that was quantized in the parent's place.
    pub source: Option<(Model, Statistics)>,
}

/// `recipe.json`. A file with other fields was written by another build, and is not used.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    options: Options,
    shifts: BiasShifts,
    /// SHA-256 of the parent in another form, if that was quantized.
    equalized: Option<String>,
}

impl Shards {
    /// Takes down how the INT8 model was made. What stands here counts once the model is recorded.
    pub(super) fn keep(&self, kept: &Kept) -> Result<(), RunError> {
        let mut equalized = None;
        if let Some((model, statistics)) = &kept.source {
            let bytes = model.encode();
            let sha256 = hash::sha256_bytes(&bytes);
            atomic::write(&self.folder.join(MODEL), &bytes)?;
            let path = self.folder.join(STATISTICS);
            let images = statistics.images() as usize;
            let checkpoint = Checkpoint::new(&sha256, images, Vec::new(), statistics.clone());
            let json = checkpoint.to_bytes().map_err(|e| ProjectError::write(&path, e.into()))?;
            atomic::write(&path, &json)?;
            equalized = Some(sha256);
        }
        let (options, shifts) = (kept.options.clone(), kept.shifts.clone());
        self.write(RECIPE, &Recipe { options, shifts, equalized })
    }

    /// How the INT8 model of `parent` was made, or the one that `accuracy_aware` gives layers back of; `None` before it
    /// was, or where that has to be found out again since a file is missing or damaged.
    pub(in crate::run) fn kept(&self, plan: &Plan, parent: &Model) -> Option<Kept> {
        let gives_back = plan.optimize.method == Method::AccuracyAware && self.candidates_can_run();
        if !gives_back && !self.model_is_made() {
            return None;
        }
        let bytes = std::fs::read(self.folder.join(RECIPE)).ok()?;
        let Recipe { options, shifts, equalized } = serde_json::from_slice(&bytes).ok()?;
        let source = match equalized {
            None => None,
            Some(sha256) => Some(self.equalized(parent, &sha256)?),
        };
        Some(Kept { options, shifts, source })
    }

    fn equalized(&self, parent: &Model, sha256: &str) -> Option<(Model, Statistics)> {
        let bytes = std::fs::read(self.folder.join(MODEL)).ok()?;
        if hash::sha256_bytes(&bytes) != sha256 {
            return None;
        }
        let statistics = Checkpoint::read(&self.folder.join(STATISTICS), sha256).ok()??.statistics;
        // It has the parent's name and hash, as it had when it was made.
        let proto = Model::decode(&parent.path, &bytes).ok()?.proto;
        Some((Model { proto, ..parent.clone() }, statistics))
    }
}
