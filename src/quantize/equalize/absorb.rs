//! Channels of a rectified activation that are never off give what all their values share to the biases behind them.
//!
//! Where x = relu(y) never falls below s > 0, it is relu(y − s) + s. So s may go from the bias of the layer that writes
//! y into those of the layers that read x, as Σ w · s over their weights, and the largest value of the tensor, which
//! decides how wide a step is, may fall: bias absorption (Nagel et al. 2019, arXiv:1906.04721, 4.1.3), with the
//! smallest value that images have shown in place of one that a normal distribution lets expect. No more is taken
//! than what makes the largest value fall, since another image may lie lower.

use std::collections::BTreeMap;

use super::channels::{Channels, Layer, Role};
use super::constants::Constants;
use super::seen::Seen;
use crate::model::graph::{self, Index};
use crate::model::pb::GraphProto;

/// The largest value of a tensor has to fall by more than this share.
const LEAST_FALL: f32 = 0.01;

/// Changes `constants`, those of `graph`; gives the number of tensors, out of those named in `quantized`, of which
/// biases took a part.
pub(super) fn absorb<'a>(
    graph: &GraphProto,
    quantized: impl Iterator<Item = &'a str>,
    channels: &Channels,
    seen: &BTreeMap<String, Seen>,
    constants: &mut Constants,
) -> usize {
    let index = Index::new(graph);
    let mut tensors: Vec<&str> = quantized.collect();
    tensors.sort_unstable();
    tensors.dedup();
    let absorbs = |tensor: &&str| {
        let found = seen.get(*tensor)?;
        let around = Around::find(graph, &index, channels, constants, tensor)?;
        let shifts = shifts(found, around.cap)?;
        around.shift(&shifts, constants)
    };
    tensors.iter().filter_map(absorbs).count()
}

/// By how much each channel may be lowered so that the largest value of all falls; `None` if it would hardly fall.
fn shifts(seen: &Seen, cap: f32) -> Option<Vec<f32>> {
    let room = |channel: usize| match seen.high[channel] < cap {
        true => seen.low[channel].max(0.0),
        // What is cut off at the bound would be cut off elsewhere.
        false => 0.0,
    };
    let highest = |of: &dyn Fn(usize) -> f32| (0..seen.high.len()).map(of).fold(0f32, f32::max);
    let before = highest(&|channel| seen.high[channel]);
    let after = highest(&|channel| seen.high[channel] - room(channel));
    let falls = before.is_finite() && after < before * (1.0 - LEAST_FALL);
    falls.then(|| (0..seen.high.len()).map(|c| (seen.high[c] - after).clamp(0.0, room(c))).collect())
}

/// The layers before and behind a rectified activation.
struct Around<'a> {
    writer: &'a Layer,
    readers: Vec<&'a Layer>,
    /// The bound that cuts values off from above.
    cap: f32,
}

