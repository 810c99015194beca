//! What the workspace holds at a moment, read by a thread that looks again and again, since other
//! programs work in it too.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::message::{Mailer, Msg};
use crate::project::ProjectError;
use crate::project::workspace::{Project, Unreadable, Variant, Workspace};
use crate::run::events::Stage;
use crate::run::fold::State;
use crate::run::plan::{Preset, RangeMethod};
use crate::run::status::{self, Standing};
use crate::run::summary::Summary;

/// How often the workspace is looked at while a run is at work, while that run measures, which looking disturbs, and
/// while none is.
const WHILE_RUNNING: Duration = Duration::from_millis(200);
const WHILE_MEASURING: Duration = Duration::from_secs(1);
const WHILE_IDLE: Duration = Duration::from_secs(1);

/// What the workspace holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Projects, the oldest first.
    pub projects: Vec<ProjectEntry>,
    /// Folders that can't be read as a project.
    pub unreadable: Vec<Unreadable>,
    /// Why the workspace can't be read at all.
    pub failure: Option<String>,
}

/// A project.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectEntry {
    /// As it is stored.
    pub project: Project,
    /// Size of its model; `None` if it is gone.
    pub model_bytes: Option<u64>,
    /// Its variants, the oldest first.
    pub variants: Vec<VariantEntry>,
}

/// A variant.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantEntry {
    /// As it is stored.
    pub variant: Variant,
    /// Where its run stands.
    pub standing: Standing,
    /// What the log of the run amounts to.
    pub state: State,
    /// What it came to, once it is finished.
    pub summary: Option<Box<Summary>>,
    /// What was asked for; `None` before the run was begun.
    pub asked: Option<Asked>,
}

/// The choices of a run that a row has place for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which zero points.
    pub preset: Option<Preset>,
    /// How ranges were chosen.
    pub range: Option<RangeMethod>,
    /// The images it was calibrated on; empty for the dataset itself.
    pub calibration: String,
}

impl Snapshot {
    /// The variant in this run directory, with its project.
    pub fn variant(&self, directory: &Path) -> Option<(&ProjectEntry, &VariantEntry)> {
        self.variants().find(|(_, entry)| entry.variant.path == directory)
    }

    /// The project with this id.
    pub fn project(&self, id: &str) -> Option<&ProjectEntry> {
        self.projects.iter().find(|entry| entry.project.id == id)
    }

    /// All variants with their projects.
    pub fn variants(&self) -> impl Iterator<Item = (&ProjectEntry, &VariantEntry)> {
        self.projects
            .iter()
            .flat_map(|project| project.variants.iter().map(move |variant| (project, variant)))
    }

    /// The run at work: the first, if there are several.
    pub fn running(&self) -> Option<(&ProjectEntry, &VariantEntry)> {
        self.variants().find(|(_, entry)| entry.standing == Standing::Running)
    }

    /// The run that is to begin next: the oldest that was prepared and not begun.
    pub fn queued(&self) -> Option<&VariantEntry> {
        let waiting = self.variants().map(|(_, entry)| entry).filter(|entry| entry.is_queued());
        waiting.min_by(|a, b| (&a.variant.created, &a.variant.id).cmp(&(&b.variant.created, &b.variant.id)))
    }
}

impl ProjectEntry {
    /// The newest summary among its variants, for what it says of the parent.
    pub fn summary(&self) -> Option<&Summary> {
        self.variants.iter().rev().find_map(|entry| entry.summary.as_deref())
    }
}

impl VariantEntry {
    /// Whether it was prepared and waits for its turn.
    pub fn is_queued(&self) -> bool {
        self.standing == Standing::Waiting && self.asked.is_some()
    }

    /// The stages of the run, in order: all but the search, unless it has begun one.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        let searches = self.state.stages.iter().any(|state| state.stage == Stage::Tradeoff);
        Stage::ALL.into_iter().filter(move |stage| searches || *stage != Stage::Tradeoff)
    }

    /// Whether its run is at work and times inferences now.
    pub fn measures(&self) -> bool {
        let active = self.state.active().map(|stage| stage.stage);
        self.standing == Standing::Running && matches!(active, Some(Stage::Baseline | Stage::Measure))
    }

    /// How much of the run is done, from 0 to just below 1: each stage counts alike, as nobody knows
    /// beforehand how long it takes.
    pub fn fraction(&self) -> f64 {
        let ended = self.state.stages.iter().filter(|stage| stage.seconds.is_some()).count() as f64;
        // A stage of several rounds begins to count anew; what was reached stays.
        let part = self.state.active().map_or(0.0, |stage| stage.reached);
        ((ended + part.min(1.0)) / self.stages().count() as f64).min(0.99)
    }
}

