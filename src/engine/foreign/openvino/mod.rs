//! OpenVINO behind the [`Engine`] trait.
//!
//! On some processors OpenVINO runs FP32 models in bfloat16 unless told otherwise, so that an FP32 row
//! would compare something else: models without quantization are held to f32. A quantized model keeps
//! OpenVINO's own choice, as it is deployed. What really ran is asked of a profiled inference.
//!
//! Each stream's thread calls `infer`, which works on the calling thread when streams have one thread each;
//! OpenVINO must not pin it elsewhere.

mod api;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::api::{Borrowed, Compiled, Core, Executed, Failure, Request};
use super::find::Wanted;
use super::library::Library;
use super::{check, check_threads, inputs_of, one_line, refusal, value_of, zeros};
use crate::engine::{Begin, Engine, EngineError, Layer, LoadOptions, Runner, Session, TensorInfo, Value};
use crate::model::{Model, inspect};

const ENGINE: &str = "openvino";

/// Where OpenVINO is looked for.
pub const WANTED: Wanted = Wanted {
    engine: ENGINE,
    stem: "openvino_c",
    in_packages: "openvino/libs",
    variables: &["CALIB8_OPENVINO", "INTEL_OPENVINO_DIR", "OPENVINO_INSTALL_DIR"],
    package: "openvino",
    key: "performance.libraries.openvino",
    oldest: "2025.1",
};

/// OpenVINO from a shared library.
pub struct OpenVino {
    library: PathBuf,
    version: String,
}

/// The library of this process, with its version.
static LOADED: Library<String> = Library::new();

impl OpenVino {
    /// Finds and loads the library; `option` is where the user says that it is.
    ///
    /// # Errors
    /// [`EngineError::Library`].
    pub fn open(option: Option<&Path>) -> Result<OpenVino, EngineError> {
        let (library, version) = LOADED.open(&WANTED, option, api::load)?;
        Ok(OpenVino { library, version })
    }
}

impl Engine for OpenVino {
    fn name(&self) -> &'static str {
        ENGINE
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn library(&self) -> Option<&Path> {
        Some(&self.library)
    }

    fn load(&self, model: &Model, options: &LoadOptions) -> Result<Box<dyn Session>, EngineError> {
        let inputs = inputs_of(ENGINE, model, options)?;
        let refuse = |what: Failure| refusal(ENGINE, model, what);
        let bytes = model.encode();
        let recipe = Recipe {
            bytes: &bytes,
            inputs: &inputs,
            streams: options.streams,
            threads: options.threads,
            hint: hint(model),
        };
        let compiled = recipe.compile(false).map_err(refuse)?;
        let outputs = compiled.outputs().map_err(refuse)?;
        let mut session = OvSession {
            compiled: Arc::new(compiled),
            threads: options.threads,
            count: outputs,
            inputs: inputs.clone(),
            outputs: Vec::new(),
        };
        let first = session.spawn()?.run(&zeros(&inputs))?;
        let names = model.outputs().into_iter().map(|port| port.name);
        let info = |(name, value): (String, &Value)| TensorInfo { name, shape: value.shape().to_vec() };
        session.outputs = names.zip(&first).map(info).collect();
        Ok(Box::new(session))
    }

    fn precisions(&self, model: &Model, session: &dyn Session) -> BTreeMap<String, usize> {
        let bytes = model.encode();
        let recipe =
            Recipe { bytes: &bytes, inputs: session.inputs(), streams: 1, threads: 1, hint: hint(model) };
        // That a profile can't be had hinders nothing else.
        recipe.precisions().unwrap_or_default()
    }
}

/// FP32 models run in FP32; for others OpenVINO chooses.
fn hint(model: &Model) -> Option<&'static str> {
    (!inspect::is_quantized(model)).then_some("f32")
}

/// How a model is made ready.
struct Recipe<'a> {
    bytes: &'a [u8],
    inputs: &'a [TensorInfo],
    streams: usize,
    /// Of each stream.
    threads: usize,
    /// `INFERENCE_PRECISION_HINT`; OpenVINO's choice where there is none.
    hint: Option<&'static str>,
}

