//! Writes the INT8 model: standard ONNX in QDQ form.
//!
//! ```text
//! x ─ Q ─ DQ ─┐                       The runtimes replace such a group by one INT8 kernel. They do so only
//! w(s8) ─ DQ ─┼─ Conv ─ Q ─ DQ ─ …     if nothing but Q reads the result of the operator: this is why Relu and
//! b(s32) ─ DQ ┘                       Clip vanish where the range of Q already implies them.
//! ```

mod writer;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use writer::Writer;

use super::range::{self, ActivationParameters};
use super::{BiasShifts, Options, Placement, Preset, QuantizeError, Statistics};
use crate::model::{Model, pb};

/// IR version written at least: the first that goes with opset 13.
const IR_VERSION: i64 = 7;

/// A model in INT8 form, and what was done to each of its nodes.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// Standard QDQ ONNX.
    pub model: Model,
    /// One row for each node of the FP32 model, in graph order.
    pub layers: Vec<LayerReport>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What became of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Name of the node; the same in both models.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// Whether it computes in INT8.
    pub quantized: bool,
    /// Why not; empty if it does.
    pub reason: String,
    /// How its result is stored, if that is u8.
    pub output: Option<ActivationParameters>,
    /// Smallest and largest real value that its result can take.
    pub output_range: Option<(f32, f32)>,
    /// Bits of its weights, if it has any in INT8.
    pub weight_bits: Option<u8>,
    /// Largest magnitude that was added to a bias; 0 if the correction was refused or is off.
    pub bias_correction: f32,
}

/// Writes the INT8 form of `model`. All three must belong together: `placement` from
/// [`place`](super::place) on this model, `statistics` from [`observe`](super::observe) with this placement.
///
/// `shifts` are added to the biases of the layers that it names; layers that it does not name get the
/// fast correction. With [`BiasCorrection::None`](super::BiasCorrection::None) neither is done.
///
/// # Errors
/// A tensor has no statistics, or had values that are not finite.
pub fn quantize(
    model: &Model,
    placement: &Placement,
    statistics: &Statistics,
    options: &Options,
    shifts: &BiasShifts,
) -> Result<Quantized, QuantizeError> {
    let parameters = choose_parameters(placement, statistics, options)?;
    let mut writer = Writer::new(model.graph(), placement, statistics, options, shifts, parameters);
    let layers = writer.write();
    let (nodes, initializers, warnings) = (writer.nodes, writer.initializers, writer.warnings);
    let proto = assemble(&model.proto, nodes, initializers);
    let name = model.path.with_extension("int8.onnx");
    Ok(Quantized { model: Model::from_proto(name, proto), layers, warnings })
}

/// Scale and zero point of each group, over all of its members.
fn choose_parameters(
    placement: &Placement,
    statistics: &Statistics,
    options: &Options,
) -> Result<Vec<ActivationParameters>, QuantizeError> {
    let mut ranges: Vec<(f32, f32)> = Vec::new();
    let mut presets: Vec<Preset> = Vec::new();
    for tensor in &placement.tensors {
        let found = statistics.finite(&tensor.name)?;
        // A table has no zero point to subtract, so the best one costs nothing.
        let preset = if tensor.functions.is_empty() { options.preset } else { Preset::Mixed };
        let (low, high) = range::choose(found, options.range, tensor.bounds, preset);
        let (low, high) = range::varying(&tensor.functions, low, high);
        if ranges.len() <= tensor.group {
            ranges.resize(tensor.group + 1, (0.0, 0.0));
            presets.resize(tensor.group + 1, preset);
        }
        let group = &mut ranges[tensor.group];
        *group = (group.0.min(low), group.1.max(high));
    }
    let chosen = ranges.iter().zip(presets);
    Ok(chosen.map(|((low, high), preset)| ActivationParameters::new(*low, *high, preset)).collect())
}

