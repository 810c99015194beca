//! What can be done on the Accuracy Report tab, and doing it.

use std::sync::Arc;

use super::pictures::{pictures_possible, trouble};
use super::{Effect, KINDS, Pairs, layout};
use crate::report::{Format, Kind, Sheet, confusion};
use crate::tui::action::{Action as AnyAction, Reason, Spec, on_tab, spec};
use crate::tui::app::{App, Tab};
use crate::tui::message;
use crate::tui::widgets::input::TextInput;
use crate::tui::widgets::table::TableState;

/// What can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Opens the row under the cursor; among the pairs, shows the images of one.
    Look,
    /// Goes to the next erroneous image.
    Next,
    /// Goes to the one before.
    Previous,
    /// Shows the file, or what the network sees of it.
    Network,
    /// Types a filter.
    Filter,
    /// Shows only erroneous images, or all.
    Erroneous,
    /// Shows which class became which.
    Pairs,
    /// Shows pictures, or none.
    Pictures,
    /// Goes to the next kind of report.
    NextKind,
    /// Goes to the one before.
    PreviousKind,
    /// Copies the path of the image.
    Copy,
    /// Writes the rows that are shown.
    Export(Format),
}

const fn here(
    action: Action,
    id: &'static str,
    keys: &'static [&'static str],
    hint: Option<&'static str>,
    description: &'static str,
) -> Spec {
    on_tab(Tab::Report, AnyAction::Report(action), id, keys, hint, description)
}

/// The tab's part of the table of actions.
pub const ACTIONS: &[Spec] = &[
    here(Action::Look, "look", &["enter"], Some("look"), "open the row: image, both models' best classes"),
    here(Action::Next, "next-erroneous", &["n"], Some("next"), "go to the next erroneous image"),
    here(Action::Previous, "previous-erroneous", &["N"], None, "go to the previous erroneous image"),
    here(
        Action::Network,
        "network-view",
        &["o"],
        Some("network's view"),
        "show the file, or what the network sees",
    ),
    here(Action::Erroneous, "only-erroneous", &["v"], Some("errors"), "show only erroneous images, or all"),
    here(
        Action::Filter,
        "filter-report",
        &["/"],
        Some("filter"),
        "filter, such as class ~ terrier and rank > 0",
    ),
    here(Action::Pairs, "pairs", &["x"], Some("pairs"), "show which class became which"),
    here(Action::NextKind, "next-report", &["]", "right"], Some("kind"), "go to the next kind of report"),
    here(Action::PreviousKind, "previous-report", &["[", "left"], None, "go to the previous kind of report"),
    here(Action::Pictures, "pictures", &["p"], None, "show pictures, or none"),
    here(
        Action::Export(Format::Csv),
        "export-csv",
        &["e"],
        Some("export"),
        "write the rows that are shown as CSV",
    ),
    here(
        Action::Export(Format::Markdown),
        "export-markdown",
        &["E"],
        None,
        "write the rows that are shown as Markdown",
    ),
    here(
        Action::Export(Format::Json),
        "export-json",
        &["ctrl-e"],
        None,
        "write the rows that are shown as JSON",
    ),
    here(Action::Copy, "copy-image-path", &["y"], None, "copy the path of the image"),
];

