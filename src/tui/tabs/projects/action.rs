//! What can be done on the Projects tab, and doing it.

use super::effect::Effect;
use super::import::Import;
use super::tree::Row;
use super::{Prompt, PromptKind, Selected, refreshed, selected};
use crate::run::status::Standing;
use crate::tui::action::{Reason, Spec, on_tab};
use crate::tui::app::{App, Level, Subject, Tab};
use crate::tui::message;
use crate::tui::overlay::{Confirm, Overlay};
use crate::tui::tabs::optimize;
use crate::tui::widgets::input::TextInput;

/// What can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table below says what each does")]
pub enum Action {
    Open,
    Filter,
    Fold,
    New,
    Example,
    Optimize,
    Resume,
    Inspect,
    Rename,
    Export,
    Copy,
    Delete,
}

const fn spec(
    action: Action,
    id: &'static str,
    keys: &'static [&'static str],
    hint: Option<&'static str>,
    description: &'static str,
) -> Spec {
    on_tab(Tab::Projects, crate::tui::action::Action::Projects(action), id, keys, hint, description)
}

/// The tab's part of the table of actions.
pub const ACTIONS: &[Spec] = &[
    spec(Action::Open, "open", &["enter"], Some("open"), "open what is under the cursor"),
    spec(Action::New, "new-project", &["n"], Some("new"), "make a project of a model and a folder of images"),
    spec(
        Action::Optimize,
        "optimize",
        &["o"],
        Some("optimize"),
        "calibrate the model of this project to INT8",
    ),
    spec(Action::Resume, "resume", &["r"], Some("resume"), "go on with an interrupted run"),
    spec(Action::Inspect, "inspect", &["i"], Some("inspect"), "show what the model holds"),
    spec(
        Action::Export,
        "export",
        &["e"],
        Some("export"),
        "pack the INT8 model for deployment into a folder",
    ),
    spec(Action::Rename, "rename", &["R"], Some("rename"), "give it another name"),
    spec(Action::Filter, "filter-projects", &["/"], Some("filter"), "show only what holds some words"),
    spec(Action::Delete, "delete", &["d"], Some("delete"), "move it to the trash of the workspace"),
    spec(Action::Copy, "copy-path", &["y"], None, "copy its path to the clipboard"),
    spec(Action::Fold, "fold", &["space", "left", "right", "h", "l"], None, "fold the variants away or out"),
    spec(Action::Example, "example", &["X"], None, "make a project of the bundled example"),
];

impl Action {
    /// Its word in the footer where that is not always the same.
    pub fn word(self, app: &App) -> Option<&'static str> {
        let empty = app.projects.rows.is_empty() && !app.projects.filter.is_shown();
        (self == Action::Open && empty).then_some("try the example")
    }

    /// Whether it can be done now.
    ///
    /// # Errors
    /// Why not.
    pub fn enabled(self, app: &App) -> Result<(), Reason> {
        let no = |reason: &'static str| Err(Reason::Borrowed(reason));
        match (self, selected(app)) {
            (Action::New, _) => Ok(()),
            (Action::Filter, _) if app.snapshot.projects.is_empty() => no("there is no project yet"),
            (Action::Filter, _) => Ok(()),
            (Action::Example, _) if app.projects.unpacking => no("it is being unpacked"),
            (Action::Example, _) => Ok(()),
            (_, None) if app.projects.filter.is_shown() => no("no row holds the words of the filter"),
            (Action::Open, None) => Action::Example.enabled(app),
            (_, None) => no("there is no project yet"),
            (Action::Copy | Action::Delete, Some(Selected::Unreadable(_))) => no("look at its folder first"),
            (_, Some(Selected::Unreadable(_))) => no("its project.yaml can't be read"),
            (Action::Delete, Some(Selected::Variant(_, v))) if v.standing == Standing::Running => {
                no("a run is at work in it; cancel it first")
            }
            (Action::Delete, Some(Selected::Project(p)))
                if p.variants.iter().any(|v| v.standing == Standing::Running) =>
            {
                no("a run is at work in it; cancel it first")
            }
            (Action::Resume, Some(Selected::Variant(_, v))) => match v.standing {
                Standing::Interrupted | Standing::Failed | Standing::Waiting => Ok(()),
                Standing::Running => no("it is at work"),
                Standing::Finished(_) => no("it is finished"),
            },
            (Action::Resume, Some(Selected::Project(_))) => no("choose one of its variants"),
            (Action::Export, Some(Selected::Variant(_, v))) if v.summary.is_none() => {
                no("its run is not finished")
            }
            (Action::Export, Some(Selected::Project(_))) => no("choose one of its variants"),
            (Action::Inspect, Some(Selected::Variant(_, v))) if v.summary.is_none() => {
                no("its run is not finished")
            }
            (Action::Inspect, Some(Selected::Project(p))) if p.model_bytes.is_none() => {
                no("the file of its model is gone")
            }
            _ => Ok(()),
        }
    }
}

