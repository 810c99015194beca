//! Sequential bias correction: layer after layer, with the INT8 results of the layers before it.
//!
//! The fast correction makes up for the weights of a layer alone. Rounding and clipping activations shift
//! means too, and the shifts of one layer are the input of the next: in networks with many narrow
//! layers they add up. Here each layer reads what the corrected INT8 layers before it gave for a set of
//! images, its bias takes up the difference of its mean output from the FP32 layer's, and then it runs again.
//!
//! The means are those of what is stored, behind the activation. Before it they would be ruled by values that the
//! activation cuts off: on mobilenet-v3-small, whose HardSwish does so with half of them, the KL divergence from
//! the FP32 model was 0.096 with means before the activation and 0.031 with those behind it, on 64 held-out images.
//!
//! Layers run as models of their own (see `cut`), so each runs twice on each image. Only tensors that a
//! later layer reads are held, for a fixed number of images.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ndarray::{Array3, Axis};

use super::cut::{Cutter, Place, with_outputs};
use super::statistics::FixedSum;
use super::survey::Survey;
use super::threads::on_threads;
use super::weights::quantize_bias;
use super::{NodeKind, Placement, QuantizeError, Quantized, QuantizedNode};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions, Value};
use crate::kernels::Term;
use crate::model::graph::{self, Index};
use crate::model::{Model, pb};
use crate::progress::Progress;

/// Where fewer of a channel's values than this share can move, they are not moved as far as all of it would ask.
const LEAST_INSIDE: f64 = 0.1;

/// For each layer what is added to the biases of its output channels.
pub type BiasShifts = BTreeMap<String, Vec<f32>>;

/// Finds the corrections for `quantized`, the INT8 form that the fast correction gives `parent`, on
/// `images` (CHW, preprocessed). The result does not depend on the number of threads.
///
/// # Errors
/// The models do not belong together, inference fails, or the user asked to stop.
pub fn sequential_shifts(
    parent: &Model,
    placement: &Placement,
    quantized: &Quantized,
    images: &[Array3<f32>],
    threads: usize,
    progress: &dyn Progress,
) -> Result<BiasShifts, QuantizeError> {
    let inputs: Vec<Value> =
        images.iter().map(|i| Value::from(i.clone().insert_axis(Axis(0)).into_dyn())).collect();
    let layers = correctable(parent, placement);
    let bounds = stored_bounds(quantized.model.graph());
    let tensors: BTreeMap<String, f32> =
        layers.iter().map(|n| (n.output.clone(), bounds.get(&n.output).map_or(f32::MIN, |b| b.0))).collect();
    let expected = parent_means(parent, &tensors, &inputs, threads, progress)?;
    let mut pass = Pass { model: quantized.model.clone(), inputs: &inputs, threads, values: HashMap::new() };
    let readers = pass.readers(placement);
    let mut shifts = BiasShifts::new();
    for (at, tensor) in placement.tensors.iter().enumerate() {
        if progress.cancelled() {
            return Err(QuantizeError::Cancelled { images: images.len() as u64 });
        }
        for node in layers.iter().filter(|node| node.output == tensor.name) {
            if let Some(shift) = pass.correct(parent, node, &expected[&node.output], &bounds)? {
                shifts.insert(node.name.clone(), shift);
            }
        }
        pass.run(&tensor.name)?;
        pass.values.retain(|name, _| readers.get(name).is_some_and(|last| *last > at));
        progress.step(at + 1, placement.tensors.len(), Some(&tensor.name));
    }
    // Layers whose results stay FP32, such as the one that gives the logits.
    for node in &layers {
        if !placement.tensors.iter().any(|t| t.name == node.output)
            && let Some(shift) = pass.correct(parent, node, &expected[&node.output], &bounds)?
        {
            shifts.insert(node.name.clone(), shift);
        }
    }
    Ok(shifts)
}

/// Layers with a bias that read a stored tensor.
fn correctable<'a>(parent: &Model, placement: &'a Placement) -> Vec<&'a QuantizedNode> {
    let known: BTreeSet<&str> = placement.tensors.iter().map(|t| t.name.as_str()).collect();
    let suits = |node: &&QuantizedNode| {
        let reads = &parent.graph().node[node.position].input[0];
        let weighted = matches!(node.kind, NodeKind::Weighted { .. }) && node.op_type != "MatMul";
        weighted && known.contains(reads.as_str())
    };
    placement.nodes.iter().filter(suits).collect()
}

