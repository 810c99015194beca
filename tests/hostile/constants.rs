//! Models of a kilobyte whose constants make tensors of gigabytes: not by a number that stands in the file, but by
//! what nodes make of numbers, or by many nodes together.

use std::fs;
use std::path::Path;

use calib8::engine::builtin::Builtin;
use calib8::engine::{Engine, LoadOptions};
use calib8::model::graph::{node, tensor, with_int, with_ints, with_tensor};
use calib8::model::inspect::inspect;
use calib8::model::pb::{AttributeProto, NodeProto, TensorProto};
use calib8::model::{Model, ModelError, shapes, simplify};
use prost::Message;

use super::{entries, limits, model};

/// What refusing such a file may take, the program and all other cases included.
const MOST_PEAK: u64 = 300 << 20;

/// A file that asks for more than any machine holds.
pub struct Case {
    pub what: &'static str,
    /// The last one adds the tensor to the image.
    pub nodes: Vec<NodeProto>,
    pub initializer: Vec<TensorProto>,
    /// Whether all of it can be held after all.
    pub held: bool,
}

impl Case {
    /// `nodes` make the tensor `h` of constants; here it is added to the image.
    fn new(what: &'static str, mut nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Case {
        nodes.push(node("Add", "sum", &["x", "h"], &["y"]));
        Case { what, nodes, initializer, held: false }
    }

    fn bytes(&self) -> Vec<u8> {
        let graph = model::graph(&["1", "3", "4", "4"], &[], self.nodes.clone(), self.initializer.clone());
        model::of(graph).encode_to_vec()
    }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    tensor(name, &[values.len()], values)
}

fn attribute(name: &str, of: AttributeProto) -> AttributeProto {
    AttributeProto { name: name.into(), ..of }
}

