//! Sequential bias correction: layer after layer, with the INT8 results of the layers before it.
//!
//! The fast correction makes up for the weights of a layer alone. Rounding and clipping activations shift
//! means too, and the shifts of one layer are the input of the next: in networks with many narrow
//! layers they add up. Here each layer reads what the corrected INT8 layers before it gave for a set of
//! images, its bias takes up the difference of its mean output from the FP32 layer's, and then it runs.
//!
//! Layers run as models of their own (see `cut`), so each runs once on each image. Only tensors that a
//! later layer reads are held, for a fixed number of images.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ndarray::{Array3, Axis};

use super::correction::{InputMeans, bias_shift};
use super::cut::{Cutter, Place, with_outputs};
use super::statistics::FixedSum;
use super::threads::on_threads;
use super::weights::{QuantizedWeights, quantize_bias};
use super::{NodeKind, Placement, QuantizeError, Quantized, QuantizedNode};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions, Value};
use crate::model::graph::{self, Index};
use crate::model::{Model, pb};
use crate::progress::Progress;

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
    let layers: Vec<(&QuantizedNode, usize, String)> = correctable(parent, placement);
    let tensors: BTreeSet<String> = layers.iter().map(|(_, _, tensor)| tensor.clone()).collect();
    let expected = parent_means(parent, &tensors, &inputs, threads, progress)?;
    let mut pass = Pass { model: quantized.model.clone(), inputs: &inputs, threads, values: HashMap::new() };
    let readers = pass.readers(placement);
    let mut shifts = BiasShifts::new();
    for (at, tensor) in placement.tensors.iter().enumerate() {
        if progress.cancelled() {
            return Err(QuantizeError::Cancelled { images: images.len() as u64 });
        }
        for (node, axis, input) in layers.iter().filter(|(node, ..)| node.output == tensor.name) {
            if let Some(shift) = pass.correct(parent, node, *axis, input, &expected[input])? {
                shifts.insert(node.name.clone(), shift);
            }
        }
        pass.run(&tensor.name)?;
        pass.values.retain(|name, _| readers.get(name).is_some_and(|last| *last > at));
        progress.step(at + 1, placement.tensors.len(), Some(&tensor.name));
    }
    // Layers whose results stay FP32, such as the one that gives the logits.
    for (node, axis, input) in &layers {
        if !placement.tensors.iter().any(|t| t.name == node.output)
            && let Some(shift) = pass.correct(parent, node, *axis, input, &expected[input])?
        {
            shifts.insert(node.name.clone(), shift);
        }
    }
    Ok(shifts)
}

/// Layers with a bias, the axis of their output channels, and the tensor that each reads.
fn correctable<'a>(parent: &Model, placement: &'a Placement) -> Vec<(&'a QuantizedNode, usize, String)> {
    let known: BTreeSet<&str> = placement.tensors.iter().map(|t| t.name.as_str()).collect();
    let layer = |node: &'a QuantizedNode| {
        let NodeKind::Weighted { channel_axis } = node.kind else { return None };
        let input = parent.graph().node[node.position].input[0].clone();
        (node.op_type != "MatMul" && known.contains(input.as_str())).then_some((node, channel_axis, input))
    };
    placement.nodes.iter().filter_map(layer).collect()
}

/// Mean of each channel (axis 1) of `tensors` in the FP32 model.
fn parent_means(
    parent: &Model,
    tensors: &BTreeSet<String>,
    inputs: &[Value],
    threads: usize,
    progress: &dyn Progress,
) -> Result<HashMap<String, Vec<f64>>, QuantizeError> {
    let session = with_outputs(parent, tensors.clone())?;
    let places: Vec<Place> =
        tensors.iter().map(|t| Place::find(session.as_ref(), t)).collect::<Result<_, _>>()?;
    let sums = on_threads(inputs.len(), threads, || {
        let mut runner = session.spawn()?;
        let places = &places;
        Ok(move |image: usize| {
            if progress.cancelled() {
                return Err(QuantizeError::Cancelled { images: image as u64 });
            }
            let outputs = runner.run(std::slice::from_ref(&inputs[image]))?;
            Ok(places.iter().map(|p| channel_means(p.value(&inputs[image], &outputs))).collect::<Vec<_>>())
        })
    })?;
    let mean_of = |at: usize| mean(sums.iter().map(|of_image| of_image[at].as_slice()));
    Ok(tensors.iter().enumerate().map(|(at, tensor)| (tensor.clone(), mean_of(at))).collect())
}

