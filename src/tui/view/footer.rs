//! The last row: why a key did nothing, else the last message, else the keys: those of the field where one types.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use crate::tui::action::{Action, Context, specs};
use crate::tui::app::{App, Level};
use crate::tui::text::fit;

/// Draws it.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width.saturating_sub(1));
    if let Some((hint, _)) = &app.hint {
        // The reason matters more than what could not be done.
        let reason = hint.strip_prefix("can't ").and_then(|hint| hint.split_once(": "));
        let text = match reason {
            Some((_, reason)) if hint.width() > width => format!("can't: {reason}"),
            _ => hint.clone(),
        };
        let line = fit(&Line::styled(text, app.theme.warning), width);
        buffer.set_line(area.x + 1, area.y, &line, area.width);
    } else if let Some(notice) = app.notice() {
        let (word, style) = match notice.level {
            Level::Done => ("", app.theme.text),
            Level::Warning => ("note: ", app.theme.warning),
            Level::Error => ("error: ", app.theme.worse),
        };
        let mut text = notice.text.lines().next().unwrap_or_default().to_string();
        let more = notice.text.lines().nth(1).is_some() || word.len() + text.chars().count() > width;
        if more {
            let room = width.saturating_sub(word.len() + 16);
            text = crate::tui::text::shorten(&text, room);
            text += &format!("   {} all of it", app.keymap.shown(Action::Messages));
        }
        let line = Line::from(vec![Span::styled(word, style), Span::styled(text, style)]);
        buffer.set_line(area.x + 1, area.y, &fit(&line, width), area.width);
    } else if app.overlay.is_some() {
        // Its keys stand on its border, and no other acts.
    } else if app.state().typing() {
        let fixed = app.keymap.shown(Action::Quit);
        let keys = app.state().typing_keys().iter().copied();
        let line = Line::from_iter(keys.chain([(fixed.as_str(), "quit")]).flat_map(|(key, word)| {
            [
                Span::styled(format!(" {key} "), app.theme.accent),
                Span::styled(format!("{word} "), app.theme.text),
            ]
        }));
        buffer.set_line(area.x, area.y, &fit(&line, usize::from(area.width)), area.width);
    } else {
        keys(app, area, buffer);
    }
}

/// The keys of this tab, and on the right those that hold everywhere.
fn keys(app: &App, area: Rect, buffer: &mut Buffer) {
    let hints = |context: Context| {
        let here = specs().filter(move |spec| spec.context == context);
        let shown = here.filter_map(|spec| Some((spec, spec.action.word(app)?)));
        shown.flat_map(|(spec, hint)| {
            let possible = spec.action.enabled(app).is_ok();
            let (key, word) = match possible {
                true => (app.theme.accent, app.theme.text),
                false => (app.theme.disabled, app.theme.disabled),
            };
            [
                Span::styled(format!(" {} ", app.keymap.shown(spec.action)), key),
                Span::styled(format!("{hint} "), word),
            ]
        })
    };
    let right = Line::from_iter(hints(Context::Everywhere));
    let room = area.width.saturating_sub(right.width() as u16 + 1);
    let mut left = Line::default();
    let mut here: Vec<Span> = hints(Context::Tab(app.tab)).collect();
    let width: usize = here.iter().map(Span::width).sum();
    if width > usize::from(room) {
        // What can't be done now leaves first; the help still says why.
        here = here.chunks(2).filter(|pair| pair[0].style != app.theme.disabled).flatten().cloned().collect();
    }
    for pair in here.chunks(2) {
        let width: usize = pair.iter().map(Span::width).sum();
        if left.width() + width > usize::from(room) {
            break;
        }
        left.spans.extend(pair.iter().cloned());
    }
    buffer.set_line(area.x, area.y, &left, room);
    buffer.set_line(area.x + room, area.y, &right, area.width - room);
}