/// Smallest and largest value of each stored tensor, by its FP32 name.
fn stored_bounds(graph: &pb::GraphProto) -> HashMap<String, (f32, f32)> {
    let index = Index::new(graph);
    let of = |node: &pb::NodeProto| {
        let constant = |at: usize| Some(&graph.initializer[index.initializer(node.input.get(at)?)?]);
        let scale = *graph::to_array::<f32>(constant(1)?)?.first()?;
        let zero = f32::from(*graph::to_array::<u8>(constant(2)?)?.first()?);
        let tensor = node.name.strip_suffix("_QuantizeLinear")?;
        Some((tensor.to_string(), (-zero * scale, (255.0 - zero) * scale)))
    };
    graph.node.iter().filter(|n| n.op_type == "QuantizeLinear").filter_map(of).collect()
}

/// Mean of each channel (axis 1) of `tensors` in the FP32 model, where smaller values count as the one given.
fn parent_means(
    parent: &Model,
    tensors: &BTreeMap<String, f32>,
    inputs: &[Value],
    threads: usize,
    progress: &dyn Progress,
) -> Result<HashMap<String, Vec<f64>>, QuantizeError> {
    let session = with_outputs(parent, tensors.keys().cloned().collect())?;
    let places: Vec<Place> =
        tensors.keys().map(|t| Place::find(session.as_ref(), t)).collect::<Result<_, _>>()?;
    let lows: Vec<f32> = tensors.values().copied().collect();
    let sums = on_threads(inputs.len(), threads, || {
        let mut runner = session.spawn()?;
        let (places, lows) = (&places, &lows);
        Ok(move |image: usize| {
            if progress.cancelled() {
                return Err(QuantizeError::Cancelled { images: image as u64 });
            }
            let mut means = vec![Vec::new(); places.len()];
            Place::watch(places, runner.as_mut(), &inputs[image], |at, tensor| {
                means[at] = Survey::of(tensor, Some(1), Term::AtLeast(lows[at]), |_| {}).means();
            })?;
            Ok(means)
        })
    })?;
    let mean_of = |at: usize| mean(sums.iter().map(|of_image| of_image[at].as_slice()));
    Ok(tensors.keys().enumerate().map(|(at, tensor)| (tensor.clone(), mean_of(at))).collect())
}

/// Mean for each index of axis 1 of what `of` makes of the values.
fn channel_means(value: &Value, of: impl Fn(f32) -> f64) -> Vec<f64> {
    let channels = value.shape().get(1).copied().unwrap_or(1).max(1);
    let values = value.as_slice();
    let inner = (values.len() / channels).max(1);
    values.chunks(inner).map(|run| run.iter().map(|v| of(*v)).sum::<f64>() / run.len() as f64).collect()
}

/// The mean over images, whatever their order.
fn mean<'a>(images: impl Iterator<Item = &'a [f64]>) -> Vec<f64> {
    let mut sums: Vec<FixedSum> = Vec::new();
    let mut count = 0;
    for image in images {
        sums.resize(image.len(), FixedSum::default());
        sums.iter_mut().zip(image).for_each(|(sum, value)| sum.add(*value));
        count += 1;
    }
    sums.into_iter().map(|sum| sum.mean(count)).collect()
}

/// The INT8 model on its way through the layers.
struct Pass<'a> {
    /// As corrected so far.
    model: Model,
    inputs: &'a [Value],
    threads: usize,
    /// Dequantized values of each image, by the tensor's FP32 name.
    values: HashMap<String, Vec<Value>>,
}

