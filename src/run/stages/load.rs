//! Load time and memory of a model on an engine, in a process of its own: memory that this process already
//! holds, and what the allocator keeps of earlier work, would hide what a model takes.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::engine::{EngineName, Libraries};
use crate::run::performance::LoadRecord;
use crate::run::summary::ModelRole;

/// What the child process prints, as one line of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// Milliseconds to load and to end the first inference.
    pub load_ms: f64,
    /// Bytes of memory above what the process held before.
    pub peak_rss_bytes: u64,
}

/// Runs `calib8 measure-load` on a model file. `None` if this program is not calib8 itself but uses it as
/// a library.
///
/// # Errors
/// The process can't be started, or says why it failed.
pub(super) fn measure(
    file: &Path,
    model: ModelRole,
    engine: EngineName,
    libraries: &Libraries,
) -> Option<Result<LoadRecord, String>> {
    let program = std::env::current_exe().ok()?;
    if program.file_stem().is_none_or(|name| name != env!("CARGO_PKG_NAME")) {
        return None;
    }
    let mut command = Command::new(program);
    command.arg("measure-load").arg(file).args(["--engine", engine.name()]);
    let library = match engine {
        EngineName::Builtin => None,
        EngineName::Onnxruntime => libraries.onnxruntime.as_ref(),
        EngineName::Openvino => libraries.openvino.as_ref(),
    };
    if let Some(library) = library {
        command.arg("--library").arg(library);
    }
    let mut record = || -> Result<LoadRecord, String> {
        let output = command.output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(said.lines().last().unwrap_or("it said nothing").to_string());
        }
        let loaded: Loaded = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
        Ok(LoadRecord { engine, model, load_ms: loaded.load_ms, peak_rss_bytes: loaded.peak_rss_bytes })
    };
    Some(record())
}
