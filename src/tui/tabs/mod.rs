//! The four tabs, a folder each. A folder holds all that its tab is:
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | `State` (plain data, implements [`TabState`]), `Msg`, `update` |
//! | `action.rs` | `Action` with `ACTIONS` and `enabled`, `perform` |
//! | `effect.rs` | `Effect` and `execute`, which runs on a thread and answers through a [`super::Mailer`] |
//! | `view.rs` | `draw(&App, Rect, &mut Buffer)` |
//!
//! Effects may read files and take as long as they need; `update`, `perform` and `draw` may not touch the disk.

pub mod optimize;
pub mod performance;
pub mod projects;
pub mod report;

use super::action::{Move, Reason};
use super::keymap::Key;
use super::message::Effect;
use super::snapshot::Snapshot;
use super::widgets::table::TableState;

/// What the keys that hold everywhere need of a tab.
pub trait TabState {
    /// The table that the keys of lists act on.
    fn table(&self) -> Option<&TableState> {
        None
    }

    /// The table that the keys of lists act on.
    fn table_mut(&mut self) -> Option<&mut TableState> {
        None
    }

    /// Whether the cursor can move.
    ///
    /// # Errors
    /// Why not.
    fn movable(&self) -> Result<(), Reason> {
        match self.table() {
            Some(table) if !table.is_empty() => Ok(()),
            Some(_) => Err("the list is empty".into()),
            None => Err("there is no list here".into()),
        }
    }

    /// Moves the cursor.
    fn step(&mut self, step: Move) -> Vec<Effect> {
        if let Some(table) = self.table_mut() {
            table.step(step);
        }
        Vec::new()
    }

    /// The order of the table changed: put the rows into it.
    fn sorted(&mut self) {}

    /// Steps back, out of whatever is open within the tab; `false` where there is nothing.
    fn back(&mut self) -> bool {
        false
    }

    /// Whether letters are text now, so that no key but Ctrl-C is a command.
    fn typing(&self) -> bool {
        false
    }

    /// A key was taken while [`TabState::typing`], or [`TabState::back`] did something: what is shown of the workspace
    /// may be other now.
    fn typed(&mut self, _snapshot: &Snapshot) {}

    /// The keys that act while [`TabState::typing`], with a word each, for the footer.
    fn typing_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("Enter", "done"), ("Esc", "leave")]
    }

    /// The heading of a column that the table can be sorted by.
    fn column_title(&self, _column: usize) -> &'static str {
        ""
    }

    /// A key while [`TabState::typing`]; Esc must end it.
    fn on_key(&mut self, _key: Key) -> Vec<Effect> {
        Vec::new()
    }
}
