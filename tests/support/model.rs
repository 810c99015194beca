//! Models that tests write by hand.

use calib8::model::graph::value;
use calib8::model::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

/// A model of operator set 13.
pub fn of(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..Default::default()
    }
}

/// The graph that makes `y` of `x` with these sides, each a number or a name; those of `y` are unknown where there are
/// none.
pub fn graph(x: &[&str], y: &[&str], node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        input: vec![value("x", 1, x)],
        output: vec![value("y", 1, y)],
        node,
        initializer,
        ..Default::default()
    }
}
