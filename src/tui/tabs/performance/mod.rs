//! The Performance tab: how fast parent and optimized model are, and where the time goes.

mod effect;
mod layers;
mod settings;
pub mod view;

use std::path::PathBuf;

pub use effect::{Effect, Measured, execute, load};

use layers::LayerLine;
use settings::{Settings, engines};

use super::TabState;
use crate::run::plan::EngineName;
use crate::run::status::Standing;
use crate::run::summary::{ModelRole, PerformanceRow};
use crate::tui::action::{Action as AnyAction, Reason, Spec, on_tab};
use crate::tui::app::{App, Level, Tab};
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::overlay::{Confirm, Overlay};
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
}

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
        (self.measured().is_some() && self.below != Below::Settings).then_some(&self.table)
    }

    fn table_mut(&mut self) -> Option<&mut TableState> {
        (self.measured().is_some() && self.below != Below::Settings).then_some(&mut self.table)
    }

    fn sorted(&mut self) {
        self.select_lines();
    }

    fn back(&mut self) -> bool {
        if self.below == Below::Settings {
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

    fn on_key(&mut self, key: Key) -> Vec<message::Effect> {
        if self.filter.on_key(key, &mut self.table) {
            self.select_lines();
        }
        Vec::new()
    }
}

/// What can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Shows streams × batch, or the layers again.
    Settings,
    /// A stricter latency limit.
    Stricter,
    /// A looser one.
    Looser,
    /// Layers one by one, or by kind; in streams × batch, parent or optimized.
    Variant,
    /// The next engine in streams × batch.
    Engine,
    /// Filters the layers.
    Filter,
    /// Measures again.
    Measure,
    /// Keeps this variant to compare others with, or lets it go.
    Hold,
}

const fn here(
    action: Action,
    id: &'static str,
    keys: &'static [&'static str],
    hint: Option<&'static str>,
    description: &'static str,
) -> Spec {
    on_tab(Tab::Performance, AnyAction::Performance(action), id, keys, hint, description)
}

/// The tab's part of the table of actions.
pub const ACTIONS: &[Spec] = &[
    here(
        Action::Settings,
        "streams-batch",
        &["b"],
        Some("streams × batch"),
        "show throughput over streams × batch",
    ),
    here(Action::Stricter, "stricter-limit", &["-"], Some("limit"), "lower the latency limit"),
    here(Action::Looser, "looser-limit", &["+"], None, "raise the latency limit"),
    here(
        Action::Variant,
        "layers-kinds",
        &["v"],
        Some("layers/kinds"),
        "layers one by one or by kind; parent or optimized",
    ),
    here(Action::Engine, "next-engine", &["e"], Some("engine"), "show streams × batch of the next engine"),
    here(Action::Measure, "measure", &["r"], Some("measure"), "measure again, beside the parent"),
    here(Action::Filter, "filter-layers", &["/"], Some("filter"), "filter the layers by words"),
    here(
        Action::Hold,
        "hold-to-compare",
        &["="],
        Some("hold"),
        "hold this variant to compare others with, or let it go",
    ),
];

impl Action {
    /// Whether it can be done now.
    ///
    /// # Errors
    /// Why not.
    pub fn enabled(self, app: &App) -> Result<(), Reason> {
        if app.subject.is_none() {
            return Err("no optimized model is open, choose one in Projects".into());
        }
        let state = &app.performance;
        if self == Action::Measure {
            let known = state.directory.as_ref().and_then(|directory| app.snapshot.variant(directory));
            return match (known, app.snapshot.running()) {
                (None, _) => Err("the run lies outside of this workspace".into()),
                (_, Some(_)) => Err("a run is at work, which would disturb the timing".into()),
                (Some((_, variant)), None) if variant.summary.is_none() => {
                    Err("its run is not finished".into())
                }
                _ => Ok(()),
            };
        }
        let measured = match &state.measured {
            None => return Err("the measurements are being read".into()),
            Some(Err(_)) => return Err("nothing was measured".into()),
            Some(Ok(measured)) => measured,
        };
        let needed = |holds: bool, why: &'static str| if holds { Ok(()) } else { Err(why.into()) };
        let in_settings = state.below == Below::Settings;
        match self {
            Action::Settings => needed(!measured.rows.is_empty(), "no speed was measured"),
            Action::Stricter | Action::Looser => needed(in_settings, "the limit is part of streams × batch"),
            Action::Engine => match in_settings {
                false => Err("the engine is chosen in streams × batch".into()),
                true => needed(engines(&measured.rows).len() > 1, "only one engine was measured"),
            },
            Action::Variant if in_settings => Ok(()),
            Action::Variant => needed(!measured.layers.is_empty(), "the layers were not measured"),
            Action::Filter => match in_settings {
                true => Err("there are no layers here to filter".into()),
                false => needed(!measured.layers.is_empty(), "the layers were not measured"),
            },
            Action::Hold => needed(!measured.rows.is_empty(), "no speed was measured"),
            Action::Measure => Ok(()),
        }
    }
}

/// What effects answer.
#[derive(Debug, Clone)]
pub enum Msg {
    /// The measurements of this directory.
    Loaded(PathBuf, Box<Result<Measured, String>>),
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
        Msg::Loaded(..) => {}
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

/// Does an action that is enabled.
pub fn perform(app: &mut App, action: Action) -> Vec<message::Effect> {
    let title = app.subject.as_ref().map(|subject| subject.title.clone()).unwrap_or_default();
    let state = &mut app.performance;
    match action {
        Action::Settings => {
            state.below = if state.below == Below::Settings { Below::Layers } else { Below::Settings };
            state.filter.typing = false;
            state.select_lines();
        }
        Action::Stricter | Action::Looser => {
            let limit = state.limit;
            state.limit = state.settings().and_then(|(_, s)| s.moved(limit, action == Action::Looser));
        }
        Action::Variant => {
            match state.below {
                Below::Settings => state.parent = !state.parent,
                Below::Layers => state.below = Below::Kinds,
                Below::Kinds => state.below = Below::Layers,
            }
            state.select_lines();
        }
        Action::Engine => {
            let count = state.measured().map_or(1, |measured| engines(&measured.rows).len().max(1));
            state.engine = (state.engine + 1) % count;
        }
        Action::Filter => state.filter.typing = true,
        Action::Measure => {
            let Some(directory) = state.directory.clone() else { return Vec::new() };
            app.overlay = Some(Overlay::Confirm(Confirm {
                question: format!("Measure {title} again?"),
                details: vec![
                    "In the settings that it had, beside its parent, for as long as before.".into(),
                    "What was measured is replaced; model and reports stay.".into(),
                ],
                verb: "measure",
                effects: vec![message::Effect::Performance(Effect::Measure(directory))],
            }));
        }
        Action::Hold => {
            let same =
                state.held.as_ref().is_some_and(|held| Some(&held.directory) == state.directory.as_ref());
            let rows = state.measured().map(|measured| measured.rows.clone());
            state.held = match (same, rows, state.directory.clone()) {
                (false, Some(rows), Some(directory)) => Some(Held { title, directory, rows }),
                _ => None,
            };
            match &state.held {
                Some(held) => {
                    let text = format!("{} is held; open another variant to see both", held.title);
                    app.hint(text);
                }
                None => app.hint("nothing is held any more"),
            }
        }
    }
    Vec::new()
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
