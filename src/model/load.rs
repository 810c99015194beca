//! Reading a file into a checked [`Model`].

use std::path::Path;

use sha2::{Digest, Sha256};
use tract_onnx::pb;

use super::{Model, ModelError};

pub(super) fn load(path: &Path) -> Result<Model, ModelError> {
    let bytes = std::fs::read(path).map_err(|source| ModelError::Read { path: path.into(), source })?;
    let proto: pb::ModelProto =
        prost::Message::decode(bytes.as_slice()).map_err(|e| ModelError::NotOnnx {
            path: path.into(),
            what: e.to_string(),
            hint: "give a model exported with torch.onnx.export, tf2onnx or alike".into(),
        })?;
    let sha256 = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    Ok(Model { path: path.into(), sha256, bytes: bytes.len() as u64, proto })
}
