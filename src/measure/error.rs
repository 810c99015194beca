//! What can go wrong while measuring.

use crate::engine::EngineError;

/// An error of the measure room.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The engine failed while it was timed.
    #[error("measuring {model}: {source}")]
    Engine {
        /// Which of the models, such as `the parent`.
        model: &'static str,
        /// What the engine said.
        source: EngineError,
    },
    /// A setting makes no sense.
    #[error("cannot measure with {name} = {value}; give {expected}")]
    Setting {
        /// Name of the setting in the run file.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A stream's thread can't be started or has died.
    #[error("stream {stream} of {model}: {what}; try fewer streams")]
    Stream {
        /// Number of the stream, from 0.
        stream: usize,
        /// Which of the models.
        model: &'static str,
        /// What happened.
        what: String,
    },
    /// An input can't be made up.
    #[error("input '{name}' of shape {shape:?} cannot be made: {what}")]
    Input {
        /// Name of the input.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What is wrong with it.
        what: String,
    },
    /// The user asked to stop.
    #[error("measuring was cancelled")]
    Cancelled,
}