impl<'a> Around<'a> {
    /// `None` where a part of `tensor` can't be taken by biases: it is not rectified, or what writes or reads it has
    /// no bias, or pads with zeros, which would have to be shifted as well.
    fn find(
        graph: &GraphProto,
        index: &Index,
        channels: &'a Channels,
        constants: &Constants,
        tensor: &str,
    ) -> Option<Around<'a>> {
        let activation = &graph.node[index.producer(tensor)?];
        let y = activation.input.first()?;
        let alone = index.consumers(y).len() == 1 && !index.is_output(y) && !index.is_output(tensor);
        let bound = |at: usize| -> Option<f32> {
            let values = constants.values.get(activation.input.get(at)?)?;
            values.iter().next().copied().filter(|_| values.len() == 1)
        };
        let unbounded = activation.input.get(2).is_none_or(String::is_empty);
        let cap = match activation.op_type.as_str() {
            "Relu" => f32::INFINITY,
            "Clip" if bound(1)? == 0.0 && unbounded => f32::INFINITY,
            "Clip" if bound(1)? == 0.0 => bound(2)?,
            _ => return None,
        };
        let writer = channels.layers.iter().find(|l| l.y == *y && l.weights.is_some() && l.bias.is_some())?;
        let readers: Vec<&Layer> = channels.layers.iter().filter(|l| l.x == tensor).collect();
        let takes = |layer: &&Layer| {
            let node = index.producer(&layer.y).map(|at| &graph.node[at]);
            let pads =
                node.and_then(|n| graph::attr_ints(n, "pads")).is_some_and(|p| p.iter().any(|p| *p != 0));
            let same =
                node.and_then(|n| graph::attr_str(n, "auto_pad")).is_some_and(|a| a.starts_with("SAME"));
            matches!(layer.role, Role::Dense { .. }) && layer.bias.is_some() && !pads && !same
        };
        let fits = alone
            && !readers.is_empty()
            && index.consumers(tensor).len() == readers.len()
            && readers.iter().all(takes);
        fits.then_some(Around { writer, readers, cap })
    }

    /// Moves `shifts`, one for each channel, from the bias before into those behind; `None` if a constant is missing.
    fn shift(&self, shifts: &[f32], constants: &mut Constants) -> Option<()> {
        let mut taken = Vec::new();
        for reader in &self.readers {
            let Role::Dense { input_axis, output_axis } = reader.role else { return None };
            let weights = constants.values.get(reader.weights.as_ref()?)?;
            let mut sums = vec![0f64; weights.shape()[output_axis]];
            for (at, weight) in weights.indexed_iter() {
                sums[at[output_axis]] += f64::from(*weight) * f64::from(shifts[at[input_axis]]);
            }
            taken.push((reader.bias.as_ref()?, sums));
        }
        let add = |values: &mut ndarray::ArrayD<f32>, more: &mut dyn Iterator<Item = f64>| {
            values.iter_mut().zip(more).for_each(|(v, more)| *v = (f64::from(*v) + more) as f32);
        };
        add(constants.change(self.writer.bias.as_ref()?)?, &mut shifts.iter().map(|s| -f64::from(*s)));
        for (bias, sums) in taken {
            add(constants.change(bias)?, &mut sums.into_iter());
        }
        Some(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::equalize;
    use super::super::tests::{images, run};
    use crate::model::Model;
    use crate::model::graph::{self, Index};
    use crate::progress::Silent;
    use crate::quantize::testing::Builder;
    use crate::quantize::{Options, place};

    /// A squeeze whose second channel is always on, and far above the others; `activation` behind it.
    fn network(activation: &str, kernel: usize) -> Model {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let (low, high) = (b.constant("low", &[], &[0.0]), b.constant("high", &[], &[6.0]));
        let x = b.op("GlobalAveragePool", "pool", &["input"]);
        let x = b.conv("squeeze", &x, 4, 8, 1, 1);
        let x = match activation {
            "Clip" => b.op("Clip", "act", &[&x, &low, &high]),
            other => b.op(other, "act", &[&x]),
        };
        let x = b.conv("excite", &x, 8, 4, kernel, 1);
        let mut model = b.model(&x, &[1, 4, 1, 1]);
        let graph = model.proto.graph.as_mut().unwrap();
        let bias = graph.initializer.iter_mut().find(|i| i.name == "squeeze.bias").unwrap();
        *bias = graph::tensor("squeeze.bias", &[8], &[0.2f32, 5.0, -0.3, 0.1, 0.5, -0.6, 0.0, 0.4]);
        model
    }

    fn bias(model: &Model, name: &str) -> Vec<f32> {
        let at = Index::new(model.graph()).initializer(name).unwrap();
        graph::to_array::<f32>(&model.graph().initializer[at]).unwrap().into_iter().collect()
    }

    #[test]
    fn what_a_channel_never_falls_below_moves_into_the_biases_behind() {
        for activation in ["Relu", "Clip"] {
            let model = network(activation, 1);
            let placement = place(&model, &Options::default()).unwrap();
            let forms = equalize(&model, &placement, &images(), 1, &Silent).unwrap();
            let found = forms.last().unwrap();
            assert_eq!(found.absorbed, 1, "{activation}");
            for image in images() {
                for (a, b) in run(&model, &image).iter().zip(run(&found.model, &image)) {
                    assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{activation}: {a} {b}");
                }
            }
            let (before, after) = (bias(&model, "excite.bias"), bias(&found.model, "excite.bias"));
            assert_ne!(before, after);
        }
    }

    #[test]
    fn nothing_moves_past_padding_or_through_functions_that_are_no_rectifier() {
        for (activation, kernel) in [("Relu", 3), ("LeakyRelu", 1), ("Sigmoid", 1)] {
            let model = network(activation, kernel);
            let placement = place(&model, &Options::default()).unwrap();
            let forms = equalize(&model, &placement, &images(), 1, &Silent).unwrap();
            assert!(forms.iter().all(|form| form.absorbed == 0), "{activation} {kernel}");
        }
    }
}
