//! Channels of one tensor are brought to like ranges, without changing what the network computes.
//!
//! All channels of an activation share one scale, so a channel that stays small has few of the 256 steps. Between
//! layers a channel may be multiplied by a positive factor if the layers that write it take the factor into
//! their weights and those that read it take it out again (cross-layer equalization: Nagel et al. 2019,
//! arXiv:1906.04721, 4.1; between a layer normalization and a product of matrices: SmoothQuant, Xiao et al. 2022,
//! arXiv:2211.10438). Biases take the factors with the weights. Weights have a scale for each output channel, so
//! this costs the writers nothing; a reader that sums over channels pays, since its weights then differ more among
//! its inputs. How far to go is chosen for each set of tensors that must share factors, by what rounding both is
//! expected to do to the results of the readers.
//!
//! At a Clip from above a factor may only lift a channel as far as no value seen reaches the bound.
//!
//! Before that, channels that are never off give a part of their values to the biases behind them (`absorb.rs`).

mod absorb;
mod channels;
mod constants;
mod seen;

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array3, ArrayD};

use super::{Placement, QuantizeError};
use crate::model::{Model, shapes};
use crate::progress::Progress;
use channels::{Channels, Layer, Role};
use constants::Constants;
use seen::{Seen, watch};

/// No channel is lifted by more than this.
const MOST: f32 = 64.0;
/// How far channels go to a common range: not at all, or all the way.
const STRENGTHS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
/// A strength has to be better than none by more than this share.
const LEAST_GAIN: f64 = 1e-3;
/// Largest steps of stored activations and weights.
const STEPS: f64 = 255.0;
const WEIGHT_STEPS: f64 = 127.0;

/// A model that computes what another one does, and quantizes better.
pub struct Equalized {
    /// The model: the same graph with other constants.
    pub model: Model,
    /// Quantized tensors whose channels got factors.
    pub tensors: usize,
    /// Quantized tensors of which biases took a part.
    pub absorbed: usize,
}

/// Forms of `model` that compute the same and may quantize better, by what `images` (CHW, preprocessed) make of its
/// channels: rescaled, and where biases can take something, shifted and rescaled. None where nothing can be done. They
/// do not depend on the number of threads.
///
/// # Errors
/// The graph can't be analysed, inference fails, or the user asked to stop.
pub fn equalize(
    model: &Model,
    placement: &Placement,
    images: &[Array3<f32>],
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Equalized>, QuantizeError> {
    let mut known = shapes::infer(model, 1)?;
    known.extend(model.inputs().into_iter().map(|i| i.name).zip(shapes::input_shapes(model, 1)?));
    let channels = Channels::new(model.graph(), &known);
    let movable = |tensor: &str| {
        channels.classes(tensor).is_some_and(|classes| classes.iter().any(|c| !channels.is_frozen(*c)))
    };
    let tensors: BTreeSet<String> =
        placement.tensors.iter().map(|t| t.name.clone()).filter(|t| movable(t)).collect();
    let read = channels.layers.iter().filter(|l| l.weights.is_some()).map(|l| l.x.clone());
    let watched: BTreeSet<String> = tensors.iter().cloned().chain(read).collect();
    if watched.is_empty() {
        return Ok(Vec::new());
    }
    let rescaled = |mut constants: Constants, seen: &BTreeMap<String, Seen>, absorbed: usize| {
        let bench = Bench::new(&channels, seen, &constants);
        let mut factors = vec![1f64; channels.len()];
        for set in sets(&channels, &tensors) {
            bench.choose(&set, &mut factors);
        }
        let moved = |tensor: &&String| {
            channels.classes(tensor).is_some_and(|classes| classes.iter().any(|c| factors[*c] != 1.0))
        };
        let tensors = tensors.iter().filter(moved).count();
        constants.rescale(&channels, &factors);
        Equalized { model: constants.put_into(model), tensors, absorbed }
    };
    let seen = watch(model, &watched, images, threads, progress)?;
    let mut forms = vec![rescaled(Constants::new(model), &seen, 0)];
    // Read anew, not copied: all weights would be there twice.
    let mut constants = Constants::new(model);
    let quantized = placement.tensors.iter().map(|t| t.name.as_str());
    let absorbed = absorb::absorb(model.graph(), quantized, &channels, &seen, &mut constants);
    if absorbed > 0 {
        let seen = watch(&constants.put_into(model), &watched, images, threads, progress)?;
        forms.push(rescaled(constants, &seen, absorbed));
    }
    forms.retain(|form| form.tensors > 0 || form.absorbed > 0);
    Ok(forms)
}

/// Tensors that share classes of channels, each with all that are tied to it, in the order of their names.
fn sets(channels: &Channels, tensors: &BTreeSet<String>) -> Vec<Vec<String>> {
    let mut sets: Vec<(BTreeSet<usize>, Vec<String>)> = Vec::new();
    for tensor in tensors {
        let mut classes: BTreeSet<usize> = channels.classes(tensor).unwrap_or(&[]).iter().copied().collect();
        let mut members = Vec::new();
        sets.retain_mut(|(known, names)| {
            let apart = known.is_disjoint(&classes);
            if !apart {
                classes.append(known);
                members.append(names);
            }
            apart
        });
        members.push(tensor.clone());
        sets.push((classes, members));
    }
    sets.into_iter().map(|(_, members)| members).collect()
}

/// What strengths are judged by.
struct Bench<'a> {
    channels: &'a Channels,
    seen: &'a BTreeMap<String, Seen>,
    constants: &'a Constants,
    /// By the name of their weights.
    dense: BTreeMap<&'a str, Dense>,
}

