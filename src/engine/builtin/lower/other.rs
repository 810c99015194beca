//! The operators without weights that are not elementwise: pools, concatenation, resizing, and the steps of
//! movement of data.

use super::super::program::{Quant, Scaling, StepOp};
use super::conv::{Target, window};
use super::elementwise::memory_order;
use super::qdq::{Qdq, Reason};
use super::{Draft, moving};
use crate::kernels::Tap;
use crate::model::graph;
use crate::model::pb::NodeProto;
use crate::model::resize::{self, Source};

/// No activation function.
pub(super) const UNCLAMPED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

pub(super) fn draft(node: &NodeProto, inputs: Vec<&str>, target: Target, op: StepOp) -> Draft {
    Draft {
        name: node.name.clone(),
        kind: node.op_type.clone(),
        macs: 0,
        inputs: inputs.into_iter().map(String::from).collect(),
        output: target.tensor.into(),
        op,
        constants: Vec::new(),
    }
}

pub(super) fn quantized(target: Target) -> Result<Quant, Reason> {
    target.quant.ok_or_else(|| "its result stays in FP32".into())
}

/// Pools and movement have no place for an activation function in their store.
fn unclamped(target: Target) -> Result<(), Reason> {
    if target.clamp == UNCLAMPED {
        return Ok(());
    }
    Err("an activation function follows it".into())
}

pub(super) fn max_pool(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    unclamped(target)?;
    let (input, quant) = qdq.activation(&node.input[0])?;
    if quant != quantized(target)? {
        return Err("its input and output have different scales".into());
    }
    let (shape, out_shape) = (qdq.shape(&node.input[0])?, qdq.shape(&node.output[0])?);
    if node.output.len() > 1 {
        return Err("its indices are used".into());
    }
    let window = window(node, kernel(node)?, shape, out_shape)?;
    Ok(draft(node, vec![input], target, StepOp::MaxPool { batch: shape[0], channels: shape[1], window }))
}

/// Rows and columns of a pool's window.
pub(super) fn kernel(node: &NodeProto) -> Result<[usize; 2], Reason> {
    match graph::attr_ints(node, "kernel_shape") {
        Some([a, b]) if *a > 0 && *b > 0 => Ok([*a as usize, *b as usize]),
        _ => Err("it is not two-dimensional".into()),
    }
}

pub(super) fn average_pool(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    unclamped(target)?;
    let (input, quant) = qdq.activation(&node.input[0])?;
    let out = quantized(target)?;
    let (shape, out_shape) = (qdq.shape(&node.input[0])?, qdq.shape(&node.output[0])?);
    let window = window(node, kernel(node)?, shape, out_shape)?;
    let count_include_pad = graph::attr_int(node, "count_include_pad").unwrap_or(0) != 0;
    let (batch, channels) = (shape[0], shape[1]);
    Ok(draft(
        node,
        vec![input],
        target,
        StepOp::AveragePool { batch, channels, window, count_include_pad, quant, out },
    ))
}

pub(super) fn global_average_pool(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    unclamped(target)?;
    let (input, quant) = qdq.activation(&node.input[0])?;
    let (batch, channels, pixels) = means_of_images(qdq, node)?;
    let out = target.quant;
    Ok(draft(node, vec![input], target, StepOp::GlobalAveragePool { batch, channels, pixels, quant, out }))
}

/// Batch, channels and pixels of a GlobalAveragePool, or a ReduceMean over both spatial axes.
pub(super) fn means_of_images(qdq: &Qdq, node: &NodeProto) -> Result<(usize, usize, usize), Reason> {
    let shape = qdq.shape(&node.input[0])?;
    let &[batch, channels, height, width] = shape else { return Err("it is not two-dimensional".into()) };
    if node.op_type == "ReduceMean" {
        let listed = node.input.get(1).and_then(|n| qdq.initializer(n)).and_then(graph::to_array::<i64>);
        let axes: Vec<i64> = match &listed {
            Some(axes) => axes.iter().copied().collect(),
            None => graph::attr_ints(node, "axes").unwrap_or(&[]).to_vec(),
        };
        let mut axes: Vec<i64> = axes.iter().map(|a| if *a < 0 { a + 4 } else { *a }).collect();
        axes.sort_unstable();
        if axes != [2, 3] {
            return Err(format!("it reduces the axes {axes:?}"));
        }
    }
    Ok((batch, channels, height * width))
}

