//! Which input takes the image, and whether it can.

use super::{Dim, Model, ModelError, Port, pb::tensor_proto::DataType, printable};

pub(super) fn image_input(model: &Model) -> Result<Port, ModelError> {
    let inputs = model.inputs();
    let refuse =
        |what: String, hint: &str| ModelError::Invalid { path: model.path.clone(), what, hint: hint.into() };
    let [port] = inputs.as_slice() else {
        let names: Vec<_> = inputs.iter().map(|p| printable(&p.name)).collect();
        let what = match names.len() {
            0 => "calib8 takes models with one image input; this has none".into(),
            n => format!("calib8 takes models with one image input; this has {n}: {}", names.join(", ")),
        };
        return Err(refuse(what, "cut the model to the part that reads the image"));
    };
    let name = printable(&port.name);
    let shape = describe(&port.dims);
    if port.elem_type != DataType::Float as i32 {
        let what = format!("input '{name}' is {}, expected float32", type_name(port.elem_type));
        return Err(refuse(what, "export the model in float32, with the preprocessing left out"));
    }
    let [batch, channels, height, width] = port.dims.as_slice() else {
        let what = format!("input '{name}' has the shape {shape}, expected NCHW with four dimensions");
        return Err(refuse(what, "export the model with its shape declared, images as NCHW"));
    };
    if let Dim::Fixed(n @ 2..) = batch {
        let what =
            format!("input '{name}' has the shape {shape} with a fixed batch of {n}, expected 1 or a symbol");
        return Err(refuse(what, "export the model with a dynamic batch dimension, or batch 1"));
    }
    let is_image = |d: &Dim| matches!(d, Dim::Fixed(1 | 3 | 4));
    if !is_image(channels) {
        return Err(if is_image(width) {
            let what = format!("input '{name}' has the shape {shape}, which looks like NHWC, expected NCHW");
            refuse(what, "export the model with channels first (tf2onnx: --inputs-as-nchw)")
        } else {
            let what = format!(
                "input '{name}' has the shape {shape}, expected 1, 3 or 4 channels as second dimension"
            );
            refuse(what, "export the model with images as NCHW and a fixed number of channels")
        });
    }
    if let (Dim::Fixed(_), Dim::Fixed(_)) = (height, width) {
        return Ok(port.clone());
    }
    let what = format!("input '{name}' has the shape {shape}, expected a fixed height and width");
    Err(refuse(what, "export the model with fixed spatial dimensions (only the batch may be symbolic)"))
}

/// A shape as people write it, such as `[N, 3, 224, 224]`.
pub(super) fn describe(dims: &[Dim]) -> String {
    let dim = |d: &Dim| match d {
        Dim::Fixed(n) => n.to_string(),
        Dim::Symbol(s) if s.is_empty() => "?".into(),
        Dim::Symbol(s) => printable(s).into_owned(),
    };
    format!("[{}]", dims.iter().map(dim).collect::<Vec<_>>().join(", "))
}

/// The ONNX name of an element type, such as `float32`.
pub(super) fn type_name(elem_type: i32) -> String {
    match DataType::try_from(elem_type) {
        Ok(DataType::Undefined) | Err(_) => "of no known type".into(),
        Ok(DataType::Float) => "float32".into(),
        Ok(DataType::Double) => "float64".into(),
        Ok(other) => other.as_str_name().to_lowercase(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::model::graph::{node, value};
    use crate::model::pb;

    fn model(inputs: &[(&str, i32, &[&str])]) -> Model {
        let graph = pb::GraphProto {
            input: inputs.iter().map(|(name, elem, dims)| value(name, *elem, dims)).collect(),
            node: vec![node("Relu", "r", &["a"], &["y"])],
            ..Default::default()
        };
        Model::from_proto("m.onnx", pb::ModelProto { graph: Some(graph), ..Default::default() })
    }

    fn refusal(inputs: &[(&str, i32, &[&str])]) -> String {
        model(inputs).image_input().unwrap_err().to_string()
    }

    #[test]
    fn takes_images_with_a_symbolic_or_single_batch() {
        for dims in [["N", "3", "224", "224"], ["1", "1", "28", "28"]] {
            assert_eq!(model(&[("a", 1, &dims)]).image_input().unwrap().name, "a");
        }
    }

    #[test]
    fn says_what_is_wrong_with_other_inputs() {
        let image = ["N", "3", "8", "8"];
        assert!(refusal(&[]).contains("this has none"));
        assert!(refusal(&[("a", 1, &image), ("b\u{1b}", 1, &image)]).contains("this has 2: a, b\\u{1b}"));
        assert!(refusal(&[("a", 10, &image)]).contains("float16, expected float32"));
        assert!(refusal(&[("a", 1, &["N", "10"])]).contains("[N, 10], expected NCHW"));
        assert!(refusal(&[("a", 1, &["8", "3", "8", "8"])]).contains("fixed batch of 8"));
        assert!(refusal(&[("a", 1, &["N", "224", "224", "3"])]).contains("looks like NHWC"));
        assert!(refusal(&[("a", 1, &["N", "C", "8", "8"])]).contains("[N, C, 8, 8], expected 1, 3 or 4"));
        assert!(refusal(&[("a", 1, &["N", "3", "H", ""])]).contains("[N, 3, H, ?], expected a fixed height"));
    }
}