impl<'a> Bench<'a> {
    fn new(channels: &'a Channels, seen: &'a BTreeMap<String, Seen>, constants: &'a Constants) -> Bench<'a> {
        let dense = channels.layers.iter().filter_map(|layer| {
            let (Role::Dense { input_axis, .. }, Some(name)) = (layer.role, &layer.weights) else {
                return None;
            };
            Some((name.as_str(), Dense::of(constants.values.get(name)?, input_axis)?))
        });
        Bench { channels, seen, constants, dense: dense.collect() }
    }

    /// Gives the classes of `set` the factors that are expected to do the least harm.
    fn choose(&self, set: &[String], factors: &mut [f64]) {
        let mut largest: BTreeMap<usize, f32> = BTreeMap::new();
        for tensor in set {
            let (Some(classes), Some(seen)) = (self.channels.classes(tensor), self.seen.get(tensor)) else {
                return;
            };
            for (channel, class) in classes.iter().enumerate().filter(|(_, c)| !self.channels.is_frozen(**c))
            {
                let of_class = largest.entry(*class).or_insert(0.0);
                *of_class = of_class.max(seen.largest(channel));
            }
        }
        let top = largest.values().copied().fold(0f32, f32::max);
        if top <= 0.0 || !top.is_finite() {
            return;
        }
        let room: Vec<(usize, f64)> = largest
            .iter()
            .map(|(class, largest)| {
                let to = top.min(self.channels.cap(*class));
                // A channel that is always 0 would be lifted without end.
                (*class, f64::from((to / largest.max(to / MOST)).max(1.0)))
            })
            .collect();
        let mut best: Option<(f64, f64)> = None;
        let put = |strength: f64, factors: &mut [f64]| {
            room.iter().for_each(|(class, room)| factors[*class] = room.powf(strength));
        };
        for strength in STRENGTHS {
            put(strength, factors);
            let harm = self.harm(set, factors);
            if best.is_none_or(|(least, _)| harm < least * (1.0 - LEAST_GAIN)) {
                best = Some((harm, strength));
            }
        }
        put(best.map_or(0.0, |(_, strength)| strength), factors);
    }

    /// Noise ÷ signal at the results of all layers that read `set`, from rounding activations and weights.
    fn harm(&self, set: &[String], factors: &[f64]) -> f64 {
        let mut harm = 0.0;
        let mut weighed: Vec<&Layer> = Vec::new();
        for tensor in set {
            let (Some(classes), Some(seen)) = (self.channels.classes(tensor), self.seen.get(tensor)) else {
                continue;
            };
            let ends = |values: &[f32]| -> Vec<f64> {
                values.iter().zip(classes).map(|(v, class)| f64::from(*v) * factors[*class]).collect()
            };
            let high = ends(&seen.high).into_iter().fold(0.0, f64::max);
            let low = ends(&seen.low).into_iter().fold(0.0, f64::min);
            let noise = ((high - low) / STEPS).powi(2) / 12.0;
            for layer in self.channels.readers(tensor) {
                let Some(found) = self.of_layer(layer, factors) else { continue };
                harm += noise * found.gain;
                if !weighed.contains(&layer) {
                    weighed.push(layer);
                    harm += found.weights;
                }
            }
        }
        harm
    }

    fn of_layer(&self, layer: &Layer, factors: &[f64]) -> Option<Harm> {
        let name = layer.weights.as_ref()?;
        let (classes, seen) = (self.channels.classes(&layer.x)?, self.seen.get(&layer.x)?);
        if !matches!(layer.role, Role::Dense { .. }) {
            return Some(self.of_single(self.constants.values.get(name)?, classes, seen, factors));
        }
        let dense = self.dense.get(name.as_str())?;
        let factor: Vec<f64> = classes.iter().map(|class| factors[*class]).collect();
        let (mut signal, mut passed) = (0.0, 0.0);
        for ((power, seen), factor) in dense.power.iter().zip(&seen.power).zip(&factor) {
            signal += power * seen;
            passed += power / factor.powi(2);
        }
        let top = |row: &[f32]| {
            let weights = row.iter().zip(&factor).map(|(weight, factor)| f64::from(*weight) / factor);
            weights.fold(0f64, |top, weight| if weight > top { weight } else { top })
        };
        let steps = dense.tops.chunks_exact(factor.len().max(1)).map(|row| (top(row) / WEIGHT_STEPS).powi(2));
        let rounding = steps.sum::<f64>() / 12.0;
        let read: f64 = seen.power.iter().zip(&factor).map(|(power, factor)| power * factor.powi(2)).sum();
        let signal = signal.max(f64::MIN_POSITIVE);
        Some(Harm { gain: passed / signal, weights: rounding * dense.kernel as f64 * read / signal })
    }

    /// A layer that reads each channel alone: its weights have scales of their own, and lose nothing.
    fn of_single(&self, weights: &ArrayD<f32>, classes: &[usize], seen: &Seen, factors: &[f64]) -> Harm {
        let each = (weights.len() / classes.len().max(1)).max(1);
        let (mut signal, mut passed) = (0.0, 0.0);
        let values: Vec<f64> = weights.iter().map(|w| f64::from(*w).powi(2)).collect();
        for (channel, run) in values.chunks(each).enumerate().take(classes.len()) {
            let power: f64 = run.iter().sum();
            signal += power * seen.power[channel];
            passed += power / factors[classes[channel]].powi(2);
        }
        Harm { gain: passed / signal.max(f64::MIN_POSITIVE), weights: 0.0 }
    }
}

/// Weights that sum over channels, as far as factors of their inputs ask for them: each strength does so again.
struct Dense {
    /// The largest magnitude between an output channel and an input channel: `[output][input]`.
    tops: Vec<f32>,
    /// Sum of the squares of each input channel's weights.
    power: Vec<f64>,
    /// Weights of each pair of channels.
    kernel: usize,
}

impl Dense {
    fn of(weights: &ArrayD<f32>, input_axis: usize) -> Option<Dense> {
        let kernel = weights.shape().iter().skip(2).product::<usize>().max(1);
        let (inputs, outputs) = (*weights.shape().get(input_axis)?, *weights.shape().get(1 - input_axis)?);
        let mut dense = Dense { tops: vec![0.0; inputs * outputs], power: vec![0.0; inputs], kernel };
        for (pair, run) in weights.as_slice()?.chunks_exact(kernel).enumerate() {
            let (output, input) = match input_axis {
                1 => (pair / inputs, pair % inputs),
                _ => (pair % outputs, pair / outputs),
            };
            let top = &mut dense.tops[output * inputs + input];
            for weight in run {
                dense.power[input] += f64::from(*weight).powi(2);
                *top = top.max(weight.abs());
            }
        }
        Some(dense)
    }
}

/// What a layer makes of rounding.
struct Harm {
    /// Noise ÷ signal at its result for noise of power 1 in each input.
    gain: f64,
    /// Noise ÷ signal from its weights.
    weights: f64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use ndarray::Axis;

