//! The constants of layers, and what factors make of them.

use std::collections::{BTreeSet, HashMap};

use ndarray::{ArrayD, Axis};

use super::channels::{Channels, Role};
use crate::model::Model;
use crate::model::graph::{self, Index};

/// The constants of layers.
pub(super) struct Constants {
    /// By name.
    pub values: HashMap<String, ArrayD<f32>>,
    changed: BTreeSet<String>,
}

impl Constants {
    pub fn new(model: &Model) -> Constants {
        let constants = model.graph().initializer.iter();
        let values = constants.filter_map(|c| Some((c.name.clone(), graph::to_array::<f32>(c)?)));
        Constants { values: values.collect(), changed: BTreeSet::new() }
    }

    /// The values of a constant that will be others.
    pub fn change(&mut self, name: &str) -> Option<&mut ArrayD<f32>> {
        let values = self.values.get_mut(name)?;
        self.changed.insert(name.to_string());
        Some(values)
    }

    /// Multiplies the classes of `channels` by `factors`, in the constants of all layers that write or read them.
    pub fn rescale(&mut self, channels: &Channels, factors: &[f64]) {
        let of = |tensor: &str, power: i32| -> Vec<f64> {
            let classes = channels.classes(tensor).unwrap_or(&[]);
            classes.iter().map(|class| factors[*class].powi(power)).collect()
        };
        for layer in &channels.layers {
            let (read, written) = (of(&layer.x, -1), of(&layer.y, 1));
            if read.iter().chain(&written).all(|f| *f == 1.0) {
                continue;
            }
            if let Some(values) = layer.weights.as_ref().and_then(|name| self.change(name)) {
                match layer.role {
                    Role::Dense { input_axis, output_axis } => {
                        times(values, input_axis, &read);
                        times(values, output_axis, &written);
                    }
                    _ => {
                        let both: Vec<f64> = read.iter().zip(&written).map(|(r, w)| r * w).collect();
                        each(values, &both);
                    }
                }
            }
            if let Some(values) = layer.bias.as_ref().and_then(|name| self.change(name)) {
                each(values, &written);
            }
        }
    }

    /// `model`, whose constants these were, with those that were changed.
    pub fn put_into(&self, model: &Model) -> Model {
        let mut model = model.clone();
        let index = Index::new(model.graph());
        let Some(graph) = model.proto.graph.as_mut() else { return model };
        for name in &self.changed {
            if let (Some(at), Some(values)) = (index.initializer(name), self.values.get(name)) {
                let flat: Vec<f32> = values.iter().copied().collect();
                graph.initializer[at] = graph::tensor(name, values.shape(), &flat);
            }
        }
        model
    }
}

/// Multiplies each index of an axis by its factor.
pub(super) fn times(values: &mut ArrayD<f32>, axis: usize, factors: &[f64]) {
    for (mut slice, factor) in values.axis_iter_mut(Axis(axis)).zip(factors) {
        slice.mapv_inplace(|v| (f64::from(v) * factor) as f32);
    }
}

/// Multiplies equal runs of the values, in C order, each by its factor.
fn each(values: &mut ArrayD<f32>, factors: &[f64]) {
    let run = (values.len() / factors.len().max(1)).max(1);
    for (at, value) in values.iter_mut().enumerate() {
        *value = (f64::from(*value) * factors.get(at / run).copied().unwrap_or(1.0)) as f32;
    }
}