fn text(node: NodeProto, name: &str, value: &str) -> NodeProto {
    let value = AttributeProto { s: value.as_bytes().to_vec(), r#type: 3, ..Default::default() };
    let mut node = node;
    node.attribute.push(attribute(name, value));
    node
}

/// A column and a row of 200 000 floats each, that a few bytes ask for.
fn vectors() -> Vec<NodeProto> {
    let ones =
        with_tensor(node("ConstantOfShape", "a", &["s"], &["col"]), "value", tensor("", &[1], &[1f32]));
    vec![ones, node("Transpose", "t", &["col"], &["row"])]
}

fn of_vectors(what: &'static str, last: NodeProto) -> Case {
    let mut nodes = vectors();
    nodes.push(last);
    Case::new(what, nodes, vec![ints("s", &[200_000, 1])])
}

/// `count` nodes, the n-th of which `make`s tensor `n + 1` of tensor `n`; the last one is `h`.
fn chain(count: usize, make: impl Fn(&str, &str) -> NodeProto) -> Vec<NodeProto> {
    let name = |at: usize| if at == count { "h".to_string() } else { format!("t{at}") };
    (0..count).map(|at| make(&name(at), &name(at + 1))).collect()
}

pub fn cases() -> Vec<Case> {
    let one = tensor("t0", &[1], &[1f32]);
    let numbers = [tensor("from", &[], &[0i64]), tensor("to", &[], &[1000i64]), tensor("by", &[], &[1i64])];
    let times = |op: &str| {
        // The shape of the input, times a number: no constant stands in the file that says how much it is.
        vec![
            node("Shape", "shape", &["x"], &["shape"]),
            node("Mul", "times", &["shape", "factor"], &["s"]),
            if op == "ConstantOfShape" {
                node(op, "huge", &["s"], &["h"])
            } else {
                node(op, "huge", &["four", "s"], &["h"])
            },
        ]
    };
    let four = || tensor("four", &[1, 1, 1, 1], &[1f32]);
    let mut many: Vec<NodeProto> =
        (0..15).map(|at| node("ConstantOfShape", &format!("n{at}"), &["s"], &[&format!("c{at}")])).collect();
    let made: Vec<String> = (0..15).map(|at| format!("c{at}")).collect();
    many.push(node("Sum", "all", &made.iter().map(String::as_str).collect::<Vec<_>>(), &["h"]));
    vec![
        Case::new("15 tensors of a gigabyte", many, vec![ints("s", &[16_384, 16_384])]),
        of_vectors("a product", node("MatMul", "huge", &["col", "row"], &["h"])),
        of_vectors("a sum", node("Add", "huge", &["col", "row"], &["h"])),
        of_vectors("a choice", node("Greater", "huge", &["col", "row"], &["h"])),
        of_vectors("einsum", text(node("Einsum", "huge", &["col", "row"], &["h"]), "equation", "ij,jk->ik")),
        Case::new(
            "tiles of tiles",
            chain(5, |from, to| node("Tile", to, &[from, "s"], &[to])),
            vec![one.clone(), ints("s", &[1000])],
        ),
        Case::new(
            "joined to itself",
            chain(12, |from, to| with_int(node("Concat", to, &[from; 8], &[to]), "axis", 0)),
            vec![one.clone()],
        ),
        Case::new(
            "ConstantOfShape of the input",
            times("ConstantOfShape"),
            vec![ints("factor", &[9000, 1, 5000, 5000])],
        ),
        Case::new(
            "Expand to the input",
            times("Expand"),
            vec![ints("factor", &[9000, 1, 5000, 5000]), four()],
        ),
        Case::new("Tile as the input", times("Tile"), vec![ints("factor", &[9000, 1, 5000, 5000]), four()]),
        Case::new(
            "a range of ranges",
            vec![
                node("Range", "r", &["from", "to", "by"], &["r"]),
                node("Mul", "m", &["r", "r"], &["m"]),
                node("ReduceProd", "p", &["m"], &["p"]),
                node("ReduceMax", "max", &["m"], &["max"]),
                node("Mul", "square", &["max", "max"], &["square"]),
                node("Reshape", "scalar", &["square", "none"], &["scalar"]),
                node("Range", "huge", &["from", "scalar", "by"], &["h"]),
            ],
            [&numbers[..], &[tensor("none", &[0], &[0i64; 0])]].concat(),
        ),
        Case::new(
            "Pad by what was computed",
            vec![node("Mul", "m", &["p", "p"], &["pads"]), node("Pad", "huge", &["four", "pads"], &["h"])],
            vec![four(), ints("p", &[0, 0, 300, 300, 0, 0, 300, 300])],
        ),
        Case::new(
            "Resize by what was computed",
            vec![
                node("Mul", "m", &["p", "p"], &["sizes"]),
                node("Resize", "huge", &["four", "", "", "sizes"], &["h"]),
            ],
            vec![four(), ints("p", &[1, 1, 400, 400])],
        ),
        Case::new(
            "Gather of many",
            vec![
                node("ConstantOfShape", "i", &["s"], &["i"]),
                with_int(node("Gather", "huge", &["data", "i"], &["h"]), "axis", 0),
            ],
            vec![ints("s", &[30_000_000]), tensor("data", &[1, 100], &[1f32; 100])],
        ),
        Case::new(
            "OneHot of many",
            vec![
                node("ConstantOfShape", "i", &["s"], &["i"]),
                node("OneHot", "huge", &["i", "depth", "values"], &["h"]),
            ],
            vec![
                ints("s", &[100_000]),
                tensor("depth", &[], &[100_000i64]),
                tensor("values", &[2], &[0f32, 1.0]),
            ],
        ),
        Case::new(
            "EyeLike",
            vec![node("ConstantOfShape", "i", &["s"], &["i"]), node("EyeLike", "huge", &["i"], &["h"])],
            vec![ints("s", &[100_000, 100_000])],
        ),
        Case::new(
            "windows around a pixel",
            vec![with_ints(
                with_ints(node("AveragePool", "huge", &["four"], &["h"]), "kernel_shape", &[60_000, 60_000]),
                "pads",
                &[59_000, 59_000, 59_000, 59_000],
            )],
            vec![four()],
        ),
        Case::new(
            "a convolution with wide borders",
            vec![with_ints(
                with_ints(node("Conv", "huge", &["four", "four"], &["h"]), "kernel_shape", &[1, 1]),
                "pads",
                &[50_000, 50_000, 50_000, 50_000],
            )],
            vec![four()],
        ),
        Case::new(
            "a transposed convolution with wide steps",
            vec![with_ints(
                with_ints(node("ConvTranspose", "huge", &["pair", "four"], &["h"]), "kernel_shape", &[1, 1]),
                "strides",
                &[90_000, 90_000],
            )],
            vec![four(), tensor("pair", &[1, 1, 2, 2], &[1f32; 4])],
        ),
        Case::new(
            "a constant without inputs",
            vec![with_ints(node("ConstantLike", "huge", &[], &["h"]), "shape", &[100_000, 100_000])],
            vec![],
        ),
        Case::new(
            "random numbers",
            vec![with_ints(node("RandomNormal", "huge", &[], &["h"]), "shape", &[100_000, 100_000])],
            vec![],
        ),
        Case {
            held: true,
            ..Case::new(
                "indices of many dimensions, of which there are none",
                vec![
                    node("ConstantOfShape", "i", &["s"], &["i"]),
                    node("NonZero", "huge", &["i"], &["n"]),
                    node("Size", "size", &["n"], &["count"]),
                    with_int(node("Cast", "number", &["count"], &["h"]), "to", 1),
                ],
                vec![ints("s", &[&[1i64; 90][..], &[4_000_000]].concat())],
            )
        },
    ]
}

#[test]
fn what_constants_ask_for_is_refused_before_it_is_computed() {
    limits::in_child("constants::refused", &[]);
}

#[test]
#[ignore = "run in a child process by what_constants_ask_for_is_refused_before_it_is_computed"]
fn refused() {
    limits::confine();
    entries::quiet();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    for case in cases() {
        println!("{}", case.what);
        let bytes = case.bytes();
        assert!(bytes.len() < 1500, "{}: {} bytes", case.what, bytes.len());
        check(&path, case.what, &bytes, case.held);
    }
}

/// Whether the file is refused, unless all of it can be `held`, and without taking much memory.
pub fn check(path: &Path, what: &str, bytes: &[u8], held: bool) {
    fs::write(path, bytes).unwrap();
    let loaded = Model::load(path);
    if let Err(error) = &loaded {
        println!("  {error}");
        assert!(error.to_string().contains("makes a tensor of"), "{error}");
    }
    if let Ok(model) = loaded {
        let result = shapes::infer(&model, 1).map(|_| ());
        println!("  {result:?}");
        let refused = matches!(result, Err(ModelError::Unholdable { .. }));
        assert_eq!(refused, !held, "{what}");
        let _ = inspect(&model);
        if let Ok(simple) = simplify::simplify(&model) {
            let _ = inspect(&simple.model);
        }
        let _ = Builtin.load(&model, &LoadOptions::default());
    }
    entries::model(bytes);
    entries::session(bytes);
    let peak = limits::peak();
    println!("  {} MB", peak >> 20);
    assert!(peak < MOST_PEAK, "{what}: {} MB", peak >> 20);
}
