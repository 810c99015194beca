//! `calib8 measure-raw`: times inferences on request, for programs that compare engines.
//!
//! Prints a line `ready` once the model is loaded. Then, for every line with a number N on standard
//! input, runs N inferences of a fixed pseudo-random input and prints their N times in
//! milliseconds on one line. Ends with standard input.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::engine::{EngineName, Libraries, LoadOptions};
use crate::measure::host;
use crate::measure::random_inputs;
use crate::measure::streams::{Span, Streams, Subject, with_teams};
use crate::model::Model;

/// Seed of the input that is fed.
const SEED: u64 = 8;

/// Arguments of `calib8 measure-raw`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model.
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Threads that compute each inference together.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Streams that the inferences are shared out to.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    streams: u32,
    /// builtin, onnxruntime or openvino
    #[arg(long, default_value = "builtin")]
    engine: EngineName,
    /// Shared library of the engine, or its folder; found if left out
    #[arg(long)]
    library: Option<PathBuf>,
    /// What a symbolic batch dimension becomes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
}

/// Serves until standard input ends.
///
/// # Errors
/// The model can't be loaded or run, or a line is not a number.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let model = Model::load(&args.model)?;
    let streams = args.streams as usize;
    let options = LoadOptions {
        batch: args.batch as usize,
        streams,
        threads: args.threads as usize,
        ..LoadOptions::default()
    };
    let libraries = Libraries { onnxruntime: args.library.clone(), openvino: args.library.clone() };
    let session = args.engine.open(&libraries)?.load(&model, &options)?;
    let inputs = random_inputs(session.as_ref(), SEED)?;
    // One thread stays where its caller put this process; several get a core each of those.
    let is_alone = args.streams == 1 && args.threads == 1;
    let cores = if is_alone { Vec::new() } else { host::allowed_cores() };
    let subject = Subject { name: "the model", session: session.as_ref(), inputs: &inputs };
    let served = with_teams(&[subject], streams, args.threads as usize, &cores, |streams| {
        Ok(serve(streams, &mut std::io::stdin().lock(), &mut std::io::stdout().lock()))
    });
    served??;
    Ok(0)
}

fn serve(streams: &mut Streams, requests: &mut dyn BufRead, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "ready")?;
    out.flush()?;
    for line in requests.lines() {
        let line = line.context("standard input: cannot read the next number of inferences")?;
        let Ok(count) = line.trim().parse() else {
            bail!("standard input: {line:?} is not a number of inferences; send one number per line");
        };
        let times: Vec<String> =
            streams.turn(0, Span::Times(count))?.latencies_ms.iter().map(|ms| format!("{ms:.6}")).collect();
        writeln!(out, "{}", times.join(" "))?;
        out.flush()?;
    }
    Ok(())
}
