//! Reading a file into a checked [`Model`].

use std::path::Path;

use sha2::{Digest, Sha256};
use tract_onnx::pb;

use super::{Model, ModelError, check, external, rewrite};

pub(super) fn load(path: &Path, most: u64) -> Result<Model, ModelError> {
    let bytes = read(path, most)?;
    let mut proto = decode(path, &bytes)?;
    check::header(path, &proto)?;
    let mut hasher = Sha256::new();
    hasher.update(&bytes);
    let mut size = bytes.len() as u64;
    drop(bytes);
    if let Some(graph) = proto.graph.as_mut() {
        size += external::load(path, graph, &mut hasher, size, most)?;
        check::graph(path, graph)?;
        rewrite::name_nodes(graph);
        rewrite::topological_sort(graph).map_err(|cycle| check::cyclic(path, &cycle))?;
    }
    let sha256 = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Model { path: path.into(), sha256, bytes: size, proto, room: u64::MAX })
}

/// Only regular files: reading a pipe or a device might never end.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, ModelError> {
    let refused = |source| ModelError::Read { path: path.into(), source };
    let kind = std::fs::metadata(path).map_err(refused)?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "this is a folder, not a file" } else { "this is not a regular file" };
        return Err(refused(std::io::Error::other(what)));
    }
    if kind.len() > most {
        return Err(ModelError::TooLarge { path: path.into(), bytes: kind.len(), most });
    }
    std::fs::read(path).map_err(refused)
}

pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<pb::ModelProto, ModelError> {
    let not_onnx = |what: &str, hint: &str| ModelError::NotOnnx {
        path: path.into(),
        what: what.into(),
        hint: hint.into(),
    };
    if let Some((what, hint)) = other_format(bytes) {
        return Err(not_onnx(what, hint));
    }
    let proto: pb::ModelProto = prost::Message::decode(bytes).map_err(|e| {
        if starts_like_onnx(bytes) {
            let what = format!("cut short or damaged after a good start of {} bytes: {e}", bytes.len());
            not_onnx(&what, "copy or download it again and compare its size and checksum")
        } else {
            not_onnx(&e.to_string(), EXPORT)
        }
    })?;
    if proto.graph.is_none() {
        return Err(not_onnx("it holds no graph", EXPORT));
    }
    Ok(proto)
}

const EXPORT: &str = "give a model exported with torch.onnx.export, tf2onnx or alike";

/// Field 1 of a `ModelProto` is `ir_version`, a small varint, and writers put it first.
fn starts_like_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..=64, ..])
}

/// What a file that is no ONNX probably is, and what to do about it.
fn other_format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const MAGIC: [(&[u8], &str, &str); 8] = [
        (
            b"version https://git-lfs",
            "it is a Git LFS pointer, not the model itself",
            "fetch the model with `git lfs pull`",
        ),
        (
            b"PK\x03\x04",
            "it is a zip archive, such as a PyTorch checkpoint",
            "export the model with torch.onnx.export, or unpack it",
        ),
        (b"\x89HDF", "it is an HDF5 file, such as a Keras model", "convert it with tf2onnx"),
        (b"\x1f\x8b", "it is compressed with gzip", "unpack it"),
        (
            b"\x80\x02",
            "it is a Python pickle, such as a PyTorch checkpoint",
            "export it with torch.onnx.export",
        ),
        (b"<?xml", "it is XML, such as an OpenVINO model", "give the ONNX model that it was made from"),
        (b"<!DOCTYPE", "it is a web page", "download the model itself, not the page about it"),
        (b"<html", "it is a web page", "download the model itself, not the page about it"),
    ];
    if bytes.is_empty() {
        return Some(("the file is empty", "copy or download it again"));
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return Some(("it is a TensorFlow Lite model", "convert it with tf2onnx --tflite"));
    }
    if let Some((_, what, hint)) = MAGIC.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return Some((what, hint));
    }
    let head = &bytes[..bytes.len().min(512)];
    let is_text = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    head.iter().all(is_text).then_some(("it is a text file", EXPORT))
}

#[cfg(test)]
mod tests;
