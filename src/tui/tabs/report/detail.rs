//! The row under the cursor: its picture, and what both models say about it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::layout::{self, Parts};
use super::{class_of, columns};
use crate::report::format::number;
use crate::report::{Best, Cell, Kind, Sheet};
use crate::tui::app::App;
use crate::tui::image::{Protocol, blocks};
use crate::tui::text::{fit, shorten, shorten_start, wrap};

/// Draws both.
pub fn draw(app: &App, parts: &Parts, buffer: &mut Buffer) {
    draw_picture(app, parts.picture, buffer);
    draw_facts(app, parts.facts, buffer);
}

fn draw_picture(app: &App, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let theme = &app.theme;
    let say = |buffer: &mut Buffer, text: &str| {
        let lines = wrap(text, usize::from(area.width.saturating_sub(2)));
        for (y, line) in (area.y..area.bottom()).zip(lines) {
            buffer.set_stringn(area.x, y, line, usize::from(area.width), theme.dim);
        }
    };
    if let Err(why) = super::pictures::pictures_possible(app) {
        return say(buffer, &why);
    }
    let state = &app.report;
    if let Some(Err(why)) = &state.picture
        && state.pending.is_none()
    {
        return say(buffer, why);
    }
    let Some(picture) = layout::picture(app) else { return };
    let Some(place) = layout::place(app, picture) else { return };
    if app.images.decision.protocol == Protocol::Blocks {
        blocks::draw(&picture.image, place, buffer, app.images.depth, theme.ascii);
    }
    let (width, height) = picture.pixels;
    let what = if state.network { "what the network sees" } else { "original" };
    let reduced = picture.reduced.map_or(String::new(), |(w, h)| format!(", sent as {w}×{h} to save bytes"));
    let caption = format!("{what}, {width}×{height}{reduced}");
    let caption = shorten(&caption, usize::from(area.width));
    let y = place.bottom().min(area.bottom() - 1);
    let x = place.x.min(area.right().saturating_sub(caption.chars().count() as u16)).max(area.x);
    buffer.set_stringn(x, y, caption, usize::from(area.width), theme.dim);
}

fn draw_facts(app: &App, area: Rect, buffer: &mut Buffer) {
    let Some((sheet, row)) = app.report.current() else { return };
    if area.is_empty() {
        return;
    }
    let width = usize::from(area.width.saturating_sub(1));
    for (y, line) in (area.y..area.bottom()).zip(facts(app, sheet, row, width, usize::from(area.height))) {
        buffer.set_line(area.x, y, &fit(&line, width), area.width);
    }
}

fn facts(app: &App, sheet: &Sheet, row: usize, width: usize, height: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let mut lines = vec![Line::styled(shorten_start(sheet.image(row), width), theme.heading)];
    if let Some(label) = class_of(sheet, row, "label") {
        let name = sheet.class_name(label);
        lines.push(Line::from(vec![Span::styled("label  ", theme.dim), Span::styled(name, theme.text)]));
    }
    if let Cell::Text(why) = sheet.value(row, "failed") {
        lines.extend(wrap(why, width).into_iter().map(|line| Line::styled(line, theme.worse)));
        return lines;
    }
    if sheet.kind() == Kind::TensorDistance {
        let measures = ["output", "sqnr_db", "cosine", "mse", "nmse", "max_abs"];
        let shown = measures.iter().filter_map(|key| {
            let heading = sheet.headings().iter().find(|heading| heading.key == *key)?;
            let words = match sheet.value(row, key) {
                Cell::Empty => "–".to_string(),
                cell => columns::written(sheet, key, cell),
            };
            let title = Span::styled(format!("{:<10} ", heading.title), theme.dim);
            Some(Line::from(vec![title, Span::styled(words, theme.text)]))
        });
        lines.extend(shown);
    }
    let Some((best, from)) = best_of(app, sheet, row) else {
        if sheet.kind() != Kind::TensorDistance {
            let why =
                "The best classes of both models are in the report on predictions, which this run has not.";
            lines.extend(wrap(why, width).into_iter().map(|line| Line::styled(line, theme.dim)));
        }
        return lines;
    };
    let label = class_of(from, best.row, "label");
    // Where there is little room, both models get as many classes as fit.
    let fitting = (height.saturating_sub(lines.len() + 2) / 2).clamp(1, 5);
    let each = if height >= usize::from(layout::FACTS) { 5 } else { fitting };
    for (title, ranking) in [("optimized", best.optimized), ("parent", best.parent)] {
        lines.push(Line::styled(title, theme.dim));
        let bars = ranking.iter().take(each).map(|(class, share)| {
            let right = if label == Some(*class) { theme.better } else { theme.text };
            bar(&from.class_name(*class), *share, width, right, theme.accent, label == Some(*class))
        });
        lines.extend(bars);
    }
    if let (Kind::Predictions, Cell::Number(kl)) = (sheet.kind(), sheet.value(row, "kl")) {
        lines.push(Line::styled(format!("KL {}", number(kl)), theme.dim));
    }
    lines
}

struct BestOf<'a> {
    row: usize,
    parent: &'a Best,
    optimized: &'a Best,
}

/// The best classes of a row, from the report on predictions where its own has none.
fn best_of<'a>(app: &'a App, sheet: &'a Sheet, row: usize) -> Option<(BestOf<'a>, &'a Sheet)> {
    let of = |sheet: &'a Sheet, row: usize| {
        let [parent, optimized] = sheet.best(row)?;
        (!parent.is_empty()).then_some((BestOf { row, parent, optimized }, sheet))
    };
    of(sheet, row).or_else(|| {
        let predictions = app.report.loaded.as_ref()?.sheets[0].as_deref()?;
        of(predictions, predictions.find(sheet.image(row))?)
    })
}

const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Name, bar and number. The label's class has a mark as well as a colour.
fn bar(name: &str, share: f32, width: usize, style: Style, accent: Style, label: bool) -> Line<'static> {
    let names = (width * 2 / 5).clamp(8, 28);
    let room = width.saturating_sub(names + 9);
    let eighths = (f64::from(share.clamp(0.0, 1.0)) * room as f64 * 8.0).round() as usize;
    let bar = format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8]);
    let mark = if label { "✓" } else { " " };
    let short = shorten(name, names);
    let pad = names.saturating_sub(unicode_width::UnicodeWidthStr::width(short.as_str()));
    let air = room.saturating_sub(bar.chars().count());
    Line::from(vec![
        Span::styled(format!("{mark} {short}{} ", " ".repeat(pad)), style),
        Span::styled(bar, accent),
        Span::styled(format!("{} {share:.2}", " ".repeat(air)), style),
    ])
}