/// Puts the new nodes and constants into a copy of the model, without constants that nobody reads.
fn assemble(
    proto: &pb::ModelProto,
    nodes: Vec<pb::NodeProto>,
    initializers: Vec<pb::TensorProto>,
) -> pb::ModelProto {
    let mut proto = proto.clone();
    proto.ir_version = proto.ir_version.max(IR_VERSION);
    proto.producer_name = env!("CARGO_PKG_NAME").into();
    proto.producer_version = env!("CARGO_PKG_VERSION").into();
    if let Some(graph) = proto.graph.as_mut() {
        let before: HashSet<String> = graph.initializer.iter().map(|i| i.name.clone()).collect();
        let mut read: HashSet<&str> = nodes.iter().flat_map(|n| n.input.iter().map(String::as_str)).collect();
        read.extend(graph.output.iter().map(|o| o.name.as_str()));
        graph.initializer.retain(|i| read.contains(i.name.as_str()));
        graph.input.retain(|i| read.contains(i.name.as_str()) || !before.contains(&i.name));
        graph.initializer.extend(initializers);
        graph.node = nodes;
        // Types of intermediate tensors have changed; the runtimes infer them.
        graph.value_info.clear();
    }
    proto
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::engine::builtin::Builtin;
    use crate::engine::{Engine, LoadOptions};
    use crate::model::graph::{Index, node, to_array, with_int};
    use crate::quantize::testing::{Builder, image, quantized};

    fn operators(model: &Model) -> Vec<&str> {
        let ops = model.graph().node.iter().map(|n| n.op_type.as_str());
        ops.filter(|o| !o.ends_with("Linear")).collect()
    }

    fn block(activation: &str) -> Model {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let low = b.constant("low", &[], &[0.0]);
        let six = b.constant("six", &[], &[0.5]);
        let x = b.conv("stem", "input", 4, 4, 3, 1);
        let inputs: &[&str] = if activation == "Clip" { &[&x, &low, &six] } else { &[&x] };
        let x = b.op(activation, "act", inputs);
        let y = b.conv("branch", &x, 4, 4, 3, 4);
        let x = b.op("Add", "sum", &[&y, &x]);
        let x = b.op("GlobalAveragePool", "pool", &[&x]);
        let x = b.op("Flatten", "flat", &[&x]);
        let x = b.gemm("head", &x, 4, 3);
        b.model(&x, &[1, 3])
    }

    #[test]
    fn relu_and_clip_vanish_into_the_range() {
        for activation in ["Relu", "Clip"] {
            let out = quantized(&block(activation), &Options::default(), 1);
            assert_eq!(
                operators(&out.model),
                ["Conv", "Conv", "Add", "GlobalAveragePool", "Flatten", "Gemm"]
            );
            let act = out.layers.iter().find(|l| l.node == "act").unwrap();
            assert!(act.quantized && act.output.unwrap().zero_point == 0);
        }
    }

    #[test]
    fn an_activation_that_the_range_does_not_imply_stays() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("a", "input", 4, 4, 3, 1);
        let x = b.op("LeakyRelu", "leaky", &[&x]);
        let x = b.conv("b", &x, 4, 4, 3, 4);
        let x = b.op("Relu", "last", &[&x]);
        let out = quantized(&b.model(&x, &[1, 4, 8, 8]), &Options::default(), 1);
        assert_eq!(operators(&out.model), ["Conv", "LeakyRelu", "Conv"]);
        let output = &out.model.graph().output[0].name;
        let last = out.model.graph().node.last().unwrap();
        assert_eq!((last.op_type.as_str(), &last.output[0]), ("DequantizeLinear", output));
    }

    #[test]
    fn weights_biases_and_pairs_have_the_form_that_runtimes_fuse() {
        let out = quantized(&block("Relu"), &Options::default(), 1);
        let graph = out.model.graph();
        let constant = |name: &str| graph.initializer.iter().find(|i| i.name == name).unwrap();
        let weights = to_array::<i8>(constant("stem.weight_quantized")).unwrap();
        assert_eq!(weights.shape(), [4, 4, 3, 3]);
        assert_eq!(weights.iter().map(|w| w.unsigned_abs()).max(), Some(127));
        let w_scales = to_array::<f32>(constant("stem.weight_scale")).unwrap();
        let b_scales = to_array::<f32>(constant("stem.bias_scale")).unwrap();
        let x_scale = to_array::<f32>(constant("input_scale")).unwrap();
        let expected: Vec<f32> = w_scales.iter().map(|w| x_scale.first().unwrap() * w).collect();
        assert_eq!(b_scales.iter().copied().collect::<Vec<f32>>(), expected);
        assert!(to_array::<i32>(constant("stem.bias_quantized")).is_some());
        assert!(to_array::<u8>(constant("input_zero_point")).is_some_and(|z| z.ndim() == 0));
        assert!(!graph.initializer.iter().any(|i| i.name == "stem.weight"));
        // Every result of an INT8 node but the logits is read by QuantizeLinear alone.
        let index = Index::new(graph);
        for node in graph.node.iter().filter(|n| !n.op_type.ends_with("Linear") && n.op_type != "Gemm") {
            let readers: Vec<_> =
                index.consumers(&node.output[0]).iter().map(|i| graph.node[*i].op_type.as_str()).collect();
            assert_eq!(readers, ["QuantizeLinear"], "{}", node.name);
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_bytes_whatever_the_threads() {
        let model = block("Relu");
        let one = quantized(&model, &Options::default(), 1);
        let three = quantized(&model, &Options::default(), 3);
        assert_eq!(one.model.encode(), three.model.encode());
        assert_eq!(one.layers, three.layers);
    }

    #[test]
    fn the_int8_model_runs_and_is_close_to_its_parent() {
        for preset in [Preset::Performance, Preset::Mixed] {
            let model = block("Relu");
            let out = quantized(&model, &Options { preset, ..Options::default() }, 2);
            let image = image(&[1, 4, 8, 8], 2).insert_axis(ndarray::Axis(0)).into_dyn();
            let run = |m: &Model| {
                let session = Builtin.load(m, &LoadOptions::default()).unwrap();
                session.spawn().unwrap().run(&[image.clone().into()]).unwrap()[0].as_slice().to_vec()
            };
            let (fp32, int8) = (run(&model), run(&out.model));
            let largest = fp32.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (a, b) in fp32.iter().zip(&int8) {
                assert!((a - b).abs() < 0.05 * largest, "{fp32:?} {int8:?}");
            }
        }
    }

    #[test]
    fn shared_weights_are_written_for_each_reader() {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("a", "input", 4, 4, 1, 1);
        let x = b.push(node("Conv", "again", &[&x, "a.weight", "a.bias"], &[]));
        let x = b.push(with_int(node("Conv", "third", &[&x, "a.weight"], &[]), "group", 1));
        let out = quantized(&b.model(&x, &[1, 4, 8, 8]), &Options::default(), 1);
        let names: HashSet<_> = out.model.graph().initializer.iter().map(|i| i.name.clone()).collect();
        for name in [
            "a/a.weight_quantized",
            "again/a.weight_quantized",
            "third/a.weight_quantized",
            "again/bias_quantized",
        ] {
            assert!(names.contains(name), "{name} of {names:?}");
        }
        assert_eq!(names.len(), out.model.graph().initializer.len());
    }
}
