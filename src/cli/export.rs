//! `calib8 export`: the INT8 model of a run, packed for deployment.

use std::path::PathBuf;

use crate::run::package;

/// Arguments of `calib8 export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a finished run
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Folder for the package; made if it does not exist
    #[arg(value_name = "DIR")]
    target: PathBuf,
}

/// Packs the model; gives 0.
///
/// # Errors
/// The folder holds no finished run, or the package can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let files = package::export(&args.run, &args.target)?;
    let mut text = format!("{}\n", args.target.display());
    for file in files {
        text += &format!("  {file}\n");
    }
    super::print(&super::sanitized(&text))?;
    Ok(0)
}
