//! The Accuracy Report tab: which predictions changed, and the images on which they did.
//!
//! The table is a [`Sheet`] shared with the thread that read it; what is shown of it is a list of row numbers,
//! made anew whenever filter, order or kind change. The picture of the row under the cursor is asked for
//! once the cursor has rested ([`settle`]), made on a thread, and drawn as [`crate::tui::image`] says.

mod action;
mod columns;
mod detail;
mod effect;
mod layout;
mod pictures;
pub mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use action::{ACTIONS, Action, perform};
pub use effect::{Effect, KINDS, Loaded, execute, load};
pub use pictures::{settle, want};

use super::TabState;
use crate::report::filter::{Filter, FilterError};
use crate::report::{Cell, ConfusionPair, Sheet, Sort, View};
use crate::tui::app::App;
use crate::tui::image::{Picture, Request};
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::widgets::input::FilterLine;
use crate::tui::widgets::table::TableState;

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

    fn typing_keys(&self) -> &'static [(&'static str, &'static str)] {
        FilterLine::KEYS
    }

    fn column_title(&self, column: usize) -> &'static str {
        columns::of(KINDS[self.kind]).get(column).map_or("", |(_, column)| column.title)
    }

    fn on_key(&mut self, key: Key) -> Vec<message::Effect> {
        if self.filter.on_key(key, &mut self.table) {
            self.select_rows();
        }
        Vec::new()
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

/// Whether a row has this in a column; for tests and the view.
fn class_of(sheet: &Sheet, row: usize, key: &str) -> Option<u32> {
    match sheet.value(row, key) {
        Cell::Class(class) => Some(class),
        _ => None,
    }
}
