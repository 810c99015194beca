//! How long work speaks to whoever started it, without knowing who that is.
//!
//! `quantize`, `measure` and `report` are handed a [`Progress`]; `run` turns what it hears into
//! events. This file stands above all rooms, so that each may use it.

/// The listener of a piece of work, and its way to ask whether to stop.
///
/// Calls may come from any thread.
pub trait Progress: Sync {
    /// `done` of `total` items (images, rounds) are finished; `detail` names the item at work.
    fn step(&self, done: usize, total: usize, detail: Option<&str>);

    /// Something the user should know, that does not stop the work.
    fn warn(&self, message: &str);

    /// What was found on the way and explains what is done next: for the log, nothing to worry about.
    fn note(&self, message: &str) {
        let _ = message;
    }

    /// Whether the user asked to stop. Work checks this between items and returns what it has
    /// as an error of its room named `Cancelled`.
    fn cancelled(&self) -> bool;
}

/// Listens to nothing and never stops: for tests and for library use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _done: usize, _total: usize, _detail: Option<&str>) {}
    fn warn(&self, _message: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}
