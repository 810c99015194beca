//! Movement of data: Transpose, Reshape and its kin, Slice, Split, Gather of regular indices, DepthToSpace,
//! SpaceToDepth, Pad.
//!
//! A tensor that was only moved is a *view* of another one: for each of its axes, how the elements lie
//! there. The view of a chain of such operators is found by applying them to the view, so a channel shuffle
//! written in four operators is one copy.

use super::super::program::{Copying, Quant};
use super::elementwise::{memory_order, memory_strides};
use super::qdq::{Qdq, Reason};
use crate::kernels::Stride;
use crate::model::graph;
use crate::model::pb::NodeProto;

/// A run of elements `step` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    count: usize,
    step: usize,
}

/// Where the elements of a tensor lie in another one: each axis is a nest of runs, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    first: usize,
    axes: Vec<Vec<Run>>,
}

/// The quantized tensor that `tensor` is a view of, and the view: the tensor itself, or what movements before
/// it in the same scale start from.
pub(super) fn start<'a>(qdq: &Qdq<'a>, tensor: &str) -> Result<(&'a str, Quant, View), Reason> {
    let (name, quant) = match (qdq.activation(tensor), qdq.producer(tensor).filter(|n| is_view(n))) {
        (Ok(found), _) => found,
        (Err(_), Some(node)) => return moved(qdq, node, tensor),
        (Err(reason), None) => return Err(reason),
    };
    let before = qdq.producer(name).map(|quantize| quantize.input[0].as_str());
    if let Some((node, before)) = before.and_then(|b| Some((qdq.producer(b).filter(|n| is_view(n))?, b)))
        && let Ok((source, of_source, view)) = moved(qdq, node, before)
        && of_source == quant
    {
        return Ok((source, quant, view));
    }
    Ok((name, quant, View::of(qdq.shape(tensor)?)))
}

/// The quantized tensor that `tensor`, a result of the movement `node`, is a view of.
pub(super) fn moved<'a>(
    qdq: &Qdq<'a>,
    node: &NodeProto,
    tensor: &str,
) -> Result<(&'a str, Quant, View), Reason> {
    let input = node.input[0].as_str();
    let (source, quant, view) = start(qdq, input)?;
    if let Ok(view) = view.apply(qdq, node, tensor) {
        return Ok((source, quant, view));
    }
    // From the tensor just before, which is a copy of its own then.
    let (name, quant) = qdq.activation(input)?;
    Ok((name, quant, View::of(qdq.shape(input)?).apply(qdq, node, tensor)?))
}

/// The FP32 tensor that `tensor`, a result of the movement `node`, is a view of.
pub(super) fn moved_float(qdq: &Qdq, node: &NodeProto, tensor: &str) -> Result<(String, View), Reason> {
    let input = node.input[0].as_str();
    if let Some(before) = qdq.producer(input).filter(|n| is_view(n))
        && let Ok((source, view)) = moved_float(qdq, before, input)
        && let Ok(view) = view.apply(qdq, node, tensor)
    {
        return Ok((source, view));
    }
    Ok((input.into(), View::of(qdq.shape(input)?).apply(qdq, node, tensor)?))
}

/// Whether a node's result is a view of its input.
pub(super) fn is_view(node: &NodeProto) -> bool {
    is_movement(node) && node.op_type != "Pad"
}

/// Whether a node only moves data.
pub(super) fn is_movement(node: &NodeProto) -> bool {
    matches!(
        node.op_type.as_str(),
        "Transpose"
            | "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Slice"
            | "Split"
            | "Gather"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "Pad"
    )
}

impl View {
    /// A tensor of its own in an island's layout.
    pub(super) fn of(shape: &[usize]) -> View {
        let runs =
            shape.iter().zip(memory_strides(shape)).map(|(count, step)| vec![Run { count: *count, step }]);
        View { first: 0, axes: runs.collect() }
    }

