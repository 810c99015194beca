//! What Slurm says of jobs that were killed reaches whoever looks at the run. Needs no Slurm: `tests/slurm/words.sh`
//! stands for its commands.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use calib8::run::status::{self, Standing};

use super::shards::workspace;
use super::support::{Done, Workspace};

/// Number of the array of statistics; the jobs behind it follow.
const FIRST: u64 = 41;

/// A run of three shards on such a Slurm.
struct Run(Workspace);

impl Run {
    fn submitted() -> Run {
        let run = Run(workspace());
        fs::create_dir(run.bin()).unwrap();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/words.sh");
        for name in ["sbatch", "squeue", "sacct", "scontrol"] {
            symlink(&script, run.bin().join(name)).unwrap();
        }
        fs::write(run.bin().join("jobs"), format!("{}", FIRST - 1)).unwrap();
        run.0.add("executor: {kind: slurm, shards: 3}");
        let done = run.calib8(&["run", "run.yaml", "--detach"]);
        assert!(
            done.stdout.contains("submitted to Slurm as 41 (statistics, 3 tasks), 42 (model, 1 tasks)"),
            "{done}"
        );
        run
    }

    fn bin(&self) -> PathBuf {
        self.0.path("bin")
    }

    /// The binary, with that Slurm before any other.
    fn calib8(&self, arguments: &[&str]) -> Done {
        let path = format!("{}:{}", self.bin().display(), std::env::var("PATH").unwrap());
        Done::of(&self.0.command(arguments).env("PATH", path).output().unwrap())
    }

    /// Whether the list of runs and whoever watches the run have these words.
    fn say(&self, words: &str) {
        let listed = self.calib8(&["ps"]);
        assert!(listed.stdout.contains("interrupted"), "{listed}");
        assert!(
            listed.stdout.contains(&format!("Slurm says: {words}; 0 of 3 shards have ended")),
            "{listed}"
        );
        let watched = self.calib8(&["attach", "out"]);
        assert_eq!(watched.code, Some(1), "{watched}");
        let told = format!("its jobs have left Slurm's queue without ending the run ({words}); `calib8 run");
        assert!(watched.error().contains(&told), "{watched}");
    }
}

#[test]
fn accounting_says_what_a_killed_task_died_of() {
    let run = Run::submitted();
    // As `sacct` of Slurm 22 and later writes them, with a job of somebody else.
    let table = "41_0|TIMEOUT|0:0|node1\n41_1|OUT_OF_MEMORY|0:125|node2\n41_2|NODE_FAIL|1:0|node3\n\
                 42|CANCELLED by 1000|0:0|None assigned\n7_0|FAILED|1:0|node9\n";
    fs::write(run.bin().join("accounting"), table).unwrap();
    run.say(
        "shard 0 of statistics: TIMEOUT on node1, shard 1 of statistics: OUT_OF_MEMORY on node2, shard 2 of \
         statistics: NODE_FAIL on node3 (exit code 1)",
    );
}

#[test]
fn without_accounting_the_controller_says_it() {
    let run = Run::submitted();
    let lines = "JobId=41 ArrayJobId=41 ArrayTaskId=2 JobName=calib8 JobState=NODE_FAIL Reason=NodeDown ExitCode=0:0 NodeList=node3\n\
                 JobId=141 ArrayJobId=41 ArrayTaskId=0 JobName=calib8 JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15 NodeList=node1\n\
                 JobId=142 ArrayJobId=41 ArrayTaskId=1 JobName=calib8 JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125 NodeList=node2\n";
    fs::write(run.bin().join("controller"), lines).unwrap();
    run.say(
        "shard 2 of statistics: NODE_FAIL on node3 (NodeDown), shard 0 of statistics: TIMEOUT on node1 (TimeLimit), \
         shard 1 of statistics: OUT_OF_MEMORY on node2 (OutOfMemory)",
    );
}

#[test]
fn where_nothing_is_known_of_the_jobs_nothing_is_made_up() {
    let run = Run::submitted();
    fs::write(run.bin().join("accounting"), "").unwrap();
    fs::write(run.bin().join("controller"), "").unwrap();
    let watched = run.calib8(&["attach", "out"]);
    assert!(watched.error().contains("without ending the run; `calib8 run"), "{watched}");
    assert_eq!(status::of(&run.0.path("out")).state.plan, "tiny");
    let listed = run.calib8(&["ps"]).stdout;
    assert!(listed.contains(Standing::Interrupted.name()) && !listed.contains("Slurm says"), "{listed}");
}