    use super::constants::times;
    use super::*;
    use crate::engine::Value;
    use crate::engine::builtin::Builtin;
    use crate::engine::{Engine, LoadOptions};
    use crate::model::graph::{self, Index, with_int};
    use crate::progress::Silent;
    use crate::quantize::testing::{self, Builder};
    use crate::quantize::{Options, place};

    pub(super) fn images() -> Vec<Array3<f32>> {
        (0..4).map(|i| testing::image(&[1, 4, 8, 8], i)).collect()
    }

    /// Depthwise and dense layers, a sum, and a squeeze and excitation; some channels are made small.
    fn network(activation: &str) -> Model {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let (low, high) = (b.constant("low", &[], &[0.0]), b.constant("high", &[], &[6.0]));
        let act = |b: &mut Builder, name: &str, x: &str| match activation {
            "Clip" => b.op("Clip", name, &[x, &low, &high]),
            other => b.op(other, name, &[x]),
        };
        let x = b.conv("stem", "input", 4, 8, 3, 1);
        let x = act(&mut b, "stem.act", &x);
        let y = b.conv("depth", &x, 8, 8, 3, 8);
        let y = act(&mut b, "depth.act", &y);
        let gate = b.op("GlobalAveragePool", "squeeze", &[&y]);
        let gate = b.conv("excite", &gate, 8, 8, 1, 1);
        let gate = b.op("Sigmoid", "gate", &[&gate]);
        let y = b.op("Mul", "scaled", &[&y, &gate]);
        let y = b.conv("project", &y, 8, 8, 1, 1);
        let x = b.op("Add", "sum", &[&y, &x]);
        let x = b.conv("last", &x, 8, 4, 1, 1);
        let x = b.op("GlobalAveragePool", "pool", &[&x]);
        let x = b.op("Flatten", "flat", &[&x]);
        let x = b.gemm("head", &x, 4, 3);
        let mut model = b.model(&x, &[1, 3]);
        let graph = model.proto.graph.as_mut().unwrap();
        for name in ["stem.weight", "stem.bias", "depth.weight", "depth.bias"] {
            let constant = graph.initializer.iter_mut().find(|i| i.name == name).unwrap();
            let mut values = graph::to_array::<f32>(constant).unwrap();
            times(&mut values, 0, &[1.0, 0.1, 0.02, 1.0, 0.5, 0.05, 1.0, 0.01]);
            *constant = graph::tensor(name, values.shape(), &values.iter().copied().collect::<Vec<_>>());
        }
        model
    }

