//! A run cut into shards, so that any scheduler can spread it over processes and machines.
//!
//! ```text
//! plan ── statistics  0..n, in any order, anywhere ── merge statistics: the INT8 model
//!      ── report      0..m, in any order, anywhere
//!      ── sensitivity 0..s, likewise
//!      ── performance 0..k, on the nodes to measure ── merge report: measured, judged, written
//! ```
//!
//! Where candidates for the INT8 model are compared, `merge statistics` goes only as far as that needs; `candidates 0..c`
//! score them, and `merge candidates` makes the model.
//!
//! A shard is a range of images, or a kind of node to measure on. What it finds is a piece: statistics, which merge exactly, or the rows of
//! both models, of which nothing has been summed up, or speeds. A merge is the run itself, with pieces in the place of
//! images; so its results are those of a run on one machine, byte for byte, however the images were cut.
//!
//! Nothing here relies on more of a shared file system than that a rename is atomic. Shards take no lock: the same
//! shard twice at a time writes the same piece twice. Each has files of its own, in folders of a hundred shards:
//!
//! ```text
//! shards/plan.json                      how the run is cut
//! shards/candidates.json                the statistics are put together: what the shards of candidates need to know
//! shards/model.json                     the INT8 model is made: what the shards of the report need to know of it
//! shards/recipe.json                    how it was made, and beside it what it was made from where that is not the parent
//! shards/statistics/00/0003.piece       what a shard found, once it has ended
//! shards/statistics/00/0003.part        what it has so far, for whoever takes it up again
//! shards/statistics/00/0003.jsonl       its events, at most one a second
//! ```

mod candidates;
mod error;
mod gather;
mod hosts;
mod kept;
mod noises;
mod piece;
mod progress;
mod step;
mod work;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::ShardError;
pub(in crate::run) use kept::Kept;
pub use progress::Progress;
pub use step::{Cut, Step};
pub use work::run;

use super::RunError;
use super::directory::{Existing, RunDirectory};
use super::events::Stage;
use super::fold::{Phase, State};
use super::plan::Plan;
use crate::dataset::Dataset;
use crate::project::{ProjectError, atomic};
use crate::report::Head;

/// The folder in the run directory.
pub const FOLDER: &str = "shards";
/// Name and version of the format of `plan.json`.
const SCHEMA: &str = "calib8/shards/2";
/// More shards than these are not made of a step: each costs a process and some files.
pub const MOST: usize = 10_000;
/// Shards whose files share a folder.
const PER_FOLDER: usize = 100;

/// `plan.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ShardPlan {
    schema: String,
    /// Version of calib8, which all shards must have.
    version: String,
    statistics: Cut,
    candidates: Cut,
    report: Cut,
    sensitivity: Cut,
    performance: Cut,
}

/// `model.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::run) struct ModelRecord {
    /// Of the INT8 model.
    sha256: String,
    /// What the first output of both models means.
    head: Head,
    /// Layers that `accuracy_aware` left in FP32.
    fp32_layers: Vec<String>,
}

/// The shards of a run.
#[derive(Debug, Clone)]
pub struct Shards {
    folder: PathBuf,
    plan: ShardPlan,
}

impl Shards {
    /// Makes `directory` ready for a run of `plan` in at most `shards` shards for each step. Those of an earlier plan
    /// stay if it was cut in the same way and the run is gone on with.
    ///
    /// # Errors
    /// The directory is refused as for any run, the images can't be found, or the run is cut already in
    /// another way.
    pub fn plan(plan: &Plan, existing: Existing, shards: usize) -> Result<Shards, RunError> {
        let (calibration, dataset) = super::stages::prepare::datasets(plan)
            .map_err(|source| RunError::Stage { stage: Stage::Prepare, source })?;
        let kinds = plan.performance.on.len();
        let made = ShardPlan {
            schema: SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            statistics: Cut::new(shards, calibration.items.len()),
            candidates: Cut::new(shards, candidates::count(plan, &calibration)?),
            report: Cut::new(shards, dataset.items.len()),
            sensitivity: noises::cut(shards, &calibration),
            performance: Cut::new(kinds, kinds),
        };
        // Held while the files are written, and by no shard.
        let directory = RunDirectory::create(&plan.output, plan, existing)?;
        let folder = directory.file(FOLDER);
        if let Ok(there) = Shards::open(directory.path())
            && there.plan != made
        {
            return Err(ShardError::CutOtherwise { directory: directory.path().to_path_buf() }.into());
        }
        fs::create_dir_all(&folder).map_err(|source| ProjectError::write(&folder, source))?;
        let shards = Shards { folder, plan: made };
        shards.write("plan.json", &shards.plan)?;
        Ok(shards)
    }

