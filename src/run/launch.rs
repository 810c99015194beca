//! Workers in processes of their own: started in a new session, so that they outlive the terminal and
//! the program that started them, and stopped from anywhere.
//!
//! A worker is this program as `calib8 worker RUN_DIR`. It reads the plan of the run directory and does
//! what `calib8 run` does in the foreground; a log that is there is gone on with. What it has to say beside
//! its log, such as why it could not begin, goes to `worker.log`.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::RunError;
use super::directory::{DirectoryError, Existing, PLAN_FILE, RunDirectory};
use super::plan::Plan;
use super::status;
use crate::project::lock::RunLock;
use crate::project::{ProjectError, host, places, time};

/// How long a worker may take to begin. It does so within milliseconds; on a machine that swaps, later.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often its beginning is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// Why a worker can't be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The system gives no process.
    #[error("cannot start a worker for {}: {source}", directory.display())]
    Spawn {
        /// The run directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it began.
    #[error("the worker for {} ended at once ({status}): {message}", directory.display())]
    Died {
        /// The run directory.
        directory: PathBuf,
        /// How.
        status: ExitStatus,
        /// What it said.
        message: String,
    },
    /// It does not begin.
    #[error("the worker for {} (process {pid}) has not begun after {} s; see worker.log there", directory.display(), PATIENCE.as_secs())]
    Silent {
        /// The run directory.
        directory: PathBuf,
        /// Its process.
        pid: u32,
    },
    /// The worker runs on another machine, or does not say where.
    #[error("the run in {} is at work as {holder}, which can't be reached from here; stop it on its own machine", directory.display())]
    Elsewhere {
        /// The run directory.
        directory: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// The system does not pass the signal on.
    #[error("process {pid}, which works in {}, can't be stopped: {source}", directory.display())]
    Signal {
        /// The run directory.
        directory: PathBuf,
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// A worker that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The run directory.
    pub directory: PathBuf,
    /// The process.
    pub pid: u32,
}

/// Runs `plan` in `directory` in a process of its own, which has begun when this returns.
///
/// # Errors
/// The directory is refused as for a run in the foreground, or no worker begins.
pub fn start_detached(plan: &Plan, directory: &Path, existing: Existing) -> Result<Started, RunError> {
    let directory = std::path::absolute(directory).map_err(|source| ProjectError::read(directory, source))?;
    let plan = Plan { output: directory.clone(), ..plan.clone() };
    // Checks and writes what is refused or wrong here, where somebody listens; the worker takes the lock
    // anew.
    drop(RunDirectory::create(&directory, &plan, existing)?);
    spawn(&directory)
}

/// Takes the run in `directory` up again in a process of its own.
///
/// # Errors
/// No run is there, somebody works on it, or no worker begins.
pub fn resume_detached(directory: &Path) -> Result<Started, RunError> {
    let directory = std::path::absolute(directory).map_err(|source| ProjectError::read(directory, source))?;
    if !directory.join(PLAN_FILE).is_file() {
        return Err(DirectoryError::NoRun(directory).into());
    }
    RunLock::check_free(&directory)?;
    spawn(&directory)
}

/// Measures the speed of a finished run again, beside its parent and in the settings that it had, in a process of
/// its own. All else stays as it is.
///
/// # Errors
/// No run is there, somebody works on it, its plan can't be used any more, or no worker begins.
pub fn measure_again(directory: &Path) -> Result<Started, RunError> {
    let plan = Plan::load(&directory.join(PLAN_FILE), &[])?;
    start_detached(&plan, directory, Existing::Replan { measures_again: true })
}

/// A queue that has been started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its process; ended by SIGTERM, it stops the run at work and begins no other.
    pub pid: u32,
    /// What it says.
    pub log: PathBuf,
}

/// Does the runs in `directories` one after another, or `jobs` at once, from a process of its own. The
/// directories hold plans ([`RunDirectory::create`] puts one there); those that came to their end stay as
/// they are.
///
/// # Errors
/// The system gives no process, or there is no place for its log.
pub fn start_queue(directories: &[PathBuf], jobs: usize) -> Result<Queue, RunError> {
    let words = ["run", "--resume", "--jobs"].map(OsString::from).into_iter();
    let files = directories.iter().map(|directory| directory.join(PLAN_FILE).into_os_string());
    let jobs = OsString::from(jobs.to_string());
    spawn_queue(words.chain([jobs]).chain(files).chain(["--in-session".into()]))
}

/// Starts this program with the arguments of a queue, which takes a session of its own, with a file for what it
/// has to say.
///
/// # Errors
/// As [`start_queue`].
pub fn spawn_queue(arguments: impl Iterator<Item = OsString>) -> Result<Queue, RunError> {
    let folder = places::state(|name| std::env::var_os(name))?.join("queues");
    fs::create_dir_all(&folder).map_err(|source| ProjectError::write(&folder, source))?;
    let path = folder.join(format!("{}-{}.log", time::now().replace(':', ""), std::process::id()));
    let failed = |source| ProjectError::write(&path, source);
    let log = fs::File::create_new(&path).map_err(failed)?;
    let for_errors = log.try_clone().map_err(failed)?;
    let spawn_failed = |source| LaunchError::Spawn { directory: folder.clone(), source };
    let mut queue = Command::new(program().map_err(spawn_failed)?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(for_errors)
        .spawn()
        .map_err(spawn_failed)?;
    let pid = queue.id();
    // It is a child of this process for as long as that lives, and must not stay as a zombie.
    std::thread::spawn(move || queue.wait());
    Ok(Queue { pid, log: path })
}

/// Asks whoever works in `directory` to stop: after the image at work, with what is done saved. Asked a
/// second time, it stops at once. Gives the process that was asked; `None` if nobody works there.
///
/// # Errors
/// The worker is on another machine, or belongs to another user.
pub fn cancel(directory: &Path) -> Result<Option<u32>, RunError> {
    let Some(holder) = RunLock::holder(directory) else { return Ok(None) };
    let here = holder.host.as_deref() == Some(host::hostname().as_str());
    let process = holder.pid.filter(|_| here).and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let (Some(process), Some(pid)) = (process, holder.pid) else {
        let directory = directory.to_path_buf();
        return Err(LaunchError::Elsewhere { directory, holder: holder.to_string() }.into());
    };
    match kill_process(process, Signal::TERM) {
        Ok(()) => Ok(Some(pid)),
        // It ended between the two looks.
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => {
            let directory = directory.to_path_buf();
            Err(LaunchError::Signal { directory, pid, source: error.into() }.into())
        }
    }
}

fn spawn(directory: &Path) -> Result<Started, RunError> {
    let path = directory.join("worker.log");
    let failed = |source| ProjectError::write(&path, source);
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let before = log.metadata().map_err(failed)?.len();
    let for_errors = log.try_clone().map_err(failed)?;
    let spawn_failed = |source| LaunchError::Spawn { directory: directory.to_path_buf(), source };
    let mut worker = Command::new(program().map_err(spawn_failed)?)
        .arg("worker")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(for_errors)
        .spawn()
        .map_err(spawn_failed)?;
    let pid = worker.id();
    let started = wait_until_begun(&mut worker, directory, before);
    // It is a child of this process for as long as that lives, and must not stay as a zombie.
    std::thread::spawn(move || worker.wait());
    started.map(|()| Started { directory: directory.to_path_buf(), pid }).map_err(RunError::from)
}

/// This program, also when its file was replaced meanwhile.
///
/// # Errors
/// The system can't tell.
pub fn program() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(if program.exists() { program } else { "/proc/self/exe".into() })
}

fn wait_until_begun(worker: &mut Child, directory: &Path, before: u64) -> Result<(), LaunchError> {
    let pid = worker.id();
    let start = Instant::now();
    // It leaves the session before it takes the lock, and speaks once its plan can be used: one that only holds the
    // lock may still let go of it without a word.
    let begun = || {
        RunLock::holder(directory).is_some_and(|holder| holder.pid == Some(pid))
            && status::of(directory).state.pid == Some(pid)
    };
    while start.elapsed() < PATIENCE {
        if begun() {
            return Ok(());
        }
        let ended = worker.try_wait();
        if let Ok(Some(status)) = ended {
            // One that has spoken in the log has begun, and the log says how it ended.
            if status::of(directory).state.pid == Some(pid) {
                return Ok(());
            }
            let message = said_since(&directory.join("worker.log"), before);
            return Err(LaunchError::Died { directory: directory.to_path_buf(), status, message });
        }
        std::thread::sleep(LOOK);
    }
    Err(LaunchError::Silent { directory: directory.to_path_buf(), pid })
}

fn said_since(log: &Path, before: u64) -> String {
    let text = fs::read(log).unwrap_or_default();
    let new = text.get(before as usize..).unwrap_or_default();
    let said = String::from_utf8_lossy(new).trim().trim_start_matches("error: ").to_string();
    if said.is_empty() { "it said nothing".to_string() } else { said }
}
