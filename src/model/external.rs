//! Weights that a model keeps in files beside it.
//!
//! A path in a model file is not to be trusted: it may only lead to files in the folder of the
//! model, so that a downloaded model can't copy a private file into what calib8 writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tract_onnx::pb::{GraphProto, TensorProto};

use super::{ModelError, check, printable};

const EXTERNAL: i32 = 1;
/// How often the bytes of a data file may be read, on average: some exporters let tensors share their data. With
/// no limit, a small file could name one large one a million times.
const MOST_SHARING: u64 = 4;

/// What has been read for one model.
struct Reader<'a> {
    path: &'a Path,
    hasher: &'a mut Sha256,
    /// Bytes that may still be read, and of how many.
    left: u64,
    most: u64,
    /// Bytes that were read of each file.
    files: HashMap<PathBuf, u64>,
}

/// Loads external data of all tensors of `graph` into them, adds the bytes to `hasher` in the order of
/// the file, and returns their number. The file has `bytes` itself; with its data it may have `most`.
pub(super) fn load(
    path: &Path,
    graph: &mut GraphProto,
    hasher: &mut Sha256,
    bytes: u64,
    most: u64,
) -> Result<u64, ModelError> {
    let left = most.saturating_sub(bytes);
    let mut reader = Reader { path, hasher, left, most, files: HashMap::new() };
    reader.graph(graph)?;
    Ok(left - reader.left)
}

impl Reader<'_> {
    fn graph(&mut self, graph: &mut GraphProto) -> Result<(), ModelError> {
        for tensor in &mut graph.initializer {
            self.tensor(tensor)?;
        }
        for attribute in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
            for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                self.tensor(tensor)?;
            }
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                self.graph(inner)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &mut TensorProto) -> Result<(), ModelError> {
        if tensor.data_location != Some(EXTERNAL) {
            return Ok(());
        }
        let needs = check::byte_size(tensor).unwrap_or(0);
        if needs > self.left {
            let bytes = (self.most - self.left).saturating_add(needs);
            return Err(ModelError::TooLarge { path: self.path.into(), bytes, most: self.most });
        }
        let bytes = self.read(tensor).map_err(|what| ModelError::Invalid {
            path: self.path.into(),
            what: format!("tensor '{}' has external data: {what}", printable(&tensor.name)),
            hint: "keep the data files beside the model, where its exporter wrote them".into(),
        })?;
        self.left -= bytes.len() as u64;
        self.hasher.update(&bytes);
        tensor.raw_data = bytes;
        tensor.data_location = None;
        tensor.external_data.clear();
        Ok(())
    }

    fn read(&mut self, tensor: &TensorProto) -> Result<Vec<u8>, String> {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| {
            let parse =
                |v: &str| v.parse::<u64>().map_err(|_| format!("its {key} '{}' is no number", printable(v)));
            entry(key).map(parse).transpose()
        };
        let location = entry("location").ok_or("it names no file")?;
        let offset = number("offset")?.unwrap_or(0);
        let expected = check::byte_size(tensor)?;
        let length = number("length")?.unwrap_or(expected);
        if length != expected {
            return Err(format!("{length} bytes are declared, its shape {:?} needs {expected}", tensor.dims));
        }
        let file = resolve(self.path, location)?;
        let shown = printable(location);
        let failed = |e: std::io::Error| format!("cannot read '{shown}': {e}");
        let mut data = File::open(&file).map_err(failed)?;
        let available = data.metadata().map_err(failed)?.len();
        if offset.checked_add(length).is_none_or(|end| end > available) {
            return Err(format!(
                "bytes {offset} to {offset} + {length} are beyond the {available} bytes of '{shown}'"
            ));
        }
        let read = self.files.entry(file).or_default();
        *read = read.saturating_add(length);
        if *read > available.saturating_mul(MOST_SHARING) {
            return Err(format!(
                "more than {MOST_SHARING} times the {available} bytes of '{shown}' are named as data"
            ));
        }
        data.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        data.take(length).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 != length {
            return Err(format!("'{shown}' became shorter while it was read"));
        }
        Ok(bytes)
    }
}

/// The data file, which must be a regular file in the folder that the model is in. A model that is
/// itself reached through a link (a cache of downloads does that) may also have its data beside the
/// file that the link leads to.
fn resolve(model: &Path, location: &str) -> Result<PathBuf, String> {
    let shown = printable(location);
    let relative = Path::new(location);
    if relative.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("'{shown}' is not a path inside the model's folder"));
    }
    let parent = |p: &Path| match p.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let folder = parent(model);
    let file = folder.join(relative).canonicalize().map_err(|e| format!("cannot find '{shown}': {e}"))?;
    let beside = [folder.canonicalize().ok(), model.canonicalize().ok().map(|m| parent(&m))];
    if !beside.iter().flatten().any(|b| file.starts_with(b)) {
        return Err(format!("'{shown}' is a link that leaves the model's folder"));
    }
    if !file.is_file() {
        return Err(format!("'{shown}' is not a regular file"));
    }
    Ok(file)
}