    /// `tensor`, one of the results of the movement `node`, where `self` is a view of its input.
    pub(super) fn apply(self, qdq: &Qdq, node: &NodeProto, tensor: &str) -> Result<View, Reason> {
        let (from, to) = (qdq.shape(&node.input[0])?, qdq.shape(tensor)?);
        match node.op_type.as_str() {
            "Transpose" => {
                let reversed: Vec<i64> = (0..from.len() as i64).rev().collect();
                self.transpose(graph::attr_ints(node, "perm").unwrap_or(&reversed))
            }
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(to),
            "Slice" => self.slice(qdq, node),
            "Split" => {
                let axis = axis_of(node, 0, from.len())?;
                let before = node.output.iter().take_while(|o| o.as_str() != tensor);
                let sizes = before.map(|o| Ok(qdq.shape(o)?.get(axis).copied().unwrap_or(0)));
                let first = sizes.sum::<Result<usize, Reason>>()?;
                self.take(axis, first, to[axis], 1)
            }
            "Gather" => {
                let axis = axis_of(node, 0, from.len())?;
                let (indices, scalar) =
                    constant_indices(qdq, node, 1).ok_or("its indices are not constant")?;
                let wrap = |i: i64| if i < 0 { i + from[axis] as i64 } else { i };
                let indices: Vec<i64> = indices.into_iter().map(wrap).collect();
                let step = indices.windows(2).map(|w| w[1] - w[0]).next().unwrap_or(1);
                let regular = step > 0 && indices.windows(2).all(|w| w[1] - w[0] == step);
                let first =
                    indices.first().copied().filter(|_| regular).ok_or("its indices are irregular")?;
                let taken = self.take(axis, first as usize, indices.len(), step as usize)?;
                if scalar { taken.reshape(to) } else { Ok(taken) }
            }
            "DepthToSpace" | "SpaceToDepth" => self.between_depth_and_space(node, from, to),
            other => Err(format!("{other} has no form as a view")),
        }
    }

    /// The first element and the steps along each axis, if each axis is one run.
    pub(super) fn strides(&self) -> Option<(usize, Vec<usize>)> {
        let step = |axis: &Vec<Run>| match merged(axis.iter().copied())[..] {
            [run] => Some(run.step),
            _ => None,
        };
        Some((self.first, self.axes.iter().map(step).collect::<Option<Vec<_>>>()?))
    }

    fn transpose(self, order: &[i64]) -> Result<View, Reason> {
        let axis = |a: &i64| usize::try_from(*a).ok().and_then(|a| self.axes.get(a).cloned());
        let axes =
            order.iter().map(axis).collect::<Option<Vec<_>>>().ok_or("its order of axes is not valid")?;
        Ok(View { axes, ..self })
    }

    fn reshape(self, shape: &[usize]) -> Result<View, Reason> {
        let mut runs = merged(self.axes.iter().flatten().copied());
        runs.reverse();
        let mut axes = Vec::with_capacity(shape.len());
        for size in shape {
            let (mut axis, mut open) = (Vec::new(), *size);
            while open > 1 {
                let run = runs.pop().ok_or("it changes the number of elements")?;
                if open.is_multiple_of(run.count) {
                    axis.push(run);
                    open /= run.count;
                } else if run.count.is_multiple_of(open) {
                    let inner = run.count / open;
                    axis.push(Run { count: open, step: run.step * inner });
                    runs.push(Run { count: inner, step: run.step });
                    open = 1;
                } else {
                    return Err("it cuts across the order of elements in memory".into());
                }
            }
            if axis.is_empty() {
                axis.push(Run { count: *size, step: 0 });
            }
            axes.push(axis);
        }
        Ok(View { axes, ..self })
    }

    /// Indices `first, first + step, …` of one axis.
    fn take(mut self, axis: usize, first: usize, count: usize, step: usize) -> Result<View, Reason> {
        let runs = merged(self.axes[axis].iter().copied());
        let [run] = runs[..] else {
            return Err("it takes a part of an axis that is not regular in memory".into());
        };
        if count > 0 && first + (count - 1) * step >= run.count {
            return Err(format!("it takes index {} of {}", first + (count - 1) * step, run.count));
        }
        self.first += first * run.step;
        self.axes[axis] = vec![Run { count, step: run.step * step }];
        Ok(self)
    }

    fn slice(self, qdq: &Qdq, node: &NodeProto) -> Result<View, Reason> {
        let shape = qdq.shape(&node.input[0])?;
        let list = |slot: usize| constant_indices(qdq, node, slot).map(|(values, _)| values);
        let (starts, ends) = list(1).zip(list(2)).ok_or("its bounds are not constant")?;
        let axes = list(3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list(4).unwrap_or_else(|| vec![1; starts.len()]);
        let mut view = self;
        for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let axis = normalized(*axis, shape.len())?;
            if *step < 1 {
                return Err("it runs backwards".into());
            }
            let size = shape[axis] as i64;
            let bound = |at: i64| if at < 0 { at.saturating_add(size) } else { at }.clamp(0, size);
            let (start, end) = (bound(*start), bound(*end));
            let count = (end - start).max(0) as usize;
            view = view.take(axis, start as usize, count.div_ceil(*step as usize), *step as usize)?;
        }
        Ok(view)
    }