impl Action {
    /// Its word in the footer, where that is not always the same; nothing where others are of more use.
    pub fn word(self, app: &App) -> Option<&'static str> {
        let state = &app.report;
        let narrow = app.size.0 < layout::WIDE;
        match self {
            Action::Look if state.open && state.pairs.is_none() => Some("close"),
            Action::Look if state.pairs.is_some() => Some("its images"),
            Action::Network if narrow && !state.open => None,
            Action::Network if state.network => Some("original"),
            Action::Network if narrow => Some("network"),
            Action::Pairs if narrow && state.open => None,
            Action::Pairs if state.pairs.is_some() => Some("rows"),
            action => action_hint(action),
        }
    }

    /// Whether it can be done now.
    ///
    /// # Errors
    /// Why not.
    pub fn enabled(self, app: &App) -> Result<(), Reason> {
        let state = &app.report;
        if app.subject.is_none() {
            return Err("no optimized model is open, choose one in Projects".into());
        }
        let Some(loaded) = &state.loaded else { return Err("the reports are being read".into()) };
        if matches!(self, Action::NextKind | Action::PreviousKind) {
            return Ok(());
        }
        let Some(sheet) = state.sheet() else { return Err(loaded.missing[state.kind].clone().into()) };
        let row = || state.current().ok_or(Reason::from("no row is shown"));
        match self {
            Action::NextKind | Action::PreviousKind | Action::Filter | Action::Erroneous => Ok(()),
            Action::Look if state.pairs.is_some() => Ok(()),
            Action::Look => row().map(drop),
            Action::Next | Action::Previous => {
                let found = state.erroneous_beside(self == Action::Next);
                found.map(drop).ok_or_else(|| {
                    if self == Action::Next {
                        "none comes after this row"
                    } else {
                        "none comes before this row"
                    }
                    .into()
                })
            }
            Action::Network => match (&loaded.preprocess, pictures_possible(app)) {
                (_, Err(why)) => Err(why),
                (None, _) => Err("run.yaml does not say how images are prepared".into()),
                _ => Ok(()),
            },
            Action::Pictures => pictures_possible(app),
            Action::Pairs => match sheet.kind() {
                Kind::TensorDistance => Err("tensor distance knows no classes".into()),
                _ if sheet.class_pairs().all(|(p, s)| p == s) => Err("no class became another".into()),
                _ => Ok(()),
            },
            Action::Copy => {
                row()?;
                loaded.images.as_ref().map(drop).ok_or_else(|| trouble(loaded))
            }
            Action::Export(_) => {
                if state.rows.is_empty() {
                    Err("no row is shown".into())
                } else {
                    Ok(())
                }
            }
        }
    }
}

fn action_hint(action: Action) -> Option<&'static str> {
    spec(AnyAction::Report(action)).and_then(|spec| spec.hint)
}

/// Does an action that is enabled.
pub fn perform(app: &mut App, action: Action) -> Vec<message::Effect> {
    let state = &mut app.report;
    match action {
        Action::Look => match state.pairs.take() {
            Some(pairs) => {
                if let (Some(pair), Some(sheet)) = (pairs.pairs.get(pairs.table.selected()), state.sheet()) {
                    let text = format!(
                        "parent = {} and class = {}",
                        name(sheet, pair.parent),
                        name(sheet, pair.optimized)
                    );
                    state.filter.input = TextInput::new(&text);
                    state.select_rows();
                }
            }
            None => state.open = !state.open,
        },
        Action::Next | Action::Previous => {
            if let Some(at) = state.erroneous_beside(action == Action::Next) {
                state.table.select(at);
            }
        }
        Action::Network => state.network = !state.network,
        Action::Pictures => state.hidden = !state.hidden,
        Action::Filter => {
            state.pairs = None;
            state.filter.typing = true;
        }
        Action::Erroneous => {
            state.only_erroneous = !state.only_erroneous;
            state.select_rows();
        }
        Action::Pairs => {
            state.pairs = match (state.pairs.take(), state.sheet()) {
                (None, Some(sheet)) => {
                    let pairs = confusion(sheet.class_pairs());
                    let mut table = TableState::default();
                    table.set_len(pairs.len());
                    Some(Pairs { pairs, table })
                }
                _ => None,
            };
        }
        Action::NextKind => state.show_kind((state.kind + 1) % KINDS.len()),
        Action::PreviousKind => state.show_kind((state.kind + KINDS.len() - 1) % KINDS.len()),
        Action::Copy => {
            let images = state.loaded.as_ref().and_then(|loaded| loaded.images.as_ref());
            if let (Some((sheet, row)), Some(images)) = (state.current(), images) {
                let path = images.join(sheet.image(row)).display().to_string();
                app.hint(format!("copied {path}"));
                return vec![message::Effect::Copy(path)];
            }
        }
        Action::Export(format) => {
            if let (Some(sheet), Some(directory)) = (state.sheet(), &state.directory) {
                let name = format!("{}.shown.{}", sheet.kind(), format.extension());
                let export = Effect::Export {
                    sheet: Arc::clone(sheet),
                    rows: state.rows.clone(),
                    format,
                    path: directory.join(name),
                };
                return vec![message::Effect::Report(export)];
            }
        }
    }
    Vec::new()
}

/// A class as a filter names it: by its name where that is its own.
fn name(sheet: &Sheet, class: u32) -> String {
    let name = sheet.class_name(class);
    let own =
        sheet.classes().iter().filter(|other| other.split(',').any(|part| part.trim() == name)).count() == 1;
    if own && !name.contains('"') { format!("\"{name}\"") } else { format!("#{class}") }
}
