//! Runs of a workspace that wait for their turn: one after another, in the order in which they were prepared.
//!
//! A run waits once its directory holds a plan and no log. Whoever puts one there calls [`start`]: a process in
//! a session of its own begins one run after another, also when every terminal is closed, and ends when none
//! waits. There is one for a workspace, which holds the lock of its folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RunError;
use super::directory::PLAN_FILE;
use super::event_log::EventLog;
use super::events::Event;
use super::fold::Phase;
use super::interrupt::Interrupt;
use super::launch;
use super::status::{self, Standing};
use crate::project::ProjectError;
use crate::project::lock::RunLock;
use crate::project::workspace::{Variant, Workspace};

/// How often the run at work is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The next thing to do.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// No run waits.
    Nothing,
    /// One waits, and another is at work.
    Busy,
    /// This run begins.
    Begin(PathBuf),
}

/// Has the runs that wait begun one after another; `None` if somebody does that already.
///
/// # Errors
/// The system gives no process.
pub fn start(workspace: &Workspace) -> Result<Option<launch::Queue>, RunError> {
    if RunLock::holder(workspace.root()).is_some() {
        return Ok(None);
    }
    let words = ["take-turns".into(), workspace.root().as_os_str().to_os_string()];
    launch::spawn_queue(words.into_iter()).map(Some)
}

/// Begins one run after another until none waits or the user asked to stop; gives the directories of those that
/// it began. Does nothing where another process does it.
///
/// # Errors
/// The workspace can't be read.
pub fn serve(workspace: &Workspace, interrupt: &Interrupt) -> Result<Vec<PathBuf>, RunError> {
    let mut begun = Vec::new();
    loop {
        let Ok(lock) = RunLock::take(workspace.root()) else { return Ok(begun) };
        loop {
            match next(workspace)? {
                _ if interrupt.is_set() => return Ok(begun),
                Next::Nothing => break,
                Next::Busy => std::thread::sleep(LOOK),
                Next::Begin(directory) => {
                    begin(&directory)?;
                    begun.push(directory);
                }
            }
        }
        drop(lock);
        // Whoever prepared a run between the last look and this moment found the lock held.
        if next(workspace)? == Next::Nothing {
            return Ok(begun);
        }
    }
}

fn next(workspace: &Workspace) -> Result<Next, ProjectError> {
    let projects = workspace.projects()?;
    let variants: Vec<&Variant> = projects.iter().flatten().flat_map(|project| &project.variants).collect();
    let standing: Vec<Standing> = variants.iter().map(|variant| status::of(&variant.path).standing).collect();
    let waiting = variants.iter().zip(&standing).filter(|(variant, standing)| {
        **standing == Standing::Waiting && variant.path.join(PLAN_FILE).is_file()
    });
    let oldest = waiting.map(|(variant, _)| variant).min_by_key(|variant| (&variant.created, &variant.id));
    Ok(match oldest {
        None => Next::Nothing,
        Some(_) if standing.contains(&Standing::Running) => Next::Busy,
        Some(variant) => Next::Begin(variant.path.clone()),
    })
}

/// Begins a run. One that can't begin has failed, and says so where people look: the next has its turn.
fn begin(directory: &Path) -> Result<(), RunError> {
    let Err(error) = launch::resume_detached(directory) else { return Ok(()) };
    // Somebody else was faster, or it tells by itself how it failed, before it lets go of its lock.
    let _lock = loop {
        match RunLock::take(directory) {
            Ok(lock) => break lock,
            Err(_) if status::of(directory).state.phase != Phase::Waiting => return Ok(()),
            Err(_) => std::thread::sleep(LOOK / 10),
        }
    };
    if status::of(directory).state.phase == Phase::Waiting {
        let log = EventLog::open(&directory.join("events.jsonl"), &directory.join("state.json"), Vec::new())?;
        log.emit(Event::Failed { message: error.to_string() });
    }
    Ok(())
}