/// Does an action that is enabled.
pub fn perform(app: &mut App, action: Action) -> Vec<message::Effect> {
    let effect = |effect| vec![message::Effect::Projects(effect)];
    match (action, selected(app)) {
        (Action::Filter, _) => app.projects.filter.typing = true,
        (Action::New, _) => {
            let mut import = Import::default();
            let effects = import.look();
            app.projects.import = Some(import);
            return effects;
        }
        (Action::Example, _) | (Action::Open, None) => {
            app.projects.unpacking = true;
            app.say(Level::Done, "unpacking the example, and running its model once …");
            return effect(Effect::Example);
        }
        (Action::Open, Some(Selected::Variant(project, variant))) => {
            let directory = variant.variant.path.clone();
            if variant.summary.is_none() {
                return optimize::watch(app, directory);
            }
            let title = format!("{} · {}", project.project.name, variant.variant.name);
            let mut effects = crate::tui::update(app, message::Msg::Open(Subject { title, directory }));
            effects.extend(crate::tui::update::attempt(
                app,
                crate::tui::action::Action::ShowTab(Tab::Performance),
            ));
            return effects;
        }
        (Action::Open, Some(Selected::Project(project))) if project.variants.is_empty() => {
            let id = project.project.id.clone();
            return optimize::open_form(app, &id);
        }
        (Action::Open | Action::Fold, Some(Selected::Project(project) | Selected::Variant(project, _))) => {
            let id = project.project.id.clone();
            if !app.projects.folded.remove(&id) {
                app.projects.folded.insert(id.clone());
            }
            refreshed(app);
            let home = app
                .projects
                .rows
                .iter()
                .position(|row| matches!(row, Row::Project { id: other, .. } if *other == id));
            app.projects.table.select(home.unwrap_or(0));
        }
        (Action::Optimize, Some(Selected::Project(project) | Selected::Variant(project, _))) => {
            let id = project.project.id.clone();
            return optimize::open_form(app, &id);
        }
        (Action::Resume, Some(Selected::Variant(_, variant))) => {
            let directory = variant.variant.path.clone();
            return optimize::resume(app, directory);
        }
        (Action::Inspect, Some(Selected::Project(project))) => {
            return effect(Effect::Inspect(project.project.definition.model.clone()));
        }
        (Action::Inspect, Some(Selected::Variant(_, variant))) => {
            return effect(Effect::Inspect(variant.variant.path.join("model.int8.onnx")));
        }
        (Action::Export, Some(Selected::Variant(project, variant))) => {
            let folder = format!("{}-{}", project.project.id, variant.variant.id);
            let kind = PromptKind::Export(variant.variant.path.clone());
            app.projects.prompt = Some(Prompt { kind, input: TextInput::new(&folder) });
        }
        (Action::Rename, Some(chosen)) => {
            let name = match chosen {
                Selected::Project(project) => project.project.name.clone(),
                Selected::Variant(_, variant) => variant.variant.name.clone(),
                Selected::Unreadable(_) => return Vec::new(),
            };
            if let Some(row) = app.projects.rows.get(app.projects.table.selected()).cloned() {
                app.projects.prompt =
                    Some(Prompt { kind: PromptKind::Rename(row), input: TextInput::new(&name) });
            }
        }
        (Action::Copy, Some(Selected::Project(project))) => {
            let path = project.project.definition.model.display().to_string();
            app.say(Level::Done, format!("copied {path}"));
            return vec![message::Effect::Copy(path)];
        }
        (Action::Copy, Some(Selected::Variant(_, variant))) => {
            let path = variant.variant.path.display().to_string();
            app.say(Level::Done, format!("copied {path}"));
            return vec![message::Effect::Copy(path)];
        }
        (Action::Delete, Some(chosen)) => {
            let trash = app.workspace.root().join("trash").display().to_string();
            let (question, first) = match chosen {
                Selected::Project(project) => (
                    format!("Delete the project {}?", project.project.name),
                    format!(
                        "with its {} variants; model and images stay where they are",
                        project.variants.len()
                    ),
                ),
                Selected::Variant(project, variant) => (
                    format!("Delete {} of {}?", variant.variant.name, project.project.name),
                    "with its INT8 model and reports".to_string(),
                ),
                Selected::Unreadable(_) => return Vec::new(),
            };
            if let Some(row) = app.projects.rows.get(app.projects.table.selected()).cloned() {
                let details = vec![first, format!("It is moved to {trash}, and nothing is removed.")];
                let effects = effect(Effect::Delete(row));
                app.overlay = Some(Overlay::Confirm(Confirm { question, details, verb: "delete", effects }));
            }
        }
        _ => {}
    }
    Vec::new()
}
