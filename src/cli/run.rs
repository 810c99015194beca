//! `calib8 run`: the worker in the foreground, or started in a process of its own.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::progress_bar::{JsonLines, PlainLines, ProgressBar, Style};
use super::{dry_run, on_slurm, queue, summary_text};
use crate::project::ProjectError;
use crate::run::directory::{Existing, RunDirectory};
use crate::run::event_log::{EventLog, Listener};
use crate::run::interrupt::Interrupt;
use crate::run::launch::{self, Started};
use crate::run::plan::{ExecutorSection, Plan};
use crate::run::registry::Registry;
use crate::run::{self, Outcome, RunError};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run files, or a folder of them; config/ holds some to copy. Several are done one after another
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Of several run files, do this many at once, each on its share of the cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: u32,
    /// What the command line says beside the run files.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Check everything, print the plan and what it will take, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do the work in a process of its own, which goes on when the terminal is closed
    #[arg(long, conflicts_with = "dry_run")]
    pub detach: bool,
    /// Where the work is done; left out, what the run file says under `executor`, else here
    #[arg(long, value_name = "WHERE")]
    pub on: Option<On>,
    /// Print one JSON event per line instead of text; of several run files, one result per line
    #[arg(long)]
    pub json: bool,
    /// A queue that `--detach` has started
    #[arg(long, hide = true)]
    pub in_session: bool,
}

/// Where the work of a run is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum On {
    /// On this machine, whatever the run file says
    Here,
    /// On a Slurm cluster, in shards
    Slurm,
}

impl Args {
    /// The scheduler that does the work, if one does.
    fn executor(&self, plan: &Plan) -> Option<ExecutorSection> {
        match self.on {
            Some(On::Here) => None,
            Some(On::Slurm) => Some(plan.executor.clone().unwrap_or_else(ExecutorSection::slurm)),
            None => plan.executor.clone(),
        }
    }
}

/// What the command line says beside a run file.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Put everything into this folder instead of the run file's `output`
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Override a key of the run file, such as --set optimize.preset=mixed; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Neither read nor keep calibration statistics of other runs; as --set optimize.cache=false
    #[arg(long)]
    pub no_cache: bool,
    /// Go on with the run that the output folder holds
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace the run that the output folder holds; other files there stay
    #[arg(long)]
    pub force: bool,
}

impl PlanArgs {
    /// What to do when the output folder already holds a run.
    pub(super) fn existing(&self) -> Existing {
        match (self.resume, self.force) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Force,
            _ => Existing::Refuse,
        }
    }

    /// The plan of a run file, with what the command line says.
    ///
    /// # Errors
    /// The run file can't be used.
    pub(super) fn plan(&self, file: &Path) -> anyhow::Result<Plan> {
        let mut plan = Plan::load(file, &self.set).map_err(RunError::from)?;
        plan.optimize.cache &= !self.no_cache;
        if let Some(output) = &self.output {
            plan.output =
                std::path::absolute(output).with_context(|| format!("--output {}", output.display()))?;
        }
        Ok(plan)
    }
}

/// Runs the files; gives 0, or 3 if a gate failed, or of several the code of the worst.
///
/// # Errors
/// A [`RunError`], or standard output can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let several = args.files.len() > 1 || args.files.iter().any(|file| file.is_dir());
    if args.on == Some(On::Slurm) && several && !args.dry_run {
        return submit_all(args);
    }
    match &args.files[..] {
        [file] if !file.is_dir() && !args.in_session => run_one(args, file),
        several => queue::run(args, queue::files(several)?),
    }
}

/// Submits several run files, whose jobs then share the cluster; shows none. One that can't be submitted keeps none of
/// the others from it; gives the exit code of the worst.
fn submit_all(args: &Args) -> anyhow::Result<u8> {
    if args.plan.output.is_some() {
        let what = "--output names one folder, and there are several runs; give each its own `output`";
        return Err(super::Usage(what.into()).into());
    }
    let mut worst = 0;
    for file in queue::files(&args.files)? {
        let submitted = args.plan.plan(&file).and_then(|plan| {
            let executor = plan.executor.clone().unwrap_or_else(ExecutorSection::slurm);
            on_slurm::run(&plan, args.plan.existing(), &executor, true, args.json)
        });
        if let Err(error) = submitted {
            worst = worst.max(super::exit_code(&error));
            let text = format!("error: {}: {}\n", file.display(), super::error_text(&error));
            let _ = io::Write::write_all(&mut io::stderr(), super::sanitized(&text).as_bytes());
        }
    }
    Ok(worst)
}

