//! What one node may become, by its operator, its constants and the nodes around it.

use std::collections::HashSet;

use super::scope::Scope;
use super::{Bounds, NodeKind};
use crate::model::function::{Function, OneTensor};
use crate::model::graph::{self, Index};
use crate::model::pb;
use crate::model::resize;
use crate::model::shapes::Shapes;

/// The graph, and all that is looked up in it.
pub(super) struct Rules<'a> {
    pub graph: &'a pb::GraphProto,
    pub index: Index,
    /// Shape of every tensor for a batch of one.
    pub shapes: Shapes,
    pub scope: Scope<'a>,
}

impl Rules<'_> {
    /// How `node` computes in INT8, or why it can't. Without `int8` only layers with weights and products
    /// are judged.
    pub(super) fn kind(
        &self,
        node: &pb::NodeProto,
        int8: Option<&HashSet<&str>>,
    ) -> Result<NodeKind, String> {
        if self.scope.ignores(&node.name, &node.op_type) {
            return Err("listed in ignored_scope".into());
        }
        match node.op_type.as_str() {
            "MatMul" if !node.input.iter().any(|i| self.index.initializer(i).is_some()) => {
                return self.product(node);
            }
            "Conv" | "Gemm" | "MatMul" => return self.weighted(node),
            _ => {}
        }
        let kind = match node.op_type.as_str() {
            "Add" => NodeKind::Add,
            "Mul" => NodeKind::Mul,
            "GlobalAveragePool" | "AveragePool" => NodeKind::Pool,
            "ReduceMean" if self.averages_space(node) => NodeKind::Pool,
            "Concat" => NodeKind::Concat,
            "MaxPool" | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" | "DepthToSpace"
            | "SpaceToDepth" => NodeKind::Move,
            "Gather" | "Slice" | "Pad" => self.moves(node)?,
            "Resize" => self.resizes(node)?,
            _ => return Err("no INT8 form in this version".into()),
        };
        let int8 = int8.ok_or("judged later")?;
        if node.output.iter().filter(|o| !o.is_empty()).count() != 1 {
            return Err("it has several outputs".into());
        }
        let data =
            if matches!(kind, NodeKind::Move | NodeKind::Pool) { &node.input[..1] } else { &node.input[..] };
        if let Some(input) = data.iter().find(|i| !int8.contains(i.as_str())) {
            return Err(format!("its input '{input}' is FP32"));
        }
        if matches!(kind, NodeKind::Add | NodeKind::Mul)
            && node.input.iter().chain(&node.output).any(|t| !self.shapes.contains_key(t))
        {
            return Err("its shapes are not known".into());
        }
        Ok(kind)
    }

    /// A Gather, Slice or Pad by constants.
    fn moves(&self, node: &pb::NodeProto) -> Result<NodeKind, String> {
        let constant = |name: &String| name.is_empty() || self.index.initializer(name).is_some();
        if !node.input[1..].iter().all(constant) {
            return Err("its indices are not constant".into());
        }
        if node.op_type == "Pad" {
            let value = node.input.get(2).and_then(|name| self.index.initializer(name));
            let value = value.and_then(|at| graph::to_array::<f32>(&self.graph.initializer[at]));
            let zero = value.is_none_or(|v| v.iter().all(|v| *v == 0.0));
            if !zero || graph::attr_str(node, "mode").unwrap_or("constant") != "constant" {
                return Err("it does not pad with zeros".into());
            }
        }
        Ok(NodeKind::Move)
    }

    /// A Resize whose results lie between the values that it reads, and so can share their scale.
    fn resizes(&self, node: &pb::NodeProto) -> Result<NodeKind, String> {
        let shape = |tensor: &str| self.shapes.get(tensor).ok_or("its shapes are not known");
        let (from, to) = (shape(&node.input[0])?, shape(&node.output[0])?);
        resize::resize(self.graph, &self.index, node, from, to).map(|_| NodeKind::Move)
    }

    /// What `node` computes of the elements of one of the tensors `starts`, through operators before it too;
    /// `None` if it is not of that kind.
    pub(super) fn function<'n>(
        &'n self,
        node: &'n pb::NodeProto,
        starts: &HashSet<&str>,
    ) -> Option<OneTensor<'n>> {
        let [output] = &node.output[..] else { return None };
        if self.scope.ignores(&node.name, &node.op_type) {
            return None;
        }
        let is_start = |tensor: &str| tensor != output && starts.contains(tensor);
        let found = Function::behind(self.graph, &self.index, output, &is_start)?;
        (self.shapes.get(found.source)? == self.shapes.get(output)?).then_some(found)
    }

    /// Whether a layer has an INT8 kernel with FP32 results.
    pub(super) fn has_float_result(&self, node: &pb::NodeProto) -> bool {
        match node.op_type.as_str() {
            "Gemm" | "MatMul" => true,
            "Conv" => {
                let group = graph::attr_int(node, "group").unwrap_or(1);
                let channels =
                    |tensor: &str| self.shapes.get(tensor).and_then(|s| s.get(1)).map(|c| *c as i64);
                group == 1
                    || [&node.input[0], &node.output[0]].into_iter().any(|t| channels(t) != Some(group))
            }
            _ => false,
        }
    }

    /// A MatMul of two activations of one rank.
    fn product(&self, node: &pb::NodeProto) -> Result<NodeKind, String> {
        let ranks = node.input.iter().map(|i| self.shapes.get(i).map(Vec::len)).collect::<Vec<_>>();
        match ranks[..] {
            [Some(a), Some(b)] if a == b && a >= 2 => Ok(NodeKind::Product),
            _ => Err("the shapes of its operands are not known or differ in rank".into()),
        }
    }

    /// The tensor that `tensor` comes from by movements of whole tensors: there it is quantized, so that the movements
    /// move bytes.
    pub(super) fn moved_from<'n>(&'n self, tensor: &'n str) -> &'n str {
        let producer = self.index.producer(tensor).map(|p| &self.graph.node[p]);
        let moves = |node: &&pb::NodeProto| match node.op_type.as_str() {
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" => true,
            "Gather" | "Slice" => self.moves(node).is_ok(),
            _ => false,
        };
        match producer.filter(moves) {
            Some(node) if !self.scope.ignores(&node.name, &node.op_type) => self.moved_from(&node.input[0]),
            _ => tensor,
        }
    }

    /// Conv, Gemm or MatMul whose weights and bias are constants of a form that has an INT8 kernel.
    fn weighted(&self, node: &pb::NodeProto) -> Result<NodeKind, String> {
        let constant = |i: usize| {
            let name = node.input.get(i).filter(|n| !n.is_empty())?;
            Some(self.index.initializer(name).map(|at| &self.graph.initializer[at]))
        };
        let weight = constant(1).flatten().ok_or("its weights are not constant")?;
        if weight.data_type != pb::tensor_proto::DataType::Float as i32 {
            return Err(format!("its weights have ONNX type {}, expected float", weight.data_type));
        }
        let x = &node.input[0];
        if self.index.initializer(x).is_some() || !self.shapes.contains_key(x) {
            return Err("its input is constant or has no known shape".into());
        }
        let channel_axis = match node.op_type.as_str() {
            "Conv" => 0,
            "MatMul" if weight.dims.len() == 2 => 1,
            "MatMul" => return Err(format!("its weights have {} dimensions, expected 2", weight.dims.len())),
            _ => {
                let one = |name| graph::attr_float(node, name).unwrap_or(1.0) == 1.0;
                if !one("alpha") || !one("beta") || graph::attr_int(node, "transA").unwrap_or(0) != 0 {
                    return Err("Gemm with alpha, beta or transA has no INT8 kernel".into());
                }
                usize::from(graph::attr_int(node, "transB").unwrap_or(0) == 0)
            }
        };
        let channels = weight.dims.get(channel_axis).copied().unwrap_or(0);
        match constant(2) {
            Some(None) => Err("its bias is not constant".into()),
            Some(Some(bias)) if bias.dims.iter().product::<i64>() != channels => {
                Err(format!("its bias has the shape {:?}, expected {channels} values", bias.dims))
            }
            _ => Ok(NodeKind::Weighted { channel_axis }),
        }
    }

    /// Whether a ReduceMean is an average over height and width.
    fn averages_space(&self, node: &pb::NodeProto) -> bool {
        let axes = graph::attr_ints(node, "axes").map(<[i64]>::to_vec).or_else(|| {
            let at = self.index.initializer(node.input.get(1)?)?;
            Some(graph::to_array::<i64>(&self.graph.initializer[at])?.into_iter().collect())
        });
        let rank = self.shapes.get(&node.input[0]).map_or(0, Vec::len);
        axes.is_some_and(|mut axes| {
            axes.iter_mut().for_each(|a| *a += if *a < 0 { rank as i64 } else { 0 });
            axes.sort_unstable();
            rank == 4 && axes == [2, 3]
        })
    }

    /// Position of the Relu, or Clip from 0, that alone reads the result of `node`; behind a MatMul also of an Add of a
    /// constant for each column, its bias.
    pub(super) fn activation(&self, node: &pb::NodeProto, kind: NodeKind) -> Option<usize> {
        let y = &node.output[0];
        let [reader] = self.index.consumers(y) else { return None };
        let activation = &self.graph.node[*reader];
        let fusable = !matches!(kind, NodeKind::Move | NodeKind::Concat | NodeKind::Product)
            && !self.index.is_output(y)
            && !self.scope.ignores(&activation.name, &activation.op_type)
            && (self.activation_bounds(activation) != Bounds::Any || self.adds_bias(node, activation));
        fusable.then_some(*reader)
    }

    fn adds_bias(&self, product: &pb::NodeProto, node: &pb::NodeProto) -> bool {
        if (product.op_type.as_str(), node.op_type.as_str()) != ("MatMul", "Add") {
            return false;
        }
        let y = &product.output[0];
        let bias = node.input.iter().find(|input| *input != y).and_then(|name| self.index.initializer(name));
        let Some((bias, shape)) = bias.map(|at| &self.graph.initializer[at]).zip(self.shapes.get(y)) else {
            return false;
        };
        let columns = shape.last().map(|columns| *columns as i64);
        bias.dims.last().copied() == columns
            && Some(bias.dims.iter().product()) == columns
            && self.shapes.get(&node.output[0]) == Some(shape)
    }

    /// What is known of the results of `node`.
    pub(super) fn result_bounds(&self, node: &pb::NodeProto) -> Bounds {
        match node.op_type.as_str() {
            "Softmax" => Bounds::ZeroTo(1.0),
            _ => self.activation_bounds(node),
        }
    }

    pub(super) fn activation_bounds(&self, node: &pb::NodeProto) -> Bounds {
        let scalar = |i: usize| {
            let at = self.index.initializer(node.input.get(i)?)?;
            graph::to_array::<f32>(&self.graph.initializer[at])?.first().copied()
        };
        match node.op_type.as_str() {
            "Relu" => Bounds::ZeroTo(f32::INFINITY),
            "Clip" if scalar(1) == Some(0.0) => {
                if node.input.get(2).is_none_or(String::is_empty) {
                    return Bounds::ZeroTo(f32::INFINITY);
                }
                scalar(2).filter(|high| *high > 0.0).map_or(Bounds::Any, Bounds::ZeroTo)
            }
            _ => Bounds::Any,
        }
    }
}
