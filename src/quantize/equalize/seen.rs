//! What images make of the channels of tensors.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array3, Axis};

use super::super::QuantizeError;
use super::super::cut::{Place, with_outputs};
use super::super::threads::on_threads;
use super::channels;
use crate::engine::Value;
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
    fn of(value: &Value) -> Option<Seen> {
        let shape = value.shape();
        let axis = channels::axis(shape)?;
        let (count, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>().max(1));
        let mut seen = Seen {
            low: vec![f32::INFINITY; count],
            high: vec![f32::NEG_INFINITY; count],
            power: vec![0.0; count],
        };
        for (run, values) in value.as_slice().chunks(inner).enumerate() {
            let channel = run % count.max(1);
            for value in values {
                seen.low[channel] = seen.low[channel].min(*value);
                seen.high[channel] = seen.high[channel].max(*value);
                seen.power[channel] += f64::from(*value).powi(2);
            }
        }
        let each = (value.as_slice().len() / count.max(1)).max(1) as f64;
        seen.power.iter_mut().for_each(|p| *p /= each);
        Some(seen)
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
            let outputs = runner.run(std::slice::from_ref(&input))?;
            Ok(places.iter().map(|p| Seen::of(p.value(&input, &outputs))).collect::<Vec<_>>())
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