fn run_one(args: &Args, file: &Path) -> anyhow::Result<u8> {
    let plan = args.plan.plan(file)?;
    let existing = args.plan.existing();
    if args.dry_run {
        return dry_run::run(&plan, existing, args.json);
    }
    if let Some(executor) = args.executor(&plan) {
        return on_slurm::run(&plan, existing, &executor, args.detach, args.json);
    }
    start(&plan, existing, args.detach, args.json)
}

/// Runs a plan here, or has it run; gives 0, or 3 if a gate failed.
///
/// # Errors
/// The output folder is refused, or the run failed.
pub(super) fn start(plan: &Plan, existing: Existing, detach: bool, json: bool) -> anyhow::Result<u8> {
    if detach {
        let started = launch::start_detached(plan, &plan.output, existing)?;
        super::print(&announcement(&started, json))?;
        return Ok(0);
    }

    let interrupt = Interrupt::install().context("cannot listen to Ctrl-C")?;
    let directory = RunDirectory::create(&plan.output, plan, existing).map_err(RunError::from)?;
    let outcome = work(plan, &directory, &interrupt, Some(view(json)))??;
    conclude(&outcome, plan, json)
}

/// Prints how a run of this process ended; gives its exit code.
///
/// # Errors
/// Standard output can't be written.
pub(super) fn conclude(outcome: &Outcome, plan: &Plan, json: bool) -> anyhow::Result<u8> {
    let summary = &outcome.summary;
    if !json {
        let text = summary_text::render(summary, &plan.name, &plan.output, width());
        super::print(&super::sanitized(&text))?;
    }
    Ok(summary.status.exit_code())
}

/// Does the work of `plan`, telling `worker.log` and whoever else listens.
///
/// # Errors
/// The outer error: the work could not begin. The inner one: how it ended, which the log says as well.
pub(super) fn work(
    plan: &Plan,
    directory: &RunDirectory,
    interrupt: &Interrupt,
    listener: Option<Box<dyn Listener>>,
) -> Result<Result<Outcome, RunError>, RunError> {
    with_log(directory, listener, |log| run::perform(plan, directory, log, interrupt))
}

/// Remembers a run directory for `calib8 ps`.
pub(super) fn remember(directory: &Path) {
    if let Ok(registry) = Registry::of_user()
        && let Err(error) = registry.record(directory)
    {
        super::warn(&format!("`calib8 ps` will not list this run: {error}"));
    }
}

/// Gives `work` the log of a run directory, to which `worker.log` and `listener` listen.
///
/// # Errors
/// The log can't be opened.
pub(super) fn with_log<T>(
    directory: &RunDirectory,
    listener: Option<Box<dyn Listener>>,
    work: impl FnOnce(&EventLog) -> T,
) -> Result<T, RunError> {
    let listeners = [Some(worker_log(directory)?), listener].into_iter().flatten().collect();
    remember(directory.path());
    let log = EventLog::open(&directory.file("events.jsonl"), &directory.file("state.json"), listeners)?;
    let outcome = work(&log);
    if let Some(error) = log.write_error() {
        super::warn(&format!("the event log is not complete: {error}"));
    }
    Ok(outcome)
}

/// What is printed of a run that goes on without this process.
fn announcement(started: &Started, json: bool) -> String {
    let (pid, directory) = (started.pid, started.directory.display());
    if json {
        let line = serde_json::json!({ "pid": pid, "directory": started.directory });
        return format!("{line}\n");
    }
    super::sanitized(&format!("process {pid} is at work in {directory}; `calib8 attach {pid}` shows it\n"))
}

/// Columns of the terminal; without end where there is none.
pub(super) fn width() -> usize {
    let terminal = io::stdout().is_terminal().then(crossterm::terminal::size);
    terminal.and_then(Result::ok).map_or(usize::MAX, |(columns, _)| usize::from(columns))
}

/// The plain lines, kept in `worker.log` for whoever looks later.
fn worker_log(directory: &RunDirectory) -> Result<Box<dyn Listener>, RunError> {
    let path = directory.file("worker.log");
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.map_err(|source| ProjectError::write(&path, source))?;
    Ok(Box::new(PlainLines::with_failure(file)))
}

/// What the user sees: a bar where it can be drawn, lines elsewhere.
pub(super) fn view(json: bool) -> Box<dyn Listener> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    if json {
        Box::new(JsonLines::new(io::stdout()))
    } else if io::stderr().is_terminal() && variable("TERM") != "dumb" {
        Box::new(ProgressBar::new(io::stderr(), Style::of_environment(variable)))
    } else {
        Box::new(PlainLines::new(io::stderr()))
    }
}
