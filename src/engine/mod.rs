//! Run a model. An [`Engine`] loads a [`Model`] into a [`Session`], which is shared by all threads;
//! a [`Runner`] is the state of one stream.
//!
//! ```text
//! Engine::load(&Model, &LoadOptions) -> Session ── spawn() ──> Runner ── run(&[Value]) ──> Vec<Value>
//! ```

pub mod builtin;
mod error;
mod value;

use std::time::Duration;

pub use error::EngineError;
pub use value::Value;

use crate::model::Model;

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// What the symbolic batch dimension becomes.
    pub batch: usize,
    /// Names of further tensors to give out after the graph's own outputs, in this order.
    /// Used to observe activations.
    pub extra_outputs: Vec<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions { batch: 1, extra_outputs: Vec::new() }
    }
}

/// Something that runs ONNX models.
pub trait Engine: Send + Sync {
    /// Its name in run files and tables, such as `builtin`.
    fn name(&self) -> &'static str;

    /// Loads a model with its symbolic dimensions fixed.
    ///
    /// # Errors
    /// The engine does not take the model; the message names the node.
    fn load(&self, model: &Model, options: &LoadOptions) -> Result<Box<dyn Session>, EngineError>;
}

/// A loaded model, its weights shared by all [`Runner`]s.
pub trait Session: Send + Sync {
    /// Name and shape of each input, in the order that [`Runner::run`] takes them. All are f32.
    fn inputs(&self) -> &[TensorInfo];
    /// Name and shape of each output, the extra ones last. All are f32.
    fn outputs(&self) -> &[TensorInfo];
    /// The layers that [`Runner::profile`] times, in execution order.
    fn layers(&self) -> &[Layer];
    /// A new stream with scratch memory of its own.
    ///
    /// # Errors
    /// Memory can't be had.
    fn spawn(&self) -> Result<Box<dyn Runner>, EngineError>;
}

/// One stream of inference.
pub trait Runner: Send {
    /// One inference. `inputs` have the shapes of [`Session::inputs`].
    ///
    /// # Errors
    /// Inputs of another number or shape, or a failure inside the engine, with the node's name.
    fn run(&mut self, inputs: &[Value]) -> Result<Vec<Value>, EngineError>;

    /// One inference that adds the time of each layer to `times`, which has the length of
    /// [`Session::layers`].
    ///
    /// # Errors
    /// As [`Runner::run`].
    fn profile(&mut self, inputs: &[Value], times: &mut [Duration]) -> Result<Vec<Value>, EngineError>;
}

/// Name and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// ONNX name.
    pub name: String,
    /// Shape with all symbols resolved, as in the ONNX file (NCHW for images).
    pub shape: Vec<usize>,
}

/// The number format in which a layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// 8-bit integers with 32-bit accumulation.
    Int8,
    /// A change between the two, or of layout.
    Border,
}

/// One timed step of a loaded model.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Name of the ONNX node it comes from; the same in parent and optimized model.
    pub name: String,
    /// What it does, such as `Conv`, `Add`, `Quantize`.
    pub kind: String,
    /// Its number format.
    pub precision: Precision,
    /// Multiply-accumulates of one inference; 0 where that is not the measure.
    pub macs: u64,
}
