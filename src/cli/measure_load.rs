//! `calib8 measure-load`: what it takes to have a model ready, printed as JSON. Started by runs, in a
//! process of its own.

use std::path::PathBuf;
use std::time::Instant;

use crate::engine::{EngineName, Libraries, LoadOptions};
use crate::measure::random_inputs;
use crate::model::Model;
use crate::project::host;
use crate::run::Loaded;

/// Inferences after which memory no longer grows.
const INFERENCES: usize = 3;

/// Arguments of `calib8 measure-load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// builtin, onnxruntime or openvino
    #[arg(long, default_value = "builtin")]
    engine: EngineName,
    /// Shared library of the engine, or its folder; found if left out
    #[arg(long)]
    library: Option<PathBuf>,
}

/// Loads the model, runs it, prints time and memory.
///
/// # Errors
/// The engine or the model can't be loaded or run.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let libraries = Libraries { onnxruntime: args.library.clone(), openvino: args.library.clone() };
    let engine = args.engine.open(&libraries)?;
    let model = Model::load(&args.model)?;
    host::reset_peak_rss();
    let before = host::rss_bytes();
    let start = Instant::now();
    let session = engine.load(&model, &LoadOptions::default())?;
    let inputs = random_inputs(session.as_ref(), 8)?;
    let mut runner = session.spawn()?;
    runner.run(&inputs)?;
    let load_ms = 1e3 * start.elapsed().as_secs_f64();
    for _ in 1..INFERENCES {
        runner.run(&inputs)?;
    }
    let loaded = Loaded { load_ms, peak_rss_bytes: host::peak_rss_bytes().saturating_sub(before) };
    super::print(&(serde_json::to_string(&loaded)? + "\n"))?;
    Ok(0)
}
