//! The Accuracy Report tab on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::layout::{Parts, parts, possible};
use super::{KINDS, Pairs, State, columns, detail};
use crate::report::format::{count, number, percent, points};
use crate::report::{Kind, Sheet};
use crate::run::summary::ReportsSummary;
use crate::tui::app::App;
use crate::tui::text::{fit, shorten, wrap};
use crate::tui::view::sentence;
use crate::tui::widgets::table::{self, Column};

/// Draws the tab.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let state = &app.report;
    if app.subject.is_none() {
        return sentence(app, area, buffer, "No optimized model is open. Choose one in Projects.");
    }
    let Some(loaded) = &state.loaded else {
        return sentence(app, area, buffer, "Reading the reports …");
    };
    let parts = parts(app, area);
    draw_kinds(app, parts.kinds, buffer);
    let Some(sheet) = state.sheet() else {
        let why = format!("There is no such report of this run: {}.", loaded.missing[state.kind]);
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        return sentence(app, below, buffer, &why);
    };
    let mut line = headline(app, sheet, loaded.summary.as_ref());
    // A part that does not fit leaves whole: half a number is a wrong one.
    while line.spans.len() > 3 && line.width() > usize::from(parts.headline.width.saturating_sub(2)) {
        line.spans.truncate(line.spans.len() - 3);
    }
    draw_line(parts.headline, buffer, &line);
    draw_filter(app, sheet, parts.filter, buffer);
    match &state.pairs {
        Some(pairs) => draw_pairs(app, sheet, pairs, parts.table, buffer),
        None => draw_table(app, state, sheet, &parts, buffer),
    }
}

fn draw_line(area: Rect, buffer: &mut Buffer, line: &Line<'_>) {
    if !area.is_empty() {
        let width = area.width.saturating_sub(2);
        buffer.set_line(area.x + 1, area.y, &fit(line, usize::from(width)), width);
    }
}

fn draw_kinds(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let narrow = area.width < 100;
    let mut spans = Vec::new();
    for (at, kind) in KINDS.into_iter().enumerate() {
        let title = match (kind, narrow) {
            (Kind::Predictions, false) => "optimized vs parent",
            (Kind::Predictions, true) => "vs parent",
            (Kind::Annotations, false) => "vs annotations",
            (Kind::Annotations, true) => "annotations",
            (Kind::TensorDistance, _) => "tensor distance",
        };
        let (mark, style) = match (at == app.report.kind, possible(app, at)) {
            (true, true) => ("●", theme.accent),
            (true, false) => ("●", theme.disabled),
            (false, true) => ("○", theme.text),
            (false, false) => ("○", theme.disabled),
        };
        spans.push(Span::styled(format!("{mark} {title}    "), style));
    }
    let left = Line::from(spans);
    let room = usize::from(area.width).saturating_sub(left.width() + 3);
    draw_line(area, buffer, &left);
    let subject = app.subject.as_ref().map_or("", |subject| &subject.title);
    let title = shorten(subject, room);
    if room > 10 {
        let width = unicode_width::UnicodeWidthStr::width(title.as_str()) as u16;
        let x = area.right().saturating_sub(width + 1);
        buffer.set_stringn(x, area.y, title, room, theme.dim);
    }
}

/// The aggregates of the report in one line, the most telling first.
fn headline(app: &App, sheet: &Sheet, summary: Option<&ReportsSummary>) -> Line<'static> {
    let theme = &app.theme;
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut part = |name: &str, value: String, more: String| {
        let air = if spans.is_empty() { "" } else { "   " };
        spans.push(Span::styled(format!("{air}{name} "), theme.dim));
        spans.push(Span::styled(value, theme.heading));
        spans.push(Span::styled(more, theme.dim));
    };
    let Some(summary) = summary else {
        part("rows", count(sheet.len() as u64), " (the run has not finished: no aggregates yet)".into());
        return Line::from(spans);
    };
    let accuracy = |part: &mut dyn FnMut(&str, String, String)| {
        if let Some(report) = &summary.annotations {
            let (p, s) = (report.parent, report.optimized);
            part("top-1", format!("{:.1} → {:.1}", 100.0 * p.top1, 100.0 * s.top1), String::new());
            part("top-5", format!("{:.1} → {:.1}", 100.0 * p.top5, 100.0 * s.top5), String::new());
        }
    };
    match sheet.kind() {
        Kind::Predictions => {
            if let Some(report) = &summary.predictions {
                let (low, high) = (100.0 * report.low, 100.0 * report.high);
                let interval = format!(" ({low:.1} – {high:.1}, n {})", count(report.images));
                part("agreement", percent(report.agreement), interval);
                accuracy(&mut part);
                if let Some(kl) = report.mean_kl {
                    part("KL", number(kl), String::new());
                }
                if report.failed + report.unreadable > 0 {
                    part("failed", count(report.failed + report.unreadable), String::new());
                }
            }
        }
        Kind::Annotations => {
            accuracy(&mut part);
            if let Some(report) = &summary.annotations {
                let interval = format!(
                    " ({} – {}, n {})",
                    points(report.drop_low),
                    points(report.drop_high),
                    count(report.images)
                );
                part("drop", format!("{} points", points(report.drop)), interval);
                part("lost", count(report.lost), String::new());
                part("gained", count(report.gained), String::new());
                if report.unlabelled > 0 {
                    part("unlabelled", count(report.unlabelled), String::new());
                }
            }
        }
        Kind::TensorDistance => {
            let outputs = summary.tensor_distance.as_deref().unwrap_or_default();
            for output in outputs.iter().take(3) {
                let distance = &output.distance;
                let sqnr = distance.sqnr_db.map_or("equal".to_string(), |sqnr| format!("{sqnr:.1} dB"));
                let cosine = distance.cosine.map_or(String::new(), |cosine| format!(", cosine {cosine:.5}"));
                part(
                    &shorten(&output.output, 24),
                    sqnr,
                    format!("{cosine}, max abs {}", number(distance.max_abs)),
                );
            }
            if outputs.len() > 3 {
                part("and", format!("{} outputs more", outputs.len() - 3), String::new());
            }
        }
    }
    Line::from(spans)
}

