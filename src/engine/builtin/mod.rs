//! The built-in engine: tract loads, checks and runs the graph; INT8 subgraphs become islands of our
//! own kernels.
//!
//! ```text
//! ModelProto ── lower ──> ModelProto with island nodes ── tract ──> plan
//!                            (program: data)                (Island: packed weights, arena)
//! ```

mod arena;
mod float;
mod island;
mod kernel;
mod layers;
mod lower;
mod program;
mod session;
mod split;
mod taps;

pub use lower::Unfused;

use super::{Engine, EngineError, LoadOptions, Session};
use crate::model::Model;

/// The engine inside calib8.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builtin;

impl Engine for Builtin {
    fn name(&self) -> &'static str {
        "builtin"
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_string()
    }

    fn load(&self, model: &Model, options: &LoadOptions) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(session::BuiltinSession::load(model, options)?))
    }
}

/// The operators of a quantized model that do not run in INT8 here, and why.
///
/// # Errors
/// The shapes of the model can't be determined.
pub fn unfused(model: &Model) -> Result<Vec<Unfused>, EngineError> {
    Ok(session::lowered(model, &LoadOptions::default())?.unfused)
}

/// The operators of `model` that are left to tract, by type and in order of the graph: they have no kernel here, or stand
/// alone among such. Those that only give a tensor another shape don't count.
///
/// # Errors
/// The shapes of the model can't be determined.
pub fn in_tract(model: &Model) -> Result<Vec<String>, EngineError> {
    Ok(session::lowered(model, &LoadOptions::default())?.in_tract())
}
