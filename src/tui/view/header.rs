//! The first row: which program, which tabs, what is running, which machine.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use crate::tui::action::Action;
use crate::tui::app::{App, Tab};
use crate::tui::text::shorten;

/// Draws it. What does not fit leaves from the right.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let roomy = area.width >= 96;
    let mut left = vec![Span::styled(" calib8 ", app.theme.heading)];
    for tab in Tab::ALL {
        let key = app.keymap.shown(Action::ShowTab(tab));
        let air = if roomy { "  " } else { " " };
        left.push(Span::styled(format!("{air}{key} "), app.theme.dim));
        let style = if tab == app.tab {
            app.theme.accent.add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
        } else {
            app.theme.text
        };
        left.push(Span::styled(tab.title(), style));
    }
    let left = Line::from(left);
    let used = left.width() as u16;
    buffer.set_line(area.x, area.y, &left, area.width);
    let free = usize::from(area.width.saturating_sub(used + 4));
    let host = shorten(&app.host, free);
    if free >= 12 {
        let line = Line::styled(host, app.theme.dim);
        let x = area.right().saturating_sub(line.width() as u16 + 1);
        buffer.set_line(x, area.y, &line, area.width);
    }
}
