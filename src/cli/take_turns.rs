//! `calib8 take-turns`: the process behind the queue of a workspace. Started by calib8, not by people.

use std::path::PathBuf;

use anyhow::Context;

use crate::project::workspace::Workspace;
use crate::run::interrupt::Interrupt;
use crate::run::turns;

/// Arguments of `take-turns`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The workspace
    workspace: PathBuf,
}

/// Begins the runs that wait in a workspace, one after another; gives 0.
///
/// # Errors
/// The workspace can't be read.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    // Fails for the first process of a group only, which a shell that started it by hand makes it.
    let _ = rustix::process::setsid();
    let interrupt = Interrupt::install_detached().context("cannot listen to signals")?;
    let begun = turns::serve(&Workspace::open(&args.workspace)?, &interrupt)?;
    let text: String = begun.iter().map(|directory| format!("{}\n", directory.display())).collect();
    super::print(&super::sanitized(&text))?;
    Ok(0)
}
