//! What INT8 costs each layer: its signal to noise ratio when it alone is quantized, and in place.
//!
//! *Alone* the layer reads the parent's values, rounded as its inputs are stored, so that the noise is
//! its own: weights, inputs and result. *In place* all layers are quantized and it reads what those
//! before it made of the image. A layer with a low value alone is a bad one; one that is low only in
//! place passes on what came before.
//!
//! A layer alone is a model of a few nodes cut out of the INT8 model, so one image costs about one
//! inference of the parent and two of the INT8 model, however many layers there are.

use std::collections::{BTreeSet, HashMap};

use ndarray::{Array3, Axis};
use serde::{Deserialize, Serialize};

use super::cut::{Cutter, Place, with_outputs};
use super::threads::on_threads;
use super::{Placement, QuantizeError, QuantizedNode};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, EngineError, LoadOptions, Runner, Session, Value};
use crate::model::Model;
use crate::progress::Progress;
use crate::report::metrics::DistanceSums;

/// The signal to quantization noise ratio of one INT8 layer at its own output, in decibels over all
/// values of all images. `None` where the parent's output is all zeros or there is no noise at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSensitivity {
    /// Name of the node; the same in both models.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// When it alone is quantized.
    pub alone_db: Option<f64>,
    /// When all are.
    pub in_place_db: Option<f64>,
}

