//! Which layers another engine would compute wrongly on a CPU without VNNI.
//!
//! There, ONNX Runtime and OpenVINO multiply with `vpmaddubsw`, which adds the products of two neighbouring
//! inputs in 16 bits and saturates: x₀w₀ + x₁w₁ comes out as 32 767 where it is more. With weights of 7 bits it
//! never is, 255 · (63 + 63) < 2¹⁵, but those are rounded twice as coarsely. Whether a layer needs them depends on
//! its weights and on what it reads, so the sums are counted on images. calib8's own kernels are exact and need
//! none of this.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array3, Axis};

use super::cut::{Place, with_outputs};
use super::threads::on_threads;
use super::{NodeKind, Placement, QuantizeError, Quantized};
use crate::model::graph::{self, Index};
use crate::model::pb;
use crate::progress::Progress;

/// Layers of whose sums fewer saturate are exact enough.
const LEAST_SHARE: f64 = 1e-4;
/// What two positive weights may sum up to, and two negative ones below 0, whatever the inputs: 255 · 128 < 2¹⁵.
const SAFE_SUM: i32 = 128;

/// Two neighbouring inputs of a layer, and the pairs of weights that could saturate, with how often they occur.
struct Neighbours {
    first: usize,
    weights: Vec<([i32; 2], u64)>,
}

/// A layer whose weights leave room for saturation.
struct Layer {
    node: String,
    /// The FP32 name of what it reads, and that of its dequantized form.
    reads: String,
    scale: f32,
    zero_point: f32,
    /// Whether inputs are channels of an image (axis 1), or the last axis.
    image: bool,
    inputs: usize,
    neighbours: Vec<Neighbours>,
}

/// Sums of one layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saturation {
    /// Sums of two products that were looked at.
    pub sums: u64,
    /// Those that 16 bits don't hold.
    pub saturated: u64,
}

