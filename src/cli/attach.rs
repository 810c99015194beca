//! `calib8 attach`: watch a run, whoever started it.

use std::io::Write;

use anyhow::Context;

use super::follow::{conclude, follow};
use super::run::view;
use super::runs::Which;
use crate::run::interrupt::Interrupt;

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Print one JSON event per line instead of text
    #[arg(long)]
    json: bool,
}

/// Shows the run until it ends, then gives its exit code; or until Ctrl-C, which leaves the run alone and
/// gives 0.
///
/// # Errors
/// There is no such run, or it failed.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let directory = args.which.directory()?;
    let interrupt = Interrupt::install().context("cannot listen to Ctrl-C")?;
    match follow(&directory, view(args.json).as_mut(), || interrupt.is_set())? {
        Some(status) => conclude(&directory, &status, args.json),
        None => {
            let text = format!("\nleft; the run goes on in {}", directory.display());
            // The terminal may be what went away.
            let _ = writeln!(std::io::stderr(), "{}", super::sanitized(&text));
            Ok(0)
        }
    }
}
