//! ONNX Runtime behind the [`Engine`] trait, through the crate `ort`.
//!
//! One session is shared by all streams, as a server would; `Run` is safe to call from many threads at a
//! time, which `ort` hides behind `&mut`, so it is called through the C interface here. With one thread
//! per operator and no parallel operators, all work is done on the thread that calls. With more, the session
//! has that many less one, which help all streams.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use ort::AsPointer;
use ort::environment::Environment;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, TensorRef};

use super::find::{self, Wanted};
use super::library::Library;
use super::{check, check_threads, inputs_of, one_line, refusal, value_of, zeros};
use crate::engine::{Begin, Engine, EngineError, Layer, LoadOptions, Runner, Session, TensorInfo, Value};
use crate::model::{Dim, Model, pb};

const ENGINE: &str = "onnxruntime";

/// Where ONNX Runtime is looked for.
pub const WANTED: Wanted = Wanted {
    engine: ENGINE,
    stem: "onnxruntime",
    in_packages: "onnxruntime/capi",
    variables: &["CALIB8_ONNXRUNTIME", "ORT_DYLIB_PATH"],
    package: "onnxruntime",
    key: "performance.libraries.onnxruntime",
    oldest: "1.17",
};

/// ONNX Runtime from a shared library.
pub struct OnnxRuntime {
    environment: Environment,
    library: PathBuf,
}

/// The library of this process.
static LOADED: Library<Environment> = Library::new();

impl OnnxRuntime {
    /// Finds and loads the library; `option` is where the user says that it is.
    ///
    /// # Errors
    /// [`EngineError::Library`].
    pub fn open(option: Option<&Path>) -> Result<OnnxRuntime, EngineError> {
        let (library, environment) = LOADED.open(&WANTED, option, |library| {
            let load = || -> Result<Environment, String> {
                let builder = ort::init_from(library).map_err(|e| e.to_string())?;
                // What it has to say comes back with the failure; it may not write to our terminal.
                let silent = Arc::new(|_: ort::logging::LogLevel, _: &str, _: &str, _: &str, _: &str| {});
                builder.with_telemetry(false).with_logger(silent).build().map_err(|e| e.to_string())
            };
            // `ort` asserts some of what a library must have.
            catch_unwind(load).unwrap_or_else(|_| Err("it has no interface that we know".into()))
        })?;
        Ok(OnnxRuntime { environment, library })
    }

    fn builder(&self, model: &Model, options: &LoadOptions) -> Result<SessionBuilder, EngineError> {
        let refuse = |e: ort::Error<SessionBuilder>| refusal(ENGINE, model, e.to_string());
        let builder = ort::session::Session::builder(&self.environment)
            .map_err(|e| refusal(ENGINE, model, e.to_string()))?;
        let builder = builder.with_intra_threads(options.threads).map_err(refuse)?;
        let mut builder = builder.with_inter_threads(1).map_err(refuse)?;
        if options.threads > 1 {
            // Else they spin on after an inference, on cores that the other model is timed on.
            builder = builder.with_config_entry("session.force_spinning_stop", "1").map_err(refuse)?;
        }
        for port in model.inputs() {
            // Fixed as the other engines have it fixed, so that memory is planned ahead.
            if let Some(Dim::Symbol(symbol)) = port.dims.first().filter(|_| !port.dims.is_empty())
                && !symbol.is_empty()
            {
                builder = builder.with_dimension_override(symbol, options.batch as i64).map_err(refuse)?;
            }
        }
        Ok(builder)
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        ENGINE
    }

    /// The numbers behind the file's name, or else the branch that it was built from.
    fn version(&self) -> String {
        let name = self.library.file_name().unwrap_or_default().to_string_lossy();
        let numbers = find::version_in(&name);
        if numbers.len() >= 2 {
            return numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
        }
        let info = ort::info();
        let branch = info.split("git-branch=").nth(1).and_then(|rest| rest.split(',').next());
        branch.map_or_else(|| one_line(info), |branch| branch.trim_start_matches("rel-").to_string())
    }

    fn library(&self) -> Option<&Path> {
        Some(&self.library)
    }

    fn load(&self, model: &Model, options: &LoadOptions) -> Result<Box<dyn Session>, EngineError> {
        let inputs = inputs_of(ENGINE, model, options)?;
        let bytes = model.encode();
        let refuse = |e: ort::Error| refusal(ENGINE, model, e.to_string());
        let session = self.builder(model, options)?.commit_from_memory(&bytes).map_err(refuse)?;
        let names = |names: Vec<&str>| -> Result<Vec<CString>, EngineError> {
            let name = |name: &str| CString::new(name).map_err(|e| refusal(ENGINE, model, e.to_string()));
            names.into_iter().map(name).collect()
        };
        let mut loaded = OrtSession {
            input_names: names(inputs.iter().map(|i| i.name.as_str()).collect())?,
            output_names: names(session.outputs().iter().map(|o| o.name()).collect())?,
            shared: Arc::new(session),
            threads: options.threads,
            inputs,
            outputs: Vec::new(),
        };
        let first = loaded.spawn()?.run(&zeros(&loaded.inputs))?;
        let info = |(name, value): (&CString, &Value)| TensorInfo {
            name: name.to_string_lossy().into_owned(),
            shape: value.shape().to_vec(),
        };
        loaded.outputs = loaded.output_names.iter().zip(&first).map(info).collect();
        Ok(Box::new(loaded))
    }