    fn between_depth_and_space(self, node: &NodeProto, from: &[usize], to: &[usize]) -> Result<View, Reason> {
        let block = graph::attr_int(node, "blocksize").unwrap_or(0).max(1) as usize;
        let ([n, c, h, w], [_, c_out, h_out, w_out]) = (from, to) else {
            return Err("it is not two-dimensional".into());
        };
        let view = if node.op_type == "SpaceToDepth" {
            self.reshape(&[*n, *c, *h_out, block, *w_out, block])?.transpose(&[0, 3, 5, 1, 2, 4])?
        } else if graph::attr_str(node, "mode") == Some("CRD") {
            self.reshape(&[*n, *c_out, block, block, *h, *w])?.transpose(&[0, 1, 4, 2, 5, 3])?
        } else {
            self.reshape(&[*n, block, block, *c_out, *h, *w])?.transpose(&[0, 3, 4, 1, 5, 2])?
        };
        view.regroup(to)
    }

    /// As [`reshape`](View::reshape), where the axes of `shape` are whole axes of the view joined.
    fn regroup(self, shape: &[usize]) -> Result<View, Reason> {
        let mut axes = Vec::new();
        let mut open = self.axes.into_iter();
        for size in shape {
            let (mut runs, mut count) = (Vec::new(), 1);
            while count < *size {
                let axis = open.next().ok_or("it changes the number of elements")?;
                count *= axis.iter().map(|r| r.count).product::<usize>();
                runs.extend(axis);
            }
            // Axes of one element carry no run that matters.
            if runs.is_empty() {
                runs = open.next().unwrap_or_else(|| vec![Run { count: *size, step: 0 }]);
            }
            axes.push(runs);
        }
        Ok(View { first: self.first, axes })
    }

    /// The copy that makes a tensor of its own of this view, in an island's layout; `pads` elements of
    /// padding before and after each axis.
    pub(super) fn copying(&self, pads: Option<&[(usize, usize)]>) -> Copying {
        let counts: Vec<usize> = self.axes.iter().map(|a| a.iter().map(|r| r.count).product()).collect();
        let pad = |axis: usize| pads.map_or((0, 0), |p| p[axis]);
        let sizes: Vec<usize> = (0..counts.len()).map(|a| pad(a).0 + counts[a] + pad(a).1).collect();
        let strides = memory_strides(&sizes);
        let mut dims: Vec<Stride> = Vec::new();
        for axis in memory_order(sizes.len()) {
            let mut inner = counts[axis];
            for run in &self.axes[axis] {
                inner /= run.count.max(1);
                push(&mut dims, Stride { count: run.count, from: run.step, to: strides[axis] * inner });
            }
        }
        Copying {
            len: sizes.iter().product(),
            from: self.first,
            to: (0..sizes.len()).map(|axis| pad(axis).0 * strides[axis]).sum(),
            dims,
        }
    }
}

/// Adds a dimension inside the others; one with the last where they go on alike, none where it has one element.
fn push(dims: &mut Vec<Stride>, dim: Stride) {
    if dim.count == 1 {
        return;
    }
    match dims.last_mut() {
        Some(last) if last.from == dim.from * dim.count && last.to == dim.to * dim.count => {
            *last = Stride { count: last.count * dim.count, ..dim };
        }
        _ => dims.push(dim),
    }
}

/// Runs without those of one element, neighbours that go on alike joined.
fn merged(runs: impl Iterator<Item = Run>) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    for run in runs.filter(|r| r.count != 1) {
        match all.last_mut() {
            Some(last) if last.step == run.step * run.count => {
                *last = Run { count: last.count * run.count, step: run.step };
            }
            _ => all.push(run),
        }
    }
    if all.is_empty() { vec![Run { count: 1, step: 0 }] } else { all }
}

fn normalized(axis: i64, rank: usize) -> Result<usize, Reason> {
    let wrapped = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(wrapped).ok().filter(|a| *a < rank).ok_or_else(|| format!("it has no axis {axis}"))
}

fn axis_of(node: &NodeProto, default: i64, rank: usize) -> Result<usize, Reason> {
    normalized(graph::attr_int(node, "axis").unwrap_or(default), rank)
}

