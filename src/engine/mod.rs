//! Run a model. An [`Engine`] loads a [`Model`] into a [`Session`], which is shared by all threads;
//! a [`Runner`] is the state of one stream.
//!
//! ```text
//! Engine::load(&Model, &LoadOptions) -> Session ── spawn() ──> Runner ── run(&[Value]) ──> Vec<Value>
//! ```

pub mod builtin;
mod choice;
mod error;
mod facade;
pub mod foreign;
mod shown;
mod value;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use choice::{EngineName, Libraries};
pub use error::EngineError;
pub use facade::Session as OwnedSession;
pub use shown::{Elements, Shown};
pub use value::Value;

use crate::model::Model;

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// What the symbolic batch dimension becomes.
    pub batch: usize,
    /// How many runners will run at a time; an engine may lay out its threads for them.
    pub streams: usize,
    /// Threads that compute each inference together. The built-in engine decides this later, in
    /// [`Session::spawn_team`].
    pub threads: usize,
    /// Names of further tensors to give out after the graph's own outputs, in this order.
    /// Used to observe activations.
    pub extra_outputs: Vec<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions { batch: 1, streams: 1, threads: 1, extra_outputs: Vec::new() }
    }
}

/// Something that runs ONNX models.
pub trait Engine: Send + Sync {
    /// Its name in run files and tables, such as `builtin`.
    fn name(&self) -> &'static str;

    /// Its version.
    fn version(&self) -> String;

    /// The shared library that it was loaded from; `None` for what is built in.
    fn library(&self) -> Option<&Path> {
        None
    }

    /// Loads a model with its symbolic dimensions fixed.
    ///
    /// # Errors
    /// The engine does not take the model; the message names the node.
    fn load(&self, model: &Model, options: &LoadOptions) -> Result<Box<dyn Session>, EngineError>;

    /// The number formats that really run (`int8`, `fp32`, `bf16`, …), each with how many of the operators
    /// with weights or products compute in it; empty where the engine does not tell. `session` is the model
    /// loaded by this engine. Takes about as long as loading.
    fn precisions(&self, _model: &Model, session: &dyn Session) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for layer in session.layers().iter().filter(|layer| layer.macs > 0) {
            *counts.entry(layer.precision.name().to_string()).or_insert(0) += 1;
        }
        counts
    }
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
    /// A new stream whose inferences `threads` threads compute together: the one that calls [`Runner::run`] and
    /// `threads − 1` of its own, which first call `begin`. Results are the same to the last bit. An engine that
    /// [places its threads](Session::places_threads) itself has as many as [`LoadOptions::threads`] said.
    ///
    /// # Errors
    /// Memory or threads can't be had, or the session was loaded for another number of them.
    fn spawn_team(&self, threads: usize, begin: Begin) -> Result<Box<dyn Runner>, EngineError> {
        if threads == 1 {
            return self.spawn();
        }
        drop(begin);
        let what = format!("it can't compute one inference with {threads} threads; expected 1");
        Err(EngineError::Run { engine: "this engine", what })
    }
    /// Whether the further threads of a team are the engine's own, which never call `begin`: such threads run
    /// where the thread that called may run, so that it must not be pinned to one core.
    fn places_threads(&self) -> bool {
        false
    }
}

/// What a thread of a team calls with its number, from 1, before it works: a place to pin it to a core.
pub type Begin = Arc<dyn Fn(usize) + Send + Sync>;

/// One stream of inference.
pub trait Runner: Send {
    /// One inference. `inputs` have the shapes of [`Session::inputs`].
    ///
    /// # Errors
    /// Inputs of another number or shape, or a failure inside the engine, with the node's name.
    fn run(&mut self, inputs: &[Value]) -> Result<Vec<Value>, EngineError>;

    /// One inference of which each output is shown to `see`, with its number, instead of given out: once each, in any
    /// order and in the layout that the engine has it in. Spares the copies that whoever only counts has no use for.
    ///
    /// # Errors
    /// As [`Runner::run`].
    fn watch(&mut self, inputs: &[Value], see: &mut dyn FnMut(usize, Shown<'_>)) -> Result<(), EngineError> {
        for (number, value) in self.run(inputs)?.iter().enumerate() {
            see(number, value.shown());
        }
        Ok(())
    }

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

impl Precision {
    /// Its word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Int8 => "int8",
            Precision::Border => "border",
        }
    }
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
