//! Runs on a real Slurm, which `tests/slurm/start.sh` starts in a folder of its own: as several nodes on this machine.
//! Where Slurm is not installed the tests pass and say so.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use calib8::run::shards::{Shards, Step};
use calib8::run::status::{self, Standing};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::shards::{assert_same, results, undivided, workspace};
use super::support::{Done, Workspace, fixture, names};

/// How long to wait for anything: a requeued job waits some seconds, and this machine may have other work.
const PATIENCE: Duration = Duration::from_secs(300);

/// One cluster at a time, or tests would fight for the nodes.
static TURN: Mutex<()> = Mutex::new(());

struct Cluster {
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg(self.folder.path()).arg("stop").status();
    }
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/start.sh")
}

impl Cluster {
    /// Two nodes of two cores; `None` where there is no Slurm.
    fn start() -> Option<Cluster> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(script()).arg(folder.path()).arg("2").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) => Some(Cluster { folder, _turn: turn }),
            Some(77) => {
                println!("{}", said.trim());
                None
            }
            _ => panic!("{said}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    /// The binary, told of this cluster.
    fn calib8(&self, workspace: &Workspace, arguments: &[&str]) -> Done {
        let mut command = workspace.command(arguments);
        Done::of(&command.env("SLURM_CONF", self.conf()).output().unwrap())
    }

    fn ok(&self, workspace: &Workspace, arguments: &[&str]) -> Done {
        let done = self.calib8(workspace, arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {done}\n{}", self.told(workspace));
        done
    }

    /// One of Slurm's commands.
    fn slurm(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).env("SLURM_CONF", self.conf()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What the queue and the logs say, for a test that fails.
    fn told(&self, workspace: &Workspace) -> String {
        let mut text = self.slurm("squeue", &["--states=all"]);
        for name in
            ["out/events.jsonl", "out/worker.log", "out/shards/slurm/model.out", "out/shards/slurm/end.out"]
        {
            text += &format!("\n== {name}\n{}", fs::read_to_string(workspace.path(name)).unwrap_or_default());
        }
        text
    }

    fn wait(&self, workspace: &Workspace, what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "{what}\n{}", self.told(workspace));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The classifier that comes with calib8, with so many images to calibrate on that shards can be met at work.
fn long() -> Workspace {
    const IMAGES: usize = 1500;
    let workspace = Workspace::empty();
    for (folder, images) in [("calib", IMAGES), ("images", 12)] {
        fs::create_dir(workspace.path(folder)).unwrap();
        let found = names(&fixture("shapes/calib"));
        for (at, name) in found.iter().cycle().take(images).enumerate() {
            let bytes = fs::read(fixture("shapes/calib").join(name)).unwrap();
            fs::write(workspace.path(folder).join(format!("{at:04}_{name}")), bytes).unwrap();
        }
    }
    let text = format!(
        "version: 1
name: shapes
model: {{path: '{}'}}
preprocess: {{resize_short: 128, crop: 112, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
dataset: {{path: images}}
optimize: {{dataset: {{path: calib}}, subset_size: {IMAGES}}}
performance: {{streams: [1], seconds: 0.1, layers: false}}
threads: 2
output: out
",
        fixture("shapes/shapes.onnx").display()
    );
    fs::write(workspace.path("run.yaml"), text).unwrap();
    workspace
}

/// The results of a run file in one piece.
fn undivided_in(workspace: &Workspace, file: &str) -> Vec<(String, Vec<u8>)> {
    fs::remove_dir_all(workspace.path("out")).unwrap();
    let done = workspace.calib8(&["run", file, "--on", "here"]);
    assert_eq!(done.code, Some(0), "{done}");
    results(workspace)
}

fn set_executor(workspace: &Workspace, executor: &str) {
    workspace.add(&format!("executor: {{kind: slurm, {executor}}}"));
}

/// Number of the job that does this.
fn job_of(workspace: &Workspace, what: &str) -> u64 {
    let jobs: serde_json::Value =
        serde_json::from_slice(&workspace.output("shards/slurm/jobs.json")).unwrap();
    let job = jobs["jobs"].as_array().unwrap().iter().find(|job| job["what"] == what);
    job.unwrap_or_else(|| panic!("no job {what}: {jobs}"))["id"].as_u64().unwrap()
}

/// Whether a shard is at work and has finished some images.
fn counts(workspace: &Workspace, step: Step, shard: usize) -> bool {
    let Ok(shards) = Shards::open(&workspace.path("out")) else { return false };
    shards.state(step, shard).active().is_some_and(|stage| stage.stage == step.stage() && stage.done > 0)
}

#[test]
fn one_three_and_eight_shards_give_the_bytes_of_a_run_on_one_machine() {
    let Some(cluster) = Cluster::start() else { return };
    let workspace = workspace();
    let expected = undivided(&workspace);
    set_executor(&workspace, "partition: cpu, time: 10, max_parallel: 3");
    for shards in ["1", "3", "8"] {
        let done =
            cluster.ok(&workspace, &["run", "run.yaml", "--set", &format!("executor.shards={shards}")]);
        assert!(done.stderr.contains("submitted to Slurm as"), "{done}");
        assert!(done.stdout.contains("agreement"), "the summary is shown at the end: {done}");
        assert_same(&results(&workspace), &expected, &format!("{shards} shards on Slurm"));
        assert!(cluster.calib8(&workspace, &["ps"]).stdout.contains("finished"));
        fs::remove_dir_all(workspace.path("out")).unwrap();
    }
    // The same file on this machine alone.
    cluster.ok(&workspace, &["run", "run.yaml", "--on", "here"]);
    assert_same(&results(&workspace), &expected, "here");
}

/// A run on Slurm whose shard of this number is counting images, and the results of the same run in one piece.
fn at_work(cluster: &Cluster, executor: &str, shard: usize) -> (Workspace, Vec<(String, Vec<u8>)>) {
    let workspace = long();
    let expected = undivided(&workspace);
    set_executor(&workspace, executor);
    cluster.ok(&workspace, &["run", "run.yaml", "--detach"]);
    cluster.wait(&workspace, "the shard at work", || counts(&workspace, Step::Statistics, shard));
    (workspace, expected)
}

#[test]
fn a_task_that_is_killed_is_requeued_and_leaves_no_trace() {
    let Some(cluster) = Cluster::start() else { return };
    let (workspace, expected) = at_work(&cluster, "shards: 2", 0);
    let pid = Shards::open(&workspace.path("out")).unwrap().state(Step::Statistics, 0).pid.unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let done = cluster.ok(&workspace, &["attach", "out"]);
    assert_same(&results(&workspace), &expected, &format!("killed: {done}"));
    let printed = fs::read_to_string(workspace.path("out/shards/statistics/00/0000.out")).unwrap();
    assert!(printed.contains("requeued: exit code 137"), "{printed}");
}

#[test]
fn a_run_that_is_cancelled_goes_on_where_it_was() {
    let Some(cluster) = Cluster::start() else { return };
    let (workspace, expected) = at_work(&cluster, "shards: 3, max_parallel: 1", 1);
    let refused = cluster.calib8(&workspace, &["run", "run.yaml", "--resume"]);
    assert_eq!(refused.code, Some(2), "{refused}");
    let cancelled = cluster.ok(&workspace, &["cancel", "out"]);
    assert!(cancelled.stdout.contains("were taken from Slurm"), "{cancelled}");
    assert_eq!(status::of(&workspace.path("out")).standing, Standing::Interrupted);
    let shards = Shards::open(&workspace.path("out")).unwrap();
    assert_eq!(shards.missing(Step::Statistics), [1, 2], "the first shard is kept");
    assert!(shards.file(Step::Statistics, 1, "part").is_file(), "what the second had is kept");
    let done = cluster.ok(&workspace, &["run", "run.yaml", "--resume"]);
    assert_same(&results(&workspace), &expected, &format!("cancelled: {done}"));
}

#[test]
fn a_time_limit_that_is_too_short_is_gone_on_with_after_a_requeue() {
    let Some(cluster) = Cluster::start() else { return };
    let (workspace, expected) = at_work(&cluster, "shards: 2, time: 20", 0);
    // Held in the middle of its work, so that it is there when its time is up. Slurm looks for that twice a minute, tells
    // the task, lets it go on and wants its end. The limit becomes a minute, which later tries hear of as well.
    let pid = Shards::open(&workspace.path("out")).unwrap().state(Step::Statistics, 0).pid.unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::STOP).unwrap();
    let job = format!("JobId={}_0", job_of(&workspace, "statistics"));
    cluster.slurm("scontrol", &["update", &job, "EndTime=now+1"]);
    let done = cluster.ok(&workspace, &["attach", "out"]);
    let printed = fs::read_to_string(workspace.path("out/shards/statistics/00/0000.out")).unwrap();
    assert!(printed.contains("requeued: exit code 130"), "{printed}");
    assert_same(&results(&workspace), &expected, &format!("late: {done}"));
}

#[test]
fn a_task_that_slurm_ends_is_named_with_slurms_reason() {
    let Some(cluster) = Cluster::start() else { return };
    let (workspace, expected) = at_work(&cluster, "shards: 2", 0);
    cluster.slurm("scancel", &[&format!("{}_0", job_of(&workspace, "statistics"))]);
    let failed = cluster.calib8(&workspace, &["attach", "out"]);
    assert_eq!(failed.code, Some(1), "{failed}\n{}", cluster.told(&workspace));
    let reason = "Slurm says: shard 0 of statistics: CANCELLED on node";
    assert!(failed.error().contains(reason), "{failed}\n{}", cluster.told(&workspace));
    assert!(cluster.ok(&workspace, &["logs", "out"]).stdout.contains(reason));
    let done = cluster.ok(&workspace, &["run", "run.yaml", "--resume"]);
    assert_same(&results(&workspace), &expected, &format!("ended by Slurm: {done}"));
}

#[test]
fn speeds_are_measured_on_each_kind_of_node_alone() {
    let Some(cluster) = Cluster::start() else { return };
    let workspace = workspace();
    set_executor(&workspace, "shards: 2");
    let on = ["--set", "performance.on=[node2, {nodes: 'node[1-2]'}, {nodes: node1}]"];
    let done = cluster.ok(&workspace, &["run", "run.yaml", on[0], on[1]]);
    assert!(done.stdout.contains("  hosts      node2 on "), "{done}");
    let jobs: serde_json::Value =
        serde_json::from_slice(&workspace.output("shards/slurm/jobs.json")).unwrap();
    let jobs = jobs["jobs"].as_array().unwrap().iter().filter(|job| job["what"] == "performance");
    let shown: Vec<String> = jobs
        .map(|job| cluster.slurm("scontrol", &["--oneliner", "show", "job", &job["id"].to_string()]))
        .collect();
    let nodes =
        |of: &String| of.split(' ').find_map(|word| word.strip_prefix("NodeList=")).unwrap().to_string();
    assert_eq!(shown.len(), 3);
    assert_eq!((nodes(&shown[0]).as_str(), nodes(&shown[2]).as_str()), ("node2", "node1"));
    assert!(["node1", "node2"].contains(&nodes(&shown[1]).as_str()), "one of the list: {}", shown[1]);
    for job in &shown {
        assert!(job.contains("OverSubscribe=NO") && job.contains("NumCPUs=2"), "the whole node: {job}");
    }
    assert_eq!(workspace.summary()["hosts"].as_array().unwrap().len(), 3);
    // Nodes that there are not are refused before anything waits for them.
    let wrong = ["--force", "--set", "performance.on=[sparc]"];
    let refused = cluster.calib8(&workspace, &["run", "run.yaml", wrong[0], wrong[1], wrong[2]]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.error().contains("sbatch failed"), "{refused}");
    assert_eq!(
        cluster.slurm("squeue", &["--noheader", "--states=PENDING,RUNNING"]),
        "",
        "nothing is left behind"
    );
}

#[test]
fn a_node_that_is_drained_is_done_without() {
    let Some(cluster) = Cluster::start() else { return };
    let (workspace, expected) = at_work(&cluster, "shards: 6, cpus_per_task: 2", 0);
    cluster.slurm("scontrol", &["update", "NodeName=node2", "State=DRAIN", "Reason=test"]);
    let done = cluster.ok(&workspace, &["attach", "out"]);
    assert_same(&results(&workspace), &expected, &format!("drained: {done}"));
}

#[test]
fn a_run_that_waits_says_why_and_a_shard_that_fails_for_good_fails_the_run() {
    let Some(cluster) = Cluster::start() else { return };
    let workspace = workspace();
    for node in ["node1", "node2"] {
        cluster.slurm("scontrol", &["update", &format!("NodeName={node}"), "State=DRAIN", "Reason=test"]);
    }
    set_executor(&workspace, "shards: 2");
    cluster.ok(&workspace, &["run", "run.yaml", "--detach"]);
    let mut waits = String::new();
    cluster.wait(&workspace, "a reason in ps", || {
        waits = cluster.calib8(&workspace, &["ps"]).stdout;
        waits.contains("waits in the queue: ")
    });
    assert!(waits.starts_with("STATUS") && waits.contains("waiting"), "{waits}");
    // No shard can read a model that is no longer there.
    let model = fs::read_to_string(workspace.path("out/run.yaml")).unwrap();
    let broken = model.replace("crop: 16", "crop: 12");
    assert_ne!(broken, model);
    fs::write(workspace.path("out/run.yaml"), broken).unwrap();
    for node in ["node1", "node2"] {
        cluster.slurm("scontrol", &["update", &format!("NodeName={node}"), "State=RESUME"]);
    }
    let failed = cluster.calib8(&workspace, &["attach", "out"]);
    assert_eq!(failed.code, Some(1), "{failed}\n{}", cluster.told(&workspace));
    assert!(failed.error().contains("preprocessing gives images of"), "{failed}");
    let logs = cluster.ok(&workspace, &["logs", "out"]);
    assert!(logs.stdout.contains("-- shard 0 of statistics:"), "{logs}");
    assert_eq!(status::of(&workspace.path("out")).standing, Standing::Failed);
}

#[test]
fn several_run_files_are_submitted_one_by_one_and_a_wrong_one_keeps_none_from_it() {
    let Some(cluster) = Cluster::start() else { return };
    let workspace = workspace();
    set_executor(&workspace, "shards: 2");
    let text = fs::read_to_string(workspace.path("run.yaml")).unwrap();
    fs::create_dir(workspace.path("queue")).unwrap();
    // In the order of their names: the wrong one is in the middle.
    for (name, from, to) in [
        ("a", "output: out", "output: ../a"),
        ("b", "version: 1", "version: 7"),
        ("c", "output: out", "output: ../out"),
    ] {
        let text = text.replace("path: images", "path: ../images").replace("labels.txt", "../labels.txt");
        fs::write(workspace.path(&format!("queue/{name}.yaml")), text.replace(from, to)).unwrap();
    }
    let submitted = cluster.calib8(&workspace, &["run", "queue", "--on", "slurm"]);
    assert_eq!(submitted.code, Some(2), "{submitted}");
    assert_eq!(submitted.stdout.matches("submitted to Slurm as").count(), 2, "{submitted}");
    assert!(submitted.stderr.contains("queue/b.yaml: "), "{submitted}");
    for folder in ["a", "out"] {
        cluster.ok(&workspace, &["attach", folder]);
    }
    assert_same(&results(&workspace), &undivided_in(&workspace, "queue/c.yaml"), "submitted with others");
}

#[test]
fn without_slurm_the_message_says_what_is_missing() {
    let workspace = workspace();
    let mut command = workspace.command(&["run", "run.yaml", "--on", "slurm"]);
    let done = Done::of(&command.env("PATH", workspace.root()).output().unwrap());
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.error().contains("Slurm's commands must be on the PATH"), "{done}");
}
