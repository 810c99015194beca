//! How tasks ended that did not do their work, in Slurm's words: a time limit, too little memory, a node that failed.
//! A task that was killed has no words of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{Job, Jobs, What, command};
use crate::run::shards::{Shards, Step};

/// The shortest time between two questions about the same run: what has ended does not change.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Tasks that a sentence names.
const NAMED: usize = 5;

/// A task that ended without having done its work.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ended {
    /// What it was to do.
    what: What,
    /// Which shard; none of a job that merges.
    shard: Option<usize>,
    /// In Slurm's word, such as `TIMEOUT`.
    state: String,
    /// On which node, if it ran.
    node: Option<String>,
    /// Why, where Slurm says more than the state does.
    reason: Option<String>,
}

/// `shard 3 of statistics: TIMEOUT on node7 (TimeLimit)`
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shard {
            Some(shard) => write!(f, "shard {shard} of {}: {}", self.what.name(), self.state)?,
            None => write!(f, "job {}: {}", self.what.name(), self.state)?,
        }
        if let Some(node) = &self.node {
            write!(f, " on {node}")?;
        }
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

/// How tasks of the run in `directory` ended whose work is still missing, in a sentence that names the first few; not
/// older than some seconds. `None` where there are no such tasks, or no Slurm that remembers them.
pub fn unfinished(directory: &Path) -> Option<String> {
    type Known = HashMap<PathBuf, (Instant, String, Option<String>)>;
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let jobs = Jobs::of(directory)?;
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((when, submitted, words)) = known.get(directory)
        && *submitted == jobs.submitted
        && when.elapsed() < ASK_EVERY
    {
        return words.clone();
    }
    let words = Shards::open(directory).ok().and_then(|shards| in_words(&ask(&jobs), &shards));
    known.insert(directory.to_path_buf(), (Instant::now(), jobs.submitted, words.clone()));
    words
}

fn in_words(ended: &[Ended], shards: &Shards) -> Option<String> {
    let missing: BTreeMap<Step, BTreeSet<usize>> =
        Step::ALL.into_iter().map(|step| (step, shards.missing(step).into_iter().collect())).collect();
    let unfinished = |ended: &&Ended| match (ended.what.step(), ended.shard) {
        (Some(step), Some(shard)) => missing.get(&step).is_some_and(|missing| missing.contains(&shard)),
        // A merge that failed has said why itself, and one that waited for it could not begin.
        _ => !["CANCELLED", "FAILED"].contains(&ended.state.as_str()),
    };
    let found: Vec<String> = ended.iter().filter(unfinished).map(Ended::to_string).collect();
    let more = found.len().saturating_sub(NAMED);
    let first = found.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    match (first.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(first),
        (false, more) => Some(format!("{first} and {more} more")),
    }
}

/// Accounting remembers longer than the controller does, but few small clusters have it.
fn ask(jobs: &Jobs) -> Vec<Ended> {
    let ids = jobs.ids();
    let arguments = [
        "--allocations".to_string(),
        "--noheader".into(),
        "--parsable2".into(),
        format!("--jobs={}", ids.join(",")),
        // Its `Reason` is why a job waited, whatever became of it.
        "--format=JobID,State,ExitCode,NodeList".into(),
    ];
    let table = command("sacct", &arguments).unwrap_or_default();
    if !table.is_empty() {
        return table.lines().filter_map(|line| accounted(line, jobs)).collect();
    }
    let show = |id: &String| {
        let arguments = ["--oneliner".to_string(), "show".into(), "job".into(), id.clone()];
        // One that the controller has forgotten says nothing.
        command("scontrol", &arguments).unwrap_or_default()
    };
    let lines: Vec<String> = ids.iter().map(show).collect();
    lines.iter().flat_map(|text| text.lines()).filter_map(|line| controlled(line, jobs)).collect()
}

/// A line of `sacct`.
fn accounted(line: &str, jobs: &Jobs) -> Option<Ended> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [id, state, exit, node] = fields[..] else { return None };
    let (id, task) = match id.split_once('_') {
        Some((id, task)) => (id, Some(task)),
        None => (id, None),
    };
    // `CANCELLED by 1000` names who did it.
    made(jobs, id, task, state.split(' ').next()?, exit, node, "")
}

