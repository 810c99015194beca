//! The runs that `ps`, `attach`, `logs` and `cancel` speak of, and how a user names one.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::project::workspace::Workspace;
use crate::run::registry::{self, Registry};
use crate::run::status::{self, RunStatus, Standing};

/// The run that a command is about.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The folder of the run, its name, or the number of its process; left out: the only one at work
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

/// A run and how it stands.
pub struct Known {
    /// Its folder.
    pub directory: PathBuf,
    /// How it stands.
    pub status: RunStatus,
    /// When something last happened in it.
    pub changed: Option<SystemTime>,
}

/// All runs that are known: those at work first, then those in which something happened last.
pub fn known() -> Vec<Known> {
    let registry = Registry::of_user().ok();
    let workspace = Workspace::default_root().and_then(|root| Workspace::open(&root)).ok();
    let mut runs: Vec<Known> = registry::known(registry.as_ref(), workspace.as_ref())
        .into_iter()
        .map(|directory| {
            let log = directory.join("events.jsonl").metadata();
            let changed = log.and_then(|metadata| metadata.modified()).ok();
            Known { status: status::of(&directory), changed, directory }
        })
        .collect();
    runs.sort_by(|a, b| {
        let rank = |run: &Known| (run.status.standing != Standing::Running, std::cmp::Reverse(run.changed));
        rank(a).cmp(&rank(b)).then_with(|| a.directory.cmp(&b.directory))
    });
    runs
}

impl Which {
    /// The folder of the run.
    ///
    /// # Errors
    /// No run is called so, or several are.
    pub fn directory(&self) -> anyhow::Result<PathBuf> {
        match &self.run {
            Some(path) if registry::holds_run(Path::new(path)) => Ok(std::path::absolute(path)?),
            name => choose(&known(), name.as_deref()).map_err(|what| super::Usage(what).into()),
        }
    }
}

/// The run that `name` means; without a name, the only one at work.
fn choose(runs: &[Known], name: Option<&str>) -> Result<PathBuf, String> {
    let working = |run: &&Known| run.status.standing == Standing::Running;
    let called = |run: &&Known| {
        name.is_none_or(|name| {
            let process = run.status.holder.as_ref().and_then(|holder| holder.pid);
            run.status.state.plan == name || process.is_some_and(|pid| pid.to_string() == name)
        })
    };
    let mut found: Vec<&Known> = runs.iter().filter(called).collect();
    if name.is_none() || found.len() > 1 {
        let at_work: Vec<&Known> = found.iter().copied().filter(working).collect();
        if name.is_none() || !at_work.is_empty() {
            found = at_work;
        }
    }
    match (&found[..], name) {
        ([run], _) => Ok(run.directory.clone()),
        ([], None) => Err("no run is at work; name one by its folder (`calib8 ps` lists them)".into()),
        ([], Some(name)) => Err(format!(
            "no run is called {name:?} and no folder of that name holds one (`calib8 ps` lists them)"
        )),
        (several, _) => {
            let folders: Vec<String> =
                several.iter().map(|run| run.directory.display().to_string()).collect();
            Err(format!("several runs could be meant; name one by its folder: {}", folders.join(", ")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::project::lock::Holder;
    use crate::run::fold::State;

    fn run(folder: &str, plan: &str, standing: Standing, pid: u32) -> Known {
        let holder = (standing == Standing::Running).then_some(Holder { pid: Some(pid), host: None });
        let state = State { plan: plan.into(), ..State::default() };
        Known { directory: folder.into(), status: RunStatus { standing, state, holder }, changed: None }
    }

    #[test]
    fn a_run_is_named_by_plan_or_process_and_one_at_work_goes_before_others() {
        let runs = [
            run("/a", "demo", Standing::Running, 7),
            run("/b", "demo", Standing::Failed, 0),
            run("/c", "other", Standing::Interrupted, 0),
        ];
        let of = |name| choose(&runs, name);
        assert_eq!(of(Some("demo")), Ok("/a".into()));
        assert_eq!(of(Some("7")), Ok("/a".into()));
        assert_eq!(of(Some("other")), Ok("/c".into()));
        assert_eq!(of(None), Ok("/a".into()));
        assert!(of(Some("x")).unwrap_err().contains("no run is called \"x\""));
        assert!(choose(&runs[1..], None).unwrap_err().contains("no run is at work"));
        let twice = [run("/a", "demo", Standing::Running, 7), run("/b", "demo", Standing::Running, 8)];
        assert!(choose(&twice, None).unwrap_err().ends_with("by its folder: /a, /b"));
        assert!(choose(&twice, Some("demo")).unwrap_err().contains("several"));
    }
}
