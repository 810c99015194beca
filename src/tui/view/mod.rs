//! From the state to the screen. Reads `&App` and nothing else.
//!
//! ```text
//! header     tabs, the run at work, the host
//! ─────────
//! tab        its own view
//! ─────────
//! footer     why a key did nothing; else the last message; else the keys that can act
//! ```

mod footer;
mod header;
mod overlay;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::app::{App, Tab};
use super::tabs::{optimize, performance, projects, report};
use super::text::wrap;

/// The smallest screen on which everything can be read.
pub const SMALLEST: (u16, u16) = (60, 16);

/// Draws the whole screen.
pub fn view(app: &App, frame: &mut Frame) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        too_small(app, area, buffer);
    } else {
        let row = |y| Rect { y, height: 1, ..area };
        header::draw(app, row(area.y), buffer);
        rule(app, row(area.y + 1), buffer);
        let body = Rect { y: area.y + 2, height: area.height - 4, ..area };
        match app.tab {
            Tab::Projects => projects::view::draw(app, body, buffer),
            Tab::Optimize => optimize::view::draw(app, body, buffer),
            Tab::Performance => performance::view::draw(app, body, buffer),
            Tab::Report => report::view::draw(app, body, buffer),
        }
        rule(app, row(body.bottom()), buffer);
        footer::draw(app, row(area.bottom() - 1), buffer);
        overlay::draw(app, Rect { y: area.y + 1, height: area.height - 2, ..area }, buffer);
    }
    app.theme.finish(buffer);
}

/// The tab whose title in the header covers this column.
pub(super) fn tab_at(app: &App, x: u16) -> Option<Tab> {
    header::tab_at(app, app.size.0, x)
}

/// A horizontal line over the whole width.
pub fn rule(app: &App, area: Rect, buffer: &mut Buffer) {
    buffer.set_string(area.x, area.y, "─".repeat(usize::from(area.width)), app.theme.dim);
}

/// A sentence in the upper third of an otherwise empty place.
pub fn sentence(app: &App, area: Rect, buffer: &mut Buffer, text: &str) {
    let lines = wrap(text, usize::from(area.width.saturating_sub(6)).min(76));
    let top = area.y + (area.height.saturating_sub(lines.len() as u16)) / 3;
    for (y, line) in (top..area.bottom()).zip(lines) {
        buffer.set_stringn(area.x + 3, y, line, usize::from(area.width.saturating_sub(3)), app.theme.text);
    }
}

fn too_small(app: &App, area: Rect, buffer: &mut Buffer) {
    let text = format!(
        "calib8 needs {} columns and {} rows; this terminal has {} and {}. Make it larger, or the font smaller.",
        SMALLEST.0, SMALLEST.1, area.width, area.height
    );
    for (y, line) in (area.y..area.bottom()).zip(wrap(&text, usize::from(area.width))) {
        buffer.set_line(area.x, y, &Line::styled(line, app.theme.text), area.width);
    }
}
