//! The Accuracy Report tab.

mod effect;
pub mod view;

pub use effect::{Effect, execute};

use super::TabState;
use crate::tui::action::{Reason, Spec};
use crate::tui::app::App;
use crate::tui::message;

/// What the tab holds.
#[derive(Debug, Clone, Default)]
pub struct State {}

impl TabState for State {}

/// What can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {}

/// The tab's part of the table of actions.
pub const ACTIONS: &[Spec] = &[];

impl Action {
    /// Whether it can be done now.
    ///
    /// # Errors
    /// Why not.
    pub fn enabled(self, _app: &App) -> Result<(), Reason> {
        match self {}
    }
}

/// What effects answer.
#[derive(Debug, Clone)]
pub enum Msg {}

/// Takes an answer in.
pub fn update(_app: &mut App, msg: Msg) -> Vec<message::Effect> {
    match msg {}
}

/// Does an action that is enabled.
pub fn perform(_app: &mut App, action: Action) -> Vec<message::Effect> {
    match action {}
}

/// Another subject was opened: forget the old one.
pub fn opened(_app: &mut App) -> Vec<message::Effect> {
    Vec::new()
}

/// The tab came to the front.
pub fn shown(_app: &mut App) -> Vec<message::Effect> {
    Vec::new()
}