fn draw_filter(app: &App, sheet: &Sheet, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let (state, theme) = (&app.report, &app.theme);
    let only = if state.only_erroneous { "[x]" } else { "[ ]" };
    let shown = state.rows.len();
    let rows = if shown == sheet.len() {
        count(shown as u64)
    } else {
        format!("{} of {}", count(shown as u64), count(sheet.len() as u64))
    };
    let erroneous = count(sheet.count_erroneous() as u64);
    let right = Line::from(vec![
        Span::styled(
            format!("{only} only erroneous "),
            if state.only_erroneous { theme.accent } else { theme.text },
        ),
        Span::styled(format!("{erroneous}   rows {rows}"), theme.dim),
    ]);
    let width = right.width() as u16;
    buffer.set_line(area.right().saturating_sub(width + 1), area.y, &right, width);
    let line = Rect { x: area.x + 1, width: area.width.saturating_sub(width + 3), height: 1, ..area };
    let empty = if line.width >= 72 {
        "no filter: a word is searched for, or such as: rank > 0 and class = cat"
    } else {
        "no filter"
    };
    state.filter.draw(line, buffer, theme, empty);
    if let Some(error) = &state.filter_error
        && area.height >= 3
    {
        let room = usize::from(area.width.saturating_sub(4));
        let caret = format!("{}{}", " ".repeat(error.at), "^".repeat(error.length));
        buffer.set_stringn(area.x + 3, area.y + 1, caret, room, theme.worse);
        buffer.set_stringn(area.x + 3, area.y + 2, shorten(&error.message, room), room, theme.worse);
    }
}

fn draw_table(app: &App, state: &State, sheet: &Sheet, parts: &Parts, buffer: &mut Buffer) {
    let columns: Vec<Column> = columns::of(sheet.kind()).iter().map(|(_, column)| *column).collect();
    if state.rows.is_empty() && !sheet.is_empty() {
        let why = if state.only_erroneous && state.filter.text().is_empty() {
            "No image is erroneous: both say the same on all of them."
        } else {
            "No row passes the filter; Esc takes it away."
        };
        let below =
            Rect { y: parts.table.y + 1, height: parts.table.height.saturating_sub(1), ..parts.table };
        for (y, line) in (below.y..below.bottom()).zip(wrap(why, usize::from(below.width.saturating_sub(4))))
        {
            buffer.set_stringn(below.x + 2, y, line, usize::from(below.width), app.theme.dim);
        }
        return;
    }
    table::draw(parts.table, buffer, &app.theme, &columns, &state.table, |at| {
        state.rows.get(at).map(|row| columns::row(sheet, *row as usize, &app.theme)).unwrap_or_default()
    });
    if parts.border.width == 1 {
        for y in parts.border.y..parts.border.bottom() {
            buffer.set_string(parts.border.x, y, "│", app.theme.dim);
        }
    } else if !parts.border.is_empty() {
        buffer.set_string(
            parts.border.x,
            parts.border.y,
            "─".repeat(usize::from(parts.border.width)),
            app.theme.dim,
        );
    }
    detail::draw(app, parts, buffer);
}

const PAIR_COLUMNS: [Column; 3] =
    [Column::growing("Parent", 20), Column::growing("Optimized", 20), Column::number("Images", 7, 0)];

fn draw_pairs(app: &App, sheet: &Sheet, pairs: &Pairs, area: Rect, buffer: &mut Buffer) {
    let narrow = Rect { width: area.width.min(100), ..area };
    table::draw(narrow, buffer, &app.theme, &PAIR_COLUMNS, &pairs.table, |at| {
        let Some(pair) = pairs.pairs.get(at) else { return Vec::new() };
        vec![
            Line::styled(sheet.class_name(pair.parent), app.theme.text),
            Line::styled(format!("→ {}", sheet.class_name(pair.optimized)), app.theme.text),
            Line::styled(count(pair.count), app.theme.text),
        ]
    });
}