impl Pass<'_> {
    /// By tensor the position among the placement's tensors of its last reader; tensors that layers
    /// without INT8 results read are kept to the end.
    fn readers(&self, placement: &Placement) -> HashMap<String, usize> {
        let cutter = Cutter::new(self.model.graph());
        let mut last = HashMap::new();
        for (at, tensor) in placement.tensors.iter().enumerate() {
            for (_, input) in cutter.cut(&cutter.dequantized(&tensor.name)).inputs {
                last.insert(input, at);
            }
        }
        for node in placement.nodes.iter().filter(|n| !placement.tensors.iter().any(|t| t.name == n.output)) {
            for (_, input) in cutter.cut(&node.output).inputs {
                last.insert(input, usize::MAX);
            }
        }
        last
    }

    /// Runs what makes `tensor` and stores it.
    fn run(&mut self, tensor: &str) -> Result<(), QuantizeError> {
        let result = Cutter::new(self.model.graph()).dequantized(tensor);
        let values = self.each(&result, |value| value)?;
        self.values.insert(tensor.into(), values);
        Ok(())
    }

    /// Runs what makes `result`, a tensor of the INT8 model, from stored values; gives what `take` makes of it
    /// for each image.
    fn each<T: Send>(&self, result: &str, take: impl Fn(Value) -> T + Sync) -> Result<Vec<T>, QuantizeError> {
        let cutter = Cutter::new(self.model.graph());
        let cut = cutter.cut(result);
        let image = self.model.inputs().into_iter().next().map(|port| port.name);
        let source = |(_, tensor): &(String, String)| match self.values.get(tensor) {
            Some(values) => Ok(values.as_slice()),
            None if image.as_ref() == Some(tensor) => Ok(self.inputs),
            None => Err(QuantizeError::MissingStatistics { tensor: tensor.clone() }),
        };
        let sources: Vec<&[Value]> = cut.inputs.iter().map(source).collect::<Result<_, _>>()?;
        let shapes: HashMap<&str, &[usize]> = cut
            .inputs
            .iter()
            .zip(&sources)
            .filter_map(|((_, tensor), values)| Some((tensor.as_str(), values.first()?.shape())))
            .collect();
        let session =
            Builtin.load(&cut.model(&self.model.proto, result, &shapes), &LoadOptions::default())?;
        on_threads(self.inputs.len(), self.threads, || {
            let mut runner = session.spawn()?;
            let (sources, take) = (&sources, &take);
            Ok(move |image: usize| {
                let inputs: Vec<Value> = sources.iter().map(|values| values[image].clone()).collect();
                let first = runner.run(&inputs)?.into_iter().next();
                let first =
                    first.ok_or_else(|| QuantizeError::MissingStatistics { tensor: result.into() })?;
                Ok(take(first))
            })
        })
    }

    /// Sets the bias of `node` so that the mean of each of its output channels, as it is stored, is `expected`,
    /// the FP32 layer's; gives what that adds to the FP32 bias, or nothing where the layer has no bias or the
    /// difference can't be trusted.
    ///
    /// What an activation cuts off says nothing: a shift moves only the values within `bounds`, so the difference
    /// is shared out among these.
    fn correct(
        &mut self,
        parent: &Model,
        node: &QuantizedNode,
        expected: &[f64],
        bounds: &HashMap<String, (f32, f32)>,
    ) -> Result<Option<Vec<f32>>, QuantizeError> {
        let graph = self.model.graph();
        let index = Index::new(graph);
        let Some(written) = graph.node.iter().find(|n| n.name == node.name) else { return Ok(None) };
        let Some(bias) = written.input.get(2).and_then(|name| Some(&graph.node[index.producer(name)?]))
        else {
            return Ok(None);
        };
        let stored = index.initializer(&bias.input[0]).map(|at| &graph.initializer[at]);
        let scales = index.initializer(&bias.input[1]).map(|at| &graph.initializer[at]);
        let (Some(integers), Some(scales)) =
            (stored.and_then(graph::to_array::<i32>), scales.and_then(graph::to_array::<f32>))
        else {
            return Ok(None);
        };
        let result = Cutter::new(graph).dequantized(&node.output);
        let (low, high) = bounds.get(&node.output).copied().unwrap_or((f32::MIN, f32::MAX));
        let seen = self.each(&result, |value| {
            let inside = |v: f32| if low < v && v < high { 1.0 } else { 0.0 };
            (channel_means(&value, f64::from), channel_means(&value, inside))
        })?;
        let found = mean(seen.iter().map(|(means, _)| means.as_slice()));
        let inside = mean(seen.iter().map(|(_, shares)| shares.as_slice()));
        let original = bias_of(parent, node.position, scales.len());
        if found.len() != scales.len() || expected.len() != scales.len() {
            return Ok(None);
        }
        let stored = integers.iter().zip(&scales).map(|(i, s)| f64::from(*i) * f64::from(*s));
        let wanted: Vec<f64> = stored
            .zip(expected.iter().zip(&found))
            .zip(&inside)
            .map(|((b, (wanted, found)), inside)| b + (wanted - found) / inside.max(LEAST_INSIDE))
            .collect();
        let wanted: Vec<f32> = wanted.into_iter().map(|b| b as f32).collect();
        let scales: Vec<f32> = scales.into_iter().collect();
        let shift: Vec<f32> = wanted.iter().zip(&original).map(|(wanted, b)| wanted - b).collect();
        if shift.iter().any(|s| !s.is_finite()) {
            return Ok(None);
        }
        let (integers, _) = quantize_bias(&wanted, &scales, 1.0);
        let name = bias.input[0].clone();
        if let Some(at) = index.initializer(&name)
            && let Some(graph) = self.model.proto.graph.as_mut()
        {
            graph.initializer[at] = graph::tensor(&name, &[integers.len()], &integers);
        }
        Ok(Some(shift))
    }
}

