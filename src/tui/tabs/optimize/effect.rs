//! What the Optimize tab does outside of the loop.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::Msg;
use crate::project::atomic;
use crate::project::workspace::{Project, Workspace};
use crate::run::directory::{Existing, RunDirectory};
use crate::run::launch;
use crate::run::plan::{OptimizeOptions, Plan, for_project};
use crate::run::status::{self, Standing};
use crate::run::turns;
use crate::tui::app::Level;
use crate::tui::example;
use crate::tui::message::{self, Mailer};
use crate::tui::overlay::Page;

/// The most of the end of a log that is shown.
const LOG_LINES: usize = 2_000;

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look for images to calibrate on beside those of a project.
    FindCalibration {
        /// Id of the project.
        project: String,
        /// Its images.
        dataset: PathBuf,
    },
    /// Find out what a run would take.
    Estimate(Box<Project>, Box<OptimizeOptions>),
    /// Make a variant and start its run, or let it wait for its turn.
    Start {
        /// The project.
        project: Box<Project>,
        /// What was chosen.
        options: Box<OptimizeOptions>,
        /// A run is at work already.
        wait: bool,
    },
    /// Start or go on with a run that is there.
    Begin(PathBuf),
    /// Have the runs that wait begun one after another.
    TakeTurns,
    /// Ask a run to stop.
    Cancel(PathBuf),
    /// Write the form as a run file.
    Write(Box<Project>, Box<OptimizeOptions>),
    /// Show the log of a run.
    Log(PathBuf),
}

/// What a run would take, from `calib8 run --dry-run --json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Estimate {
    /// Images to calibrate on.
    pub calibration_images: usize,
    /// Images to judge by.
    pub dataset_images: usize,
    /// Nodes that become INT8.
    pub quantized_nodes: usize,
    /// Milliseconds of one inference in FP32.
    pub parent_ms: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// Memory.
    pub memory_bytes: u64,
    /// Disk.
    pub disk_bytes: u64,
    /// What to know before it runs.
    pub warnings: Vec<String>,
}

/// Does it, on a thread of its own.
pub fn execute(effect: Effect, workspace: &Workspace, mailer: &Mailer) {
    let answer = |msg| mailer.send(message::Msg::Optimize(msg));
    let say = |result: Result<String, String>| match result {
        Ok(text) => mailer.send(message::Msg::Say(Level::Done, text)),
        Err(text) => mailer.send(message::Msg::Say(Level::Error, text)),
    };
    match effect {
        Effect::FindCalibration { project, dataset } => {
            let folder = example::calibration_beside(&dataset);
            let folder = folder.map(|folder| folder.display().to_string()).unwrap_or_default();
            answer(Msg::Calibration { project, folder });
        }
        Effect::Estimate(project, options) => answer(Msg::Estimated(estimate(&project, &options))),
        Effect::Start { project, options, wait } => {
            answer(match start(workspace, &project, &options, wait) {
                Ok((directory, text)) => Msg::Started(directory, text),
                Err(text) => Msg::NotStarted(text),
            })
        }
        Effect::Begin(directory) => answer(match launch::resume_detached(&directory) {
            Ok(started) => Msg::Begun(format!("process {} works in {}", started.pid, directory.display())),
            // Another workbench was faster.
            Err(_) if status::of(&directory).standing == Standing::Running => {
                Msg::Begun(format!("a run is at work in {}", directory.display()))
            }
            Err(error) => Msg::NotStarted(error.to_string()),
        }),
        Effect::TakeTurns => {
            if let Err(error) = turns::start(workspace) {
                answer(Msg::NotStarted(format!("the runs that wait can't begin: {error}")));
            }
        }
        Effect::Cancel(directory) => say(match launch::cancel(&directory) {
            Ok(Some(pid)) => Ok(format!("asked process {pid} to stop after the image at work")),
            Ok(None) => Ok("it had just ended".to_string()),
            Err(error) => Err(error.to_string()),
        }),
        Effect::Write(project, options) => say(write(&project, &options)),
        Effect::Log(directory) => match log(&directory) {
            Ok(page) => answer(Msg::Log(page)),
            Err(text) => say(Err(text)),
        },
    }
}

