//! The Performance tab: how fast parent and optimized model are, and where the time goes.

mod action;
mod bars;
mod effect;
mod grid;
mod hosts;
mod layers;
mod settings;
pub mod view;

use std::path::PathBuf;

pub use action::{ACTIONS, Action, perform};
pub use effect::{Effect, Measured, execute, hosts, load};

use layers::LayerLine;
use settings::{Settings, engines};

use super::TabState;
use crate::run::history::Measurement;
use crate::run::plan::EngineName;
use crate::run::status::Standing;
use crate::run::summary::{ModelRole, PerformanceRow};
use crate::tui::app::{App, Level};
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::widgets::input::FilterLine;
use crate::tui::widgets::table::{Sort, TableState};

/// What stands under the bars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Below {
    /// A line for each layer.
    #[default]
    Layers,
    /// A line for all layers of a kind.
    Kinds,
    /// Streams × batch.
    Settings,
    /// Measurements of the project on all hosts.
    Hosts,
}

/// What the tab holds.
#[derive(Debug, Clone, Default)]
pub struct State {
    directory: Option<PathBuf>,
    /// What was read, or why there is nothing.
    measured: Option<Result<Measured, String>>,
    below: Below,
    table: TableState,
    lines: Vec<LayerLine>,
    filter: FilterLine,
    /// Latency limit in milliseconds.
    limit: Option<f64>,
    /// Position among the engines, for streams × batch.
    engine: usize,
    /// Show the parent's streams × batch.
    parent: bool,
    /// A variant to compare with, from this tab.
    held: Option<Held>,
    /// The process that measures again.
    again: Option<u32>,
    /// What was measured on all hosts, and what could not be read; or why nothing is known.
    hosts: Option<Hosts>,
    hosts_table: TableState,
}

/// Measurements, and a word on files that could not be read; or why there is none.
pub type Hosts = Result<(Vec<Measurement>, Option<String>), String>;

/// A variant to compare others with.
#[derive(Debug, Clone)]
struct Held {
    title: String,
    directory: PathBuf,
    rows: Vec<PerformanceRow>,
}

impl State {
    fn measured(&self) -> Option<&Measured> {
        self.measured.as_ref()?.as_ref().ok()
    }

    /// Makes the lines of the table anew.
    fn select_lines(&mut self) {
        let layers = self.measured().map(|measured| &measured.layers[..]).unwrap_or_default();
        let mut lines =
            if self.below == Below::Kinds { layers::by_kind(layers) } else { layers::each(layers) };
        lines.retain(|line| line.holds(self.filter.text()));
        if let Some(Sort { column, descending }) = self.table.sort() {
            lines.sort_by(|a, b| {
                let order = layers::order(a, b, column);
                if descending { order.reverse() } else { order }
            });
        }
        self.lines = lines;
        self.table.set_len(self.lines.len());
    }

    /// The settings of the engine and model that are chosen.
    fn settings(&self) -> Option<(EngineName, Settings<'_>)> {
        let rows = &self.measured()?.rows;
        let engines = engines(rows);
        let engine = *engines.get(self.engine.min(engines.len().checked_sub(1)?))?;
        let model = if self.parent { ModelRole::Parent } else { ModelRole::Optimized };
        Some((engine, Settings::new(rows, engine, model)))
    }
}

impl TabState for State {
    fn table(&self) -> Option<&TableState> {
        self.measured()?;
        match self.below {
            Below::Layers | Below::Kinds => Some(&self.table),
            Below::Settings => None,
            Below::Hosts => Some(&self.hosts_table),
        }
    }

    fn table_mut(&mut self) -> Option<&mut TableState> {
        self.measured()?;
        match self.below {
            Below::Layers | Below::Kinds => Some(&mut self.table),
            Below::Settings => None,
            Below::Hosts => Some(&mut self.hosts_table),
        }
    }

    fn sorted(&mut self) {
        self.select_lines();
    }

    fn back(&mut self) -> bool {
        if matches!(self.below, Below::Settings | Below::Hosts) {
            self.below = Below::Layers;
            self.select_lines();
            return true;
        }
        let filtered = self.filter.clear();
        if filtered {
            self.select_lines();
        }
        filtered
    }

    fn typing(&self) -> bool {
        self.filter.typing
    }

    fn typing_keys(&self) -> &'static [(&'static str, &'static str)] {
        FilterLine::KEYS
    }

    fn column_title(&self, column: usize) -> &'static str {
        view::COLUMNS.get(column).map_or("", |column| column.title)
    }

    fn on_key(&mut self, key: Key) -> Vec<message::Effect> {
        if self.filter.on_key(key, &mut self.table) {
            self.select_lines();
        }
        Vec::new()
    }
}

/// What effects answer.
#[derive(Debug, Clone)]
pub enum Msg {
    /// The measurements of this directory.
    Loaded(PathBuf, Box<Result<Measured, String>>),
    /// What was measured for the project of this directory, on all hosts.
    Hosts(PathBuf, Hosts),
    /// This directory is being measured again, in the process that is named.
    Begun(PathBuf, u32),
}

/// Takes an answer in.
pub fn update(app: &mut App, msg: Msg) -> Vec<message::Effect> {
    let state = &mut app.performance;
    match msg {
        Msg::Loaded(directory, measured) if state.directory.as_ref() == Some(&directory) => {
            state.measured = Some(*measured);
            state.select_lines();
        }
        Msg::Hosts(directory, hosts) if state.directory.as_ref() == Some(&directory) => {
            state.hosts_table.set_len(hosts.as_ref().map_or(0, |(found, _)| found.len()));
            state.hosts = Some(hosts);
        }
        Msg::Loaded(..) | Msg::Hosts(..) => {}
        Msg::Begun(directory, pid) => {
            if state.directory.as_ref() == Some(&directory) {
                state.again = Some(pid);
            }
            app.say(Level::Done, format!("process {pid} measures again in {}", directory.display()));
        }
    }
    Vec::new()
}

/// The workspace was read anew: what was measured again is read once it is there.
pub fn refreshed(app: &mut App) -> Vec<message::Effect> {
    let Some(directory) = app.performance.directory.clone() else { return Vec::new() };
    let variant = app.snapshot.variant(&directory).map(|(_, variant)| variant);
    // A look at the workspace from before the process was there shows another one's end.
    let ended = |pid| {
        variant.is_some_and(|v| v.state.pid == Some(pid) && v.standing != Standing::Running)
            || variant.is_none()
    };
    if !app.performance.again.is_some_and(ended) {
        return Vec::new();
    }
    app.performance.again = None;
    vec![message::Effect::Performance(Effect::Load(directory))]
}

/// Another subject was opened: forget the old one, but for what is held.
pub fn opened(app: &mut App) -> Vec<message::Effect> {
    let directory = app.subject.as_ref().map(|subject| subject.directory.clone());
    let old = std::mem::take(&mut app.performance);
    let mut table = TableState::sortable(view::COLUMNS.len());
    table.sort_by(Some(Sort { column: view::SAVED, descending: true }));
    app.performance =
        State { directory: directory.clone(), table, held: old.held, limit: old.limit, ..State::default() };
    directory.map(|directory| message::Effect::Performance(Effect::Load(directory))).into_iter().collect()
}

/// The tab came to the front: what was missing may be there now.
pub fn shown(app: &mut App) -> Vec<message::Effect> {
    let missing = app.performance.measured().is_none();
    match app.performance.directory.clone().filter(|_| missing) {
        Some(directory) => vec![message::Effect::Performance(Effect::Load(directory))],
        None => Vec::new(),
    }
}
