//! What an ONNX `Resize` of images does, as the source rows and columns of each row and column of its result.

use super::graph::{self, Index};
use super::pb::{GraphProto, NodeProto};

/// One row or column: `(1 − weight) · first + weight · second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// The source before the position.
    pub first: usize,
    /// The source after it; the same one at the border.
    pub second: usize,
    /// Share of the second one; 0 where a single one is taken.
    pub weight: f32,
}

/// The sources of all rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// One for each row of the result.
    pub rows: Vec<Source>,
    /// One for each column.
    pub columns: Vec<Source>,
}

/// Reads a `Resize` from `input` to `output` (both NCHW) that takes nearest pixels or interpolates linearly between
/// pixels, over height and width.
///
/// # Errors
/// The reason why it is another one, a clause about the operator.
pub fn resize(
    graph: &GraphProto,
    index: &Index,
    node: &NodeProto,
    input: &[usize],
    output: &[usize],
) -> Result<Resize, String> {
    let ([n, c, height, width], [n_out, c_out, rows, columns]) = (input, output) else {
        return Err("it is not two-dimensional".into());
    };
    if (n, c) != (n_out, c_out) {
        return Err("it resizes more than height and width".into());
    }
    let text = |name: &str, default| graph::attr_str(node, name).unwrap_or(default).to_owned();
    let (mode, nearest) = (text("mode", "nearest"), text("nearest_mode", "round_prefer_floor"));
    let transformation = text("coordinate_transformation_mode", "half_pixel");
    let number = |name: &str| graph::attr_int(node, name).unwrap_or(0);
    if number("antialias") != 0 || number("exclude_outside") != 0 || graph::attribute(node, "axes").is_some()
    {
        return Err("it antialiases, excludes what is outside, or chooses axes".into());
    }
    if !matches!(mode.as_str(), "nearest" | "linear") {
        return Err(format!("its mode is '{mode}'"));
    }
    let scales = node.input.get(2).and_then(|name| index.initializer(name));
    let scales = scales.and_then(|at| graph::to_array::<f32>(&graph.initializer[at]));
    let given = |axis: usize| scales.as_ref().and_then(|s| s.as_slice()?.get(axis).copied());
    let along = |axis: usize, size: usize, out: usize| -> Result<Vec<Source>, String> {
        // f32, as runtimes compute positions.
        let scale = given(axis).unwrap_or(out as f32 / size as f32);
        (0..out)
            .map(|at| {
                let at = at as f32;
                let position = match transformation.as_str() {
                    "asymmetric" => at / scale,
                    "align_corners" if out == 1 => 0.0,
                    "align_corners" => at * (size - 1) as f32 / (out - 1) as f32,
                    "pytorch_half_pixel" if out == 1 => 0.0,
                    "half_pixel" | "pytorch_half_pixel" => (at + 0.5) / scale - 0.5,
                    other => return Err(format!("its coordinate_transformation_mode is '{other}'")),
                };
                let last = (size - 1) as f32;
                if mode == "linear" {
                    let position = position.clamp(0.0, last);
                    let first = position.floor();
                    let second = (first + 1.0).min(last);
                    return Ok(Source {
                        first: first as usize,
                        second: second as usize,
                        weight: position - first,
                    });
                }
                let whole = match nearest.as_str() {
                    "floor" => position.floor(),
                    "ceil" => position.ceil(),
                    "round_prefer_floor" => (position - 0.5).ceil(),
                    "round_prefer_ceil" => (position + 0.5).floor(),
                    other => return Err(format!("its nearest_mode is '{other}'")),
                };
                let first = whole.clamp(0.0, last) as usize;
                Ok(Source { first, second: first, weight: 0.0 })
            })
            .collect()
    };
    if [height, width, rows, columns].contains(&&0) {
        return Err("an image is empty".into());
    }
    Ok(Resize { rows: along(2, *height, *rows)?, columns: along(3, *width, *columns)? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, tensor};
    use crate::model::pb::{AttributeProto, attribute_proto::AttributeType};

    fn text(mut node: NodeProto, name: &str, value: &str) -> NodeProto {
        let r#type = AttributeType::String as i32;
        node.attribute.push(AttributeProto {
            name: name.into(),
            s: value.into(),
            r#type,
            ..Default::default()
        });
        node
    }

    /// Columns of an image of one row, 1 × `from` to 1 × `to`.
    fn columns(mode: &str, transformation: &str, from: usize, to: usize) -> Vec<(usize, usize, f32)> {
        let graph = GraphProto {
            initializer: vec![tensor("s", &[4], &[1f32, 1.0, 1.0, to as f32 / from as f32])],
            ..Default::default()
        };
        let resize_node = node("Resize", "r", &["x", "", "s"], &["y"]);
        let resize_node =
            text(text(resize_node, "mode", mode), "coordinate_transformation_mode", transformation);
        let resize_node = text(resize_node, "nearest_mode", "floor");
        let found =
            resize(&graph, &Index::new(&graph), &resize_node, &[1, 2, 1, from], &[1, 2, 1, to]).unwrap();
        found.columns.iter().map(|s| (s.first, s.second, s.weight)).collect()
    }

    #[test]
    fn positions_are_those_that_onnx_defines() {
        // The rows of the examples in ONNX's documentation of Resize: 2 to 4.
        assert_eq!(
            columns("linear", "half_pixel", 2, 4),
            [(0, 1, 0.0), (0, 1, 0.25), (0, 1, 0.75), (1, 1, 0.0)]
        );
        assert_eq!(
            columns("linear", "asymmetric", 2, 4),
            [(0, 1, 0.0), (0, 1, 0.5), (1, 1, 0.0), (1, 1, 0.0)]
        );
        let third = 1.0 / 3.0;
        let aligned = columns("linear", "align_corners", 2, 4);
        assert_eq!(aligned[1], (0, 1, third));
        assert_eq!(aligned[3], (1, 1, 0.0));
        let nearest: Vec<usize> = columns("nearest", "asymmetric", 2, 4).iter().map(|c| c.0).collect();
        assert_eq!(nearest, [0, 0, 1, 1]);
    }

    #[test]
    fn other_modes_are_refused_with_the_reason() {
        let graph = GraphProto::default();
        let of = |n: NodeProto| resize(&graph, &Index::new(&graph), &n, &[1, 2, 3, 3], &[1, 2, 6, 6]);
        let cubic = of(text(node("Resize", "r", &["x"], &["y"]), "mode", "cubic"));
        assert_eq!(cubic, Err("its mode is 'cubic'".into()));
    }
}
