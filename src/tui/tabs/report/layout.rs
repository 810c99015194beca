//! Where the parts of the tab are, and from that, which picture of which size is wanted.
//!
//! ```text
//! wide                                      narrow, a row open
//! kinds                                     kinds
//! headline                                  headline
//! filter                                    filter
//! table                    │ picture        table
//!                          │ facts          ───────────────────
//!                                           picture │ facts
//! ```

use ratatui::layout::Rect;

use super::KINDS;
use crate::tui::app::{App, Tab};
use crate::tui::image::{Picture, Request};

/// From this width on, the row under the cursor is always shown beside the table.
pub const WIDE: u16 = 110;
/// Rows that the facts about a row take: name, label, two times five classes with their headings.
pub const FACTS: u16 = 16;

/// The parts of the tab; those that are not there are empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// The three kinds.
    pub kinds: Rect,
    /// The aggregates.
    pub headline: Rect,
    /// The filter, its error, and how many rows are shown.
    pub filter: Rect,
    /// The rows.
    pub table: Rect,
    /// The picture.
    pub picture: Rect,
    /// What the models say about it.
    pub facts: Rect,
    /// The line between table and picture.
    pub border: Rect,
}

/// Divides the tab.
pub fn parts(app: &App, body: Rect) -> Parts {
    let state = &app.report;
    let row = |y: u16, height: u16| {
        let y = y.min(body.bottom());
        Rect { y, height: height.min(body.bottom() - y), ..body }
    };
    let roomy = body.height >= 20;
    let air = u16::from(roomy);
    let mut parts = Parts { kinds: row(body.y, 1), ..Parts::default() };
    let mut y = body.y + 1 + air;
    parts.headline = row(y, 1);
    y += 1 + air;
    let lines = if state.filter_error.is_some() { 3 } else { 1 };
    parts.filter = row(y, lines);
    y += lines;
    let rest = row(y, body.bottom().saturating_sub(y));
    parts.table = rest;
    if state.pairs.is_some() || state.sheet().is_none() {
        return parts;
    }
    if body.width >= WIDE {
        let wide = if state.open { rest.width * 3 / 5 } else { (rest.width * 2 / 5).clamp(42, 78) };
        let left = rest.width - wide;
        parts.table.width = left.saturating_sub(2);
        parts.border = Rect { x: rest.x + left - 2, width: 1, ..rest };
        let side = Rect { x: rest.x + left, width: wide, ..rest };
        let facts = FACTS.min(side.height);
        parts.picture = Rect { height: side.height - facts, ..side };
        parts.facts = Rect { y: side.y + parts.picture.height, height: facts, ..side };
    } else if state.open {
        let table = (rest.height / 4).clamp(3, 8).min(rest.height);
        parts.table.height = table;
        parts.border = Rect { y: rest.y + table, height: u16::from(rest.height > table), ..rest };
        let below = Rect { y: parts.border.bottom(), height: rest.bottom() - parts.border.bottom(), ..rest };
        let half = below.width / 2;
        parts.picture = Rect { x: below.x + 1, width: half.saturating_sub(2), ..below };
        parts.facts = Rect { x: below.x + half, width: below.width - half, ..below };
    }
    if state.hidden {
        let (picture, facts) = (parts.picture, parts.facts);
        parts.picture = Rect::default();
        if !picture.is_empty() {
            parts.facts = picture.union(facts);
        }
    }
    parts
}

/// The body of the screen as [`crate::tui::view`] gives it to tabs.
fn body(app: &App) -> Rect {
    let (width, height) = app.size;
    Rect { x: 0, y: 2, width, height: height.saturating_sub(4) }
}

/// The cells that a picture may take: the last row of its part is for what stands under it.
fn room(app: &App) -> Option<Rect> {
    let part = parts(app, body(app)).picture;
    let room = Rect { height: part.height.saturating_sub(1), ..part };
    (room.width >= 8 && room.height >= 4).then_some(room)
}

/// The picture that the row under the cursor needs, without a number.
pub fn request(app: &App) -> Option<Request> {
    let small = app.size.0 < crate::tui::view::SMALLEST.0 || app.size.1 < crate::tui::view::SMALLEST.1;
    if app.tab != Tab::Report || small || super::pictures::pictures_possible(app).is_err() {
        return None;
    }
    let state = &app.report;
    let loaded = state.loaded.as_ref()?;
    let room = room(app)?;
    let (sheet, row) = state.current()?;
    Some(Request {
        id: 0,
        path: loaded.images.as_ref()?.join(sheet.image(row)),
        network: loaded.preprocess.clone().filter(|_| state.network),
        room: (room.width, room.height),
        cell: app.images.cell,
        protocol: app.images.decision.protocol,
        budget: app.images.budget,
    })
}

/// The picture of the row under the cursor, if it is there already.
pub fn picture(app: &App) -> Option<&Picture> {
    let wanted = request(app)?;
    let state = &app.report;
    let asked = state.asked.as_ref()?;
    if (Request { id: asked.id, ..wanted }) != *asked {
        return None;
    }
    state.picture()
}

/// Where it goes: in the middle of its room.
pub fn place(app: &App, picture: &Picture) -> Option<Rect> {
    let room = room(app)?;
    let (width, height) = (picture.size.0.min(room.width), picture.size.1.min(room.height));
    let x = room.x + (room.width - width) / 2;
    let y = room.y + (room.height - height) / 2;
    Some(Rect { x, y, width, height })
}

/// Whether a kind has rows.
pub fn possible(app: &App, kind: usize) -> bool {
    kind < KINDS.len() && app.report.loaded.as_ref().is_some_and(|loaded| loaded.sheets[kind].is_some())
}
