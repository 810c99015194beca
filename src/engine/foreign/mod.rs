//! Engines that are not ours, loaded at run time from a shared library on the user's machine: people
//! deploy there, so they want to see the speed that they will get there. The build links nothing of them.
//!
//! Both run one inference on the calling thread, which the measure room pins, so that a stream means the
//! same on every engine. Models go in as the bytes of our [`Model`], so that all engines get the same graph.
//!
//! This is the one place outside of the kernels with `unsafe`: calls through C interfaces. Each wrapper owns
//! what it points to and gives it back when dropped; no pointer leaves this folder.

#![allow(unsafe_code)]

pub mod find;
mod library;
pub mod onnxruntime;
pub mod openvino;

use super::{EngineError, LoadOptions, TensorInfo, Value};
use crate::model::{Model, shapes};

/// ONNX's number for 32-bit floats (`TensorProto.DataType.FLOAT`).
const FLOAT: i32 = 1;

/// What `model` takes, with the batch filled in. Refuses what the [`Session`](super::Session) trait can't
/// express.
fn inputs_of(
    engine: &'static str,
    model: &Model,
    options: &LoadOptions,
) -> Result<Vec<TensorInfo>, EngineError> {
    if !options.extra_outputs.is_empty() {
        let what = "tensors inside a model can only be observed on the builtin engine".into();
        return Err(refusal(engine, model, what));
    }
    let shapes = shapes::input_shapes(model, options.batch)?;
    let ports = model.inputs().into_iter().chain(model.outputs());
    if let Some(port) = ports.into_iter().find(|port| port.elem_type != FLOAT && port.elem_type != 0) {
        let what =
            format!("'{}' has the element type {}, only float (1) is supported", port.name, port.elem_type);
        return Err(refusal(engine, model, what));
    }
    let info = |(port, shape): (crate::model::Port, Vec<usize>)| TensorInfo { name: port.name, shape };
    Ok(model.inputs().into_iter().zip(shapes).map(info).collect())
}

fn refusal(engine: &'static str, model: &Model, what: String) -> EngineError {
    EngineError::Load { engine, model: model.path.display().to_string(), what: one_line(&what) }
}

/// The messages of both engines span lines and hold what models hold.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    crate::model::printable(&line).into_owned()
}

/// Whether a stream can have `threads` threads, of a session that was loaded with `loaded`.
fn check_threads(engine: &'static str, threads: usize, loaded: usize) -> Result<(), EngineError> {
    if threads == loaded {
        return Ok(());
    }
    let what =
        format!("the model was loaded for {loaded} threads per inference, expected {threads}; load it again");
    Err(EngineError::Run { engine, what })
}

/// Whether `inputs` are what a session takes.
fn check(inputs: &[Value], expected: &[TensorInfo]) -> Result<(), EngineError> {
    for (i, info) in expected.iter().enumerate() {
        let got = inputs.get(i).map_or(&[][..], |v| v.shape());
        if got != info.shape {
            let (name, got, expected) = (info.name.clone(), got.to_vec(), info.shape.clone());
            return Err(EngineError::Input { name, got, expected });
        }
    }
    Ok(())
}

/// An input of zeros, to find out what an engine gives out.
fn zeros(infos: &[TensorInfo]) -> Vec<Value> {
    infos.iter().map(|info| Value::from(ndarray::ArrayD::zeros(info.shape.as_slice()))).collect()
}

/// A tensor that an engine gave out.
fn value_of(engine: &'static str, shape: &[usize], data: &[f32]) -> Result<Value, EngineError> {
    let array = ndarray::ArrayD::from_shape_vec(shape, data.to_vec());
    array.map(Value::from).map_err(|e| EngineError::Run { engine, what: e.to_string() })
}
