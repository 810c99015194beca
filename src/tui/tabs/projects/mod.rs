//! The Projects tab: models, what was made of them, and how they came out.

mod effect;
pub mod import;
pub mod tree;
pub mod view;

use std::collections::BTreeSet;
use std::path::PathBuf;

use crossterm::event::KeyCode;

pub use effect::{Effect, execute};
use import::Import;
use tree::{Row, rows};

use super::TabState;
use crate::run::status::Standing;
use crate::tui::action::{Reason, Spec, on_tab};
use crate::tui::app::{App, Level, Subject, Tab};
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::overlay::{Confirm, Overlay, Page};
use crate::tui::snapshot::{ProjectEntry, Snapshot, VariantEntry};
use crate::tui::widgets::input::{FilterLine, TextInput};
use crate::tui::widgets::table::TableState;

/// What the tab holds.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Cursor and scrolling of the tree.
    pub table: TableState,
    /// The rows of the tree that are seen.
    pub rows: Vec<Row>,
    /// Ids of projects whose variants are folded away.
    pub folded: BTreeSet<String>,
    /// Words that rows must hold to be seen.
    pub filter: FilterLine,
    /// A line of text that is being asked for.
    pub prompt: Option<Prompt>,
    /// The form for a new project.
    pub import: Option<Import>,
    /// Whether the bundled example is being unpacked.
    pub unpacking: bool,
    /// Id of the project that the cursor goes to once the workspace shows it.
    pub wanted: Option<String>,
}

/// A line of text that is asked for in the footer's place.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// What for.
    pub kind: PromptKind,
    /// The text.
    pub input: TextInput,
}

/// What a prompt is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptKind {
    /// The new name of a row.
    Rename(Row),
    /// The folder to pack a variant's model into.
    Export(PathBuf),
}

impl TabState for State {
    fn table(&self) -> Option<&TableState> {
        self.import.is_none().then_some(&self.table)
    }

    fn table_mut(&mut self) -> Option<&mut TableState> {
        self.import.is_none().then_some(&mut self.table)
    }

    fn typing(&self) -> bool {
        self.prompt.is_some() || self.import.is_some() || self.filter.typing
    }

    fn typed(&mut self, snapshot: &Snapshot) {
        self.choose_rows(snapshot);
    }

    fn back(&mut self) -> bool {
        self.filter.clear()
    }

    fn on_key(&mut self, key: Key) -> Vec<message::Effect> {
        if let Some(import) = &mut self.import {
            let answer = import.on_key(key);
            if answer.close {
                self.import = None;
            }
            return answer.effects;
        }
        let Some(prompt) = &mut self.prompt else {
            self.filter.on_key(key, &mut self.table);
            return Vec::new();
        };
        match key.code {
            KeyCode::Esc => self.prompt = None,
            KeyCode::Enter => {
                let text = prompt.input.text().to_string();
                let kind = prompt.kind.clone();
                self.prompt = None;
                let effect = match kind {
                    PromptKind::Rename(row) => Effect::Rename(row, text),
                    PromptKind::Export(directory) => Effect::Export(directory, text.into()),
                };
                return vec![message::Effect::Projects(effect)];
            }
            _ => {
                prompt.input.on_key(key);
            }
        }
        Vec::new()
    }
}

impl State {
    /// Makes the rows anew; the cursor stays on what it was on.
    fn choose_rows(&mut self, snapshot: &Snapshot) {
        let under = self.rows.get(self.table.selected()).cloned();
        self.rows = rows(snapshot, &self.folded, self.filter.text());
        self.table.set_len(self.rows.len());
        if let Some(at) = under.and_then(|row| self.rows.iter().position(|other| other.is(&row))) {
            self.table.select(at);
        }
    }
}

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

/// What is under the cursor.
#[derive(Debug, Clone, Copy)]
pub enum Selected<'a> {
    /// A project.
    Project(&'a ProjectEntry),
    /// A variant of one.
    Variant(&'a ProjectEntry, &'a VariantEntry),
    /// A folder that can't be read.
    Unreadable(&'a crate::project::workspace::Unreadable),
}

/// What is under the cursor; `None` in an empty workspace.
pub fn selected(app: &App) -> Option<Selected<'_>> {
    let row = app.projects.rows.get(app.projects.table.selected())?;
    resolve(&app.snapshot, row)
}

/// What a row stands for.
pub fn resolve<'a>(snapshot: &'a Snapshot, row: &Row) -> Option<Selected<'a>> {
    match row {
        Row::Project { id, .. } => snapshot.project(id).map(Selected::Project),
        Row::Variant { directory, .. } => {
            snapshot.variant(directory).map(|(project, variant)| Selected::Variant(project, variant))
        }
        Row::Unreadable { id } => {
            snapshot.unreadable.iter().find(|entry| entry.id == *id).map(Selected::Unreadable)
        }
    }
}

impl Action {
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

/// What effects answer.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A project was made, or the example was: put the cursor on it.
    Made {
        /// Its id.
        id: String,
        /// What to say.
        text: String,
    },
    /// It could not be made.
    NotMade(String),
    /// The page to show.
    Page(Page),
    /// To the form for a new project.
    Import(import::Msg),
}

/// Takes an answer in.
pub fn update(app: &mut App, msg: Msg) -> Vec<message::Effect> {
    match msg {
        Msg::Made { id, text } => {
            app.projects.unpacking = false;
            app.projects.import = None;
            app.projects.filter.clear();
            app.projects.table.select(0);
            app.say(Level::Done, text);
            app.projects.wanted = Some(id);
            select_wanted(app);
        }
        Msg::NotMade(text) => {
            app.projects.unpacking = false;
            app.say(Level::Error, text);
        }
        Msg::Page(page) => app.overlay = Some(Overlay::Page(page)),
        Msg::Import(msg) => {
            if let Some(import) = &mut app.projects.import {
                return import.update(msg);
            }
        }
    }
    Vec::new()
}

/// The workspace was read anew: the cursor stays on what it was on.
pub fn refreshed(app: &mut App) {
    app.projects.choose_rows(&app.snapshot);
    select_wanted(app);
}

/// Puts the cursor on the project that was just made, once it is there.
fn select_wanted(app: &mut App) {
    let Some(wanted) = &app.projects.wanted else { return };
    let found =
        app.projects.rows.iter().position(|row| matches!(row, Row::Project { id, .. } if id == wanted));
    if let Some(at) = found {
        app.projects.table.select(at);
        app.projects.wanted = None;
    }
}

/// Does an action that is enabled.
pub fn perform(app: &mut App, action: Action) -> Vec<message::Effect> {
    let effect = |effect| vec![message::Effect::Projects(effect)];
    match (action, selected(app)) {
        (Action::Filter, _) => app.projects.filter.typing = true,
        (Action::New, _) => {
            let import = Import::default();
            let effects = import.look();
            app.projects.import = Some(import);
            return effects;
        }
        (Action::Example, _) | (Action::Open, None) => {
            app.projects.unpacking = true;
            app.say(Level::Done, "unpacking the example …");
            return effect(Effect::Example);
        }
        (Action::Open, Some(Selected::Variant(project, variant))) => {
            let directory = variant.variant.path.clone();
            if variant.summary.is_none() {
                return super::optimize::watch(app, directory);
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
            return super::optimize::open_form(app, &id);
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
            return super::optimize::open_form(app, &id);
        }
        (Action::Resume, Some(Selected::Variant(_, variant))) => {
            let directory = variant.variant.path.clone();
            return super::optimize::resume(app, directory);
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