    fn precisions(&self, model: &Model, _session: &dyn Session) -> BTreeMap<String, usize> {
        // That the optimized form can't be had hinders nothing else.
        self.optimized(model).map(|graph| precisions_of(&graph)).unwrap_or_default()
    }
}

impl OnnxRuntime {
    /// What the graph became: ONNX Runtime writes its optimized form, in which the operators say what they
    /// compute in.
    fn optimized(&self, model: &Model) -> Option<pb::GraphProto> {
        let folder = tempfile::tempdir_in(std::env::temp_dir()).ok()?;
        let file = folder.path().join("optimized.onnx");
        let builder = self.builder(model, &LoadOptions::default()).ok()?.with_optimized_model_path(&file);
        drop(builder.ok()?.commit_from_memory(&model.encode()).ok()?);
        let proto = <pb::ModelProto as prost::Message>::decode(std::fs::read(file).ok()?.as_slice()).ok()?;
        proto.graph
    }
}

/// Operators with weights or products, by the number format that they compute in.
fn precisions_of(graph: &pb::GraphProto) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in &graph.node {
        let kind = node.op_type.as_str();
        let integer = ["QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "QGemm", "QAttention"];
        let float = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Attention", "MultiHeadAttention"];
        let fused = kind.trim_start_matches("Fused");
        let format = match kind {
            _ if integer.contains(&kind) => "int8",
            "MatMulIntegerToFloat" | "DynamicQuantizeMatMul" | "QLinearConvTranspose" => "int8",
            _ if float.contains(&fused) => "fp32",
            _ => continue,
        };
        *counts.entry(format.to_string()).or_insert(0) += 1;
    }
    counts
}

struct OrtSession {
    shared: Arc<ort::session::Session>,
    threads: usize,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
}

impl Session for OrtSession {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }
    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }
    fn layers(&self) -> &[Layer] {
        &[]
    }
    fn spawn(&self) -> Result<Box<dyn Runner>, EngineError> {
        Ok(Box::new(OrtRunner {
            shared: self.shared.clone(),
            inputs: self.inputs.clone(),
            input_names: self.input_names.clone(),
            output_names: self.output_names.clone(),
        }))
    }
    fn spawn_team(&self, threads: usize, _begin: Begin) -> Result<Box<dyn Runner>, EngineError> {
        check_threads(ENGINE, threads, self.threads)?;
        self.spawn()
    }
    fn places_threads(&self) -> bool {
        self.threads > 1
    }
}

struct OrtRunner {
    shared: Arc<ort::session::Session>,
    inputs: Vec<TensorInfo>,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
}

fn failed(what: impl std::fmt::Display) -> EngineError {
    EngineError::Run { engine: ENGINE, what: one_line(&what.to_string()) }
}

impl Runner for OrtRunner {
    fn run(&mut self, inputs: &[Value]) -> Result<Vec<Value>, EngineError> {
        check(inputs, &self.inputs)?;
        let tensors: Vec<TensorRef<'_, f32>> = inputs
            .iter()
            .map(|value| {
                TensorRef::from_array_view((value.shape().to_vec(), value.as_slice())).map_err(failed)
            })
            .collect::<Result<_, _>>()?;
        let values: Vec<*const ort::sys::OrtValue> = tensors.iter().map(|tensor| tensor.ptr()).collect();
        let names = |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect::<Vec<_>>();
        let (input_names, output_names) = (names(&self.input_names), names(&self.output_names));
        let mut outputs: Vec<*mut ort::sys::OrtValue> = vec![ptr::null_mut(); output_names.len()];
        // SAFETY: the session lives as long as this runner; ONNX Runtime allows concurrent calls of Run on
        // one session. Names and tensors outlive the call, their numbers are those given, and `outputs` has
        // room for one pointer per output name.
        let status = unsafe {
            (ort::api().Run)(
                self.shared.ptr().cast_mut(),
                ptr::null(),
                input_names.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        };
        // SAFETY: the status comes from the call above and is handed over once.
        unsafe { ort::Error::result_from_status(status) }.map_err(failed)?;
        let mut found = Vec::with_capacity(outputs.len());
        for output in outputs {
            let output = NonNull::new(output).ok_or_else(|| failed("an output is missing"))?;
            // SAFETY: Run succeeded and gave this value to us; it was allocated by the session's allocator.
            let output: DynValue = unsafe { DynValue::from_ptr(output, Some(self.shared.allocator())) };
            let (shape, data) = output.try_extract_tensor::<f32>().map_err(failed)?;
            let shape: Vec<usize> = shape.iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect();
            found.push(value_of(ENGINE, &shape, data)?);
        }
        Ok(found)
    }

    fn profile(&mut self, inputs: &[Value], _times: &mut [Duration]) -> Result<Vec<Value>, EngineError> {
        self.run(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::graph::node;

    #[test]
    fn operators_say_what_they_compute_in() {
        let graph = pb::GraphProto {
            node: vec![
                node("QLinearConv", "a", &[], &[]),
                node("QLinearConv", "b", &[], &[]),
                node("FusedConv", "c", &[], &[]),
                node("Relu", "d", &[], &[]),
                node("QGemm", "e", &[], &[]),
            ],
            ..Default::default()
        };
        let expected = BTreeMap::from([("int8".to_string(), 3), ("fp32".to_string(), 1)]);
        assert_eq!(precisions_of(&graph), expected);
    }
}
