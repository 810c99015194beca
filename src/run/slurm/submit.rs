//! The plan of a run as jobs.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Job, Jobs, SCHEMA, SlurmError, What, command, write};
use crate::project::time;
use crate::run::RunError;
use crate::run::launch;
use crate::run::plan::{ExecutorSection, NamedNodes, Nodes, Plan};
use crate::run::shards::{Shards, Step};

/// Tasks of one array: Slurm's `MaxArraySize` is 1001 unless an administrator says otherwise.
const TASKS_OF_AN_ARRAY: usize = 1000;
/// Seconds before the end of its time that a task is told of it. Slurm may tell a minute earlier.
const NOTICE_SECONDS: u32 = 30;

/// Submits what of the run is not done yet; gives its jobs, which are also taken down beside the shards.
///
/// # Errors
/// Slurm is not there or refuses a job, in which case those before it are cancelled again.
pub fn submit(plan: &Plan, shards: &Shards, executor: &ExecutorSection) -> Result<Jobs, RunError> {
    let directory = shards.directory();
    let program = launch::program().map_err(|source| SlurmError::Start { program: "calib8", source })?;
    write(&directory, "task.sh", script(&program, &directory)?.as_bytes())?;
    let mut jobs: Vec<Job> = Vec::new();
    match submit_all(plan, shards, executor, &mut jobs) {
        Ok(()) => {
            let jobs = Jobs { schema: SCHEMA.into(), submitted: time::now(), jobs };
            let mut json = serde_json::to_vec_pretty(&jobs)
                .map_err(|e| crate::project::ProjectError::write(&directory, e.into()))?;
            json.push(b'\n');
            write(&directory, "jobs.json", &json)?;
            // What was known was of other jobs.
            super::queue::forget();
            Ok(jobs)
        }
        Err(error) => {
            let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
            if !ids.is_empty() {
                // The first error is the one worth telling.
                let _ = command("scancel", &ids);
            }
            Err(error)
        }
    }
}

fn submit_all(
    plan: &Plan,
    shards: &Shards,
    executor: &ExecutorSection,
    jobs: &mut Vec<Job>,
) -> Result<(), RunError> {
    let common = common(plan, executor, &shards.directory())?;
    let mut queue = Queue { plan, shards, executor, common, jobs };
    let mut all: Vec<u64> = Vec::new();
    let mut before: Vec<u64> = Vec::new();
    if !shards.model_is_made() {
        let mut steps = vec![(Step::Statistics, What::Statistics, What::Model)];
        if shards.cut(Step::Candidates).shards > 0 {
            steps.push((Step::Candidates, What::Candidates, What::Choice));
        }
        if shards.candidates_can_run() {
            steps.remove(0);
        }
        for (step, what, merge) in steps {
            let tasks = queue.arrays(step, what, &before)?;
            // A merge names the shards that have failed. Slurm takes an array for failed once the time of one of its
            // tasks was up, though that task was requeued and has ended well since.
            let waits = if tasks.is_empty() { after("afterok", &before) } else { after("afterany", &tasks) };
            let options = queue.anywhere(waits);
            let merged = queue.submit(merge, options, 0, 1)?;
            all.extend(tasks);
            all.push(merged);
            before = vec![merged];
        }
    }
    for (step, what) in [(Step::Report, What::Report), (Step::Sensitivity, What::Sensitivity)] {
        all.extend(queue.arrays(step, what, &before)?);
    }
    for entry in shards.missing(Step::Performance) {
        let Some(nodes) = plan.performance.on.get(entry) else { continue };
        let mut options = alone_on(nodes)?;
        options.extend(after("afterok", &before));
        all.push(queue.submit(What::Performance, options, entry, 1)?);
    }
    let options = queue.anywhere(after("afterany", &all));
    queue.submit(What::End, options, 0, 1)?;
    Ok(())
}

/// Where jobs are submitted to.
struct Queue<'a> {
    plan: &'a Plan,
    shards: &'a Shards,
    executor: &'a ExecutorSection,
    /// Options of every job.
    common: Vec<String>,
    /// Those that were submitted.
    jobs: &'a mut Vec<Job>,
}

impl Queue<'_> {
    /// Submits a job; gives its number. `first` is the shard of its first task.
    fn submit(
        &mut self,
        what: What,
        options: Vec<String>,
        first: usize,
        tasks: usize,
    ) -> Result<u64, RunError> {
        let mut all = self.common.clone();
        all.push(format!("--job-name=calib8-{}-{}", what.name(), self.plan.name));
        all.extend(options);
        all.push(super::folder(&self.shards.directory()).join("task.sh").display().to_string());
        all.extend([what.name().into(), first.to_string()]);
        let said = command("sbatch", &all)?;
        // `--parsable` adds the name of the cluster where there are several.
        let id = said.split(';').next().and_then(|id| id.trim().parse().ok());
        let id = id.ok_or(SlurmError::Answer { program: "sbatch", said })?;
        self.jobs.push(Job { id, what, tasks, first });
        Ok(id)
    }

    /// Submits what is missing of a step, to begin when the jobs `before` have done their work.
    fn arrays(&mut self, step: Step, what: What, before: &[u64]) -> Result<Vec<u64>, RunError> {
        let mut ids = Vec::new();
        for array in arrays(&self.shards.missing(step)) {
            let mut options = self.anywhere(vec![array.option(self.executor.max_parallel)]);
            options.extend(after("afterok", before));
            ids.push(self.submit(what, options, array.first, array.shards.len())?);
        }
        Ok(ids)
    }

    /// `options`, for any node with the features that the run file asks for.
    fn anywhere(&self, mut options: Vec<String>) -> Vec<String> {
        let constraint = self.executor.constraint.as_ref();
        options.extend(constraint.map(|constraint| format!("--constraint={constraint}")));
        options
    }
}

