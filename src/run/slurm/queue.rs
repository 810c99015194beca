//! How the jobs of a run stand, as `squeue` says. It is asked at most once in a while, whoever wants to know:
//! schedulers of large clusters do not like to be polled.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Jobs, command};
use crate::run::RunError;

/// The shortest time between two questions.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What of a run's jobs has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alive {
    /// Tasks at work.
    pub running: usize,
    /// Jobs and arrays that wait.
    pub pending: usize,
    /// Why the first of them waits that does not only wait for another job of the run.
    pub reason: Option<String>,
}

impl Alive {
    /// Whether all jobs have ended.
    pub fn is_none(&self) -> bool {
        self.tasks() == 0
    }

    /// Tasks and jobs that have not ended.
    pub fn tasks(&self) -> usize {
        self.running + self.pending
    }
}

/// When `squeue` was asked last, and what it said: one answer for all runs of this user.
static ANSWER: Mutex<Option<(Instant, String)>> = Mutex::new(None);

/// What is alive of the jobs of the run in `directory`, not older than some seconds; `None` if none were submitted or
/// Slurm can't be asked from here.
pub fn alive(directory: &Path) -> Option<Alive> {
    let jobs = Jobs::of(directory)?;
    let mut answer = ANSWER.lock().unwrap_or_else(PoisonError::into_inner);
    if answer.as_ref().is_none_or(|(when, _)| when.elapsed() >= ASK_EVERY) {
        // A controller that does not answer for a moment says nothing about the jobs: what was known stays.
        let table = ask().ok().or_else(|| answer.take().map(|(_, table)| table));
        *answer = table.map(|table| (Instant::now(), table));
    }
    answer.as_ref().map(|(_, table)| count(table, &jobs))
}

/// Lets the next [`alive`] ask anew.
pub(super) fn forget() {
    *ANSWER.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// As [`alive`], at this moment.
pub(super) fn alive_now(jobs: &Jobs) -> Result<Alive, RunError> {
    Ok(count(&ask()?, jobs))
}

fn ask() -> Result<String, RunError> {
    let arguments = ["--me", "--noheader", "--states=all", "--format=%F|%T|%r"].map(String::from);
    command("squeue", &arguments)
}

fn count(table: &str, jobs: &Jobs) -> Alive {
    let mut alive = Alive::default();
    for line in table.lines() {
        let mut fields = line.split('|').map(str::trim);
        let (Some(id), Some(state), reason) = (fields.next(), fields.next(), fields.next()) else { continue };
        if !jobs.jobs.iter().any(|job| job.id.to_string() == id) {
            continue;
        }
        match state {
            "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "STAGE_OUT" | "SIGNALING" => {
                alive.running += 1;
            }
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => {
                alive.pending += 1;
                let waits_for_us = |reason: &str| ["Dependency", "None", ""].contains(&reason);
                if let Some(reason) = reason.filter(|reason| !waits_for_us(reason)) {
                    alive.reason.get_or_insert_with(|| reason.to_string());
                }
            }
            _ => {}
        }
    }
    alive
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::{Job, SCHEMA, What};
    use super::*;

    #[test]
    fn jobs_of_the_run_are_counted_and_the_reason_is_one_of_the_cluster() {
        let job = |id, what| Job { id, what, tasks: 3, first: 0 };
        let jobs = vec![job(12, What::Statistics), job(13, What::Model)];
        let jobs = Jobs { schema: SCHEMA.into(), submitted: String::new(), jobs };
        let table = "12|RUNNING|None\n12|PENDING|Resources\n13|PENDING|Dependency\n12|COMPLETED|None\n\
                     12|COMPLETING|None\n99|RUNNING|None\nnonsense\n";
        let expected = Alive { running: 2, pending: 2, reason: Some("Resources".into()) };
        assert_eq!(count(table, &jobs), expected);
        assert!(count("12|CANCELLED|None\n", &jobs).is_none());
    }
}
