//! ONNX in and out: read, check, inspect, simplify, write. Knows no engine.
//!
//! A [`Model`] is a `ModelProto` that was read whole and checked, with the path and hash it came
//! from. All rewriting (simplification, quantization, lowering) works on the `ModelProto`, with
//! the small vocabulary of [`graph`].

pub mod check;
pub mod error;
mod external;
pub mod function;
pub mod graph;
mod image_input;
pub mod inspect;
mod load;
mod measured;
pub mod opset;
pub mod qoperator;
pub mod resize;
pub mod rewrite;
mod rules;
pub mod shapes;
pub mod simplify;
mod sizes;
mod stored;
mod text;
mod windows;

pub use error::ModelError;
pub use text::{csv_field, is_obeyed, printable};
pub use tract_onnx::pb;

use std::path::{Path, PathBuf};

use tract_onnx::prelude::InferenceModel;

/// An ONNX model in memory, checked to be well formed (see [`Model::load`]).
#[derive(Debug, Clone)]
pub struct Model {
    /// The file this was read from, or a name for a model made in memory.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, lower-case hex; empty for a model made in memory. Where the model
    /// has external data, of the file's bytes followed by that data in the order of its tensors.
    pub sha256: String,
    /// Size of the file, with its external data.
    pub bytes: u64,
    /// The message itself. External data is loaded into it.
    pub proto: pb::ModelProto,
    /// Bytes that may be spent on tensors that are computed from its constants; see [`Model::with_room`].
    pub(crate) room: u64,
}

/// One dimension of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A number in the file.
    Fixed(usize),
    /// A named or unnamed symbol, to be chosen when the model is loaded.
    Symbol(String),
}

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// ONNX element type (`TensorProto.DataType`), 1 is float.
    pub elem_type: i32,
    /// Its shape as declared; empty when the file declares none.
    pub dims: Vec<Dim>,
}

impl Model {
    /// Reads and checks the file at `path`. Every node of the result has a name of its own, and nodes
    /// are in topological order.
    ///
    /// # Errors
    /// [`ModelError`], which names the file and what to do: it cannot be read, is not ONNX or is
    /// cut short, has no graph, an unsupported opset, a cycle, a tensor used before it is made,
    /// external data that is missing or outside the model's folder.
    pub fn load(path: &Path) -> Result<Model, ModelError> {
        load::load(path, u64::MAX)
    }

    /// As [`Model::load`], of a file that holds at most `most` bytes with its external data.
    ///
    /// # Errors
    /// As [`Model::load`]; [`ModelError::TooLarge`], before so much is read.
    pub fn load_within(path: &Path, most: u64) -> Result<Model, ModelError> {
        load::load(path, most)
    }

    /// Wraps a message made in memory.
    pub fn from_proto(name: impl Into<PathBuf>, proto: pb::ModelProto) -> Model {
        Model { path: name.into(), sha256: String::new(), bytes: 0, proto, room: u64::MAX }
    }

    /// The model for a process that can spend at most `bytes` on tensors that are computed from its constants. By
    /// itself a model may ask for 1 GiB, and for 8 bytes for each byte of its weights.
    #[must_use]
    pub fn with_room(self, bytes: u64) -> Model {
        Model { room: bytes, ..self }
    }

    /// Makes the analysis of tract fail where a tensor of this model, or of one that came from it, can't be held.
    pub(crate) fn measure(&self, inference: &mut InferenceModel) {
        measured::measure(inference, sizes::room(self.graph(), self.room));
    }

    /// The model as the bytes of an ONNX file. The same message gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.proto)
    }

    /// The model of bytes that [`Model::encode`] has made, as it was: neither sorted nor named anew, nor checked.
    /// Files of users are for [`Model::load`].
    ///
    /// # Errors
    /// The bytes are no model; `name` is what the error calls them, and what the model is called.
    pub fn decode(name: &Path, bytes: &[u8]) -> Result<Model, ModelError> {
        load::decode(name, bytes).map(|proto| Model::from_proto(name, proto))
    }

    /// The graph; every loaded model has one.
    pub fn graph(&self) -> &pb::GraphProto {
        static EMPTY: std::sync::OnceLock<pb::GraphProto> = std::sync::OnceLock::new();
        self.proto.graph.as_ref().unwrap_or_else(|| EMPTY.get_or_init(Default::default))
    }

    /// Inputs that must be fed: graph inputs that are not initializers.
    pub fn inputs(&self) -> Vec<Port> {
        let graph = self.graph();
        let fed = |v: &&pb::ValueInfoProto| !graph.initializer.iter().any(|i| i.name == v.name);
        graph.input.iter().filter(fed).map(graph::port).collect()
    }

    /// Outputs in graph order.
    pub fn outputs(&self) -> Vec<Port> {
        self.graph().output.iter().map(graph::port).collect()
    }

    /// The one input that takes the image.
    ///
    /// # Errors
    /// [`ModelError::Invalid`], if there is not exactly one input that must be fed, or it is not float,
    /// not NCHW with 1, 3 or 4 channels and fixed height and width, or has a fixed batch above 1.
    pub fn image_input(&self) -> Result<Port, ModelError> {
        image_input::image_input(self)
    }

    /// Version of the default operator set.
    pub fn opset(&self) -> i64 {
        graph::opset(&self.proto)
    }
}