    /// The shards of the run in `directory`.
    ///
    /// # Errors
    /// It is not cut into shards, or another version did so.
    pub fn open(directory: &Path) -> Result<Shards, RunError> {
        let folder = directory.join(FOLDER);
        let path = folder.join("plan.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(ShardError::NotSharded { directory: directory.to_path_buf() }.into());
            }
            Err(source) => return Err(ProjectError::read(&path, source).into()),
        };
        let plan: ShardPlan = serde_json::from_slice(&bytes)
            .map_err(|e| ShardError::Damaged { path: path.clone(), why: e.to_string() })?;
        if plan.schema != SCHEMA || plan.version != env!("CARGO_PKG_VERSION") {
            return Err(ShardError::OtherVersion { path, found: plan.version }.into());
        }
        Ok(Shards { folder, plan })
    }

    /// Whether the run in `directory` is cut into shards.
    pub fn are_in(directory: &Path) -> bool {
        directory.join(FOLDER).join("plan.json").is_file()
    }

    /// How a step is cut.
    pub fn cut(&self, step: Step) -> Cut {
        match step {
            Step::Statistics => self.plan.statistics,
            Step::Candidates => self.plan.candidates,
            Step::Report => self.plan.report,
            Step::Sensitivity => self.plan.sensitivity,
            Step::Performance => self.plan.performance,
        }
    }

    /// The shards of a step that have not ended, in order.
    pub fn missing(&self, step: Step) -> Vec<usize> {
        (0..self.cut(step).shards).filter(|shard| !self.file(step, *shard, "piece").is_file()).collect()
    }

    /// Whether the INT8 model is made, which the shards of the report need.
    pub fn model_is_made(&self) -> bool {
        self.folder.join("model.json").is_file()
    }

    /// Takes down that the INT8 model is made, and how.
    pub(super) fn record_model(
        &self,
        sha256: &str,
        head: Head,
        fp32_layers: Vec<String>,
        kept: &Kept,
    ) -> Result<(), RunError> {
        self.keep(kept)?;
        self.write("model.json", &ModelRecord { sha256: sha256.into(), head, fp32_layers })
    }

    /// Forgets an INT8 model that is about to be made anew.
    pub(super) fn forget_model(&self) -> Result<(), RunError> {
        self.forget("model.json")
    }

    fn forget(&self, name: &str) -> Result<(), RunError> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(ProjectError::write(&path, e).into()),
            _ => Ok(()),
        }
    }

    fn model(&self) -> Result<ModelRecord, ShardError> {
        let path = self.folder.join("model.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(_) => return Err(ShardError::NoModel { directory: self.directory() }),
        };
        serde_json::from_slice(&bytes).map_err(|e| ShardError::Damaged { path, why: e.to_string() })
    }

    /// The run directory.
    pub fn directory(&self) -> PathBuf {
        self.folder.parent().unwrap_or(Path::new(".")).to_path_buf()
    }

    /// A file of a shard, by what its name ends in: `piece`, `part`, `jsonl`, `out`.
    pub fn file(&self, step: Step, shard: usize, extension: &str) -> PathBuf {
        let folder = self.folder.join(step.name()).join(format!("{:02}", shard / PER_FOLDER));
        folder.join(format!("{shard:04}.{extension}"))
    }

    /// What the log of a shard amounts to; nothing if it has not begun.
    pub fn state(&self, step: Step, shard: usize) -> State {
        let log = fs::read(self.file(step, shard, "jsonl")).unwrap_or_default();
        State::of_log(&String::from_utf8_lossy(&log))
    }

    /// Shards that have begun and failed, and are not done since.
    pub fn failed(&self) -> Vec<(Step, usize)> {
        let missing = Step::ALL
            .into_iter()
            .flat_map(|step| self.missing(step).into_iter().map(move |shard| (step, shard)));
        missing
            .filter(|(step, shard)| matches!(self.state(*step, *shard).phase, Phase::Failed { .. }))
            .collect()
    }

    /// The last line that a shard has printed, where a scheduler has kept it.
    fn last_words(&self, step: Step, shard: usize) -> Option<String> {
        let printed = fs::read(self.file(step, shard, "out")).ok()?;
        let printed = String::from_utf8_lossy(&printed);
        printed.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_string)
    }

    /// Removes what tasks that were killed left of files being written. Called when nobody is at work.
    pub(super) fn tidy(&self) -> Result<(), RunError> {
        for step in Step::ALL {
            for folder in 0..self.cut(step).shards.div_ceil(PER_FOLDER) {
                let file = self.file(step, folder * PER_FOLDER, "piece");
                if let Some(folder) = file.parent().filter(|folder| folder.is_dir()) {
                    atomic::remove_leftovers(folder)?;
                }
            }
        }
        Ok(())
    }

    /// The images of a shard, out of those of its step.
    fn part(&self, step: Step, shard: usize, whole: &Dataset) -> Result<Dataset, ShardError> {
        let cut = self.cut(step);
        let (found, expected) = (whole.items.len(), cut.items);
        if found != expected {
            let (root, directory) = (whole.root.clone(), self.directory());
            return Err(ShardError::OtherImages { root, found, expected, directory });
        }
        Ok(Dataset { items: whole.items[cut.range(shard)].into(), ..whole.clone() })
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), RunError> {
        let path = self.folder.join(name);
        let mut json = serde_json::to_vec_pretty(value).map_err(|e| ProjectError::write(&path, e.into()))?;
        json.push(b'\n');
        Ok(atomic::write(&path, &json)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use std::sync::Arc;

    use super::*;
    use crate::dataset::{Item, Kind};

    fn shards(shards: usize, images: usize) -> Shards {
        let cut = Cut { shards, items: images };
        let plan = ShardPlan {
            schema: SCHEMA.into(),
            version: "0".into(),
            statistics: cut,
            candidates: Cut::default(),
            report: cut,
            sensitivity: Cut::default(),
            performance: Cut::default(),
        };
        Shards { folder: PathBuf::from("out/shards"), plan }
    }

    fn dataset(images: usize) -> Dataset {
        let item = |at: usize| Item { name: format!("{at}"), path: PathBuf::new(), label: None, line: None };
        Dataset {
            root: PathBuf::new(),
            items: (0..images).map(item).collect(),
            classes: None,
            kind: Kind::Unannotated,
            labels: None,
            warnings: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn every_image_is_in_one_shard_and_no_shard_is_empty(images in 1usize..300, asked in 1usize..400) {
            let count = asked.min(images);
            let (shards, whole) = (shards(count, images), dataset(images));
            let parts: Vec<Arc<[Item]>> =
                (0..count).map(|i| shards.part(Step::Report, i, &whole).unwrap().items).collect();
            prop_assert!(parts.iter().all(|part| !part.is_empty()));
            prop_assert_eq!(&parts.concat()[..], &whole.items[..]);
        }
    }

    #[test]
    fn a_folder_holds_files_of_a_hundred_shards() {
        let shards = shards(10_000, 50_000);
        let file = |shard| shards.file(Step::Statistics, shard, "piece").display().to_string();
        assert_eq!(file(3), "out/shards/statistics/00/0003.piece");
        assert_eq!(file(9_999), "out/shards/statistics/99/9999.piece");
    }

    #[test]
    fn a_dataset_that_has_changed_is_refused() {
        let message = shards(2, 10).part(Step::Report, 0, &dataset(11)).unwrap_err().to_string();
        assert!(message.contains("11 images, but the run was cut with 10"), "{message}");
    }
}