/// Reads workspaces, and summaries only when they have changed.
#[derive(Debug, Default)]
struct Reader {
    summaries: HashMap<PathBuf, (SystemTime, Option<Box<Summary>>)>,
}

impl Reader {
    fn read(&mut self, workspace: &Workspace) -> Result<Snapshot, ProjectError> {
        let mut snapshot = Snapshot::default();
        for entry in workspace.projects()? {
            match entry {
                Ok(project) => {
                    let variants = project.variants.iter().map(|variant| self.variant(variant)).collect();
                    let model_bytes = fs::metadata(&project.definition.model).ok().map(|file| file.len());
                    snapshot.projects.push(ProjectEntry { project, model_bytes, variants });
                }
                Err(unreadable) => snapshot.unreadable.push(unreadable),
            }
        }
        Ok(snapshot)
    }

    fn variant(&mut self, variant: &Variant) -> VariantEntry {
        let status = status::of(&variant.path);
        VariantEntry {
            variant: variant.clone(),
            standing: status.standing,
            state: status.state,
            summary: self.summary(&variant.path),
            asked: asked(&variant.path),
        }
    }

    fn summary(&mut self, directory: &Path) -> Option<Box<Summary>> {
        let path = directory.join("summary.json");
        let changed = fs::metadata(&path).and_then(|file| file.modified()).ok()?;
        match self.summaries.get(directory) {
            Some((known, summary)) if *known == changed => summary.clone(),
            _ => {
                let summary = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                self.summaries.insert(directory.to_path_buf(), (changed, summary.clone()));
                summary
            }
        }
    }
}

/// What a run was asked for, as its `run.yaml` says.
fn asked(directory: &Path) -> Option<Asked> {
    let text = fs::read_to_string(directory.join("run.yaml")).ok()?;
    let plan: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
    let optimize = plan.get("optimize")?;
    let name = |path: &str| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    let calibration = optimize.get("dataset").and_then(|dataset| dataset.get("path")?.as_str());
    Some(Asked {
        preset: optimize.get("preset").and_then(|value| serde_yaml::from_value(value.clone()).ok()),
        range: optimize.get("range").and_then(|value| serde_yaml::from_value(value.clone()).ok()),
        calibration: calibration.and_then(name).unwrap_or_default(),
    })
}

/// What the workspace holds now.
pub fn read(workspace: &Workspace) -> Snapshot {
    Reader::default().read(workspace).unwrap_or_else(failed)
}

fn failed(error: ProjectError) -> Snapshot {
    Snapshot { failure: Some(error.to_string()), ..Snapshot::default() }
}

fn pause(snapshot: &Snapshot) -> Duration {
    match snapshot.running() {
        None => WHILE_IDLE,
        Some(_) if snapshot.variants().any(|(_, variant)| variant.measures()) => WHILE_MEASURING,
        Some(_) => WHILE_RUNNING,
    }
}

/// Looks at the workspace for as long as the workbench is open; tells it what has changed, and
/// nothing while nothing does.
pub fn watch(workspace: &Workspace, mailer: &Mailer) {
    let mut reader = Reader::default();
    let mut last = None;
    while mailer.is_open() {
        let snapshot = reader.read(workspace).unwrap_or_else(failed);
        let pause = pause(&snapshot);
        if last.as_ref() != Some(&snapshot) {
            last = Some(snapshot.clone());
            mailer.send(Msg::Workspace(Box::new(snapshot)));
        }
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::run::fold::{Phase, StageState};

    #[test]
    fn a_run_is_never_shown_as_done_before_it_is() {
        let stage = |stage, done, seconds| StageState {
            stage,
            done,
            total: 10,
            rate: 0.0,
            eta_seconds: None,
            detail: None,
            seconds,
            reached: done as f64 / 10.0,
        };
        let variant = Variant { id: "v".into(), path: "/v".into(), name: "v".into(), created: String::new() };
        let mut entry = VariantEntry {
            variant,
            standing: Standing::Running,
            state: State { phase: Phase::Running, ..State::default() },
            summary: None,
            asked: None,
        };
        assert_eq!(entry.fraction(), 0.0);
        entry.state.stages = vec![stage(Stage::Prepare, 10, Some(1.0)), stage(Stage::Baseline, 5, None)];
        assert_eq!(entry.fraction(), 1.5 / 9.0);
        assert!(entry.measures());
        entry.state.stages = Stage::ALL.map(|name| stage(name, 10, Some(1.0))).to_vec();
        assert_eq!(entry.fraction(), 0.99);
        assert!(!entry.measures());
    }
}
