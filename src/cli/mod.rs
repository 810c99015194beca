//! The command line: clap definitions and one file per subcommand.
//!
//! What a command is asked for goes to standard output; progress, warnings and errors go to
//! standard error.

pub mod attach;
pub mod cancel;
mod columns;
pub mod compare;
pub mod completions;
pub mod doctor;
mod dry_run;
pub mod export;
mod follow;
pub mod history;
pub mod import;
pub mod inspect;
pub mod logs;
pub mod measure_load;
pub mod measure_raw;
mod on_slurm;
pub mod optimize;
pub(crate) mod progress_bar;
pub mod projects;
pub mod ps;
mod queue;
pub mod redo;
pub mod run;
mod runs;
pub mod shard;
pub(crate) mod summary_text;
mod take_turns;
pub mod worker;

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::model::{is_obeyed, printable};
use crate::project::ProjectError;
use crate::run::RunError;

const EXIT_CODES: &str = "\
Exit codes:
  0    done, and all gates passed
  1    failed
  2    wrong usage or run file
  3    a gate failed
  129  the terminal of the workbench went away
  130  interrupted";

/// Make neural networks fast on CPUs: calibrate an ONNX model to INT8, measure how much faster it
/// became, and see image by image where its predictions changed.
///
/// Without a command, calib8 opens its workbench on the terminal.
#[derive(Debug, Parser)]
#[command(name = "calib8", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without it, the workbench opens.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Folder of the workbench's projects; $CALIB8_WORKSPACE or the user's data folder if left out
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Open the workbench on the results of this run, wherever it was made
    #[arg(long, value_name = "RUN_DIR")]
    pub open: Option<PathBuf>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Do what run files say: calibrate, measure, report, judge
    Run(run::Args),
    /// Make a project of the workspace from a model and a dataset; the model is run once
    Import(import::Args),
    /// List the projects of the workspace and what was made of them
    Projects(projects::Args),
    /// Make an INT8 variant of a project's model
    Optimize(optimize::Args),
    /// Measure the speed of a variant again, in the same settings or others
    Measure(redo::Args),
    /// Make the reports of a variant again, the same or others
    Report(redo::Args),
    /// List the runs that are known, wherever they were started
    Ps(ps::Args),
    /// Watch a run; Ctrl-C leaves it alone
    Attach(attach::Args),
    /// Print what a run has said so far
    Logs(logs::Args),
    /// Stop a run; what it has finished is kept
    Cancel(cancel::Args),
    /// Show what a model holds and what of it can be quantized
    Inspect(inspect::Args),
    /// Hold any two ONNX models against each other on a dataset: speed and predictions
    Compare(compare::Args),
    /// Show measurements of several runs and hosts side by side
    History(history::Args),
    /// Pack the INT8 model of a run with what it takes to run it elsewhere
    Export(export::Args),
    /// Show what this machine offers
    Doctor(doctor::Args),
    /// Cut a run into shards for a scheduler, do one of them, put them together
    Shard(shard::Args),
    /// Time inferences on request, for benchmarks of several engines
    MeasureRaw(measure_raw::Args),
    /// Do the work of a run directory: the process behind `run --detach`
    #[command(hide = true)]
    Worker(worker::Args),
    /// Begin the runs that wait in a workspace: the process behind the queue of the workbench
    #[command(hide = true)]
    TakeTurns(take_turns::Args),
    /// Measure load time and memory of a model, for runs
    #[command(hide = true)]
    MeasureLoad(measure_load::Args),
    /// Print completions for a shell
    Completions(completions::Args),
}

/// Runs a command; gives its exit code.
///
/// # Errors
/// The command failed; [`exit_code`] says how.
pub fn execute(command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Import(args) => import::run(args),
        Command::Projects(args) => projects::run(args),
        Command::Optimize(args) => optimize::run(args),
        Command::Measure(args) => redo::run(args, redo::Step::Measure),
        Command::Report(args) => redo::run(args, redo::Step::Report),
        Command::Ps(args) => ps::run(args),
        Command::Attach(args) => attach::run(args),
        Command::Logs(args) => logs::run(args),
        Command::Cancel(args) => cancel::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Compare(args) => compare::run(args),
        Command::History(args) => history::run(args),
        Command::Export(args) => export::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Shard(args) => shard::run(args),
        Command::MeasureRaw(args) => measure_raw::run(args),
        Command::Worker(args) => worker::run(args),
        Command::TakeTurns(args) => take_turns::run(args),
        Command::MeasureLoad(args) => measure_load::run(args),
        Command::Completions(args) => completions::run(args),
    }
}

/// Arguments that can't be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

/// The exit code of a command that failed.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return 2;
    }
    match error.downcast_ref::<ProjectError>() {
        Some(ProjectError::Name { .. } | ProjectError::Invalid { .. }) => 2,
        _ => error.downcast_ref::<RunError>().map_or(1, RunError::exit_code),
    }
}

/// An error with its causes, fit for a terminal.
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Errors that pass their source through say it already.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    sanitized(&text)
}

/// Control and direction-changing characters, which may come from file names and models, as escapes; lines stay.
pub fn sanitized(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

/// What JSON leaves as it is and a terminal may obey: control characters above 0x7f and those that change the
/// direction of text, as `\uXXXX`, which JSON reads as the same text.
pub(crate) fn escaped_json(json: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c > '\u{7e}' && is_obeyed(c);
    if !json.contains(obeyed) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if obeyed(c) { out += &format!("\\u{:04x}", c as u32) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Writes to standard output. A reader that has gone away, such as `head`, is no error.
///
/// # Errors
/// The output is a file on a full disk, and the like.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    // JSON comes here as it is; other text has been sanitized, and holds nothing to escape.
    match out.write_all(escaped_json(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a warning to standard error, where nobody may be listening.
pub(crate) fn warn(message: &str) {
    let _ = writeln!(io::stderr(), "warning: {}", sanitized(message));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn an_escape_sequence_in_a_file_name_does_not_reach_the_terminal() {
        assert_eq!(sanitized("a\u{1b}[31m\nb\u{7}\u{202e}"), "a\\u{1b}[31m\nb\\u{7}\\u{202e}");
    }

    #[test]
    fn json_stays_json_when_escaped() {
        let escaped = escaped_json("{\n \"a\": \"x\u{9b}\u{202e}é\"}");
        assert_eq!(escaped, "{\n \"a\": \"x\\u009b\\u202eé\"}");
        let value: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(value["a"], "x\u{9b}\u{202e}é");
        assert!(matches!(escaped_json("{\"a\": \"é\"}\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("disk full").context("writing a.json");
        assert_eq!(error_text(&error), "writing a.json: disk full");
        let repeated = anyhow::anyhow!("disk full").context("a.json: disk full");
        assert_eq!(error_text(&repeated), "a.json: disk full");
    }
}
