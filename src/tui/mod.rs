//! The workbench: four tabs over a workspace, with the keyboard, over SSH.
//!
//! ```text
//! key, answer, time ── Msg ── update ── App ── view ── screen
//!                               └── Effect ── a thread ── Msg
//! ```
//!
//! [`App`] is plain data; [`update()`] is pure and gives effects; [`view()`] draws from `&App`; [`runtime`] owns the
//! terminal and runs the effects. Every key goes through the table of [`action`], which also feeds footer,
//! help, README and the user's `keys.yaml`. A tab is a folder of [`tabs`], which says what belongs into it.
//!
//! No model is ever run in this process: it ends with its terminal, and work must not.

pub mod action;
pub mod app;
pub mod keymap;
pub mod keys_file;
mod message;
pub mod overlay;
pub mod pace;
mod runtime;
pub mod tabs;
pub mod terminal;
pub mod text;
pub mod theme;
mod update;
pub mod view;
pub mod widgets;

use std::io;

pub use app::{App, Exit};
pub use message::{Effect, Mailer, Msg};
pub use update::{start, update};
pub use view::view;

use keys_file::KeysError;
use pace::Pace;
use theme::Theme;

use crate::project::host;

/// Why the workbench did not open, or ended.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// The user's keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The terminal.
    #[error("the terminal can't be used: {0}")]
    Terminal(#[from] io::Error),
}

/// Opens the workbench on this terminal and stays until the user leaves.
///
/// # Errors
/// `keys.yaml` is wrong, or the terminal can't be used.
pub fn open() -> Result<Exit, TuiError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let keymap = match keys_file::default_path(variable) {
        Some(path) => keys_file::load(&path)?,
        None => keymap::Keymap::default(),
    };
    // crossterm 0.29 resets bold and reverse with an empty sequence where NO_COLOR is set
    // (crossterm#1069); the theme takes care of NO_COLOR instead.
    crossterm::style::force_color_output(true);
    let mut app = App::new(host::hostname(), Theme::of_environment(variable), keymap);
    let exit = {
        let _guard = terminal::Guard::enter()?;
        runtime::run(&mut app, Pace::of_environment(variable), terminal::synchronized(variable))
    };
    match exit {
        Ok(exit) => Ok(exit),
        // What fails after the terminal was taken is the terminal itself: it has gone away.
        Err(error) if gone(&error) => Ok(Exit::Hangup),
        Err(error) => Err(error.into()),
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