/// Counts, for each layer of `quantized` in which that matters, the sums that saturate on `images` (CHW,
/// preprocessed).
/// The padding of images is not looked at. The result does not depend on the number of threads.
///
/// # Errors
/// Inference fails, or the user asked to stop.
pub fn saturation(
    quantized: &Quantized,
    placement: &Placement,
    images: &[Array3<f32>],
    threads: usize,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, Saturation>, QuantizeError> {
    let layers = layers(quantized.model.graph(), placement);
    let tensors: BTreeSet<String> = layers.iter().map(|layer| layer.reads.clone()).collect();
    let session = with_outputs(&quantized.model, tensors)?;
    let places: Vec<Place> =
        layers.iter().map(|l| Place::find(session.as_ref(), &l.reads)).collect::<Result<_, _>>()?;
    let counts = on_threads(images.len(), threads, || {
        let mut runner = session.spawn()?;
        let (layers, places) = (&layers, &places);
        Ok(move |index: usize| {
            if progress.cancelled() {
                return Err(QuantizeError::Cancelled { images: index as u64 });
            }
            let input = images[index].clone().insert_axis(Axis(0)).into_dyn().into();
            let outputs = runner.run(std::slice::from_ref(&input))?;
            let of = |(layer, place): (&Layer, &Place)| layer.count(place.value(&input, &outputs).as_slice());
            Ok(layers.iter().zip(places).map(of).collect::<Vec<_>>())
        })
    })?;
    let mut found: BTreeMap<String, Saturation> = BTreeMap::new();
    for of_image in &counts {
        for (layer, (sums, saturated)) in layers.iter().zip(of_image) {
            let total = found.entry(layer.node.clone()).or_default();
            total.sums += sums;
            total.saturated += saturated;
        }
    }
    found.retain(|_, count| count.saturated as f64 > LEAST_SHARE * count.sums as f64);
    Ok(found)
}

impl Layer {
    /// Sums of two products, and those of them that saturate, for one image's `values`.
    fn count(&self, values: &[f32]) -> (u64, u64) {
        let codes: Vec<i32> =
            values.iter().map(|v| ((v / self.scale).round_ties_even() + self.zero_point) as i32).collect();
        let (rows, step, along) = if self.image {
            (codes.len() / self.inputs.max(1), codes.len() / self.inputs.max(1), 1)
        } else {
            (codes.len() / self.inputs.max(1), 1, self.inputs)
        };
        let (mut sums, mut saturated) = (0, 0);
        for two in &self.neighbours {
            for row in 0..rows {
                let at = row * along + two.first * step;
                let x = [codes[at], codes[at + step]];
                for ([w0, w1], times) in &two.weights {
                    let sum = x[0] * w0 + x[1] * w1;
                    sums += times;
                    saturated += times * u64::from(i16::try_from(sum).is_err());
                }
            }
        }
        (sums, saturated)
    }
}

/// Layers with neighbours whose weights don't fit together. Depthwise layers have none.
fn layers(graph: &pb::GraphProto, placement: &Placement) -> Vec<Layer> {
    let index = Index::new(graph);
    let constant = |name: &str| Some(&graph.initializer[index.initializer(name)?]);
    let of = |node: &super::QuantizedNode| -> Option<Layer> {
        let NodeKind::Weighted { channel_axis } = node.kind else { return None };
        let written = graph.node.iter().find(|n| n.name == node.name)?;
        let weights = &graph.node[index.producer(written.input.get(1)?)?];
        let weights = graph::to_array::<i8>(constant(&weights.input[0])?)?;
        let reads = written.input.first()?;
        let read = &graph.node[index.producer(reads)?];
        let scale = *graph::to_array::<f32>(constant(read.input.get(1)?)?)?.first()?;
        let zero_point = *graph::to_array::<u8>(constant(read.input.get(2)?)?)?.first()?;
        let image = written.op_type == "Conv";
        if !image && weights.ndim() != 2 {
            return None;
        }
        let groups = graph::attr_int(written, "group").unwrap_or(1).max(1) as usize;
        let groups = if image { groups } else { 1 };
        let input_axis = 1 - channel_axis;
        let of_group = weights.shape()[input_axis];
        let outputs = weights.shape()[channel_axis] / groups;
        let mut neighbours = Vec::new();
        for group in 0..groups {
            for first in (0..of_group.saturating_sub(1)).step_by(2) {
                let mut pairs: BTreeMap<[i32; 2], u64> = BTreeMap::new();
                for o in group * outputs..(group + 1) * outputs {
                    let row = weights.index_axis(Axis(channel_axis), o);
                    let inputs = [first, first + 1].map(|i| row.index_axis(Axis(0), i));
                    for (a, b) in inputs[0].iter().zip(&inputs[1]) {
                        let (a, b) = (i32::from(*a), i32::from(*b));
                        if a.max(0) + b.max(0) > SAFE_SUM || a.min(0) + b.min(0) < -SAFE_SUM {
                            *pairs.entry([a, b]).or_default() += 1;
                        }
                    }
                }
                if !pairs.is_empty() {
                    let first = group * of_group + first;
                    neighbours.push(Neighbours { first, weights: pairs.into_iter().collect() });
                }
            }
        }
        (!neighbours.is_empty()).then(|| Layer {
            node: node.name.clone(),
            reads: reads.clone(),
            scale,
            zero_point: f32::from(zero_point),
            image,
            inputs: of_group * groups,
            neighbours,
        })
    };
    placement.nodes.iter().filter_map(of).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::progress::Silent;
    use crate::quantize::testing::{self, Builder};
    use crate::quantize::{BiasShifts, Options, place};

    /// A layer of equal weights, one of weights that fall off fast, and a depthwise one.
    fn model() -> Model {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let equal = b.constant("equal.weight", &[4, 4, 1, 1], &[0.25; 16]);
        let x = b.op("Conv", "equal", &["input", &equal]);
        let x = b.op("Relu", "relu", &[&x]);
        let steep: Vec<f32> = (0..16).map(|i| if i % 4 == 0 { 1.0 } else { 0.001 }).collect();
        let steep = b.constant("steep.weight", &[4, 4, 1, 1], &steep);
        let x = b.op("Conv", "steep", &[&x, &steep]);
        let x = b.conv("depthwise", &x, 4, 4, 3, 4);
        b.model(&x, &[1, 4, 8, 8])
    }

    fn found(options: &Options, threads: usize) -> BTreeMap<String, Saturation> {
        let placement = place(&model(), options).unwrap();
        let quantized = testing::quantized_with(&model(), options, 1, &BiasShifts::new());
        // Bright everywhere, so that every sum of two equal weights is too large.
        let images = vec![Array3::from_elem((4, 8, 8), 1.0); 3];
        saturation(&quantized, &placement, &images, threads, &Silent).unwrap()
    }

    #[test]
    fn only_layers_with_two_large_neighbours_saturate() {
        let found = found(&Options::default(), 2);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["equal"]);
        // Two pairs of inputs, four channels, 64 pixels, three images.
        assert_eq!(found["equal"], Saturation { sums: 2 * 4 * 64 * 3, saturated: 2 * 4 * 64 * 3 });
    }

    #[test]
    fn weights_of_seven_bits_never_saturate() {
        let options = Options { seven_bit: ["equal".to_string()].into(), ..Options::default() };
        assert!(found(&options, 1).is_empty());
    }
}
