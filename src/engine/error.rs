//! What can go wrong when a model is loaded or run.

/// An error of the engine room.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model room refused the file.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// The library of a foreign engine is missing, too old, or no such library.
    #[error("{engine}: {what}")]
    Library {
        /// Name of the engine.
        engine: &'static str,
        /// What was found where, and what to do.
        what: String,
    },
    /// The engine can't take the model.
    #[error("{engine}: cannot load {model}: {what}")]
    Load {
        /// Name of the engine.
        engine: &'static str,
        /// Path of the model.
        model: String,
        /// The node at fault and why.
        what: String,
    },
    /// Inference failed.
    #[error("{engine}: inference failed: {what}")]
    Run {
        /// Name of the engine.
        engine: &'static str,
        /// The node at fault and why.
        what: String,
    },
    /// An input does not fit.
    #[error("input '{name}' has the shape {got:?}, expected {expected:?}")]
    Input {
        /// Name of the input.
        name: String,
        /// Shape that was given.
        got: Vec<usize>,
        /// Shape that the session takes.
        expected: Vec<usize>,
    },
    /// `CALIB8_ISA` names no instruction set that this machine has.
    #[error(transparent)]
    Isa(#[from] crate::kernels::IsaError),
}
