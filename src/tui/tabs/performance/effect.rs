//! What the Performance tab does outside of the loop.

use crate::tui::message::Mailer;

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {}

/// Does it, on a thread of its own.
pub fn execute(effect: Effect, _mailer: &Mailer) {
    match effect {}
}