/// The bias of a layer of the FP32 model; zeros if it has none.
fn bias_of(parent: &Model, position: usize, channels: usize) -> Vec<f32> {
    let graph = parent.graph();
    let name = graph.node[position].input.get(2);
    let at = name.and_then(|name| Index::new(graph).initializer(name));
    let bias = at.and_then(|at| graph::to_array::<f32>(&graph.initializer[at]));
    bias.map_or_else(|| vec![0.0; channels], |bias| bias.into_iter().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::quantize::testing::{self, Builder};
    use crate::quantize::{Options, place};

    fn chain() -> Model {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let mut x = b.conv("first", "input", 4, 4, 3, 1);
        for name in ["a", "b", "c", "d"] {
            x = b.op("Relu", &format!("{name}.relu"), &[&x]);
            x = b.conv(name, &x, 4, 4, 3, 4);
        }
        let x = b.op("GlobalAveragePool", "pool", &[&x]);
        let x = b.op("Flatten", "flat", &[&x]);
        let x = b.gemm("head", &x, 4, 3);
        b.model(&x, &[1, 3])
    }

    fn images() -> Vec<Array3<f32>> {
        (0..6).map(|i| testing::image(&[1, 4, 8, 8], i)).collect()
    }

    fn shifts(threads: usize) -> (Model, Placement, BiasShifts) {
        let model = chain();
        let placement = place(&model, &Options::default()).unwrap();
        let fast = testing::quantized(&model, &Options::default(), 1);
        let found = sequential_shifts(&model, &placement, &fast, &images(), threads, &Silent).unwrap();
        (model, placement, found)
    }

    fn mean_logits(model: &Model) -> Vec<f64> {
        let session = Builtin.load(model, &LoadOptions::default()).unwrap();
        let mut runner = session.spawn().unwrap();
        let outputs = images().into_iter().map(|i| {
            let input = Value::from(i.insert_axis(Axis(0)).into_dyn());
            runner.run(&[input]).unwrap()[0].as_slice().iter().map(|v| f64::from(*v)).collect::<Vec<_>>()
        });
        let outputs: Vec<Vec<f64>> = outputs.collect();
        mean(outputs.iter().map(Vec::as_slice))
    }

    #[test]
    fn the_mean_output_of_the_last_layer_becomes_that_of_the_parent() {
        let (model, _, found) = shifts(1);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["a", "b", "c", "d", "first", "head"]);
        let fast = testing::quantized(&model, &Options::default(), 1);
        let corrected = testing::quantized_with(&model, &Options::default(), 1, &found);
        let expected = mean_logits(&model);
        let error = |model: &Model| {
            mean_logits(model).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        let (before, after) = (error(&fast.model), error(&corrected.model));
        assert!(after < before / 2.0, "{before} {after}");
    }

    #[test]
    fn the_mean_behind_an_activation_comes_nearer_to_that_of_the_parent() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("first", "input", 4, 4, 3, 1);
        let x = b.op("Relu", "first.relu", &[&x]);
        let x = b.conv("second", &x, 4, 4, 3, 1);
        let x = b.op("Relu", "second.relu", &[&x]);
        let model = b.model(&x, &[1, 4, 8, 8]);
        let placement = place(&model, &Options::default()).unwrap();
        let fast = testing::quantized(&model, &Options::default(), 1);
        let found = sequential_shifts(&model, &placement, &fast, &images(), 1, &Silent).unwrap();
        let corrected = testing::quantized_with(&model, &Options::default(), 1, &found);
        let means =
            |model: &Model| -> Vec<f64> { mean_logits(model).chunks(64).map(|c| c.iter().sum()).collect() };
        let expected = means(&model);
        let error =
            |model: &Model| -> f64 { means(model).iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum() };
        let (before, after) = (error(&fast.model), error(&corrected.model));
        assert!(after < before / 2.0, "{before} {after}");
    }

    #[test]
    fn a_tensor_that_is_read_both_in_int8_and_in_fp32_is_made_once() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("first", "input", 4, 4, 1, 1);
        let x = b.op("Softmax", "norm", &[&x]);
        let score = b.conv("score", &x, 4, 4, 1, 1);
        let x = b.op("Max", "larger", &[&score, &x]);
        let x = b.conv("last", &x, 4, 4, 1, 1);
        let model = b.model(&x, &[1, 4, 8, 8]);
        let placement = place(&model, &Options::default()).unwrap();
        let fast = testing::quantized(&model, &Options::default(), 1);
        let found = sequential_shifts(&model, &placement, &fast, &images(), 1, &Silent).unwrap();
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["first", "last", "score"]);
    }

    #[test]
    fn the_corrections_do_not_depend_on_the_threads() {
        assert_eq!(shifts(1).2, shifts(3).2);
    }
}