/// Constant integers behind an input, and whether they are a scalar.
pub(super) fn constant_indices(qdq: &Qdq, node: &NodeProto, slot: usize) -> Option<(Vec<i64>, bool)> {
    let tensor = qdq.initializer(node.input.get(slot).filter(|n| !n.is_empty())?)?;
    let wide = graph::to_array::<i64>(tensor);
    let values = wide.or_else(|| Some(graph::to_array::<i32>(tensor)?.mapv(i64::from)))?;
    let scalar = values.ndim() == 0;
    Some((values.into_iter().collect(), scalar))
}

/// Padding before and after each axis, and the value, of a Pad with constants.
pub(super) fn padding(qdq: &Qdq, node: &NodeProto) -> Result<(Vec<(usize, usize)>, f32), Reason> {
    let mode = graph::attr_str(node, "mode").unwrap_or("constant");
    if mode != "constant" {
        return Err(format!("it pads in the mode '{mode}'"));
    }
    let rank = qdq.shape(&node.input[0])?.len();
    let (pads, _) = constant_indices(qdq, node, 1).ok_or("its pads are not constant")?;
    let axes = match node.input.get(3).filter(|n| !n.is_empty()) {
        None => (0..rank).collect(),
        Some(_) => {
            let (axes, _) = constant_indices(qdq, node, 3).ok_or("its axes are not constant")?;
            axes.into_iter().map(|a| normalized(a, rank)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let value = match node.input.get(2).filter(|n| !n.is_empty()) {
        None => 0.0,
        Some(name) => qdq.scalar(name).ok_or("its value is not a constant f32")?,
    };
    let mut all = vec![(0, 0); rank];
    for (i, axis) in axes.iter().enumerate() {
        let side = |at: usize| pads.get(at).and_then(|p| usize::try_from(*p).ok());
        let both = side(i).zip(side(i + axes.len()));
        all[*axis] = both.ok_or_else(|| format!("its pads are {pads:?}"))?;
    }
    Ok((all, value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn dims(view: &View) -> Vec<(usize, usize, usize)> {
        view.copying(None).dims.iter().map(|d| (d.count, d.from, d.to)).collect()
    }

    #[test]
    fn a_channel_shuffle_in_four_operators_is_one_strided_copy() {
        // Reshape [48, 2, 484], Transpose, Reshape [2, 1, 48, 22, 22], Gather 1.
        let view = View::of(&[1, 96, 22, 22]).reshape(&[48, 2, 484]).unwrap();
        let view = view.transpose(&[1, 0, 2]).unwrap().reshape(&[2, 1, 48, 22, 22]).unwrap();
        let view = view.take(0, 1, 1, 1).unwrap().reshape(&[1, 48, 22, 22]).unwrap();
        assert_eq!(view.first, 1);
        assert_eq!(dims(&view), [(484 * 48, 2, 1)]);
    }

    #[test]
    fn a_tensor_as_it_is_needs_one_run() {
        assert_eq!(dims(&View::of(&[2, 3, 4, 5])), [(120, 1, 1)]);
        let flat = View::of(&[2, 3, 1, 1]).reshape(&[2, 3]).unwrap();
        assert_eq!(dims(&flat), [(6, 1, 1)]);
        let back = View::of(&[2, 3]).reshape(&[2, 3, 1, 1]).unwrap();
        assert_eq!(dims(&back), [(6, 1, 1)]);
        let flat = View::of(&[2, 3, 4, 5]).reshape(&[2, 60]).unwrap();
        assert_eq!(dims(&flat), [(2, 60, 60), (3, 1, 20), (20, 3, 1)]);
    }

    #[test]
    fn what_cuts_across_memory_is_refused() {
        assert!(View::of(&[1, 3, 5, 7]).reshape(&[7, 15]).is_err());
        let joined = View::of(&[2, 3, 4]).transpose(&[1, 0, 2]).unwrap().reshape(&[6, 4]).unwrap();
        assert!(joined.take(0, 1, 2, 1).is_err());
    }

    #[test]
    fn padding_leaves_room_around() {
        let copy = View::of(&[1, 2, 3, 4]).copying(Some(&[(0, 0), (0, 0), (1, 0), (2, 1)]));
        assert_eq!((copy.len, copy.from, copy.to), (2 * 4 * 7, 0, (7 + 2) * 2));
        let dims: Vec<_> = copy.dims.iter().map(|d| (d.count, d.from, d.to)).collect();
        assert_eq!(dims, [(3, 8, 14), (8, 1, 1)]);
    }
}
