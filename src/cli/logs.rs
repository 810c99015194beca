//! `calib8 logs`: what a run has to say, in lines.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use super::runs::Which;
use crate::project::ProjectError;
use crate::project::lock::RunLock;
use crate::run::fold::Phase;
use crate::run::shards::Shards;
use crate::run::slurm;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Of how many shards that failed something is shown, and how much.
const SHARDS_SHOWN: usize = 5;
const LINES_SHOWN: usize = 20;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Go on with what comes, until the run ends
    #[arg(long, short)]
    follow: bool,
}

/// Prints `worker.log` of a run.
///
/// # Errors
/// There is no such run, or its log can't be read.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let directory = args.which.directory()?;
    let path = directory.join("worker.log");
    let mut offset = 0;
    loop {
        // In this order: what was said before the end is read after it.
        let works = RunLock::holder(&directory).is_some();
        let text = read_from(&path, &mut offset).map_err(|source| ProjectError::read(&path, source))?;
        super::print(&super::sanitized(&text))?;
        if !args.follow || !works {
            super::print(&super::sanitized(&of_failed_shards(&directory)))?;
            return Ok(0);
        }
        std::thread::sleep(LOOK);
    }
}

/// The last lines of what shards that failed have printed.
fn of_failed_shards(directory: &Path) -> String {
    let Ok(shards) = Shards::open(directory) else { return String::new() };
    let mut text = String::new();
    for (step, shard) in shards.failed().into_iter().take(SHARDS_SHOWN) {
        let printed = fs::read(shards.file(step, shard, "out")).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        let lines: Vec<&str> = printed.lines().collect();
        text += &format!("-- shard {shard} of {}:\n", step.name());
        for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
            text += &format!("{line}\n");
        }
        if let Phase::Failed { message } = shards.state(step, shard).phase {
            text += &format!("failed: {message}\n");
        }
    }
    if let Some(words) = slurm::unfinished(directory) {
        text += &format!("-- Slurm says: {words}\n");
    }
    text
}

/// Whole lines behind `offset`, which moves behind them; all there is if the file has become shorter.
fn read_from(path: &Path, offset: &mut u64) -> std::io::Result<String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // A run that has just begun has said nothing yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() < *offset {
        *offset = 0;
    }
    file.seek(SeekFrom::Start(*offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
    *offset += whole as u64;
    Ok(String::from_utf8_lossy(&bytes[..whole]).into_owned())
}
