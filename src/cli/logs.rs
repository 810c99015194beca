//! `calib8 logs`: what a run has to say, in lines.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use super::runs::Which;
use crate::project::ProjectError;
use crate::project::lock::RunLock;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(200);

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
            return Ok(0);
        }
        std::thread::sleep(LOOK);
    }
}

/// Whole lines behind `offset`, which moves behind them; all there is if the file has become shorter.
fn read_from(path: &std::path::Path, offset: &mut u64) -> std::io::Result<String> {
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
