//! `calib8 worker`: the process behind a detached run. Started by calib8, not by people.

use std::path::PathBuf;

use anyhow::Context;

use crate::run::RunError;
use crate::run::directory::RunDirectory;
use crate::run::interrupt::Interrupt;

/// Arguments of `worker`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run directory
    pub directory: PathBuf,
}

/// Runs the plan of a run directory, or goes on with it; gives the exit code of the run.
///
/// # Errors
/// The run could not begin. How it ended is in its log.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    // Fails for the first process of a group only, which a shell that started it by hand makes it.
    let _ = rustix::process::setsid();
    let interrupt = Interrupt::install_detached().context("cannot listen to signals")?;
    let (directory, plan) = RunDirectory::reopen(&args.directory)?;
    let outcome = super::run::work(&plan, &directory, &interrupt, None)?;
    Ok(outcome.as_ref().map_or_else(RunError::exit_code, |outcome| outcome.summary.status.exit_code()))
}