pub(super) fn concat(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    unclamped(target)?;
    let out = quantized(target)?;
    let (pixels, channels) = joined_channels(qdq, node)?;
    let (mut inputs, mut quants) = (Vec::new(), Vec::new());
    for input in &node.input {
        let (name, quant) = qdq.activation(input)?;
        inputs.push(name);
        quants.push(quant);
    }
    let in_place = vec![false; inputs.len()];
    Ok(draft(node, inputs, target, StepOp::Concat { pixels, channels, quants, out, in_place }))
}

/// Pixels, and channels of each input, of a Concat; along another axis than the channels, a "channel" is
/// whatever lies inside of that axis in an island's layout.
pub(super) fn joined_channels(qdq: &Qdq, node: &NodeProto) -> Result<(usize, Vec<usize>), Reason> {
    let shape = qdq.shape(&node.output[0])?;
    let axis = graph::attr_int(node, "axis").unwrap_or(0);
    let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
    let axis = usize::try_from(axis).ok().filter(|a| *a < shape.len()).ok_or("its axis does not exist")?;
    let order = memory_order(shape.len());
    let inside: Vec<usize> = order.iter().skip_while(|a| **a != axis).copied().collect();
    let channels = node.input.iter().map(|input| {
        let shape = qdq.shape(input)?;
        Ok(inside.iter().map(|a| shape[*a]).product())
    });
    let pixels = order.iter().take_while(|a| **a != axis).map(|a| shape[*a]).product();
    Ok((pixels, channels.collect::<Result<_, Reason>>()?))
}

/// Resize by nearest pixels or linear interpolation.
pub(super) fn resize(qdq: &Qdq, node: &NodeProto, target: Target) -> Result<Draft, Reason> {
    unclamped(target)?;
    let (input, quant) = qdq.activation(&node.input[0])?;
    let out = quantized(target)?;
    Ok(draft(node, vec![input], target, StepOp::Resize { scaling: scaling(qdq, node)?, quant, out }))
}

/// Sizes of a Resize, and where its rows and columns come from.
pub(super) fn scaling(qdq: &Qdq, node: &NodeProto) -> Result<Scaling, Reason> {
    let (from, to) = (qdq.shape(&node.input[0])?, qdq.shape(&node.output[0])?);
    let found = resize::resize(qdq.graph, &qdq.index, node, from, to)?;
    let tap = |s: Source| Tap { first: s.first, second: s.second, weight: s.weight };
    Ok(Scaling {
        batch: from[0],
        channels: from[1],
        in_height: from[2],
        in_width: from[3],
        rows: found.rows.into_iter().map(tap).collect(),
        columns: found.columns.into_iter().map(tap).collect(),
    })
}

/// Movement of data from the quantized tensor that it starts from to `tensor`, the result of `node`.
pub(super) fn movement(qdq: &Qdq, node: &NodeProto, tensor: &str, target: Target) -> Result<Draft, Reason> {
    unclamped(target)?;
    let out = quantized(target)?;
    let pads = if node.op_type == "Pad" { Some(moving::padding(qdq, node)?) } else { None };
    let (input, quant, view) = match pads {
        Some(_) => moving::start(qdq, &node.input[0])?,
        None => moving::moved(qdq, node, tensor)?,
    };
    if quant != out {
        return Err("its input and output have different scales".into());
    }
    let fill = pads.as_ref().map(|(_, value)| out.quantize(*value));
    let copying = view.copying(pads.as_ref().map(|(pads, _)| &pads[..]));
    Ok(draft(node, vec![input], target, StepOp::Move { copying, fill }))
}
