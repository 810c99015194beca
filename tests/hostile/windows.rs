//! Windows of convolutions and pools that are larger than any image, with borders that make a small result of them.

use std::fs;
use std::path::Path;

use calib8::engine::builtin::{self, Builtin};
use calib8::engine::{Engine, LoadOptions};
use calib8::model::graph::{node, tensor, with_int, with_ints, with_tensor};
use calib8::model::pb::{NodeProto, TensorProto};
use calib8::model::{Model, simplify};
use prost::Message;

use super::{entries, limits, model};

/// What any of these files may take, the program and all other cases included.
const MOST_PEAK: u64 = 300 << 20;

#[derive(Clone)]
struct Case {
    what: String,
    nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    side: &'static str,
    /// Why it is refused; `None` if it runs.
    refused: Option<&'static str>,
    /// Whether the engine has INT8 steps for all of it.
    int8: bool,
}

impl Case {
    fn new(what: impl Into<String>, node: NodeProto, initializer: Vec<TensorProto>) -> Case {
        let what = what.into();
        Case { what, nodes: vec![node], initializer, side: "4", refused: None, int8: false }
    }

    fn refused(self, why: &'static str) -> Case {
        Case { refused: Some(why), ..self }
    }
}

/// A window of `kernel` by `kernel`, and as much around an image of 4 × 4 as leaves one result.
fn single(op: &str, kernel: i64) -> NodeProto {
    let pad = (kernel - 4) / 2;
    let of = with_ints(node(op, "wide", &["x"], &["y"]), "kernel_shape", &[kernel, kernel]);
    with_ints(of, "pads", &[pad, pad, kernel - 4 - pad, kernel - 4 - pad])
}

/// `conv` of quantized `x` and `w`, quantized: what the engine makes INT8 steps of.
fn quantized(what: impl Into<String>, mut conv: NodeProto, w: TensorProto) -> Case {
    let q = |name: &str, from: &str, to: &str| node("QuantizeLinear", name, &[from, "s", "z"], &[to]);
    let d = |name: &str, from: &str, to: &str| node("DequantizeLinear", name, &[from, "s", "z"], &[to]);
    conv.input = vec!["xd".into(), "wd".into()];
    conv.output = vec!["c".into()];
    let nodes = vec![
        q("xq", "x", "xq"),
        d("xd", "xq", "xd"),
        node("DequantizeLinear", "wd", &["w", "s", "wz"], &["wd"]),
        conv.clone(),
        q("cq", "c", "cq"),
        d("cd", "cq", "y"),
    ];
    let of = [tensor("s", &[], &[0.1f32]), tensor("z", &[], &[128u8]), tensor("wz", &[], &[0i8])];
    Case { nodes, int8: true, ..Case::new(what, conv, [&of[..], &[w]].concat()) }
}

fn wide_kernels() -> Vec<Case> {
    let mut cases = Vec::new();
    for kernel in [1 << 11, 60_000, 1 << 31, 1 << 40, i64::MAX, 0] {
        let why = match kernel {
            2048 => None,
            1..=0x8000_0000 => Some("the places in all windows up to this one take "),
            _ => Some("its kernel_shape are ["),
        };
        for op in ["MaxPool", "AveragePool"] {
            let case = Case::new(format!("{op} of {kernel}"), single(op, kernel), vec![]);
            cases.push(Case { refused: why, ..case });
        }
        let counted = with_int(single("AveragePool", kernel), "count_include_pad", 1);
        let case = Case::new(format!("AveragePool, borders counted, of {kernel}"), counted, vec![]);
        cases.push(Case { refused: why, ..case });
        for (op, shape) in [("Conv", [1, 3, 1, 1]), ("ConvTranspose", [3, 1, 1, 1])] {
            let mut conv = single(op, kernel);
            conv.input.push("w".into());
            let what = format!("{op} of one weight that says {kernel}");
            cases.push(Case::new(what, conv, vec![tensor("w", &shape, &[1f32; 3])]).refused("wide"));
        }
    }
    let why = "the places in all windows up to this one take 0.6 GiB, and may take 0.5 GiB";
    let mut many =
        Case::new("four pools that are too large together", single("MaxPool", 1 << 11), vec![]).refused(why);
    many.nodes = (0..4)
        .map(|at| NodeProto {
            name: format!("wide {at}"),
            output: vec![format!("p{at}")],
            ..single("MaxPool", 1 << 11)
        })
        .collect();
    many.nodes.push(node("Sum", "sum", &["p0", "p1", "p2", "p3"], &["y"]));
    cases.push(many);
    cases
}