/// Mean of each index of axis 1.
fn channel_means(value: &Value) -> Vec<f64> {
    let channels = value.shape().get(1).copied().unwrap_or(1).max(1);
    let values = value.as_slice();
    let inner = (values.len() / channels).max(1);
    values
        .chunks(inner)
        .map(|run| run.iter().map(|v| f64::from(*v)).sum::<f64>() / run.len() as f64)
        .collect()
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
        let cutter = Cutter::new(self.model.graph());
        let result = cutter.dequantized(tensor);
        let cut = cutter.cut(&result);
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
            Builtin.load(&cut.model(&self.model.proto, &result, &shapes), &LoadOptions::default())?;
        let values = on_threads(self.inputs.len(), self.threads, || {
            let mut runner = session.spawn()?;
            let (sources, result) = (&sources, &result);
            Ok(move |image: usize| {
                let inputs: Vec<Value> = sources.iter().map(|values| values[image].clone()).collect();
                let first = runner.run(&inputs)?.into_iter().next();
                first.ok_or_else(|| QuantizeError::MissingStatistics { tensor: result.clone() })
            })
        })?;
        self.values.insert(tensor.into(), values);
        Ok(())
    }

    /// Sets the bias of `node` so that its mean output is the FP32 layer's; gives what that adds to the
    /// FP32 bias, or nothing where the layer has no bias or the difference can't be trusted.
    fn correct(
        &mut self,
        parent: &Model,
        node: &QuantizedNode,
        axis: usize,
        input: &str,
        expected: &[f64],
    ) -> Result<Option<Vec<f32>>, QuantizeError> {
        let graph = self.model.graph();
        let index = Index::new(graph);
        let found = match self.values.get(input) {
            Some(values) => {
                let means: Vec<Vec<f64>> = values.iter().map(channel_means).collect();
                mean(means.iter().map(Vec::as_slice))
            }
            None => return Err(QuantizeError::MissingStatistics { tensor: input.into() }),
        };
        let Some(written) = graph.node.iter().find(|n| n.name == node.name) else { return Ok(None) };
        let stored = |input: usize| Some(&graph.node[index.producer(written.input.get(input)?)?]);
        let constant = |name: &str| {
            index.initializer(name).and_then(|at| graph::to_array::<f32>(&graph.initializer[at]))
        };
        let (Some(weights), Some(bias)) = (stored(1), stored(2)) else { return Ok(None) };
        let values = index.initializer(&weights.input[0]).map(|at| &graph.initializer[at]);
        let (Some(values), Some(scales)) =
            (values.and_then(graph::to_array::<i8>), constant(&weights.input[1]))
        else {
            return Ok(None);
        };
        let Some(bias_scales) = constant(&bias.input[1]) else { return Ok(None) };
        let weights = QuantizedWeights { values, scales: scales.into_iter().collect() };
        let original = Original { graph: parent.graph(), index: Index::new(parent.graph()) };
        let (Some(real), bias_before) = original.constants(node.position, weights.scales.len()) else {
            return Ok(None);
        };
        let means = InputMeans { fp32: expected, int8: &found };
        let Some(shift) = bias_shift(&real, &weights, axis, means, f32::MAX) else { return Ok(None) };
        let shifted: Vec<f32> = bias_before.iter().zip(&shift).map(|(b, s)| b + s).collect();
        let x_scale =
            bias_scales.first().copied().unwrap_or(1.0) / weights.scales.first().copied().unwrap_or(1.0);
        let (integers, _) = quantize_bias(&shifted, &weights.scales, x_scale);
        let name = bias.input[0].clone();
        if let Some(at) = index.initializer(&name)
            && let Some(graph) = self.model.proto.graph.as_mut()
        {
            graph.initializer[at] = graph::tensor(&name, &[integers.len()], &integers);
        }
        Ok(Some(shift))
    }
}

/// The FP32 graph.
struct Original<'a> {
    graph: &'a pb::GraphProto,
    index: Index,
}

impl Original<'_> {
    /// Weights and bias of a layer; a bias that it does not have is zeros.
    fn constants(&self, position: usize, channels: usize) -> (Option<ndarray::ArrayD<f32>>, Vec<f32>) {
        let node = &self.graph.node[position];
        let constant = |input: usize| {
            let at = self.index.initializer(node.input.get(input)?)?;
            graph::to_array::<f32>(&self.graph.initializer[at])
        };
        (constant(1), constant(2).map_or_else(|| vec![0.0; channels], |b| b.into_iter().collect()))
    }
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
    fn the_corrections_do_not_depend_on_the_threads() {
        assert_eq!(shifts(1).2, shifts(3).2);
    }
}
