//! The `calib8` command: parse, run, map the result to an exit code.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use calib8::cli::{self, Cli};
use calib8::tui::{self, Exit};
use clap::{CommandFactory, Parser};

fn main() -> ExitCode {
    // Rust ignores SIGPIPE, so a reader that goes away shows as an error of a write, which `cli`
    // takes for what it is; the default action would end a run that somebody piped into `head`.
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(command) => cli::execute(command),
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => {
            workbench(cli.workspace.as_deref(), cli.open.as_deref())
        }
        None => {
            // Nobody sits there: the same answer as to a command that is missing.
            let _ = write!(io::stderr(), "{}", Cli::command().render_help());
            return ExitCode::from(2);
        }
    };
    let code = result.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {}", cli::error_text(&error));
        cli::exit_code(&error)
    });
    ExitCode::from(code)
}

fn workbench(workspace: Option<&Path>, run: Option<&Path>) -> anyhow::Result<u8> {
    let end = tui::open(workspace, run)?;
    // Where the terminal is gone, there is nobody to tell.
    let _ = write!(io::stdout(), "{}", cli::sanitized(&end.farewell));
    Ok(match end.exit {
        Exit::Quit => 0,
        Exit::Hangup => 129,
        Exit::Terminated => 143,
    })
}
