//! What images make of the channels of tensors.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array3, Axis};

use super::super::QuantizeError;
use super::super::cut::{Place, with_outputs};
use super::super::survey::Survey;
use super::super::threads::on_threads;
use super::channels;
use crate::engine::{Shown, Value};
use crate::kernels::Term;
use crate::model::Model;
use crate::progress::Progress;

/// What the images made of the channels of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// Smallest value of each channel.
    pub low: Vec<f32>,
    /// Largest value of each channel.
    pub high: Vec<f32>,
    /// Mean of the squares of each channel.
    pub power: Vec<f64>,
}

impl Seen {
    fn of(tensor: &Shown) -> Option<Seen> {
        let axis = channels::axis(tensor.shape)?;
        let survey = Survey::of(tensor, Some(axis), Term::Square, |_| {});
        Some(Seen { low: survey.low.clone(), high: survey.high.clone(), power: survey.means() })
    }

    fn merge(&mut self, other: &Seen) {
        let pairs = |mine: &mut Vec<f32>, theirs: &[f32], better: fn(f32, f32) -> f32| {
            mine.iter_mut().zip(theirs).for_each(|(m, t)| *m = better(*m, *t));
        };
        pairs(&mut self.low, &other.low, f32::min);
        pairs(&mut self.high, &other.high, f32::max);
        self.power.iter_mut().zip(&other.power).for_each(|(m, t)| *m += t);
    }

    /// The largest magnitude of a channel.
    pub fn largest(&self, channel: usize) -> f32 {
        self.high[channel].max(-self.low[channel])
    }
}

/// Runs `images` through `model`, and gives what they made of `tensors`; the same with any number of threads.
///
/// # Errors
/// Inference fails, or the user asked to stop.
pub(super) fn watch(
    model: &Model,
    tensors: &BTreeSet<String>,
    images: &[Array3<f32>],
    threads: usize,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, Seen>, QuantizeError> {
    let session = with_outputs(model, tensors.clone())?;
    let places: Vec<Place> =
        tensors.iter().map(|t| Place::find(session.as_ref(), t)).collect::<Result<_, _>>()?;
    let each = on_threads(images.len(), threads, || {
        let mut runner = session.spawn()?;
        let places = &places;
        Ok(move |image: usize| {
            if progress.cancelled() {
                return Err(QuantizeError::Cancelled { images: image as u64 });
            }
            let input = Value::from(images[image].clone().insert_axis(Axis(0)).into_dyn());
            let mut seen = vec![None; places.len()];
            Place::watch(places, runner.as_mut(), &input, |at, tensor| seen[at] = Seen::of(tensor))?;
            Ok(seen)
        })
    })?;
    // In the order of the images, since sums depend on it.
    let mut all: BTreeMap<String, Seen> = BTreeMap::new();
    for of_image in each {
        for (tensor, seen) in tensors.iter().zip(of_image) {
            let Some(seen) = seen else { continue };
            match all.get_mut(tensor) {
                Some(before) => before.merge(&seen),
                None => drop(all.insert(tensor.clone(), seen)),
            }
        }
    }
    let count = images.len().max(1) as f64;
    all.values_mut().for_each(|seen| seen.power.iter_mut().for_each(|p| *p /= count));
    Ok(all)
}
