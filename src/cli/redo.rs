//! `calib8 measure` and `calib8 report`: a step of a variant's run once more.
//!
//! The run is gone on with under a plan that may differ in the keys of the step. Statistics, and so the INT8
//! model, are those it had; what is measured again is measured beside the parent, as always.

use super::projects::In;
use super::{Usage, run};
use crate::project::workspace::{Project, Variant};
use crate::run::RunError;
use crate::run::directory::{Existing, PLAN_FILE};
use crate::run::plan::Plan;

/// Arguments of `measure` and `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id or name of the project; `calib8 projects` lists them
    project: String,
    /// Id or name of the variant; left out: the only one
    variant: Option<String>,
    /// A key of the run file, such as --set 'performance.streams=[1, 2]' or --set 'reports=[predictions]'; may be
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

/// What is done once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Speeds.
    Measure,
    /// Reports; speeds stay as they are.
    Report,
}

impl Step {
    /// Keys of the run file that may be other than before.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Step::Measure => &["performance", "gates", "threads"],
            Step::Report => &["reports", "gates", "threads"],
        }
    }
}

/// Goes on with the variant's run; gives 0, or 3 if a gate failed.
///
/// # Errors
/// There is no such variant, a key is not one of the step, or the run failed.
pub fn run(args: &Args, step: Step) -> anyhow::Result<u8> {
    let workspace = args.workspace.open()?;
    let project = workspace.project(&args.project)?;
    let variant = choose(&project, args.variant.as_deref()).map_err(Usage)?;
    if let Some(set) = args.set.iter().find(|set| !step.keys().contains(&section(set))) {
        let keys = step.keys().join(", ");
        return Err(Usage(format!(
            "--set {set}: this step takes keys of {keys}; `calib8 optimize` takes all"
        ))
        .into());
    }
    let plan = Plan::load(&variant.path.join(PLAN_FILE), &args.set).map_err(RunError::from)?;
    let plan = Plan { output: variant.path.clone(), ..plan };
    let existing = Existing::Replan { measures_again: step == Step::Measure };
    run::start(&plan, existing, args.detach, args.json)
}

/// `performance` of `performance.seconds=3`.
fn section(set: &str) -> &str {
    let key = set.split_once('=').map_or(set, |(key, _)| key);
    key.split_once('.').map_or(key, |(section, _)| section).trim()
}

/// The variant of a project by id or name, or its only one.
///
/// # Errors
/// There is none, or several could be meant.
pub(super) fn choose<'a>(project: &'a Project, name: Option<&str>) -> Result<&'a Variant, String> {
    let variants = &project.variants;
    let found: Vec<&Variant> = match name {
        None => variants.iter().collect(),
        Some(name) => match variants.iter().find(|variant| variant.id == name) {
            Some(variant) => vec![variant],
            None => variants.iter().filter(|variant| variant.name == name).collect(),
        },
    };
    let ids = || variants.iter().map(|variant| variant.id.as_str()).collect::<Vec<_>>().join(", ");
    match (&found[..], name) {
        ([variant], _) => Ok(variant),
        _ if variants.is_empty() => {
            Err(format!("{} has no variant yet; `calib8 optimize {}` makes one", project.name, project.id))
        }
        ([], Some(name)) => Err(format!("{} has no variant {name:?}; there are: {}", project.name, ids())),
        _ => Err(format!("{} has several variants that could be meant; name one: {}", project.name, ids())),
    }
}
