//! Models made to do harm: tensors that no machine holds, graphs that are too deep or go in circles, data outside
//! of the model's folder.

use std::fs;
use std::path::Path;

use calib8::engine::builtin::Builtin;
use calib8::engine::{Engine, LoadOptions};
use calib8::model::graph::{node, tensor, value, with_int, with_tensor};
use calib8::model::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
};
use calib8::model::{Model, shapes};
use prost::Message;

use super::{entries, limits, model};

fn proto(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>, dims: &[&str]) -> ModelProto {
    model::of(model::graph(dims, &[], nodes, initializer))
}

fn bytes(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Vec<u8> {
    proto(nodes, initializer, &["1", "3", "4", "4"]).encode_to_vec()
}

/// A hundred gigabytes of floats.
const HUGE: i64 = 25_000_000_000;

#[test]
fn a_small_file_that_declares_a_huge_tensor_takes_no_memory() {
    limits::in_child("models::huge_tensors", &[]);
}

#[test]
#[ignore = "run in a child process by a_small_file_that_declares_a_huge_tensor_takes_no_memory"]
fn huge_tensors() {
    limits::confine();
    entries::quiet();
    let declared = TensorProto { name: "w".into(), data_type: 1, dims: vec![HUGE], ..Default::default() };
    let add = |other: &str| node("Add", "sum", &["x", other], &["y"]);
    let shape = |dims: &[i64]| tensor("s", &[dims.len()], dims);
    let filled = |op| node(op, "huge", &["s"], &["h"]);
    let one = tensor("one", &[1], &[1f32]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an initializer without its data", bytes(vec![add("w")], vec![declared.clone()])),
        (
            "a constant without its data",
            bytes(vec![with_tensor(node("Constant", "c", &[], &["w"]), "value", declared), add("w")], vec![]),
        ),
        ("ConstantOfShape", bytes(vec![filled("ConstantOfShape"), add("h")], vec![shape(&[HUGE])])),
        (
            "ConstantOfShape of several sides",
            bytes(vec![filled("ConstantOfShape"), add("h")], vec![shape(&[1 << 20, 1 << 20, 1 << 20])]),
        ),
        (
            "Expand",
            bytes(
                vec![node("Expand", "huge", &["one", "s"], &["h"]), add("h")],
                vec![one.clone(), shape(&[HUGE])],
            ),
        ),
        (
            "Tile",
            bytes(
                vec![node("Tile", "huge", &["one", "s"], &["h"]), add("h")],
                vec![one.clone(), shape(&[HUGE])],
            ),
        ),
        (
            "Tile of the input",
            bytes(vec![node("Tile", "huge", &["x", "s"], &["y"])], vec![shape(&[1, 1, 1 << 20, 1 << 20])]),
        ),
        (
            "Range",
            bytes(
                vec![node("Range", "huge", &["from", "to", "by"], &["h"]), node("Cast", "c", &["h"], &["y"])],
                vec![tensor("from", &[], &[0i64]), tensor("to", &[], &[HUGE]), tensor("by", &[], &[1i64])],
            ),
        ),
        (
            "Pad of a constant",
            bytes(
                vec![node("Pad", "huge", &["one", "s"], &["h"]), add("h")],
                vec![one.clone(), shape(&[0, HUGE])],
            ),
        ),
        (
            "Pad of the input",
            bytes(
                vec![node("Pad", "huge", &["x", "s"], &["y"])],
                vec![shape(&[0, 0, 0, 0, 0, 0, 1 << 20, 1 << 20])],
            ),
        ),
        (
            "Resize",
            bytes(
                vec![node("Resize", "huge", &["x", "", "scales"], &["y"])],
                vec![tensor("scales", &[4], &[1f32, 1.0, 1e5, 1e5])],
            ),
        ),
        (
            "OneHot",
            bytes(
                vec![node("OneHot", "huge", &["i", "depth", "values"], &["h"]), add("h")],
                vec![
                    tensor("i", &[1], &[0i64]),
                    tensor("depth", &[], &[HUGE]),
                    tensor("values", &[2], &[0f32, 1.0]),
                ],
            ),
        ),
        (
            "a product of two vectors",
            bytes(
                vec![
                    with_tensor(
                        node("ConstantOfShape", "a", &["s"], &["col"]),
                        "value",
                        tensor("", &[1], &[1f32]),
                    ),
                    node("Transpose", "t", &["col"], &["row"]),
                    node("MatMul", "huge", &["col", "row"], &["h"]),
                    add("h"),
                ],
                vec![shape(&[200_000, 1])],
            ),
        ),
    ];
    for (what, bytes) in &cases {
        println!("{what}");
        assert!(bytes.len() < 1024, "{what}: {} bytes", bytes.len());
        entries::model(bytes);
        entries::session(bytes);
    }
    println!("the input");
    let input = proto(vec![node("Relu", "r", &["x"], &["y"])], vec![], &["1", "3", "1000000", "1000000"]);
    entries::model(&input.encode_to_vec());
    entries::session(&input.encode_to_vec());
    let model = Model::from_proto("m.onnx", input);
    let error = shapes::infer(&model, 1).unwrap_err().to_string();
    assert!(error.contains("m.onnx: tensor 'x' would have the shape [1, 3, 1000000, 1000000]"), "{error}");
    assert!(Builtin.load(&model, &LoadOptions::default()).is_err());
}

pub fn graph_attribute(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 5, g: Some(graph), ..Default::default() }
}

