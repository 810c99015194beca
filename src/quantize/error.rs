//! What can go wrong between an FP32 model and its INT8 form.

use std::path::PathBuf;

/// An error of the quantize room.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The model room refused the graph.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// Inference failed while activations were observed.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// The model holds INT8 operators.
    #[error("{path}: already quantized (node '{node}' is {op_type}); give the FP32 model it was made from")]
    AlreadyQuantized {
        /// The model file.
        path: PathBuf,
        /// The first INT8 node.
        node: String,
        /// Its operator.
        op_type: String,
    },
    /// The model does not take exactly one input.
    #[error(
        "{path}: the model has {count} inputs ({names}), expected one image; export it with the other inputs as constants"
    )]
    Inputs {
        /// The model file.
        path: PathBuf,
        /// Number of inputs.
        count: usize,
        /// Their names.
        names: String,
    },
    /// Operators of old opsets have other forms, and QuantizeLinear has no `axis` before 13.
    #[error(
        "{path}: opset {found}, expected 13 or newer; raise it when exporting (torch.onnx.export(opset_version=13)) or with onnx.version_converter"
    )]
    Opset {
        /// The model file.
        path: PathBuf,
        /// Opset of the model.
        found: i64,
    },
    /// `ignored_scope` names what the model does not have.
    #[error("ignored_scope: the model has no {what} '{name}'{hint}")]
    UnknownScope {
        /// `node` or `operator type`.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The nearest names, as a phrase; empty when none is near.
        hint: String,
    },
    /// No node can become INT8.
    #[error("{path}: no node can be quantized ({reason}); `calib8 inspect` lists its operators")]
    NothingToQuantize {
        /// The model file.
        path: PathBuf,
        /// Why the first candidate was left.
        reason: String,
    },
    /// A tensor had NaN or infinite values.
    #[error(
        "tensor '{tensor}' has NaN or infinite values in {images} of {total} images; check the preprocessing, or put the node that makes it into ignored_scope"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Images with such a value.
        images: u64,
        /// Images observed.
        total: u64,
    },
    /// The file has weights that are no numbers.
    #[error(
        "{path}: node '{node}': its {what} holds {count} values that are NaN or infinite (or become so when batch \
         normalization is folded into it); export the model again from weights that are finite"
    )]
    Weights {
        /// The model file.
        path: PathBuf,
        /// The node.
        node: String,
        /// `weight` or `bias`, with its name.
        what: String,
        /// How many values.
        count: usize,
    },
    /// Statistics hold no image.
    #[error("no image was observed; calibration needs at least one readable image")]
    NoImages,
    /// Statistics and placement do not belong together.
    #[error(
        "the statistics hold no tensor '{tensor}'; they were taken from another model or with another ignored_scope: start the run afresh"
    )]
    MissingStatistics {
        /// The tensor.
        tensor: String,
    },
    /// An image does not fit the model's input.
    #[error("image {index} has the shape {got:?}, the input '{input}' takes {expected:?}; check preprocess")]
    Shape {
        /// Position of the image among those observed, from 0.
        index: u64,
        /// Shape of the image.
        got: Vec<usize>,
        /// Name of the input.
        input: String,
        /// Shape of the input.
        expected: Vec<usize>,
    },
    /// A candidate could not be put on disk.
    #[error("{what}")]
    Store {
        /// What went wrong, with the path.
        what: String,
    },
    /// The user asked to stop; what was observed lies in the last checkpoint.
    #[error("stopped after {images} images")]
    Cancelled {
        /// Images observed.
        images: u64,
    },
}
