//! The first row: which program, which tabs, what is running, which machine.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use crate::tui::action::Action;
use crate::tui::app::{App, Tab};
use crate::tui::text::shorten;

const NAME: &str = " calib8 ";

/// Draws it. What does not fit leaves from the right.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let mut left = vec![Span::styled(NAME, app.theme.heading)];
    for tab in Tab::ALL {
        left.push(Span::styled(before(app, area.width, tab), app.theme.dim));
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
    let free = usize::from(area.width.saturating_sub(used + 3));
    let mut right = running(app, free.saturating_sub(2).min(40));
    let host = shorten(&app.host, free);
    if right.width() + host.len() + 3 <= free {
        right.spans.push(Span::styled(format!("   {host}"), app.theme.dim));
    }
    let x = area.right().saturating_sub(right.width() as u16 + 1);
    buffer.set_line(x, area.y, &right, area.width);
}

/// What stands before the title of a tab: air and its key.
fn before(app: &App, width: u16, tab: Tab) -> String {
    let air = if width >= 96 { "  " } else { " " };
    format!("{air}{} ", app.keymap.shown(Action::ShowTab(tab)))
}

/// The tab whose key or title covers column `x` of a header of this width.
pub fn tab_at(app: &App, width: u16, x: u16) -> Option<Tab> {
    let mut end = NAME.len();
    Tab::ALL.into_iter().find(|tab| {
        let start = end;
        end += before(app, width, *tab).width() + tab.title().len();
        (start..end).contains(&usize::from(x))
    })
}

/// The run at work, in at most `room` columns: its project, and how much is done.
fn running(app: &App, room: usize) -> Line<'static> {
    let Some((project, variant)) = app.snapshot.running() else { return Line::default() };
    let percent = format!(" {:.0} %", (variant.fraction() * 100.0).floor());
    let name = match room.checked_sub(percent.len() + 2) {
        Some(room) if room >= 6 => shorten(&project.project.name, room),
        _ => String::new(),
    };
    Line::styled(format!("▶ {name}{percent}"), app.theme.accent)
}
