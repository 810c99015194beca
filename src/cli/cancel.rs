//! `calib8 cancel`: stop a run, whoever started it.

use std::time::{Duration, Instant};

use super::on_slurm;
use super::runs::Which;
use crate::project::lock::RunLock;
use crate::run::{launch, slurm};

/// How long to wait for the end: an image at work, a turn of measuring.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// Arguments of `cancel`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Do not let it finish the image at work
    #[arg(long)]
    now: bool,
}

/// Asks the run to stop, and waits a while until it has.
///
/// # Errors
/// There is no such run, nobody works on it, or it can't be reached.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let directory = args.which.directory()?;
    if let Some(tasks) = on_slurm::cancel(&directory)? {
        let start = Instant::now();
        while start.elapsed() < PATIENCE && slurm::alive(&directory).is_some_and(|alive| !alive.is_none()) {
            std::thread::sleep(LOOK);
        }
        on_slurm::conclude_cancel(&directory)?;
        let text = format!(
            "{tasks} tasks and jobs were taken from Slurm; what was finished is kept in {}, and `calib8 run FILE.yaml \
             --on slurm --resume` goes on\n",
            directory.display()
        );
        super::print(&super::sanitized(&text))?;
        return Ok(0);
    }
    let Some(pid) = launch::cancel(&directory)? else {
        return Err(super::Usage(format!(
            "{}: nobody works there, there is nothing to stop",
            directory.display()
        ))
        .into());
    };
    let start = Instant::now();
    let mut again = args.now;
    while start.elapsed() < PATIENCE {
        if RunLock::holder(&directory).and_then(|holder| holder.pid) != Some(pid) {
            let text = format!(
                "process {pid} has stopped; what was finished is kept in {}, and --resume goes on\n",
                directory.display()
            );
            super::print(&super::sanitized(&text))?;
            return Ok(0);
        }
        std::thread::sleep(LOOK);
        if std::mem::take(&mut again) {
            launch::cancel(&directory)?;
        }
    }
    super::print(&format!(
        "process {pid} was asked to stop and has not yet; `--now` does not let it finish\n"
    ))?;
    Ok(0)
}