    pub(super) fn run(model: &Model, image: &Array3<f32>) -> Vec<f32> {
        let session = Builtin.load(model, &LoadOptions::default()).unwrap();
        let input = Value::from(image.clone().insert_axis(Axis(0)).into_dyn());
        session.spawn().unwrap().run(&[input]).unwrap()[0].as_slice().to_vec()
    }

    fn forms(model: &Model, threads: usize) -> Vec<Equalized> {
        let placement = place(model, &Options::default()).unwrap();
        equalize(model, &placement, &images(), threads, &Silent).unwrap()
    }

    fn equalized(model: &Model, threads: usize) -> Equalized {
        forms(model, threads).into_iter().next().unwrap()
    }

    #[test]
    fn the_results_stay_and_channels_move() {
        for activation in ["Relu", "LeakyRelu", "Clip"] {
            let model = network(activation);
            let found = equalized(&model, 1);
            assert!(found.tensors >= 2, "{activation}: {}", found.tensors);
            for image in images() {
                for (a, b) in run(&model, &image).iter().zip(run(&found.model, &image)) {
                    assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{activation}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn int8_loses_less() {
        let model = network("Relu");
        let found = equalized(&model, 2);
        let error = |source: &Model| {
            let int8 = testing::quantized(source, &Options::default(), 1).model;
            let of = |image: &Array3<f32>| -> f32 {
                run(&model, image).iter().zip(run(&int8, image)).map(|(a, b)| (a - b).powi(2)).sum()
            };
            images().iter().map(of).sum::<f32>()
        };
        let (before, after) = (error(&model), error(&found.model));
        assert!(after < before, "{before} {after}");
    }

    #[test]
    fn the_result_does_not_depend_on_the_threads() {
        let model = network("Clip");
        assert_eq!(equalized(&model, 1).model.encode(), equalized(&model, 3).model.encode());
    }

    #[test]
    fn the_weights_of_a_normalization_take_the_factors_of_the_product_behind_it() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.op("GlobalAveragePool", "pool", &["input"]);
        let x = b.op("Flatten", "flat", &[&x]);
        let x = b.op("Softmax", "norm", &[&x]);
        let gain = b.constant("norm.gain", &[4], &[1.0, 1.0, 1.0, 30.0]);
        let shift = b.constant("norm.shift", &[4], &[0.1; 4]);
        let x = b.op("Mul", "gained", &[&x, &gain]);
        let x = b.op("Add", "shifted", &[&x, &shift]);
        let values = b.noise(4 * 5);
        let weights = b.constant("product.weight", &[4, 5], &values);
        let x = b.op("MatMul", "product", &[&x, &weights]);
        let model = b.model(&x, &[1, 5]);
        let found = equalized(&model, 1);
        assert_eq!(found.tensors, 1);
        let constant = |model: &Model, name: &str| {
            let at = Index::new(model.graph()).initializer(name).unwrap();
            graph::to_array::<f32>(&model.graph().initializer[at]).unwrap()
        };
        let factor = |name: &str, at: usize| {
            let flat = |m: &Model| constant(m, name).into_iter().nth(at).unwrap();
            flat(&found.model) / flat(&model)
        };
        assert!(factor("norm.gain", 0) > 1.5 && (factor("norm.gain", 3) - 1.0).abs() < 1e-6);
        assert!((factor("norm.gain", 0) - factor("norm.shift", 0)).abs() < 1e-4);
        assert!((factor("norm.gain", 0) * factor("product.weight", 2) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn constants_that_others_read_stay() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("a", "input", 4, 4, 1, 1);
        let x = b.op("Relu", "act", &[&x]);
        let x = b.push(with_int(graph::node("Conv", "again", &[&x, "a.weight", "a.bias"], &[]), "group", 1));
        assert!(forms(&b.model(&x, &[1, 4, 8, 8]), 1).is_empty());
    }
}
