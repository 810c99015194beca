//! The form of the graph that quantizes best, without changing what it computes.

use std::collections::HashSet;

use super::QuantizeError;
use crate::model::graph::{self, Index};
use crate::model::{Model, pb, printable};

const INT8_OPERATORS: [&str; 8] = [
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "QGemm",
];

/// Readies a simplified model for [`place`](super::place): every node gets a name of its own, and a
/// classifier head that is written as a 1×1 convolution over one pixel becomes the Gemm it is.
///
/// The head matters because no runtime has an INT8 convolution with FP32 output, while all have such
/// a Gemm: the logits then keep their full resolution.
///
/// # Errors
/// The model is quantized already, has an opset below 13, not exactly one input, or weights that are not finite.
pub fn prepare(model: &Model) -> Result<Model, QuantizeError> {
    if let Some(node) = model.graph().node.iter().find(|n| INT8_OPERATORS.contains(&n.op_type.as_str())) {
        return Err(QuantizeError::AlreadyQuantized {
            path: model.path.clone(),
            node: node.name.clone(),
            op_type: node.op_type.clone(),
        });
    }
    if model.opset() < 13 {
        return Err(QuantizeError::Opset { path: model.path.clone(), found: model.opset() });
    }
    let inputs = model.inputs();
    if inputs.len() != 1 {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
        return Err(QuantizeError::Inputs {
            path: model.path.clone(),
            count: inputs.len(),
            names: names.join(", "),
        });
    }
    finite_weights(model)?;
    let mut prepared = model.clone();
    if let Some(graph) = prepared.proto.graph.as_mut() {
        name_nodes(graph);
        conv_head_to_gemm(graph);
    }
    Ok(prepared)
}

/// No scale can be chosen for weights that are NaN or infinite, and no output of such a layer means anything.
/// Other constants may be infinite: bounds of Clip, masks of attention.
fn finite_weights(model: &Model) -> Result<(), QuantizeError> {
    let constants = graph::constants(model.graph());
    for node in &model.graph().node {
        if !matches!(node.op_type.as_str(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul") {
            continue;
        }
        for (input, what) in node.input.iter().skip(1).zip(["weight", "bias"]) {
            let values = constants.get(input.as_str()).and_then(|tensor| graph::to_array::<f32>(tensor));
            let count = values.map_or(0, |values| values.iter().filter(|value| !value.is_finite()).count());
            if count > 0 {
                return Err(QuantizeError::Weights {
                    path: model.path.clone(),
                    node: printable(&node.name).into_owned(),
                    what: format!("{what} '{}'", printable(input)),
                    count,
                });
            }
        }
    }
    Ok(())
}

/// Gives nodes without a name, or with the name of an earlier node, a name from operator and position.
fn name_nodes(graph: &mut pb::GraphProto) {
    let mut taken: HashSet<String> = graph.node.iter().map(|n| n.name.clone()).collect();
    let mut seen = HashSet::new();
    for (position, node) in graph.node.iter_mut().enumerate() {
        if node.name.is_empty() || !seen.insert(node.name.clone()) {
            let mut name = format!("{}_{position}", node.op_type);
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            seen.insert(name.clone());
            node.name = name;
        }
    }
}

/// `GlobalAveragePool -> Conv 1×1 -> Flatten -> output` becomes `GlobalAveragePool -> Flatten -> Gemm -> output`.
fn conv_head_to_gemm(graph: &mut pb::GraphProto) {
    let Some((conv, flatten)) = find_conv_head(graph) else { return };
    let (pooled, output) = (graph.node[conv].input[0].clone(), graph.node[flatten].output[0].clone());
    let flat = graph.node[conv].output[0].clone();
    let mut inputs = vec![flat.clone()];
    inputs.extend(graph.node[conv].input[1..].iter().cloned());
    let gemm = pb::NodeProto {
        op_type: "Gemm".into(),
        name: graph.node[conv].name.clone(),
        input: inputs,
        output: vec![output],
        ..Default::default()
    };
    let weight = graph.node[conv].input[1].clone();
    if let Some(weight) = graph.initializer.iter_mut().find(|i| i.name == weight) {
        weight.dims.truncate(2);
    }
    let name = graph.node[flatten].name.clone();
    graph.node[conv] = graph::with_int(graph::node("Flatten", &name, &[&pooled], &[&flat]), "axis", 1);
    graph.node[flatten] = graph::with_int(gemm, "transB", 1);
    graph.value_info.retain(|v| v.name != flat);
}

fn find_conv_head(graph: &pb::GraphProto) -> Option<(usize, usize)> {
    let index = Index::new(graph);
    graph.node.iter().enumerate().find_map(|(flatten, node)| {
        let flattens = node.op_type == "Flatten" && graph::attr_int(node, "axis").unwrap_or(1) == 1;
        let conv =
            index.producer(node.input.first()?).filter(|_| flattens && index.is_output(&node.output[0]))?;
        let pool = index.producer(graph.node[conv].input.first()?)?;
        let weight = graph.initializer.get(index.initializer(graph.node[conv].input.get(1)?)?)?;
        let suits = graph.node[conv].op_type == "Conv"
            && graph::attr_int(&graph.node[conv], "group").unwrap_or(1) == 1
            && graph::attr_ints(&graph.node[conv], "pads").is_none_or(|pads| pads.iter().all(|p| *p == 0))
            && graph.node[pool].op_type == "GlobalAveragePool"
            && matches!(weight.dims[..], [_, _, 1, 1])
            && index.consumers(&node.input[0]).len() == 1
            && !index.is_output(&node.input[0])
            && index.consumers(&weight.name).len() == 1;
        suits.then_some((conv, flatten))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::quantize::testing::Builder;

    #[test]
    fn a_conv_head_becomes_a_gemm_of_the_same_name() {
        let mut b = Builder::new(&[1, 3, 8, 8]);
        let x = b.op("GlobalAveragePool", "pool", &["input"]);
        let x = b.conv("fc", &x, 3, 5, 1, 1);
        let x = b.op("Flatten", "flat", &[&x]);
        let model = prepare(&b.model(&x, &[1, 5])).unwrap();
        let ops: Vec<_> = model.graph().node.iter().map(|n| (n.op_type.as_str(), n.name.as_str())).collect();
        assert_eq!(ops, [("GlobalAveragePool", "pool"), ("Flatten", "flat"), ("Gemm", "fc")]);
        assert_eq!(model.graph().initializer[0].dims, [5, 3]);
        assert_eq!(model.graph().node[2].output[0], x);
    }

    #[test]
    fn nodes_without_a_name_get_a_unique_one() {
        let mut b = Builder::new(&[1, 3, 8, 8]);
        let x = b.op("Relu", "", &["input"]);
        let x = b.op("Relu", "Relu_0", &[&x]);
        let x = b.op("Relu", "Relu_0", &[&x]);
        let model = prepare(&b.model(&x, &[1, 3, 8, 8])).unwrap();
        let names: Vec<_> = model.graph().node.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["Relu_0_", "Relu_0", "Relu_2"]);
    }

    #[test]
    fn an_int8_model_is_refused() {
        let mut b = Builder::new(&[1, 3, 8, 8]);
        let x = b.op("QuantizeLinear", "q", &["input", "s"]);
        let message = prepare(&b.model(&x, &[1, 3, 8, 8])).err().unwrap().to_string();
        assert!(message.contains("already quantized (node 'q' is QuantizeLinear)"), "{message}");
    }
}