fn plan(project: &Project, options: &OptimizeOptions) -> Result<Plan, String> {
    for_project(project, options).map_err(|error| error.to_string())
}

/// In a process of its own, as it runs the model.
fn estimate(project: &Project, options: &OptimizeOptions) -> Result<Estimate, String> {
    // In the system's own folder: that of the tempfile crate is turned elsewhere for viuer.
    let folder = tempfile::tempdir_in(std::env::temp_dir()).map_err(|error| error.to_string())?;
    let plan = Plan { output: folder.path().join("out"), ..plan(project, options)? };
    let yaml = plan.to_yaml().map_err(|error| error.to_string())?;
    let file = folder.path().join("run.yaml");
    atomic::write(&file, yaml.as_bytes()).map_err(|error| error.to_string())?;
    let program = launch::program().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .arg("run")
        .arg(&file)
        .args(["--dry-run", "--json"])
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.trim().trim_start_matches("error: ").to_string());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the dry run can't be read: {error}"))
}

fn start(
    workspace: &Workspace,
    project: &Project,
    options: &OptimizeOptions,
    wait: bool,
) -> Result<(PathBuf, String), String> {
    let plan = plan(project, options)?;
    let known = workspace.project(&project.id).map_err(|error| error.to_string())?;
    let name = free_name(&options.name, known.variants.iter().map(|variant| variant.name.as_str()));
    let variant = workspace.new_variant(project, &name).map_err(|error| error.to_string())?;
    let directory = variant.path.clone();
    let begun = if wait {
        let plan = Plan { output: directory.clone(), ..plan };
        RunDirectory::create(&directory, &plan, Existing::Refuse)
            .map_err(|error| error.to_string())
            .and_then(|held| {
                drop(held);
                turns::start(workspace).map_err(|error| error.to_string())
            })
            .map(|_| format!("{} is queued: it begins when the run before it ends", variant.name))
    } else {
        launch::start_detached(&plan, &directory, Existing::Refuse)
            .map(|started| format!("process {} works in {}", started.pid, directory.display()))
            .map_err(|error| error.to_string())
    };
    match begun {
        Ok(text) => Ok((directory, text)),
        Err(text) => {
            // What could not begin is no variant.
            let _ = workspace.trash_variant(project, &variant);
            Err(text)
        }
    }
}

/// The name, with a number behind it where others have it already.
fn free_name<'a>(name: &str, taken: impl Iterator<Item = &'a str>) -> String {
    let taken: BTreeSet<&str> = taken.collect();
    let numbered = |number: usize| if number == 1 { name.to_string() } else { format!("{name} {number}") };
    (1..).map(numbered).find(|name| !taken.contains(name.as_str())).unwrap_or_default()
}

/// Writes into the folder that calib8 was started in, under a name that is free.
fn write(project: &Project, options: &OptimizeOptions) -> Result<String, String> {
    let plan = plan(project, options)?;
    let output = std::path::absolute("out").map_err(|error| error.to_string())?.join(&project.id);
    let yaml = Plan { output, ..plan }.to_yaml().map_err(|error| error.to_string())?;
    let name = |number: usize| match number {
        1 => format!("{}.yaml", project.id),
        _ => format!("{}-{number}.yaml", project.id),
    };
    let free = (1..).map(name).find(|name| !Path::new(name).exists()).unwrap_or_default();
    let path = std::path::absolute(free).map_err(|error| error.to_string())?;
    atomic::write(&path, yaml.as_bytes()).map_err(|error| error.to_string())?;
    Ok(format!("wrote {0}; calib8 run {0}", path.display()))
}

fn log(directory: &Path) -> Result<Page, String> {
    let path = directory.join("worker.log");
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    Ok(Page::new(path.display().to_string(), &end).at_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_others_have_gets_a_number() {
        let named = |taken: &[&str]| free_name("int8 mixed", taken.iter().copied());
        assert_eq!(named(&["int8"]), "int8 mixed");
        assert_eq!(named(&["int8 mixed", "int8 mixed 3"]), "int8 mixed 2");
        assert_eq!(named(&["int8 mixed", "int8 mixed 2"]), "int8 mixed 3");
    }
}