/// A line of `scontrol --oneliner show job`.
fn controlled(line: &str, jobs: &Jobs) -> Option<Ended> {
    let field = |name: &str| {
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.filter(|value| !value.is_empty() && *value != "(null)")
    };
    let id = field("ArrayJobId").or_else(|| field("JobId"))?;
    let node = field("NodeList").unwrap_or("");
    let (exit, reason) = (field("ExitCode").unwrap_or(""), field("Reason").unwrap_or(""));
    made(jobs, id, field("ArrayTaskId"), field("JobState")?, exit, node, reason)
}

fn made(
    jobs: &Jobs,
    id: &str,
    task: Option<&str>,
    state: &str,
    exit: &str,
    node: &str,
    reason: &str,
) -> Option<Ended> {
    const BAD: [&str; 9] = [
        "BOOT_FAIL",
        "CANCELLED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    ];
    let job: &Job = jobs.jobs.iter().find(|job| job.id.to_string() == id)?;
    if !BAD.contains(&state) {
        return None;
    }
    let shard = match job.what {
        What::Model | What::Choice | What::End => None,
        // What of an array was never begun stands in one line, as a list of tasks.
        _ if job.tasks > 1 || task.is_some() => Some(job.first + task?.parse::<usize>().ok()?),
        _ => Some(job.first),
    };
    let none = |text: &&str| !["", "None", "None assigned", "(null)"].contains(text);
    // `137:0`, the code of the script, or `0:9`, a signal. `0:125` is no signal, but what the state says: out of memory.
    let exit = Some(exit).filter(|exit| !["", "0:0", "0:125"].contains(exit)).map(|exit| {
        match exit.split_once(':') {
            Some((code, "0")) => format!("exit code {code}"),
            Some((_, signal)) => format!("signal {signal}"),
            None => format!("exit code {exit}"),
        }
    });
    let reason = Some(reason).filter(none).filter(|reason| *reason != "NonZeroExitCode").map(String::from);
    Some(Ended {
        what: job.what,
        shard,
        state: state.into(),
        node: Some(node).filter(none).map(String::from),
        reason: reason.or(exit),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::SCHEMA;
    use super::*;

    fn jobs() -> Jobs {
        let job = |id, what, tasks, first| Job { id, what, tasks, first };
        let jobs = vec![
            job(12, What::Statistics, 3, 1000),
            job(13, What::Model, 1, 0),
            job(14, What::Performance, 1, 2),
        ];
        Jobs { schema: SCHEMA.into(), submitted: String::new(), jobs }
    }

    fn words(found: Vec<Option<Ended>>) -> Vec<String> {
        found.into_iter().flatten().map(|ended| ended.to_string()).collect()
    }

    #[test]
    fn accounting_is_read() {
        let table = "12_0|COMPLETED|0:0|node1\n12_1|TIMEOUT|0:15|node2\n\
                     12_2|CANCELLED by 1000|0:0|None assigned\n13|FAILED|1:0|node1\n\
                     14|OUT_OF_MEMORY|0:125|node3\n99|FAILED|1:0|x\n12_[3-9]|CANCELLED|0:0|\nnonsense";
        assert_eq!(
            words(table.lines().map(|line| accounted(line, &jobs())).collect()),
            [
                "shard 1001 of statistics: TIMEOUT on node2 (signal 15)",
                "shard 1002 of statistics: CANCELLED",
                "job model: FAILED on node1 (exit code 1)",
                "shard 2 of performance: OUT_OF_MEMORY on node3",
            ]
        );
    }

    #[test]
    fn where_there_is_no_accounting_the_controller_is_read() {
        let text = "JobId=20 ArrayJobId=12 ArrayTaskId=1 JobName=x JobState=NODE_FAIL Reason=NodeDown \
                    ExitCode=0:0 NodeList=node2\n\
                    JobId=21 ArrayJobId=12 ArrayTaskId=2 JobName=x JobState=RUNNING Reason=None ExitCode=0:0\n\
                    JobId=13 JobName=x JobState=FAILED Reason=NonZeroExitCode ExitCode=2:0 NodeList=(null)\n";
        assert_eq!(
            words(text.lines().map(|line| controlled(line, &jobs())).collect()),
            ["shard 1001 of statistics: NODE_FAIL on node2 (NodeDown)", "job model: FAILED (exit code 2)"]
        );
    }
}
