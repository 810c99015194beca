//! Load what was written and hold it against the parent on a few images, before hours are spent on
//! measuring something broken.

use super::baseline::{Parent, batch_of};
use super::calibrate::Calibrated;
use super::prepare::Subject;
use crate::engine::builtin::{self, Builtin};
use crate::engine::{Engine, LoadOptions, Session};
use crate::model::Model;
use crate::progress::Progress;
use crate::report::Head;
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::worker::{Desk, StageError};

/// Images to look at.
const IMAGES: usize = 8;

/// The INT8 model as it was read back from disk.
pub(in crate::run) struct Optimized {
    pub model: Model,
    pub session: Box<dyn Session>,
    /// What the first output means.
    pub head: Head,
}

pub(in crate::run) fn run(
    desk: &Desk,
    subject: &Subject,
    parent: &Parent,
    calibrated: &Calibrated,
) -> Result<Optimized, RunError> {
    let work = |progress: &dyn Progress| verify(subject, parent, calibrated, progress);
    desk.stage(Stage::Verify, work).map(|(optimized, _)| optimized)
}

fn verify(
    subject: &Subject,
    parent: &Parent,
    calibrated: &Calibrated,
    progress: &dyn Progress,
) -> Result<Optimized, StageError> {
    let model = Model::load(&calibrated.model.path)?;
    let session = Builtin.load(&model, &LoadOptions::default())?;
    for unfused in builtin::unfused(&model)? {
        let in_int8 = calibrated.layers().iter().any(|l| l.node == unfused.node && l.quantized);
        if in_int8 {
            progress.warn(&format!(
                "node '{}' ({}) was quantized but runs in FP32: {}",
                unfused.node, unfused.op_type, unfused.reason
            ));
        }
    }
    let (mut first, mut second) = (parent.session.spawn()?, session.spawn()?);
    let mut samples: Vec<Vec<f32>> = Vec::new();
    for (done, image) in subject.calibration_images().take(IMAGES).enumerate() {
        let input = [batch_of(&image, 1)?];
        let (p, s) = (first.run(&input)?, second.run(&input)?);
        if p.len() != s.len() {
            return Err(format!("the INT8 model has {} outputs, its parent {}", s.len(), p.len()).into());
        }
        let finite = |values: &[crate::engine::Value]| {
            values.iter().all(|v| v.as_slice().iter().all(|x| x.is_finite()))
        };
        if finite(&p) && !finite(&s) {
            progress.warn("the INT8 model gives values that are not finite where its parent does not");
        }
        samples.extend(p.first().map(|v| v.as_slice().to_vec()));
        progress.step(done + 1, IMAGES, None);
    }
    let head = head_of(parent.session.as_ref(), &samples);
    Ok(Optimized { model, session, head })
}

/// What the first output of `session` means, judged by its shape and by `samples` of its values.
pub(in crate::run) fn head_of(session: &dyn Session, samples: &[Vec<f32>]) -> Head {
    let shape = session.outputs().first().map_or(&[][..], |o| o.shape.get(1..).unwrap_or(&[]));
    let samples: Vec<&[f32]> = samples.iter().map(Vec::as_slice).collect();
    Head::detect(shape, &samples)
}