impl Recipe<'_> {
    fn compile(&self, profiled: bool) -> Result<Compiled, Failure> {
        let mut core = Core::new()?;
        core.set(c"NUM_STREAMS", &self.streams.to_string())?;
        core.set(c"INFERENCE_NUM_THREADS", &(self.streams * self.threads).to_string())?;
        core.set(c"ENABLE_CPU_PINNING", "NO")?;
        if let Some(hint) = self.hint {
            core.set(c"INFERENCE_PRECISION_HINT", hint)?;
        }
        if profiled {
            core.set(c"PERF_COUNT", "YES")?;
        }
        let mut network = core.read(self.bytes)?;
        for input in self.inputs {
            network.reshape(&input.name, &input.shape)?;
        }
        core.compile(&network)
    }

    fn precisions(&self) -> Result<BTreeMap<String, usize>, Failure> {
        let mut request = self.compile(true)?.request()?;
        let inputs: Vec<Borrowed> = zeros(self.inputs).iter().map(Borrowed::new).collect::<Result<_, _>>()?;
        for (index, input) in inputs.iter().enumerate() {
            request.set_input(index, input)?;
        }
        request.infer()?;
        let precisions = precisions_of(&request.executed()?);
        // Before the memory that it reads from.
        drop(request);
        Ok(precisions)
    }
}

/// Operators with weights or products, by the number format that they computed in.
fn precisions_of(executed: &[Executed]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for node in executed {
        let kinds = ["Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul"];
        if !kinds.contains(&node.kind.as_str()) && !node.kind.starts_with("ConvolutionBackprop") {
            continue;
        }
        let suffix = node.implementation.rsplit('_').next().unwrap_or_default().to_lowercase();
        let format = match suffix.as_str() {
            "i8" | "u8" | "int8" => "int8",
            "fp32" | "f32" => "fp32",
            "bf16" => "bf16",
            "fp16" | "f16" => "fp16",
            _ => "other",
        };
        *counts.entry(format.to_string()).or_insert(0) += 1;
    }
    counts
}

struct OvSession {
    compiled: Arc<Compiled>,
    threads: usize,
    count: usize,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
}

impl Session for OvSession {
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
        let request = self.compiled.request().map_err(failed)?;
        Ok(Box::new(OvRunner { request, held: Vec::new(), count: self.count, inputs: self.inputs.clone() }))
    }
    fn spawn_team(&self, threads: usize, _begin: Begin) -> Result<Box<dyn Runner>, EngineError> {
        check_threads(ENGINE, threads, self.threads)?;
        self.spawn()
    }
    fn places_threads(&self) -> bool {
        self.threads > 1
    }
}

struct OvRunner {
    // Dropped before the memory that it reads from.
    request: Request,
    /// The inputs of the last inference, so that the same ones need not be handed over again.
    held: Vec<Borrowed>,
    count: usize,
    inputs: Vec<TensorInfo>,
}

fn failed(what: Failure) -> EngineError {
    EngineError::Run { engine: ENGINE, what: one_line(&what) }
}

impl Runner for OvRunner {
    fn run(&mut self, inputs: &[Value]) -> Result<Vec<Value>, EngineError> {
        check(inputs, &self.inputs)?;
        for (index, value) in inputs.iter().take(self.inputs.len()).enumerate() {
            if self.held.get(index).is_some_and(|held| held.is_of(value)) {
                continue;
            }
            let input = Borrowed::new(value).map_err(failed)?;
            self.request.set_input(index, &input).map_err(failed)?;
            match self.held.get_mut(index) {
                Some(held) => *held = input,
                None => self.held.push(input),
            }
        }
        self.request.infer().map_err(failed)?;
        let output = |index| {
            let (shape, data) = self.request.read_output(index).map_err(failed)?;
            value_of(ENGINE, &shape, &data)
        };
        (0..self.count).map(output).collect()
    }

    fn profile(&mut self, inputs: &[Value], _times: &mut [Duration]) -> Result<Vec<Value>, EngineError> {
        self.run(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implementations_say_what_they_compute_in() {
        let executed = [
            ("Convolution", "brgconv_avx512_I8"),
            ("GroupConvolution", "jit_avx512_dw_I8"),
            ("FullyConnected", "gemm_mlas_FP32"),
            ("Convolution", "jit_avx512_core_amx_BF16"),
            ("Reorder", "jit_uni_I8"),
        ];
        let executed = executed
            .map(|(kind, name)| Executed { kind: kind.to_string(), implementation: name.to_string() });
        let expected =
            [("bf16", 1), ("fp32", 1), ("int8", 2)].map(|(format, count)| (format.to_string(), count));
        assert_eq!(precisions_of(&executed), BTreeMap::from(expected));
    }
}