/// Options of every job.
fn common(plan: &Plan, executor: &ExecutorSection, directory: &Path) -> Result<Vec<String>, RunError> {
    let folder = directory.to_str().ok_or_else(|| SlurmError::Path(directory.to_path_buf()))?;
    let mut options = vec![
        "--parsable".to_string(),
        "--requeue".into(),
        format!("--signal=B:USR1@{NOTICE_SECONDS}"),
        format!("--chdir={folder}"),
        // The script sends what is said to files of the shard.
        "--output=/dev/null".into(),
        "--error=/dev/null".into(),
        format!("--comment=calib8 {}", plan.name),
        format!("--cpus-per-task={}", executor.cpus_per_task),
        "--ntasks=1".into(),
    ];
    let asked = [
        ("partition", executor.partition.clone()),
        ("account", executor.account.clone()),
        ("time", executor.time.as_ref().map(ToString::to_string)),
    ];
    options.extend(asked.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))));
    Ok(options)
}

/// Options for one whole node of a kind.
fn alone_on(nodes: &Nodes) -> Result<Vec<String>, RunError> {
    let mut options = vec!["--exclusive".to_string(), "--nodes=1".into()];
    match nodes {
        Nodes::Constraint(constraint) => options.push(format!("--constraint={constraint}")),
        Nodes::Named(NamedNodes { nodes }) => {
            let list = command("scontrol", &["show".into(), "hostnames".into(), nodes.clone()])?;
            let wanted: BTreeSet<&str> = list.lines().map(str::trim).collect();
            if wanted.len() == 1 {
                options.push(format!("--nodelist={nodes}"));
            } else {
                // To Slurm a list means all of its nodes; one of them is had by leaving out all others.
                let all = command("sinfo", &["--noheader".into(), "--Node".into(), "--format=%N".into()])?;
                let others: BTreeSet<&str> =
                    all.lines().map(str::trim).filter(|node| !wanted.contains(node)).collect();
                if !others.is_empty() {
                    let others: Vec<&str> = others.into_iter().collect();
                    options.push(format!("--exclude={}", others.join(",")));
                }
            }
        }
    }
    Ok(options)
}

/// The option that makes a job wait; one that can't run any more leaves the queue.
fn after(how: &str, jobs: &[u64]) -> Vec<String> {
    if jobs.is_empty() {
        return Vec::new();
    }
    let ids: Vec<String> = jobs.iter().map(u64::to_string).collect();
    vec![format!("--dependency={how}:{}", ids.join(":")), "--kill-on-invalid-dep=yes".into()]
}

/// Shards that one array does, counted from the first of its block.
#[derive(Debug, PartialEq, Eq)]
struct Array {
    first: usize,
    shards: Vec<usize>,
}

impl Array {
    fn option(&self, most: Option<u32>) -> String {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for index in self.shards.iter().map(|shard| shard - self.first) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == index => *last = index,
                _ => ranges.push((index, index)),
            }
        }
        let range = |(first, last): &(usize, usize)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let list = ranges.iter().map(range).collect::<Vec<_>>().join(",");
        format!("--array={list}{}", most.map_or_else(String::new, |most| format!("%{most}")))
    }
}

fn arrays(shards: &[usize]) -> Vec<Array> {
    let mut arrays: Vec<Array> = Vec::new();
    for shard in shards {
        let first = shard / TASKS_OF_AN_ARRAY * TASKS_OF_AN_ARRAY;
        match arrays.last_mut() {
            Some(array) if array.first == first => array.shards.push(*shard),
            _ => arrays.push(Array { first, shards: vec![*shard] }),
        }
    }
    arrays
}

/// The script that every task runs: the paths, and behind them what is the same for all runs.
fn script(program: &Path, directory: &Path) -> Result<String, SlurmError> {
    let quoted = |path: &Path| -> Result<String, SlurmError> {
        let text = path.to_str().filter(|text| !text.contains('\n'));
        let text = text.ok_or_else(|| SlurmError::Path(path.to_path_buf()))?;
        Ok(format!("'{}'", text.replace('\'', "'\\''")))
    };
    let (program, directory) = (quoted(program)?, quoted(directory)?);
    Ok(format!("#!/bin/sh\ncalib8={program}\nrun={directory}\n{}", include_str!("task.sh")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn arrays_hold_what_is_missing_and_no_more_than_slurm_takes() {
        let of = |shards: &[usize]| -> Vec<String> {
            arrays(shards).iter().map(|array| format!("{} {}", array.first, array.option(Some(4)))).collect()
        };
        assert_eq!(of(&[]), [""; 0]);
        assert_eq!(of(&[0, 1, 2, 5]), ["0 --array=0-2,5%4"]);
        assert_eq!(
            of(&[7, 999, 1000, 1001, 2500]),
            ["0 --array=7,999%4", "1000 --array=0-1%4", "2000 --array=500%4"]
        );
        let most = arrays(&(0..10_000).collect::<Vec<_>>());
        assert_eq!((most.len(), most[9].option(None)), (10, "--array=0-999".to_string()));
    }

    #[test]
    fn a_path_with_quotes_stays_one_word() {
        let text = script(Path::new("/opt/it's/calib8"), Path::new("/scratch/a b")).unwrap();
        assert!(text.contains("calib8='/opt/it'\\''s/calib8'\nrun='/scratch/a b'\n"), "{text}");
        assert!(script(Path::new("/a\nb"), Path::new("/c")).is_err());
    }
}
