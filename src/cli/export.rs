//! `calib8 export`: the INT8 model of a run, packed for deployment.

use std::path::{Path, PathBuf};

use super::projects::In;
use super::{Usage, redo};
use crate::run::package;

/// Arguments of `calib8 export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a finished run, or PROJECT/VARIANT of the workspace by id or name; PROJECT alone where it has
    /// one variant
    #[arg(value_name = "RUN_DIR|PROJECT/VARIANT")]
    run: String,
    /// Folder for the package; made if it does not exist
    #[arg(value_name = "DIR")]
    target: PathBuf,
    /// Folder of calib8's source, which the package's program in Rust then depends on; left out: a folder
    /// calib8 in the package, to be put there
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    #[command(flatten)]
    workspace: In,
}

/// Packs the model; gives 0.
///
/// # Errors
/// There is no such finished run, or the package can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    if let Some(source) = args.source.as_ref().filter(|source| !source.join("Cargo.toml").is_file()) {
        let text =
            format!("--source {}: has no Cargo.toml; give the folder of calib8's source", source.display());
        return Err(Usage(text).into());
    }
    let files = package::export(&folder(args)?, &args.target, args.source.as_deref())?;
    let mut text = format!("{}\n", args.target.display());
    for file in files {
        text += &format!("  {file}\n");
    }
    super::print(&super::sanitized(&text))?;
    Ok(0)
}

/// The run directory that is meant: a folder that exists, or else a variant of the workspace.
fn folder(args: &Args) -> anyhow::Result<PathBuf> {
    let path = Path::new(&args.run);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let neither = |why: String| {
        Usage(format!("{}: is no folder of a run, and no variant of the workspace: {why}", args.run))
    };
    let (project, variant) = match args.run.split_once('/') {
        Some((project, variant)) => (project, Some(variant)),
        None => (args.run.as_str(), None),
    };
    let workspace = args.workspace.open().map_err(|e| neither(e.to_string()))?;
    let project = workspace.project(project).map_err(|e| neither(e.to_string()))?;
    let variant = redo::choose(&project, variant).map_err(neither)?;
    Ok(variant.path.clone())
}
