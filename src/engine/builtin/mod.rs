//! The built-in engine: tract loads, checks and runs the graph; INT8 subgraphs become our fused
//! operators.

mod session;

use super::{Engine, EngineError, LoadOptions, Session};
use crate::model::Model;

/// The engine inside calib8.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builtin;

impl Engine for Builtin {
    fn name(&self) -> &'static str {
        "builtin"
    }

    fn load(&self, model: &Model, options: &LoadOptions) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(session::BuiltinSession::load(model, options)?))
    }
}
