//! Constants made initializers, and computed in advance.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use tract_onnx::pb::{self, NodeProto, TensorProto, tensor_proto::DataType};
use tract_onnx::prelude::*;

use crate::model::{
    Model,
    graph::{self, Index, attribute, tensor},
    rewrite, shapes,
};

/// Larger results stay to be computed when the model is loaded, so that a file does not grow
/// because a small constant is expanded.
const MAX_BYTES: usize = 16 << 20;

/// Makes the values of `Constant` nodes initializers; returns how many.
pub(super) fn to_initializers(model: &mut Model) -> usize {
    let Some(graph) = model.proto.graph.as_mut() else { return 0 };
    let before = graph.node.len();
    let index = Index::new(graph);
    let mut made = Vec::new();
    graph.node.retain(|node| {
        let value = node.output.first().filter(|o| !index.is_output(o)).and_then(|_| constant_value(node));
        made.extend(value.clone());
        value.is_none()
    });
    graph.initializer.append(&mut made);
    before - graph.node.len()
}

fn constant_value(node: &NodeProto) -> Option<TensorProto> {
    if node.op_type != "Constant" || !graph::is_default_domain(&node.domain) {
        return None;
    }
    let name = node.output.first()?;
    if let Some(value) = attribute(node, "value") {
        return Some(TensorProto { name: name.clone(), ..value.t.clone()? });
    }
    let value = node.attribute.first()?;
    match value.name.as_str() {
        "value_float" => Some(tensor(name, &[], &[value.f])),
        "value_floats" => Some(tensor(name, &[value.floats.len()], &value.floats)),
        "value_int" => Some(tensor(name, &[], &[value.i])),
        "value_ints" => Some(tensor(name, &[value.ints.len()], &value.ints)),
        _ => None,
    }
}

/// Replaces nodes that read only initializers by their results; returns how many.
pub(super) fn fold(model: &mut Model) -> usize {
    let framework = onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let graph = model.graph();
    let index = Index::new(graph);
    let mut made: HashMap<String, TensorProto> = HashMap::new();
    let mut folded = HashSet::new();
    for (position, node) in graph.node.iter().enumerate() {
        if !may_fold(node) || node.output.iter().any(|o| index.is_output(o)) {
            continue;
        }
        let value =
            |name: &str| made.get(name).or_else(|| Some(&graph.initializer[index.initializer(name)?]));
        let names: BTreeSet<&str> = node.input.iter().map(String::as_str).filter(|i| !i.is_empty()).collect();
        let inputs: Option<Vec<&TensorProto>> = names.into_iter().map(value).collect();
        let Some(inputs) = inputs.filter(|i| !i.is_empty() && result_is_small(node, i)) else { continue };
        // What tract can't compute here it may still run as a part of the whole graph.
        let Some(results) = evaluate(&framework, model, node, &inputs) else { continue };
        if results.iter().map(|t| t.raw_data.len()).sum::<usize>() <= MAX_BYTES {
            made.extend(results.into_iter().map(|t| (t.name.clone(), t)));
            folded.insert(position);
        }
    }
    let mut results: Vec<TensorProto> = made.into_values().collect();
    results.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(graph) = model.proto.graph.as_mut() {
        rewrite::remove_nodes(graph, &folded);
        graph.initializer.append(&mut results);
    }
    folded.len()
}

fn may_fold(node: &NodeProto) -> bool {
    const KEPT: [&str; 10] = [
        "Bernoulli",
        "DequantizeLinear",
        "Dropout",
        "Multinomial",
        "QuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Constant",
    ];
    !KEPT.contains(&node.op_type.as_str()) && rewrite::subgraphs(node).next().is_none()
}

/// Guards against operators whose result is as large as a number among their inputs says.
fn result_is_small(node: &NodeProto, inputs: &[&TensorProto]) -> bool {
    let numbers = |position: usize| -> Option<Vec<i64>> {
        let tensor = inputs.iter().find(|t| node.input.get(position) == Some(&t.name))?;
        Some(graph::to_array::<i64>(tensor)?.into_iter().collect())
    };
    let product = |n: Vec<i64>| n.into_iter().try_fold(1i64, |p, n| p.checked_mul(n));
    let held = || {
        let data = inputs.iter().find(|t| node.input.first() == Some(&t.name));
        data.map_or(0, |t| t.dims.iter().product())
    };
    let count = match node.op_type.as_str() {
        "ConstantOfShape" => numbers(0).and_then(product),
        "Expand" | "Tile" => numbers(1).and_then(product).and_then(|n| n.checked_mul(held())),
        "Range" => (|| {
            let bound = |position| numbers(position)?.first().copied();
            let (start, end, step) = (bound(0)?, bound(1)?, bound(2)?);
            end.checked_sub(start)?.checked_div(step)
        })(),
        "EyeLike" | "OneHot" | "Pad" | "Resize" | "Upsample" => None,
        _ => Some(0),
    };
    count.is_some_and(|n| n <= MAX_BYTES as i64)
}

/// Runs `node` alone; the results in the order of its outputs that have names.
fn evaluate(
    framework: &tract_onnx::model::Onnx,
    model: &Model,
    node: &NodeProto,
    inputs: &[&TensorProto],
) -> Option<Vec<TensorProto>> {
    let names: Vec<&String> = node.output.iter().filter(|o| !o.is_empty()).collect();
    let output = |name: &&String| pb::ValueInfoProto { name: name.to_string(), ..Default::default() };
    let graph = pb::GraphProto {
        node: vec![node.clone()],
        initializer: inputs.iter().map(|t| (*t).clone()).collect(),
        output: names.iter().map(output).collect(),
        ..Default::default()
    };
    let alone = pb::ModelProto {
        ir_version: model.proto.ir_version,
        opset_import: model.proto.opset_import.clone(),
        graph: Some(graph),
        ..Default::default()
    };
    let run = || {
        let mut inference = framework.model_for_proto_model(&alone)?;
        model.measure(&mut inference);
        inference.into_typed()?.into_runnable()?.run(tvec!())
    };
    let results = shapes::guarded(run).ok()?;
    names.into_iter().zip(results).map(|(name, value)| to_proto(name, &value)).collect()
}

fn to_proto(name: &str, value: &Tensor) -> Option<TensorProto> {
    // tract computes shapes as symbolic dimensions; in ONNX they are int64.
    let value = if value.datum_type() == TDim::datum_type() {
        value.cast_to::<i64>().ok()?
    } else {
        Cow::Borrowed(value)
    };
    let data_type = match value.datum_type() {
        DatumType::F32 => DataType::Float,
        DatumType::F64 => DataType::Double,
        DatumType::F16 => DataType::Float16,
        DatumType::I8 => DataType::Int8,
        DatumType::U8 => DataType::Uint8,
        DatumType::I16 => DataType::Int16,
        DatumType::U16 => DataType::Uint16,
        DatumType::I32 => DataType::Int32,
        DatumType::I64 => DataType::Int64,
        DatumType::Bool => DataType::Bool,
        _ => return None,
    };
    Some(TensorProto {
        name: name.into(),
        dims: value.shape().iter().map(|d| *d as i64).collect(),
        data_type: data_type as i32,
        raw_data: value.try_as_plain_ram().ok()?.as_bytes().to_vec(),
        ..Default::default()
    })
}
