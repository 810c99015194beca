//! The Accuracy Report tab: which predictions changed, and the images on which they did.
//!
//! The table is a [`Sheet`] shared with the thread that read it; what is shown of it is a list of row numbers,
//! made anew whenever filter, order or kind change. The picture of the row under the cursor is asked for
//! once the cursor has rested ([`settle`]), made on a thread, and drawn as [`crate::tui::image`] says.

mod columns;
mod detail;
mod effect;
mod layout;
pub mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use effect::{Effect, KINDS, Loaded, execute, load};

use super::TabState;
use crate::report::filter::{Filter, FilterError};
use crate::report::{Cell, ConfusionPair, Format, Kind, Sheet, Sort, View, confusion};
use crate::tui::action::{Action as AnyAction, Reason, Spec, on_tab};
use crate::tui::app::{App, Tab};
use crate::tui::image::{Picture, Request, Want};
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::widgets::input::{FilterLine, TextInput};
use crate::tui::widgets::table::TableState;

/// How long the cursor must rest before a picture is made: holding a key makes none.
const REST: Duration = Duration::from_millis(120);

/// What the tab holds.
#[derive(Debug, Clone, Default)]
pub struct State {
    directory: Option<PathBuf>,
    loaded: Option<Loaded>,
    /// Position in [`KINDS`].
    kind: usize,
    table: TableState,
    /// The rows of the sheet that are shown, in order.
    rows: Vec<u32>,
    only_erroneous: bool,
    filter: FilterLine,
    filter_error: Option<FilterError>,
    /// The confusion pairs, while they lie over the table.
    pairs: Option<Pairs>,
    /// Whether a row is open.
    open: bool,
    hidden: bool,
    network: bool,
    pending: Option<(Request, Duration)>,
    asked: Option<Request>,
    picture: Option<Result<Picture, String>>,
}

/// Which class of the parent became which.
#[derive(Debug, Clone)]
struct Pairs {
    pairs: Vec<ConfusionPair>,
    table: TableState,
}

impl State {
    fn sheet(&self) -> Option<&Arc<Sheet>> {
        self.loaded.as_ref()?.sheets[self.kind].as_ref()
    }

    /// The sheet and the row under the cursor.
    fn current(&self) -> Option<(&Sheet, usize)> {
        let row = *self.rows.get(self.table.selected())?;
        Some((self.sheet()?, row as usize))
    }

    /// Shows another report, or the same anew.
    fn show_kind(&mut self, kind: usize) {
        let image = self.current().map(|(sheet, row)| sheet.image(row).to_string());
        self.kind = kind;
        self.table = TableState::sortable(columns::of(KINDS[kind]).len());
        self.pairs = None;
        self.select_rows();
        if let (Some(image), Some(sheet)) = (image, self.sheet().cloned()) {
            let same = |row: &u32| sheet.image(*row as usize) == image;
            if let Some(at) = self.rows.iter().position(same) {
                self.table.select(at);
            }
        }
    }

    /// Chooses the rows anew. A filter that is wrong keeps those of the last right one.
    fn select_rows(&mut self) {
        let Some(sheet) = self.sheet().cloned() else {
            self.rows = Vec::new();
            self.table.set_len(0);
            return;
        };
        let filter = match Filter::parse(self.filter.text(), &sheet) {
            Ok(filter) => filter,
            Err(error) => {
                self.filter_error = Some(error);
                return;
            }
        };
        self.filter_error = None;
        let under = self.rows.get(self.table.selected()).copied();
        let sort = self.table.sort().and_then(|sort| {
            let (key, _) = columns::of(sheet.kind()).get(sort.column)?;
            Some(Sort { column: sheet.column(key)?, ascending: !sort.descending })
        });
        self.rows = View { filter, only_erroneous: self.only_erroneous, sort }.rows(&sheet);
        self.table.set_len(self.rows.len());
        let at = under.and_then(|row| self.rows.iter().position(|shown| *shown == row));
        self.table.select(at.unwrap_or(0));
    }

    fn erroneous_beside(&self, forward: bool) -> Option<usize> {
        let sheet = self.sheet()?;
        let erroneous = |at: &usize| self.rows.get(*at).is_some_and(|row| sheet.erroneous(*row as usize));
        let selected = self.table.selected();
        if forward {
            (selected + 1..self.rows.len()).find(erroneous)
        } else {
            (0..selected).rev().find(erroneous)
        }
    }

    /// The picture that belongs to what was last asked for.
    pub fn picture(&self) -> Option<&Picture> {
        let picture = self.picture.as_ref()?.as_ref().ok()?;
        (self.asked.as_ref()?.id == picture.id).then_some(picture)
    }

    /// When the cursor will have rested long enough.
    pub fn wake_at(&self) -> Option<Duration> {
        self.pending.as_ref().map(|(_, until)| *until)
    }
}

impl TabState for State {
    fn table(&self) -> Option<&TableState> {
        self.sheet()?;
        Some(self.pairs.as_ref().map_or(&self.table, |pairs| &pairs.table))
    }

    fn table_mut(&mut self) -> Option<&mut TableState> {
        self.sheet()?;
        Some(self.pairs.as_mut().map_or(&mut self.table, |pairs| &mut pairs.table))
    }

