//! `calib8 optimize`: an INT8 variant of a project's model.

use std::path::Path;

use super::projects::In;
use super::run;
use crate::run::RunError;
use crate::run::directory::Existing;
use crate::run::plan::{OptimizeOptions, Plan, Preset, for_project};

/// Arguments of `optimize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id or name of the project; `calib8 projects` lists them
    project: String,
    /// Name of the variant; left out: what was chosen
    #[arg(long)]
    name: Option<String>,
    /// A key of the run file, such as --set optimize.preset=mixed or --set optimize.dataset.path=calib/; may be
    /// repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    workspace: In,
    /// Do the work in a process of its own, which goes on when the terminal is closed
    #[arg(long)]
    detach: bool,
    /// Print one JSON event per line instead of text
    #[arg(long)]
    json: bool,
}

/// Runs what was chosen; gives 0, or 3 if a gate failed.
///
/// # Errors
/// There is no such project, the choice does not fit, or the run failed.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let workspace = args.workspace.open()?;
    let project = workspace.project(&args.project)?;
    let default = for_project(&project, &OptimizeOptions::new("optimize")).map_err(RunError::from)?;
    // The defaults as a run file, so that `--set` means here what it means for one.
    let plan = Plan::parse(Path::new(&project.name), Path::new("."), &default.to_yaml()?, &args.set);
    let plan = plan.map_err(RunError::from)?;
    let name = args.name.clone().unwrap_or_else(|| called(&plan));
    let variant = workspace.new_variant(&project, &name)?;
    let plan = Plan { name: variant.name, output: variant.path, ..plan };
    run::start(&plan, Existing::Refuse, args.detach, args.json)
}

/// A name from what was chosen.
fn called(plan: &Plan) -> String {
    let preset = match plan.optimize.preset {
        Preset::Performance => "performance",
        Preset::Mixed => "mixed",
    };
    format!("INT8 {preset}")
}
