//! What can be done on the Performance tab, and doing it.

use super::settings::engines;
use super::{Below, Effect, Held, layers};
use crate::tui::action::{Action as AnyAction, Reason, Spec, on_tab};
use crate::tui::app::{App, Tab};
use crate::tui::message;
use crate::tui::overlay::{Confirm, Overlay};

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
    /// Writes the layers that are shown.
    Export,
    /// Shows what was measured on all hosts, or the layers again.
    Hosts,
    /// Copies the name of a layer, as `ignored_scope` takes it.
    Copy,
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
    here(
        Action::Hosts,
        "hosts",
        &["H"],
        Some("hosts"),
        "show what was measured for this project on all hosts",
    ),
    here(Action::Export, "export-layers", &["E"], Some("export"), "write the layers that are shown as CSV"),
    here(Action::Copy, "copy-layer", &["y"], None, "copy the name of the layer"),
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
        let in_layers = matches!(state.below, Below::Layers | Below::Kinds);
        match self {
            Action::Settings => needed(!measured.rows.is_empty(), "no speed was measured"),
            Action::Stricter | Action::Looser => needed(in_settings, "the limit is part of streams × batch"),
            Action::Engine => match in_settings {
                false => Err("the engine is chosen in streams × batch".into()),
                true => needed(engines(&measured.rows).len() > 1, "only one engine was measured"),
            },
            Action::Variant if in_settings => Ok(()),
            Action::Variant | Action::Filter | Action::Export | Action::Copy if !in_layers => {
                Err("there are no layers here; Esc goes back to them".into())
            }
            Action::Variant => needed(!measured.layers.is_empty(), "the layers were not measured"),
            Action::Filter => needed(!measured.layers.is_empty(), "the layers were not measured"),
            Action::Hold => needed(!measured.rows.is_empty(), "no speed was measured"),
            Action::Copy if state.below == Below::Kinds => Err("v shows the layers one by one".into()),
            Action::Export | Action::Copy => needed(!state.lines.is_empty(), "no layer is shown"),
            Action::Measure | Action::Hosts => Ok(()),
        }
    }
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
                Below::Kinds | Below::Hosts => state.below = Below::Layers,
            }
            state.select_lines();
        }
        Action::Hosts if state.below == Below::Hosts => state.below = Below::Layers,
        Action::Hosts => {
            state.below = Below::Hosts;
            let Some(directory) = state.directory.clone() else { return Vec::new() };
            let project = app.snapshot.variant(&directory).map(|(project, _)| project.project.path.clone());
            let places =
                vec![project.unwrap_or_else(|| directory.clone()), app.workspace.root().join("hosts")];
            return vec![message::Effect::Performance(Effect::Hosts { directory, places })];
        }
        Action::Engine => {
            let count = state.measured().map_or(1, |measured| engines(&measured.rows).len().max(1));
            state.engine = (state.engine + 1) % count;
        }
        Action::Filter => state.filter.typing = true,
        Action::Copy => {
            let Some(line) = state.lines.get(state.table.selected()) else { return Vec::new() };
            let name = line.name.clone();
            app.hint(format!("copied {name}"));
            return vec![message::Effect::Copy(name)];
        }
        Action::Export => {
            let Some(directory) = &state.directory else { return Vec::new() };
            let export = Effect::Export {
                count: state.lines.len(),
                text: layers::csv(&state.lines),
                path: directory.join("layers.shown.csv"),
            };
            return vec![message::Effect::Performance(export)];
        }
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
