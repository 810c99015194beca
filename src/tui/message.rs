//! What comes into [`super::update`], and what it asks for.
//!
//! Each tab has a `Msg` and an `Effect` of its own; an effect runs on a thread and answers through a
//! [`Mailer`]. Nothing else happens outside of the loop.

use tokio::sync::mpsc::UnboundedSender;

use super::action::Move;
use super::app::{Level, Subject};
use super::keymap::Key;
use super::snapshot::Snapshot;
use super::tabs::{optimize, performance, projects, report};
use super::theme::ThemeName;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The wheel was turned by a step.
    Wheel(Move),
    /// The left button was pressed on this column and row.
    Click(u16, u16),
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// The time that [`super::App::wake_at`] named has come.
    Time,
    /// An effect has something to say.
    Say(Level, String),
    /// The workspace holds this now.
    Workspace(Box<Snapshot>),
    /// The tabs beside Projects are about this from now on.
    Open(Subject),
    /// To the Projects tab.
    Projects(projects::Msg),
    /// To the Optimize tab.
    Optimize(optimize::Msg),
    /// To the Performance tab.
    Performance(performance::Msg),
    /// To the Accuracy Report tab.
    Report(report::Msg),
}

/// Something to do outside of the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send every cell of the screen again.
    Redraw,
    /// Give the terminal back and stop.
    Suspend,
    /// Put text into the clipboard of the user's terminal (OSC 52, which passes through SSH).
    Copy(String),
    /// Keep the choice of a theme in the workspace.
    KeepTheme(ThemeName),
    /// Tell of every change of the workspace from now on.
    Watch,
    /// Of the Projects tab.
    Projects(projects::Effect),
    /// Of the Optimize tab.
    Optimize(optimize::Effect),
    /// Of the Performance tab.
    Performance(performance::Effect),
    /// Of the Accuracy Report tab.
    Report(report::Effect),
}

/// The way back from an effect into the loop.
#[derive(Debug, Clone)]
pub struct Mailer(pub(super) UnboundedSender<Msg>);

impl Mailer {
    /// Whether somebody still hears.
    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Sends a message; nobody hears it once the workbench has ended.
    pub fn send(&self, msg: Msg) {
        let _ = self.0.send(msg);
    }
}
