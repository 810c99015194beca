//! What INT8 costs each layer, cut by images.

use super::work::Task;
use super::{Cut, ShardError, Shards, Step};
use crate::dataset::{self, Dataset};
use crate::progress::Progress;
use crate::project::hash;
use crate::quantize::{self, LayerNoise};
use crate::run::stages::prepare::Subject;
use crate::run::stages::{calibrate, sensitivity};
use crate::run::worker::StageError;

/// Fewer images than these are not worth the loading of the models, which are several: each layer is one.
const FEWEST: usize = 8;

/// What a shard finds: distances of each layer on each image, or why they can't be had.
type Found = Result<Vec<Vec<LayerNoise>>, String>;

/// How the step is cut where the others are cut into `shards`.
pub(super) fn cut(shards: usize, calibration: &Dataset) -> Cut {
    let images = calibration.items.len().min(sensitivity::IMAGES);
    Cut::new(shards.min(images.div_ceil(FEWEST)), images)
}

fn key(subject: &Subject, optimized: &str, part: &Dataset) -> String {
    let mut text = format!("noises\n{}\n{optimized}\n{:?}\n", subject.parent.sha256, subject.preprocess);
    for item in part.items.iter() {
        text += &format!("{} {}\n", item.name, dataset::sha256(&item.path).unwrap_or_default());
    }
    hash::sha256_bytes(text.as_bytes())
}

impl Task<'_> {
    pub(super) fn sensitivity(&self, subject: &Subject, progress: &dyn Progress) -> Result<(), StageError> {
        let (record, optimized) = self.optimized()?;
        let part = self.shards.part(Step::Sensitivity, self.shard, &sensitivity::looked_at(subject))?;
        let key = key(subject, &record.sha256, &part);
        if self.is_there(&key, progress) {
            return Ok(());
        }
        let no_model = || ShardError::NoModel { directory: self.shards.directory() };
        let kept = self.shards.kept(self.plan, &subject.parent).ok_or_else(no_model)?;
        let source = kept.source.as_ref().map_or(&subject.parent, |(model, _)| model);
        let mut options = calibrate::options(self.plan);
        options.ignored.names.extend(record.fp32_layers);
        let placement = quantize::place(&subject.parent, &options)?;
        let found: Found = sensitivity::noises(subject, source, &placement, &optimized, &part, progress)?;
        self.end(&key, &found)
    }
}

impl Shards {
    /// Distances of each layer on each image, in the order of the images; the inner error is that of the first shard
    /// that could not have them.
    ///
    /// # Errors
    /// A shard has not ended, or its piece is damaged or of other inputs.
    pub(in crate::run) fn noises(&self, subject: &Subject, optimized: &str) -> Result<Found, StageError> {
        self.all_there(Step::Sensitivity)?;
        let whole = sensitivity::looked_at(subject);
        let mut all = Vec::new();
        for shard in 0..self.cut(Step::Sensitivity).shards {
            let part = self.part(Step::Sensitivity, shard, &whole)?;
            let (found, _) = self.piece::<Found>(Step::Sensitivity, shard, key(subject, optimized, &part))?;
            match found {
                Ok(noises) => all.extend(noises),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(all))
    }
}
