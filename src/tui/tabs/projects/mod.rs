//! The Projects tab: models, what was made of them, and how they came out.

mod action;
mod effect;
pub mod import;
pub mod tree;
pub mod view;

use std::collections::BTreeSet;
use std::path::PathBuf;

use crossterm::event::KeyCode;

pub use action::{ACTIONS, Action, perform};
pub use effect::{Effect, execute};
use import::Import;
use tree::{Row, rows};

use super::TabState;
use crate::tui::app::{App, Level, Subject};
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::overlay::{Overlay, Page};
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

    fn typing_keys(&self) -> &'static [(&'static str, &'static str)] {
        match (&self.import, &self.prompt) {
            (Some(import), _) => import.keys(),
            (None, Some(_)) => &[("Enter", "do it"), ("Esc", "leave it")],
            (None, None) => FilterLine::KEYS,
        }
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

/// The project under the cursor, or that of the variant there.
pub fn project_at_hand(app: &App) -> Option<String> {
    match selected(app)? {
        Selected::Project(project) | Selected::Variant(project, _) => Some(project.project.id.clone()),
        Selected::Unreadable(_) => None,
    }
}

/// The finished variant that is at hand: that of the run that is watched, the one under the cursor, or the last one of
/// the project there.
pub fn subject_at_hand(app: &App) -> Option<Subject> {
    let finished = |project: &ProjectEntry, variant: &VariantEntry| {
        let title = format!("{} · {}", project.project.name, variant.variant.name);
        variant.summary.as_ref().map(|_| Subject { title, directory: variant.variant.path.clone() })
    };
    let watched = app.optimize.watched.as_ref().and_then(|directory| app.snapshot.variant(directory));
    let of_watched = watched.and_then(|(project, variant)| finished(project, variant));
    of_watched.or_else(|| match selected(app)? {
        Selected::Variant(project, variant) => finished(project, variant),
        Selected::Project(project) => project.variants.iter().rev().find_map(|v| finished(project, v)),
        Selected::Unreadable(_) => None,
    })
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
