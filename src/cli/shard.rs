//! `calib8 shard`: a run in pieces, for any scheduler to spread over processes and machines.

use std::path::PathBuf;

use anyhow::Context;

use super::run::{PlanArgs, conclude, view, with_log};
use crate::run;
use crate::run::directory::RunDirectory;
use crate::run::interrupt::Interrupt;
use crate::run::shards::{self, Shards, Step};

/// Arguments of `shard`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// What to do with shards.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Cut the run of a run file into shards; its output folder must be one that all machines share
    Plan(Plan),
    /// Do one shard; what was kept of an earlier try is gone on with
    Run(One),
    /// Put the shards of a step together: after statistics or candidates, the INT8 model; after all, the end of the run
    Merge(Merge),
}

#[derive(Debug, clap::Args)]
struct Plan {
    #[command(flatten)]
    plan: PlanArgs,
    /// Run file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Cut each step into so many shards, or fewer if there are fewer images
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    shards: u32,
    /// Print how the steps were cut as JSON
    #[arg(long)]
    json: bool,
}

/// A step, as a word.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Word {
    /// Statistics of the calibration images
    Statistics,
    /// Candidates of optimize.method auto and accuracy_aware, scored
    Candidates,
    /// Both models on the images of the dataset
    Report,
    /// What INT8 costs each layer
    Sensitivity,
    /// Both models measured on each entry of performance.on; run its shard alone on a machine of that kind
    Performance,
}

/// A step that is put together.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Merged {
    /// Makes the INT8 model, or what its candidates are made from
    Statistics,
    /// Makes the INT8 model where there are candidates
    Candidates,
    /// Ends the run; takes in sensitivity and performance as well
    Report,
}

impl From<Merged> for Step {
    fn from(step: Merged) -> Step {
        match step {
            Merged::Statistics => Step::Statistics,
            Merged::Candidates => Step::Candidates,
            Merged::Report => Step::Report,
        }
    }
}

impl From<Word> for Step {
    fn from(word: Word) -> Step {
        match word {
            Word::Statistics => Step::Statistics,
            Word::Candidates => Step::Candidates,
            Word::Report => Step::Report,
            Word::Sensitivity => Step::Sensitivity,
            Word::Performance => Step::Performance,
        }
    }
}

#[derive(Debug, clap::Args)]
struct One {
    /// The run directory
    #[arg(value_name = "RUN_DIR")]
    directory: PathBuf,
    /// The step
    step: Word,
    /// Number of the shard, counted from 0
    #[arg(value_name = "N")]
    shard: usize,
    /// Threads; left out, as many as the plan says and the process has cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Print one JSON event per line instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Merge {
    /// The run directory
    #[arg(value_name = "RUN_DIR")]
    directory: PathBuf,
    /// The step
    step: Merged,
    /// Print one JSON event per line instead of text
    #[arg(long)]
    json: bool,
}

/// Cuts, works, or merges; gives 0, or 3 if a gate failed.
///
/// # Errors
/// What a run fails with; shards that are missing, damaged or of another run.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    match &args.what {
        What::Plan(args) => plan(args),
        What::Run(args) => one(args),
        What::Merge(args) => merge(args),
    }
}

fn plan(args: &Plan) -> anyhow::Result<u8> {
    let plan = args.plan.plan(&args.file)?;
    let shards = Shards::plan(&plan, args.plan.existing(), args.shards as usize)?;
    super::run::remember(&plan.output);
    if args.json {
        let mut line = serde_json::json!({ "directory": plan.output });
        for step in Step::ALL {
            line[step.name()] = serde_json::to_value(shards.cut(step))?;
        }
        super::print(&format!("{line}\n"))?;
        return Ok(0);
    }
    super::print(&super::sanitized(&in_words(&plan, &shards)))?;
    Ok(0)
}

/// What there is to do, command by command.
fn in_words(plan: &run::plan::Plan, shards: &Shards) -> String {
    let directory = plan.output.display();
    let steps: Vec<Step> = Step::ALL.into_iter().filter(|step| shards.cut(*step).shards > 0).collect();
    let counts: Vec<String> = steps
        .iter()
        .map(|step| {
            let cut = shards.cut(*step);
            format!("{} shards of {} ({} {})", cut.shards, step.name(), cut.items, step.items())
        })
        .collect();
    let mut text = format!("{directory}: {}. In this order:\n", counts.join(", "));
    for step in &steps {
        let name = step.name();
        if *step == Step::Performance {
            for (shard, nodes) in plan.performance.on.iter().enumerate() {
                text += &format!(
                    "  calib8 shard run {directory} {name} {shard}   alone on a machine of {nodes}\n"
                );
            }
            continue;
        }
        let last = shards.cut(*step).shards - 1;
        text += &format!("  calib8 shard run {directory} {name} N   for N from 0 to {last}, in any order\n");
        if !step.needs_model() {
            text += &format!("  calib8 shard merge {directory} {name}\n");
        }
    }
    text + &format!("  calib8 shard merge {directory} report\n")
}

fn one(args: &One) -> anyhow::Result<u8> {
    let interrupt = Interrupt::install_in_task().context("cannot listen to signals")?;
    let threads = args.threads.map(|threads| threads as usize);
    let listeners = vec![view(args.json)];
    shards::run(&args.directory, args.step.into(), args.shard, threads, &interrupt, listeners)?;
    Ok(0)
}

fn merge(args: &Merge) -> anyhow::Result<u8> {
    let interrupt = Interrupt::install_in_task().context("cannot listen to signals")?;
    let shards = Shards::open(&std::path::absolute(&args.directory)?)?;
    let (directory, plan) = RunDirectory::reopen(&args.directory)?;
    let outcome = with_log(&directory, Some(view(args.json)), |log| {
        run::merge(&plan, &directory, &shards, args.step.into(), log, &interrupt)
    })?;
    match outcome? {
        Some(outcome) => conclude(&outcome, &plan, args.json),
        None => Ok(0),
    }
}