/// Measures every INT8 node of `optimized`, which was made from `parent` with `placement`, on
/// `images` (CHW, preprocessed). The result does not depend on the number of threads.
///
/// # Errors
/// The models do not belong together, inference fails, or the user asked to stop.
pub fn sensitivity(
    parent: &Model,
    placement: &Placement,
    optimized: &Model,
    images: &[Array3<f32>],
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<LayerSensitivity>, QuantizeError> {
    Ok(summed(placement, &noises(parent, placement, optimized, images, threads, progress)?))
}

/// As [`sensitivity`], image by image: for each image a [`LayerNoise`] for each INT8 node, to be [`summed`].
///
/// # Errors
/// As [`sensitivity`].
pub fn noises(
    parent: &Model,
    placement: &Placement,
    optimized: &Model,
    images: &[Array3<f32>],
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Vec<LayerNoise>>, QuantizeError> {
    let bench = Bench::load(parent, placement, optimized)?;
    on_threads(images.len(), threads, || {
        let mut runners = bench.spawn()?;
        let bench = &bench;
        Ok(move |index: usize| {
            if progress.cancelled() {
                return Err(QuantizeError::Cancelled { images: index as u64 });
            }
            let noises = bench.measure(&mut runners, &images[index])?;
            progress.step(index + 1, images.len(), None);
            Ok(noises)
        })
    })
}

/// The sensitivity of each INT8 node over all images. Sums of floating-point numbers depend on their order: it is that
/// of the images.
pub fn summed(placement: &Placement, images: &[Vec<LayerNoise>]) -> Vec<LayerSensitivity> {
    let mut sums = vec![LayerNoise::default(); placement.nodes.len()];
    for noises in images {
        for (sum, noise) in sums.iter_mut().zip(noises) {
            sum.alone.merge(&noise.alone);
            sum.in_place.merge(&noise.in_place);
        }
    }
    let row = |(node, sum): (&QuantizedNode, &LayerNoise)| LayerSensitivity {
        node: node.name.clone(),
        op_type: node.op_type.clone(),
        alone_db: sum.alone.sqnr_db(),
        in_place_db: sum.in_place.sqnr_db(),
    };
    placement.nodes.iter().zip(&sums).map(row).collect()
}

/// Distances of one layer's result from the parent's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerNoise {
    /// When it alone is quantized.
    #[serde(with = "bits")]
    pub alone: DistanceSums,
    /// When all are.
    #[serde(with = "bits")]
    pub in_place: DistanceSums,
}

/// Sums as the bits that they are: JSON has no infinity.
mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::report::metrics::DistanceSums;

    pub fn serialize<S: Serializer>(sums: &DistanceSums, serializer: S) -> Result<S::Ok, S::Error> {
        let DistanceSums { count, noise, signal, power, dot, max_abs } = *sums;
        let floats = [noise, signal, power, dot, max_abs].map(f64::to_bits);
        (count, floats).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DistanceSums, D::Error> {
        let (count, floats) = <(u64, [u64; 5])>::deserialize(deserializer)?;
        let [noise, signal, power, dot, max_abs] = floats.map(f64::from_bits);
        Ok(DistanceSums { count, noise, signal, power, dot, max_abs })
    }
}

/// One INT8 node.
struct Layer {
    /// It alone.
    session: Box<dyn Session>,
    /// Where the parent has what it reads.
    inputs: Vec<Place>,
    /// Where the parent has its result, and where the INT8 model has it.
    parent: Place,
    optimized: Place,
}

/// Both models with the results of all INT8 nodes as outputs, and each node as a model of its own.
struct Bench {
    parent: Box<dyn Session>,
    optimized: Box<dyn Session>,
    layers: Vec<Layer>,
}

/// The streams of one thread.
struct Runners {
    parent: Box<dyn Runner>,
    optimized: Box<dyn Runner>,
    layers: Vec<Box<dyn Runner>>,
}

impl Bench {
    fn load(parent: &Model, placement: &Placement, optimized: &Model) -> Result<Bench, QuantizeError> {
        let cutter = Cutter::new(optimized.graph());
        let mut fp32 = BTreeSet::new();
        let mut int8 = BTreeSet::new();
        let mut cuts = Vec::new();
        for node in &placement.nodes {
            let stored = cutter.dequantized(&node.output);
            let cut = cutter.cut(&stored, &|_| true);
            fp32.insert(node.output.clone());
            fp32.extend(cut.inputs.iter().map(|(_, tensor)| tensor.clone()));
            int8.insert(stored.clone());
            cuts.push((node, stored, cut));
        }
        let parent_session = with_outputs(parent, fp32)?;
        let optimized_session = with_outputs(optimized, int8)?;
        let shapes: HashMap<&str, &[usize]> = parent_session
            .inputs()
            .iter()
            .chain(parent_session.outputs())
            .map(|t| (t.name.as_str(), t.shape.as_slice()))
            .collect();
        let mut layers = Vec::new();
        for (node, stored, cut) in cuts {
            let inputs = cut.inputs.iter().map(|(_, tensor)| Place::find(parent_session.as_ref(), tensor));
            layers.push(Layer {
                inputs: inputs.collect::<Result<_, _>>()?,
                parent: Place::find(parent_session.as_ref(), &node.output)?,
                optimized: Place::find(optimized_session.as_ref(), &stored)?,
                session: Builtin
                    .load(&cut.model(&optimized.proto, &stored, &shapes), &LoadOptions::default())?,
            });
        }
        Ok(Bench { parent: parent_session, optimized: optimized_session, layers })
    }

    fn spawn(&self) -> Result<Runners, EngineError> {
        Ok(Runners {
            parent: self.parent.spawn()?,
            optimized: self.optimized.spawn()?,
            layers: self.layers.iter().map(|l| l.session.spawn()).collect::<Result<_, _>>()?,
        })
    }

    fn measure(&self, runners: &mut Runners, image: &Array3<f32>) -> Result<Vec<LayerNoise>, QuantizeError> {
        let input = Value::from(image.clone().insert_axis(Axis(0)).into_dyn());
        let expected = runners.parent.run(std::slice::from_ref(&input))?;
        let found = runners.optimized.run(std::slice::from_ref(&input))?;
        let mut noises = Vec::new();
        for (layer, runner) in self.layers.iter().zip(&mut runners.layers) {
            let inputs: Vec<Value> =
                layer.inputs.iter().map(|p| p.value(&input, &expected).clone()).collect();
            let own = runner.run(&inputs)?;
            let mut noise = LayerNoise::default();
            let reference = layer.parent.value(&input, &expected).as_slice();
            noise.in_place.add(reference, layer.optimized.value(&input, &found).as_slice());
            noise.alone.add(reference, own.first().map_or(&[][..], |v| v.as_slice()));
            noises.push(noise);
        }
        Ok(noises)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::quantize::testing::{self, Builder};
    use crate::quantize::{Options, place};

    fn network() -> Model {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let stem = b.conv("stem", "input", 4, 4, 3, 1);
        let stem = b.op("Relu", "relu", &[&stem]);
        let branch = b.conv("branch", &stem, 4, 4, 3, 4);
        let sum = b.op("Add", "sum", &[&branch, &stem]);
        let second = b.conv("second", &sum, 4, 4, 1, 1);
        let pooled = b.op("GlobalAveragePool", "pool", &[&second]);
        let flat = b.op("Flatten", "flat", &[&pooled]);
        let logits = b.gemm("head", &flat, 4, 3);
        b.model(&logits, &[1, 3])
    }

    fn measured(threads: usize) -> Vec<LayerSensitivity> {
        let model = network();
        let options = Options::default();
        let placement = place(&model, &options).unwrap();
        let quantized = testing::quantized(&model, &options, 1);
        let images: Vec<_> = (0..5).map(|i| testing::image(&[1, 4, 8, 8], i)).collect();
        sensitivity(&model, &placement, &quantized.model, &images, threads, &Silent).unwrap()
    }

    #[test]
    fn every_int8_node_is_measured() {
        let rows = measured(1);
        let names: Vec<&str> = rows.iter().map(|r| r.node.as_str()).collect();
        assert_eq!(names, ["stem", "branch", "sum", "second", "pool", "flat", "head"]);
        for row in &rows {
            let (alone, in_place) = (row.alone_db.unwrap(), row.in_place_db.unwrap());
            assert!(alone > 10.0 && in_place > 5.0, "{row:?}");
        }
        let stem = &rows[0];
        assert_eq!(stem.alone_db, stem.in_place_db, "nothing is quantized before the first layer");
    }

    #[test]
    fn the_result_does_not_depend_on_the_threads() {
        assert_eq!(measured(1), measured(3));
    }

    #[test]
    fn what_images_gave_one_by_one_comes_back_to_the_bit() {
        let mut noise = LayerNoise::default();
        noise.alone.add(&[1.0, -2.0], &[1.25, f32::INFINITY]);
        let text = serde_json::to_string(&noise).unwrap();
        assert_eq!(serde_json::from_str::<LayerNoise>(&text).unwrap(), noise);
    }

    #[test]
    fn a_stop_is_an_error() {
        struct Stop;
        impl Progress for Stop {
            fn step(&self, _: usize, _: usize, _: Option<&str>) {}
            fn warn(&self, _: &str) {}
            fn cancelled(&self) -> bool {
                true
            }
        }
        let model = network();
        let placement = place(&model, &Options::default()).unwrap();
        let quantized = testing::quantized(&model, &Options::default(), 1);
        let result =
            sensitivity(&model, &placement, &quantized.model, &[testing::image(&[1, 4, 8, 8], 0)], 1, &Stop);
        assert!(matches!(result, Err(QuantizeError::Cancelled { images: 0 })));
    }
}