    fn sorted(&mut self) {
        self.select_rows();
    }

    fn back(&mut self) -> bool {
        if self.pairs.take().is_some() {
            return true;
        }
        if std::mem::take(&mut self.open) {
            return true;
        }
        let filtered = self.filter.clear();
        if filtered {
            self.select_rows();
        }
        filtered
    }

    fn typing(&self) -> bool {
        self.filter.typing
    }

    fn on_key(&mut self, key: Key) -> Vec<message::Effect> {
        if self.filter.on_key(key, &mut self.table) {
            self.select_rows();
        }
        Vec::new()
    }
}

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
        Action::Erroneous,
        "only-erroneous",
        &["v"],
        Some("erroneous"),
        "show only erroneous images, or all",
    ),
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
    here(
        Action::Network,
        "network-view",
        &["o"],
        Some("original/network"),
        "show the file, or what the network sees",
    ),
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

fn trouble(loaded: &Loaded) -> Reason {
    loaded.trouble.clone().unwrap_or_else(|| "the images were not found".to_string()).into()
}

/// Whether there can be pictures at all.
fn pictures_possible(app: &App) -> Result<(), Reason> {
    use crate::tui::image::Protocol;
    use crate::tui::theme::ThemeName;
    let decision = &app.images.decision;
    match (decision.protocol, app.theme.name) {
        (Protocol::Off, _) => Err(format!("no images in this terminal: {}", decision.reason).into()),
        (_, ThemeName::Mono) => Err("the theme mono has no colours".into()),
        _ => match &app.report.loaded {
            Some(loaded) if loaded.images.is_none() => Err(trouble(loaded)),
            _ => Ok(()),
        },
    }
}

/// What effects answer.
#[derive(Debug, Clone)]
pub enum Msg {
    /// The reports of this directory.
    Loaded(PathBuf, Box<Loaded>),
    /// The picture of this number, or why there is none.
    Picture(u64, Result<Picture, String>),
}

/// Takes an answer in.
pub fn update(app: &mut App, msg: Msg) -> Vec<message::Effect> {
    let state = &mut app.report;
    match msg {
        Msg::Loaded(directory, loaded) if state.directory.as_ref() == Some(&directory) => {
            let first = loaded.sheets.iter().position(Option::is_some);
            // What is read again stays where the user is.
            let kind = if state.loaded.is_some() { state.kind } else { first.unwrap_or(0) };
            state.loaded = Some(*loaded);
            state.show_kind(kind);
        }
        Msg::Picture(id, picture) if state.asked.as_ref().is_some_and(|asked| asked.id == id) => {
            state.picture = Some(picture);
        }
        // Of what is no longer looked at.
        Msg::Loaded(..) | Msg::Picture(..) => {}
    }
    Vec::new()
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

/// Another subject was opened: forget the old one.
pub fn opened(app: &mut App) -> Vec<message::Effect> {
    let directory = app.subject.as_ref().map(|subject| subject.directory.clone());
    let network = app.report.network;
    app.report = State { directory: directory.clone(), network, ..State::default() };
    directory.map(|directory| message::Effect::Report(Effect::Load(directory))).into_iter().collect()
}

/// The tab came to the front: what was missing may be there now.
pub fn shown(app: &mut App) -> Vec<message::Effect> {
    let missing = app.report.loaded.as_ref().is_none_or(|loaded| loaded.sheets.iter().any(Option::is_none));
    match app.report.directory.clone().filter(|_| missing) {
        Some(directory) => vec![message::Effect::Report(Effect::Load(directory))],
        None => Vec::new(),
    }
}

/// After each message: asks for the picture of the row under the cursor once the cursor has rested.
pub fn settle(app: &mut App) -> Vec<message::Effect> {
    let wanted = layout::request(app);
    let now = app.now;
    let state = &mut app.report;
    let Some(mut wanted) = wanted else {
        state.pending = None;
        return Vec::new();
    };
    // The number is the request's own, not a part of what is asked for.
    wanted.id = state.asked.as_ref().map_or(0, |asked| asked.id);
    if state.asked.as_ref() == Some(&wanted) {
        state.pending = None;
        return Vec::new();
    }
    match &state.pending {
        Some((pending, until)) if *pending == wanted => {
            if now < *until {
                return Vec::new();
            }
            wanted.id += 1;
            state.pending = None;
            state.picture = None;
            state.asked = Some(wanted.clone());
            vec![message::Effect::Report(Effect::Picture(wanted))]
        }
        _ => {
            state.pending = Some((wanted, now + REST));
            Vec::new()
        }
    }
}

/// What the terminal is to paint over its cells in the next frame.
pub fn want(app: &App) -> Option<Want> {
    let picture = layout::picture(app)?;
    let rect = layout::place(app, picture)?;
    let covered = app.overlay.is_some() || app.tab != Tab::Report;
    (app.images.decision.protocol.is_out_of_band() && !covered).then_some(Want { picture: picture.id, rect })
}

/// Whether a row has this in a column; for tests and the view.
fn class_of(sheet: &Sheet, row: usize, key: &str) -> Option<u32> {
    match sheet.value(row, key) {
        Cell::Class(class) => Some(class),
        _ => None,
    }
}
