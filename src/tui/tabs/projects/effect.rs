//! What the Projects tab does outside of the loop.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::Msg;
use super::import;
use super::import::child;
use super::import::draft::Draft;
use super::import::files::{self, Listing};
use super::import::trial::{self, Request};
use super::tree::Row;
use crate::project::ProjectError;
use crate::project::workspace::{Baseline, NewProject, Project, Variant, Workspace};
use crate::run::{launch, package};
use crate::tui::app::Level;
use crate::tui::example;
use crate::tui::message::{self, Mailer};
use crate::tui::overlay::Page;

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make a project of the bundled example.
    Example,
    /// Give a row another name.
    Rename(Row, String),
    /// Move a row to the trash.
    Delete(Row),
    /// Pack the INT8 model of this run directory for deployment, into a folder.
    Export(PathBuf, PathBuf),
    /// Show what a model holds.
    Inspect(PathBuf),
    /// List what a path may be completed to.
    List(String),
    /// Find labels and class names beside images and model.
    Find {
        /// The images.
        images: String,
        /// The model.
        model: String,
    },
    /// Try the usual preprocessings.
    Try(Request),
    /// Stop trying, or making a project.
    StopTrying,
    /// Run a model once, and make a project of it.
    Create(Draft),
}

/// Does it, on a thread of its own.
pub fn execute(effect: Effect, workspace: &Workspace, mailer: &Mailer) {
    let answer = |msg| mailer.send(message::Msg::Projects(msg));
    let say = |result: Result<String, String>| match result {
        Ok(text) => mailer.send(message::Msg::Say(Level::Done, text)),
        Err(text) => mailer.send(message::Msg::Say(Level::Error, text)),
    };
    match effect {
        Effect::Example => answer(example(workspace).map_or_else(Msg::NotMade, |made| made.msg())),
        Effect::Rename(row, name) => say(rename(workspace, &row, &name).map_err(|error| error.to_string())),
        Effect::Delete(row) => say(delete(workspace, &row).map_err(|error| error.to_string())),
        Effect::Export(directory, folder) => say(export(&directory, &folder)),
        Effect::Inspect(model) => match inspect(&model) {
            Ok(page) => answer(Msg::Page(page)),
            Err(text) => say(Err(text)),
        },
        Effect::List(text) => {
            let listing = Listing::of(&text);
            answer(Msg::Import(import::Msg::Listed(listing)));
        }
        Effect::Find { images, model } => {
            answer(Msg::Import(import::Msg::Found(files::find(&images, &model))));
        }
        Effect::Try(request) => {
            if let Some(result) = trial::run(&request).transpose() {
                answer(Msg::Import(import::Msg::Tried(request, result)));
            }
        }
        Effect::StopTrying => child::stop(),
        Effect::Create(draft) => match draft.check().and_then(|new| create(workspace, &new)) {
            Ok(Some(made)) => answer(made.msg()),
            // The form was left, and nothing was made.
            Ok(None) => {}
            Err(text) => answer(Msg::Import(import::Msg::Refused(text))),
        },
    }
}

/// What `calib8 import --json` says.
#[derive(Deserialize)]
struct Made {
    id: String,
    name: String,
    path: PathBuf,
    baseline: Baseline,
}

impl Made {
    fn read(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| format!("the import's answer can't be read: {error}"))
    }

    fn msg(self) -> Msg {
        let fps = self.baseline.fps.median;
        let text =
            format!("made the project {}, {fps:.1} FPS in FP32; kept in {}", self.name, self.path.display());
        Msg::Made { id: self.id, text }
    }
}

/// `calib8 import`: in a process of its own, as the model is run once.
fn import_command(workspace: &Workspace, new: &NewProject) -> Result<Command, String> {
    let program = launch::program().map_err(|error| error.to_string())?;
    let definition = &new.definition;
    // JSON is YAML, and stands on one line.
    let preprocess = serde_json::to_string(&definition.preprocess).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("import").arg("--json").arg("--workspace").arg(workspace.root());
    command.arg(format!("--name={}", new.name)).arg(format!("--preprocess={preprocess}"));
    let dataset = &definition.dataset;
    for (option, path) in [("--labels", &dataset.labels), ("--classes", &dataset.classes)] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    command.arg(&definition.model).arg(&dataset.path);
    Ok(command)
}

/// `None` if it was stopped.
fn create(workspace: &Workspace, new: &NewProject) -> Result<Option<Made>, String> {
    let json = child::ask(&mut import_command(workspace, new)?)?;
    json.map(|json| Made::read(&json)).transpose()
}

fn example(workspace: &Workspace) -> Result<Made, String> {
    let folder = example::unpack(workspace.root()).map_err(|error| error.to_string())?;
    let new = NewProject { name: "example".into(), definition: example::definition(&folder) };
    // Not as the form's process, which a form that is opened meanwhile would end.
    let output = import_command(workspace, &new)?.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(child::complained(&String::from_utf8_lossy(&output.stderr)));
    }
    Made::read(&output.stdout)
}

fn rename(workspace: &Workspace, row: &Row, name: &str) -> Result<String, ProjectError> {
    match row {
        Row::Project { id, .. } => {
            let project = workspace.project(id)?;
            workspace.rename(&project, name)?;
            Ok(format!("renamed {} to {name}", project.name))
        }
        Row::Variant { project, directory, .. } => {
            let variant = variant(&workspace.project(project)?, directory)?;
            workspace.rename_variant(&variant, name)?;
            Ok(format!("renamed {} to {name}", variant.name))
        }
        Row::Unreadable { id } => workspace.project(id).map(|project| project.name),
    }
}

fn delete(workspace: &Workspace, row: &Row) -> Result<String, ProjectError> {
    let (name, place) = match row {
        Row::Project { id, .. } => {
            let project = workspace.project(id)?;
            let place = workspace.trash(&project)?;
            (project.name, place)
        }
        Row::Variant { project, directory, .. } => {
            let project = workspace.project(project)?;
            let variant = variant(&project, directory)?;
            let place = workspace.trash_variant(&project, &variant)?;
            (variant.name, place)
        }
        Row::Unreadable { id } => return workspace.project(id).map(|project| project.name),
    };
    Ok(format!("deleted {name}; it is in {}", place.display()))
}

fn variant(project: &Project, directory: &Path) -> Result<Variant, ProjectError> {
    let found = project.variants.iter().find(|variant| variant.path == directory).cloned();
    found.ok_or_else(|| ProjectError::Invalid { path: directory.into(), what: "is gone".into() })
}

/// The package that `calib8 export` makes.
fn export(directory: &Path, folder: &Path) -> Result<String, String> {
    let folder = std::path::absolute(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = package::export(directory, &folder, None).map_err(|error| error.to_string())?;
    Ok(format!("exported {} files to {}: model, preprocessing, programs", files.len(), folder.display()))
}

/// What `calib8 inspect` says: in a process of its own, as a model is loaded.
fn inspect(model: &Path) -> Result<Page, String> {
    let program = launch::program().map_err(|error| error.to_string())?;
    let output =
        Command::new(program).arg("inspect").arg(model).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
    if output.status.success() {
        let title = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Page::new(title, &text(&output.stdout)))
    } else {
        Err(text(&output.stderr).trim_start_matches("error: ").to_string())
    }
}