fn wide_steps() -> Vec<Case> {
    let mut cases = Vec::new();
    let three = || with_ints(node("MaxPool", "wide", &["x"], &["y"]), "kernel_shape", &[3, 3]);
    let weights = || tensor("w", &[1, 3, 3, 3], &[1i8; 27]);
    for far in [1000i64, 1 << 31, 1 << 40, i64::MAX] {
        let spread = |of| with_ints(with_ints(of, "dilations", &[far, far]), "pads", &[far; 4]);
        let conv = || node("Conv", "wide", &["x", "w"], &["y"]);
        // Of rows only: the first convolution has its borders around the image.
        let rows = with_ints(with_ints(conv(), "dilations", &[far, 1]), "pads", &[far, 1, far, 1]);
        let steps = |of| with_ints(with_ints(of, "strides", &[far, far]), "pads", &[1, 1, 1, 1]);
        let floats = vec![tensor("w", &[1, 3, 3, 3], &[1f32; 27])];
        let (dilations, strides) = match far {
            ..=0x8000_0000 => (None, None),
            _ => (Some("its dilations are ["), Some("its strides are [")),
        };
        for (why, case) in [
            (dilations, Case::new(format!("Conv, {far} apart"), spread(conv()), floats)),
            (dilations, Case::new(format!("MaxPool, {far} apart"), spread(three()), vec![])),
            (dilations, quantized(format!("quantized, {far} apart"), spread(conv()), weights())),
            (dilations, quantized(format!("quantized, rows {far} apart"), rows, weights())),
            (strides, quantized(format!("quantized, steps of {far}"), steps(conv()), weights())),
            (strides, Case::new(format!("MaxPool, steps of {far}"), steps(three()), vec![])),
        ] {
            cases.push(Case { refused: why, ..case });
        }
    }
    cases
}

/// Windows of a million elements at a million places.
fn many_places() -> Vec<Case> {
    let fill =
        with_tensor(node("ConstantOfShape", "fill", &["shape"], &["w"]), "value", tensor("", &[1], &[1i8]));
    let conv = with_ints(node("Conv", "wide", &["x", "w"], &["y"]), "pads", &[499, 499, 500, 500]);
    let mut filled = quantized(
        "a million weights at a million places",
        conv,
        tensor("shape", &[4], &[1i64, 3, 1000, 1000]),
    )
    .refused("windows up to this one take ");
    filled.nodes.insert(0, fill);
    filled.side = "1000";
    let inside = with_ints(node("MaxPool", "wide", &["x"], &["y"]), "kernel_shape", &[2000, 2000]);
    let pool = with_ints(node("AveragePool", "wide", &["image"], &["h"]), "kernel_shape", &[500, 500]);
    let shape = vec![tensor("shape", &[4], &[1i64, 3, 1000, 1000])];
    let mut constant = Case::new("a pool of constants", pool, shape).refused("and may take 68719476736");
    constant.nodes.insert(0, node("ConstantOfShape", "fill", &["shape"], &["image"]));
    constant.nodes.push(node("GlobalAveragePool", "mean", &["h"], &["m"]));
    constant.nodes.push(node("Add", "sum", &["x", "m"], &["y"]));
    vec![
        filled,
        Case { side: "4000", ..Case::new("a pool without borders", inside, vec![]) }
            .refused("that takes 48048012000000 products, and may take 17592186044416"),
        constant,
    ]
}

#[test]
fn windows_without_end_are_refused_or_done_with_soon() {
    limits::in_child("windows::wide", &[]);
}

#[test]
#[ignore = "run in a child process by windows_without_end_are_refused_or_done_with_soon"]
fn wide() {
    limits::confine();
    entries::quiet();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    for case in [wide_kernels(), wide_steps(), many_places()].concat() {
        let Case { what, nodes, initializer, side, refused, int8 } = case;
        println!("{what}");
        let bytes = model::of(model::graph(&["1", "3", side, side], &[], nodes, initializer)).encode_to_vec();
        assert!(bytes.len() < 1000, "{what}: {} bytes", bytes.len());
        fs::write(&path, &bytes).unwrap();
        let said = load(&path, int8).err();
        println!("  {said:?}");
        match (refused, said) {
            (None, said) => assert_eq!(said, None, "{what}"),
            (Some(why), Some(said)) => {
                assert!(said.contains(why) && said.contains("wide"), "{what}: {said}");
            }
            (Some(_), None) => panic!("{what}: it is loaded"),
        }
        entries::model(&bytes);
        entries::session(&bytes);
        let peak = limits::peak();
        println!("  {} MB", peak >> 20);
        assert!(peak < MOST_PEAK, "{what}: {} MB", peak >> 20);
    }
}

/// Loads a model as a run does; with `int8`, all of it must run in INT8.
fn load(path: &Path, int8: bool) -> Result<(), String> {
    let model = Model::load(path).map_err(|error| error.to_string())?;
    let model = simplify::simplify(&model).map_err(|error| error.to_string())?.model;
    Builtin.load(&model, &LoadOptions::default()).map_err(|error| error.to_string())?;
    let unfused = builtin::unfused(&model).map_err(|error| error.to_string())?;
    assert!(!int8 || unfused.is_empty(), "{unfused:?}");
    Ok(())
}