/// `If` in `If` in `If`: messages in messages.
fn nested(depth: usize) -> Vec<u8> {
    let output = || vec![value("y", 1, &[])];
    let mut graph = GraphProto {
        node: vec![node("Identity", "i", &["x"], &["y"])],
        output: output(),
        ..Default::default()
    };
    for _ in 0..depth {
        let mut branch = node("If", "if", &["c"], &["y"]);
        branch.attribute = vec![
            graph_attribute("then_branch", graph.clone()),
            graph_attribute("else_branch", GraphProto::default()),
        ];
        graph = GraphProto { node: vec![branch], output: output(), ..Default::default() };
    }
    proto(graph.node, vec![tensor("c", &[1], &[1u8])], &["1", "3", "4", "4"]).encode_to_vec()
}

#[test]
fn deep_graphs_are_an_error_or_a_result() {
    limits::in_child("models::deep", &[]);
}

#[test]
#[ignore = "run in a child process by deep_graphs_are_an_error_or_a_result"]
fn deep() {
    limits::confine();
    entries::quiet();
    for depth in [1, 5, 20, 24, 30, 90] {
        println!("{depth} branches within each other");
        let bytes = nested(depth);
        entries::model(&bytes);
        entries::session(&bytes);
    }
    // What a writer can't build at once, bytes can: a message within a message, 10 000 times.
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![0x3a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(&bytes);
        bytes = outer;
    }
    println!("10000 messages within each other");
    entries::model(&[vec![0x08, 8], bytes].concat());
    for (length, runs) in [(2_000, true), (30_000, false)] {
        println!("a chain of {length} nodes");
        let name = |i: usize| if i == 0 { "x".to_string() } else { format!("t{i}") };
        // Backwards, so that sorting has work.
        let mut nodes: Vec<NodeProto> =
            (0..length).rev().map(|i| node("Relu", &format!("n{i}"), &[&name(i)], &[&name(i + 1)])).collect();
        nodes.push(with_int(node("Flatten", "last", &[&name(length)], &["y"]), "axis", 1));
        let bytes = bytes_of(nodes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(Model::load(&path).unwrap().graph().node.len(), length + 1);
        if runs {
            entries::session(&bytes);
        }
    }
}

fn bytes_of(nodes: Vec<NodeProto>) -> Vec<u8> {
    bytes(nodes, vec![])
}

#[test]
fn a_graph_that_goes_in_a_circle_is_named() {
    let nodes = vec![
        node("Add", "one", &["x", "b"], &["a"]),
        node("Relu", "two", &["a"], &["b"]),
        node("Relu", "out", &["b"], &["y"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    fs::write(&path, bytes(nodes, vec![])).unwrap();
    let error = Model::load(&path).unwrap_err().to_string();
    assert!(error.contains("the graph has a cycle: 'two' → 'one'"), "{error}");
    // Of itself.
    fs::write(&path, bytes(vec![node("Add", "self", &["x", "y"], &["y"])], vec![])).unwrap();
    assert!(Model::load(&path).unwrap_err().to_string().contains("cycle: 'self'"));
}

/// A model whose weights are `count` floats at `location`, `tensors` times.
fn external(folder: &Path, location: &str, count: i64, tensors: usize) -> String {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let weights = (0..tensors).map(|number| TensorProto {
        name: format!("w{number}"),
        data_type: 1,
        dims: vec![count],
        data_location: Some(1),
        external_data: vec![entry("location", location)],
        ..Default::default()
    });
    let path = folder.join("m.onnx");
    fs::write(&path, bytes(vec![node("Add", "n", &["x", "w0"], &["y"])], weights.collect())).unwrap();
    Model::load(&path).map_or_else(|error| error.to_string(), |_| "loaded".into())
}

#[test]
fn external_data_stays_in_the_folder_of_the_model() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    fs::create_dir_all(folder.join("below")).unwrap();
    let secret = parent.path().join("secret");
    for path in [&secret, &folder.join("data"), &folder.join("below/data")] {
        fs::write(path, [0u8; 16]).unwrap();
    }
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
    link(&secret, "link");
    link(Path::new("data"), "inside");
    link(parent.path(), "up");
    link(Path::new("loop"), "loop");
    let of = |location: &str| external(&folder, location, 4, 1);
    for good in ["data", "./data", "below/data", "inside"] {
        assert_eq!(of(good), "loaded", "{good}");
    }
    let absolute = secret.display().to_string();
    for outside in ["../secret", "below/../../secret", "../../etc/passwd", "/etc/passwd", &absolute, ""] {
        let error = of(outside);
        assert!(
            error.contains("is not a path inside the model's folder") || error.contains("not a regular file"),
            "{outside}: {error}"
        );
    }
    for leaving in ["link", "up/secret"] {
        assert!(
            of(leaving).contains("is a link that leaves the model's folder"),
            "{leaving}: {}",
            of(leaving)
        );
    }
    for strange in ["loop", "below", "gone", "data\0"] {
        let error = of(strange);
        assert!(error.contains("has external data") && !error.contains('\0'), "{strange}: {error}");
    }
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(of("pipe").contains("not a regular file"), "and nobody waits for a writer");
}

#[test]
fn external_data_can_not_be_read_without_end() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), vec![0u8; 4000]).unwrap();
    assert!(external(folder.path(), "data", HUGE, 1).contains("are beyond the 4000 bytes of 'data'"));
    assert!(external(folder.path(), "data", i64::MAX, 1).contains("too large to exist"));
    assert_eq!(external(folder.path(), "data", 1000, 4), "loaded", "tensors may share data");
    let error = external(folder.path(), "data", 1000, 5);
    assert!(error.contains("more than 4 times the 4000 bytes of 'data' are named as data"), "{error}");
}

#[test]
fn a_model_above_the_limit_is_refused_before_its_data_is_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), vec![0u8; 40_000]).unwrap();
    assert_eq!(external(folder.path(), "data", 10_000, 1), "loaded");
    let path = folder.path().join("m.onnx");
    let bytes = fs::metadata(&path).unwrap().len();
    assert_eq!(Model::load_within(&path, bytes + 40_000).unwrap().bytes, bytes + 40_000);
    for most in [bytes + 39_999, bytes, bytes - 1] {
        let error = Model::load_within(&path, most).unwrap_err().to_string();
        assert!(error.contains(&format!("at most {most} are taken")), "{error}");
    }
}

#[test]
fn a_data_type_that_does_not_exist_is_named() {
    let odd = TensorProto {
        name: "w".into(),
        data_type: 99,
        dims: vec![1],
        raw_data: vec![0; 4],
        ..Default::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    fs::write(&path, bytes(vec![node("Add", "n", &["x", "w"], &["y"])], vec![odd])).unwrap();
    let error = Model::load(&path).unwrap_err().to_string();
    assert!(error.contains("initializer 'w': its element type 99 is unknown"), "{error}");
}
