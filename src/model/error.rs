//! What can be wrong with a model file. Each message says where, what, and what to do.

use std::path::PathBuf;

/// An error of the model room.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file can't be read.
    #[error("{path}: cannot read the model: {source}; check the path and its permissions")]
    Read {
        /// The model file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than whoever loads it takes.
    #[error("{path}: the model holds {bytes} bytes with its data, at most {most} are taken")]
    TooLarge {
        /// The model file.
        path: PathBuf,
        /// Bytes of the file and of the data that was counted so far.
        bytes: u64,
        /// The limit, in bytes.
        most: u64,
    },
    /// The file isn't ONNX, or is cut short.
    #[error("{path}: not a valid ONNX file ({what}); {hint}")]
    NotOnnx {
        /// The model file.
        path: PathBuf,
        /// What the decoder met.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The graph breaks a rule of ONNX or of what calib8 takes.
    #[error("{path}: {what}; {hint}")]
    Invalid {
        /// The model file.
        path: PathBuf,
        /// What was found, naming node and tensor.
        what: String,
        /// What to do.
        hint: String,
    },
    /// One node can't be handled.
    #[error("{path}: node '{node}' ({op_type}): {what}")]
    Node {
        /// The model file.
        path: PathBuf,
        /// Name of the node.
        node: String,
        /// Its operator.
        op_type: String,
        /// What was found, and what was expected.
        what: String,
    },
    /// A tensor that takes more memory than it may, found before it was made.
    #[error("{path}: node '{node}' ({op_type}) makes a tensor of the shape {shape:?}: {what}; {hint}")]
    Unholdable {
        /// The model file.
        path: PathBuf,
        /// Name of the node.
        node: Box<str>,
        /// Its operator.
        op_type: Box<str>,
        /// The shape of the tensor.
        shape: Box<[usize]>,
        /// What it takes, and the limit that it breaks.
        what: Box<str>,
        /// What to do.
        hint: &'static str,
    },
    /// An operator that nothing here can run.
    #[error(
        "{path}: node '{node}' is a {op_type} of the operator set '{domain}', which calib8 cannot run; export \
         the model with standard ONNX operators (`calib8 inspect` lists what it holds)"
    )]
    Unsupported {
        /// The model file.
        path: PathBuf,
        /// Name of the node.
        node: String,
        /// Its operator.
        op_type: String,
        /// Its operator set; `ai.onnx` is the default one.
        domain: String,
    },
}
