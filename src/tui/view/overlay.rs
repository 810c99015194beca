//! What lies over a tab.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::tui::action::Spec;
use crate::tui::app::{App, Level};
use crate::tui::keymap::Key;
use crate::tui::overlay::{Commands, Confirm, Messages, Overlay, Page};
use crate::tui::text::{shorten, wrap};
use crate::tui::view::rule;
use crate::tui::widgets::popup::popup;
use crate::tui::widgets::table::{self, Column};

/// Draws it, if one is open.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    match &app.overlay {
        None => {}
        Some(Overlay::Commands(commands)) => draw_commands(app, commands, area, buffer),
        Some(Overlay::Messages(messages)) => draw_messages(app, messages, area, buffer),
        Some(Overlay::Confirm(confirm)) => draw_confirm(app, confirm, area, buffer),
        Some(Overlay::Page(page)) => draw_page(app, page, area, buffer),
    }
}

const COMMAND_COLUMNS: [Column; 4] = [
    Column::text("Key", 13, 0),
    Column::growing("What", 44),
    Column::text("Where", 15, 1),
    Column::text("Name in keys.yaml", 19, 2),
];

fn draw_commands(app: &App, commands: &Commands, area: Rect, buffer: &mut Buffer) {
    let found = commands.found(app);
    let keys = "type to search · Enter runs · Esc closes";
    let inner = popup(area, buffer, &app.theme, (112, 36), commands.title, keys);
    if inner.height < 4 {
        return;
    }
    buffer.set_string(inner.x, inner.y, "› ", app.theme.accent);
    let input = Rect { x: inner.x + 2, width: inner.width - 2, height: 1, ..inner };
    commands.input.draw(input, buffer, &app.theme);
    let below = if inner.height >= 12 { 4 } else { 0 };
    let list = Rect { y: inner.y + 1, height: inner.height - 1 - below, ..inner };
    if found.is_empty() {
        let text = "nothing fits; fewer words find more";
        buffer.set_stringn(list.x, list.y + 1, text, usize::from(list.width), app.theme.dim);
        return;
    }
    if let (true, Some(spec)) = (below > 0, found.get(commands.table.selected())) {
        draw_command(app, spec, Rect { y: list.bottom(), height: below, ..inner }, buffer);
    }
    table::draw(list, buffer, &app.theme, &COMMAND_COLUMNS, &commands.table, |at| {
        found.get(at).map(|spec| command_row(app, spec)).unwrap_or_default()
    });
}

/// All of what a row has no room for: why it can't be done, and its name; below, how images are shown.
fn draw_command(app: &App, spec: &Spec, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width);
    rule(app, Rect { height: 1, ..area }, buffer);
    let (text, style) = match spec.action.enabled(app) {
        Ok(()) => (format!("{}; its name in keys.yaml is {}", spec.description, spec.id), app.theme.text),
        Err(why) => (format!("{}: {why}", spec.description), app.theme.warning),
    };
    for (y, line) in (area.y + 1..area.y + 3).zip(wrap(&text, width)) {
        buffer.set_stringn(area.x, y, line, width, style);
    }
    let decision = &app.images.decision;
    let images = shorten(&format!("images: {}, since {}", decision.protocol, decision.reason), width);
    buffer.set_stringn(area.x, area.y + 3, images, width, app.theme.dim);
}

fn command_row(app: &App, spec: &Spec) -> Vec<Line<'static>> {
    let keys = app.keymap.keys(spec.action).iter().map(Key::to_string).collect::<Vec<_>>().join(" ");
    let what = match spec.action.enabled(app) {
        Ok(()) => Line::styled(spec.description, app.theme.text),
        Err(reason) => Line::styled(format!("{}: {reason}", spec.description), app.theme.disabled),
    };
    vec![
        Line::styled(keys, app.theme.accent),
        what,
        Line::styled(spec.context.title(), app.theme.dim),
        Line::styled(spec.id, app.theme.dim),
    ]
}

fn draw_messages(app: &App, messages: &Messages, area: Rect, buffer: &mut Buffer) {
    let inner = popup(area, buffer, &app.theme, (110, 30), "Messages", "Esc closes");
    if app.messages.is_empty() {
        buffer.set_stringn(inner.x, inner.y, "none yet", usize::from(inner.width), app.theme.dim);
        return;
    }
    let mut y = inner.y;
    // The newest is the first row, the one under the cursor stands on top.
    for notice in app.messages.iter().rev().skip(messages.table.selected()) {
        let (word, style) = match notice.level {
            Level::Done => ("", app.theme.text),
            Level::Warning => ("note: ", app.theme.warning),
            Level::Error => ("error: ", app.theme.worse),
        };
        let seconds = notice.at.as_secs();
        let time = format!("{:2}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let room = usize::from(inner.width.saturating_sub(10));
        for (at, line) in wrap(&format!("{word}{}", notice.text), room).into_iter().enumerate() {
            if y >= inner.bottom() {
                return;
            }
            let time = if at == 0 { time.as_str() } else { "" };
            let spans = vec![Span::styled(format!("{time:<10}"), app.theme.dim), Span::styled(line, style)];
            buffer.set_line(inner.x, y, &Line::from(spans), inner.width);
            y += 1;
        }
    }
}

fn draw_page(app: &App, page: &Page, area: Rect, buffer: &mut Buffer) {
    let inner = popup(area, buffer, &app.theme, (120, area.height), &page.title, "Esc closes");
    let height = usize::from(inner.height);
    let first = page.table.scrolled(height);
    for (y, at) in (inner.y..inner.bottom()).zip(first..page.lines.len()) {
        let line = shorten(&page.lines[at], usize::from(inner.width));
        let style = if at == page.table.selected() { app.theme.selected } else { app.theme.text };
        buffer.set_stringn(inner.x, y, line, usize::from(inner.width), style);
    }
}

fn draw_confirm(app: &App, confirm: &Confirm, area: Rect, buffer: &mut Buffer) {
    let width = 70.min(area.width.saturating_sub(2));
    let room = usize::from(width.saturating_sub(4));
    let question = wrap(&confirm.question, room);
    let details: Vec<String> = confirm.details.iter().flat_map(|line| wrap(line, room)).collect();
    let height = (question.len() + details.len()) as u16 + 3;
    let keys = format!("Enter {} · Esc leave it", confirm.verb);
    let inner = popup(area, buffer, &app.theme, (width, height), "Please confirm", &keys);
    let lines = question.into_iter().map(|line| Line::styled(line, app.theme.heading));
    let details = details.into_iter().map(|line| Line::styled(line, app.theme.text));
    for (y, line) in (inner.y..inner.bottom()).zip(lines.chain([Line::default()]).chain(details)) {
        buffer.set_line(inner.x, y, &line, inner.width);
    }
}
