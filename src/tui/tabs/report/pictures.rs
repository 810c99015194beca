//! The picture of the row under the cursor: whether there can be one, and when it is asked for.

use std::time::Duration;

use super::{Effect, Loaded, layout};
use crate::tui::action::Reason;
use crate::tui::app::{App, Tab};
use crate::tui::image::{Protocol, Want};
use crate::tui::message;
use crate::tui::theme::ThemeName;

/// How long the cursor must rest before a picture is made: holding a key makes none.
const REST: Duration = Duration::from_millis(120);

/// Why there are no images.
pub(super) fn trouble(loaded: &Loaded) -> Reason {
    loaded.trouble.clone().unwrap_or_else(|| "the images were not found".to_string()).into()
}

/// Whether there can be pictures at all.
pub(super) fn pictures_possible(app: &App) -> Result<(), Reason> {
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
