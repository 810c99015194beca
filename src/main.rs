//! The `calib8` command: parse, run, map the result to an exit code.

use std::io::Write;
use std::process::ExitCode;

use calib8::cli;
use clap::Parser;

fn main() -> ExitCode {
    // Rust ignores SIGPIPE, so a reader that goes away shows as an error of a write, which `cli`
    // takes for what it is; the default action would end a run that somebody piped into `head`.
    let cli = cli::Cli::parse();
    let code = cli::execute(&cli).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {}", cli::error_text(&error));
        cli::exit_code(&error)
    });
    ExitCode::from(code)
}
