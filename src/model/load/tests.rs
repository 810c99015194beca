#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use super::*;
use crate::model::graph::{node, tensor, value, with_int};
use crate::model::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto,
};

fn model() -> ModelProto {
    let conv = node("Conv", "conv", &["x", "w"], &["h"]);
    let graph = GraphProto {
        input: vec![value("x", 1, &["N", "3", "8", "8"])],
        output: vec![value("y", 1, &[])],
        node: vec![conv, node("Relu", "relu", &["h"], &["y"])],
        initializer: vec![tensor("w", &[2, 3, 1, 1], &[0.5f32; 6])],
        ..Default::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..Default::default()
    }
}

fn changed(change: impl FnOnce(&mut GraphProto)) -> ModelProto {
    let mut proto = model();
    change(proto.graph.as_mut().unwrap());
    proto
}

fn load_bytes(bytes: &[u8]) -> Result<Model, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    fs::write(&path, bytes).unwrap();
    load(&path, u64::MAX)
}

#[track_caller]
fn refused(proto: &ModelProto, expected: &str) {
    let message = load_bytes(&prost::Message::encode_to_vec(proto)).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

#[track_caller]
fn refused_bytes(bytes: &[u8], expected: &str) {
    let message = load_bytes(bytes).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_good_file_loads_with_its_hash_and_size() {
    let bytes = prost::Message::encode_to_vec(&model());
    let loaded = load_bytes(&bytes).unwrap();
    assert_eq!(loaded.proto, model());
    assert_eq!(loaded.bytes, bytes.len() as u64);
    let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(loaded.sha256, hash);
    assert_eq!(loaded.encode(), bytes);
}

#[test]
fn missing_files_and_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(&folder.path().join("none.onnx"), u64::MAX).unwrap_err().to_string();
    assert!(missing.contains("none.onnx: cannot read the model"), "{missing}");
    let is_folder = load(folder.path(), u64::MAX).unwrap_err().to_string();
    assert!(is_folder.contains("a folder, not a file"), "{is_folder}");
}

#[test]
fn every_truncation_is_an_error_and_no_panic() {
    let bytes = prost::Message::encode_to_vec(&model());
    for length in 0..bytes.len() {
        assert!(load_bytes(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    refused_bytes(&bytes[..bytes.len() / 2], "cut short or damaged");
}

#[test]
fn other_files_are_told_by_their_content() {
    refused_bytes(b"", "the file is empty");
    refused_bytes(b"just a note\n", "it is a text file");
    refused_bytes(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull");
    refused_bytes(b"PK\x03\x04\x00\x00", "torch.onnx.export");
    refused_bytes(b"<!DOCTYPE html><html>", "a web page");
    refused_bytes(b"\x1c\0\0\0TFL3rest", "TensorFlow Lite");
    refused_bytes(&[0xff; 64], "not a valid ONNX file");
    // A protobuf message with one unknown field.
    refused_bytes(&[0xa0, 0x06, 0x01], "it holds no graph");
}

#[test]
fn random_bytes_are_refused() {
    let mut state = 1u32;
    for length in [1usize, 10, 100, 1000] {
        for _ in 0..50 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            assert!(load_bytes(&bytes).is_err());
        }
    }
}

#[test]
fn versions_are_checked() {
    let with = |change: fn(&mut ModelProto)| {
        let mut proto = model();
        change(&mut proto);
        proto
    };
    refused(&with(|m| m.ir_version = 0), "its IR version is 0, expected 3 or more");
    refused(&with(|m| m.opset_import.clear()), "names no version of the ONNX operator set");
    refused(&with(|m| m.opset_import[0].version = 6), "operator set 6, expected 7 or newer");
}

#[test]
fn graphs_that_break_the_rules_are_refused() {
    refused(&changed(|g| g.node.clear()), "its graph has no nodes");
    refused(&changed(|g| g.output.clear()), "its graph has no outputs");
    refused(&changed(|g| g.output[0].name = "z".into()), "nothing makes the output 'z'");
    refused(
        &changed(|g| g.node[1].input[0] = "a\x1b[31m".into()),
        "node 'relu' (Relu) reads tensor 'a\\u{1b}[31m', which nothing makes",
    );
    refused(&changed(|g| g.node[1].output[0] = "h".into()), "tensor 'h' is made twice");
    refused(&changed(|g| g.node[1].output[0] = "w".into()), "tensor 'w' is made twice");
    refused(&changed(|g| g.initializer.push(g.initializer[0].clone())), "tensor 'w' is made twice");
    refused(&changed(|g| g.node[0].op_type.clear()), "node 'conv' () has no operator");
    let cycle = changed(|g| {
        g.node[0].input[0] = "z".into();
        g.node.push(node("Neg", "back", &["h"], &["z"]));
    });
    refused(&cycle, "the graph has a cycle: ");
}

#[test]
fn tensors_must_hold_what_they_declare() {
    refused(
        &changed(|g| g.initializer[0].dims[0] = 5),
        "'w': its shape [5, 3, 1, 1] needs 60 bytes, it has 24",
    );
    refused(
        &changed(|g| g.initializer[0].dims[0] = -1),
        "'w': its shape [-1, 3, 1, 1] is negative or too large",
    );
    refused(&changed(|g| g.initializer[0].dims = vec![1 << 40, 1 << 40]), "is negative or too large");
    refused(&changed(|g| g.initializer[0].data_type = 99), "its element type 99 is unknown");
    refused(&changed(|g| g.initializer[0].data_type = 16), "its element type bfloat16 is not supported");
    let typed = TensorProto {
        name: "w".into(),
        dims: vec![2, 3, 1, 1],
        data_type: 1,
        float_data: vec![0.0; 5],
        ..Default::default()
    };
    refused(&changed(|g| g.initializer[0] = typed), "needs 24 bytes, it has 20");
    let mut constant = node("Constant", "k", &[], &["unused"]);
    let mut broken = tensor("", &[2], &[1f32, 2.0]);
    broken.dims[0] = 3;
    constant.attribute.push(AttributeProto { name: "value".into(), t: Some(broken), ..Default::default() });
    refused(&changed(|g| g.node.insert(0, constant)), "node 'k' (Constant): its tensor");
}

#[test]
fn nodes_are_sorted_and_named() {
    let shuffled = changed(|g| {
        g.node.reverse();
        g.node[0].name.clear();
    });
    let loaded = load_bytes(&prost::Message::encode_to_vec(&shuffled)).unwrap();
    let names: Vec<&str> = loaded.graph().node.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["conv", "y"]);
}

#[test]
fn old_files_may_list_initializers_among_the_inputs() {
    let mut old = changed(|g| g.input.push(value("w", 1, &["2", "3", "1", "1"])));
    old.ir_version = 3;
    let loaded = load_bytes(&prost::Message::encode_to_vec(&old)).unwrap();
    assert_eq!(loaded.image_input().unwrap().name, "x");
}

#[test]
fn operators_that_nothing_runs_are_named() {
    let mut custom = node("Fancy", "f", &["h"], &["i"]);
    custom.domain = "com.acme".into();
    let proto = changed(|g: &mut GraphProto| {
        let relu: NodeProto = with_int(node("Relu", "relu2", &["i"], &["y"]), "k", 1);
        g.node[1] = custom;
        g.node.push(relu);
    });
    let loaded = load_bytes(&prost::Message::encode_to_vec(&proto)).unwrap();
    assert_eq!(check::unsupported_operators(&loaded), [("f".to_string(), "Fancy".to_string())]);
    let message = check::supported(&loaded).unwrap_err().to_string();
    assert!(message.contains("node 'f' is a Fancy of the operator set 'com.acme'"), "{message}");
    check::supported(&Model::from_proto("m", model())).unwrap();
}

fn external(entries: &[(&str, &str)]) -> ModelProto {
    changed(|g| {
        let weights = &mut g.initializer[0];
        weights.raw_data.clear();
        weights.data_location = Some(1);
        weights.external_data = entries
            .iter()
            .map(|(key, value)| StringStringEntryProto { key: key.to_string(), value: value.to_string() })
            .collect();
    })
}

/// Loads a model with external data from a folder that holds `w.bin` of 40 bytes, beside a
/// folder with `secret`.
fn load_external(entries: &[(&str, &str)]) -> Result<Model, ModelError> {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("models");
    fs::create_dir(&folder).unwrap();
    fs::write(root.path().join("secret"), [7; 24]).unwrap();
    let data: Vec<u8> =
        [[0; 4], [0; 4]].concat().into_iter().chain([0.5f32.to_le_bytes(); 8].concat()).collect();
    fs::write(folder.join("w.bin"), data).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
    let path = folder.join("m.onnx");
    fs::write(&path, prost::Message::encode_to_vec(&external(entries))).unwrap();
    load(&path, u64::MAX)
}

#[test]
fn external_data_becomes_part_of_the_model() {
    let loaded = load_external(&[("location", "w.bin"), ("offset", "8"), ("length", "24")]).unwrap();
    assert_eq!(loaded.proto, model());
    let shorter = load_external(&[("location", "./w.bin"), ("offset", "8")]).unwrap();
    assert_eq!(shorter.proto, model());
    // The hash covers the data.
    let other = load_external(&[("location", "w.bin"), ("offset", "0"), ("length", "24")]).unwrap();
    assert_ne!(loaded.sha256, other.sha256);
    let file =
        prost::Message::encoded_len(&external(&[("location", "w.bin"), ("offset", "8"), ("length", "24")]));
    assert_eq!(loaded.bytes, file as u64 + 24);
}

#[test]
fn external_data_that_is_missing_or_elsewhere_is_refused() {
    let refused = |entries: &[(&str, &str)], expected: &str| {
        let message = load_external(entries).unwrap_err().to_string();
        assert!(
            message.contains("tensor 'w' has external data: ") && message.contains(expected),
            "{message}"
        );
    };
    refused(&[("location", "none.bin")], "cannot find 'none.bin'");
    refused(&[], "it names no file");
    refused(&[("location", "../secret")], "not a path inside the model's folder");
    refused(&[("location", "/etc/hostname")], "not a path inside the model's folder");
    #[cfg(unix)]
    refused(&[("location", "link")], "a link that leaves the model's folder");
    refused(&[("location", ".")], "not a regular file");
    refused(&[("location", "w.bin"), ("offset", "20")], "beyond the 40 bytes of 'w.bin'");
    refused(&[("location", "w.bin"), ("offset", "18446744073709551615")], "beyond the 40 bytes");
    refused(&[("location", "w.bin"), ("offset", "-1")], "its offset '-1' is no number");
    refused(
        &[("location", "w.bin"), ("length", "40")],
        "40 bytes are declared, its shape [2, 3, 1, 1] needs 24",
    );
}
