//! The Performance tab on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::bars::{draw_bars, setting};
use super::grid::draw_settings;
use super::hosts::draw_hosts;
use super::layers::{LayerLine, shares};
use super::{Below, Measured, State, layers};
use crate::report::format::number;
use crate::tui::app::App;
use crate::tui::text::{fit, shorten, wrap};
use crate::tui::theme::Theme;
use crate::tui::view::sentence;
use crate::tui::widgets::table::{self, Column};

/// Columns of the table of layers.
pub const COLUMNS: [Column; 9] = [
    Column::growing("Layer", 18),
    Column::text("Kind", 12, 5),
    Column::number("MMAC", 8, 7),
    Column::number("Parent ms", 10, 3),
    Column::number("Opt. ms", 8, 2),
    Column::number("Ratio", 7, 0),
    Column::number("Saved ms", 9, 1),
    Column::text("Runs in", 8, 4),
    Column::text("Why", 25, 6),
];
/// The column by which the table is ordered at first.
pub const SAVED: usize = 6;

/// Draws the tab.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let state = &app.performance;
    if app.subject.is_none() {
        return sentence(app, area, buffer, "No optimized model is open. Choose one in Projects.");
    }
    let measured = match &state.measured {
        None => return sentence(app, area, buffer, "Reading what was measured …"),
        Some(Err(why)) => return sentence(app, area, buffer, why),
        Some(Ok(measured)) => measured,
    };
    let mut pen = Pen { area, buffer, y: area.y };
    let roomy = area.height >= 26;
    draw_title(app, measured, &mut pen);
    if roomy {
        pen.y += 1;
    }
    draw_bars(app, state, measured, &mut pen);
    draw_warnings(app, measured, &mut pen);
    draw_shares(app, measured, &mut pen);
    if roomy {
        pen.y += 1;
    }
    let rest = Rect { y: pen.y, height: area.bottom().saturating_sub(pen.y), ..area };
    match state.below {
        Below::Settings => draw_settings(app, state, rest, buffer),
        Below::Hosts => draw_hosts(app, state, rest, buffer),
        Below::Layers | Below::Kinds => draw_layers(app, state, measured, rest, buffer),
    }
}

/// Writes lines one below the other.
pub(super) struct Pen<'a> {
    pub(super) area: Rect,
    buffer: &'a mut Buffer,
    y: u16,
}

impl Pen<'_> {
    pub(super) fn line(&mut self, line: &Line<'_>) {
        if self.y < self.area.bottom() {
            let width = self.area.width.saturating_sub(2);
            self.buffer.set_line(self.area.x + 1, self.y, &fit(line, usize::from(width)), width);
            self.y += 1;
        }
    }
}

fn draw_title(app: &App, measured: &Measured, pen: &mut Pen<'_>) {
    let title = app.subject.as_ref().map_or("", |subject| &subject.title);
    let about = measured.rows.first().map_or(String::new(), setting);
    let quiet = if measured.warnings.is_empty() { "   quiet machine ✓" } else { "" };
    let width = usize::from(pen.area.width);
    if let Some(stage) = measuring(app) {
        return pen.line(&Line::from(vec![
            Span::styled(shorten(title, width.saturating_sub(stage.chars().count() + 7)), app.theme.heading),
            Span::styled(format!("   {stage}"), app.theme.accent),
        ]));
    }
    let right = if about.is_empty() { String::new() } else { format!("{about}{quiet}") };
    let room = width.saturating_sub(right.chars().count() + 2);
    let title = shorten(title, room.saturating_sub(3));
    let pad = room.saturating_sub(unicode_width::UnicodeWidthStr::width(title.as_str()));
    pen.line(&Line::from(vec![
        Span::styled(title, app.theme.heading),
        Span::raw(" ".repeat(pad)),
        Span::styled(right, app.theme.dim),
    ]));
}

/// How far measuring again is, while it is at work.
fn measuring(app: &App) -> Option<String> {
    app.performance.again?;
    let directory = app.performance.directory.as_ref()?;
    let (_, variant) = app.snapshot.variant(directory)?;
    let stage = variant.state.active().map_or(String::new(), |stage| {
        format!(": {} {} / {} {}", stage.stage.name(), stage.done, stage.total, stage.stage.unit())
    });
    Some(format!("measures again{stage}"))
}

fn draw_warnings(app: &App, measured: &Measured, pen: &mut Pen<'_>) {
    let width = usize::from(pen.area.width.saturating_sub(4));
    // Two lines where there is little room, four otherwise; nothing is cut without saying so.
    let most = if pen.area.height < 26 { 2 } else { 4 };
    let lines: Vec<String> =
        measured.warnings.iter().flat_map(|warning| wrap(&format!("! {warning}"), width)).collect();
    for line in lines.iter().take(most) {
        pen.line(&Line::styled(line.clone(), app.theme.warning));
    }
    if lines.len() > most {
        let rest = measured.warnings.len();
        let text = format!("  … all {rest} warnings are in performance.json and in the report");
        pen.line(&Line::styled(text, app.theme.dim));
    }
}

/// How much of the time the optimized model spends in which number format.
fn draw_shares(app: &App, measured: &Measured, pen: &mut Pen<'_>) {
    let theme = &app.theme;
    let shares = shares(&layers::each(&measured.layers));
    if shares.is_empty() {
        return;
    }
    let room = usize::from(pen.area.width / 5).clamp(10, 40);
    let mut spans = vec![Span::styled("time in    ", theme.text)];
    let mut used = 0;
    for (at, share) in shares.iter().enumerate() {
        let (sign, style) = match share.runs_in {
            "INT8" => ("█", theme.accent),
            "FP32" => ("▒", theme.text),
            _ => ("░", theme.dim),
        };
        let cells =
            if at + 1 == shares.len() { room - used } else { (share.time * room as f64).round() as usize };
        let cells = cells.min(room - used);
        used += cells;
        spans.push(Span::styled(sign.repeat(cells), style));
    }
    for share in &shares {
        let layers =
            if share.layers == 1 { "1 layer".to_string() } else { format!("{} layers", share.layers) };
        let name = if share.runs_in == "border" { "borders" } else { share.runs_in };
        spans.push(Span::styled(format!("   {name} {:.0} %", 100.0 * share.time), theme.text));
        spans.push(Span::styled(format!(" {layers}"), theme.dim));
    }
    pen.line(&Line::from(spans));
}

fn draw_layers(app: &App, state: &State, measured: &Measured, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    if area.height < 3 {
        return;
    }
    let what = if state.below == Below::Kinds { "layers by kind" } else { "layers" };
    let line = Line::from(vec![
        Span::styled("── ", theme.dim),
        Span::styled(what, theme.heading),
        Span::styled(format!(" ({} of {}) ", state.lines.len(), of(state, measured)), theme.dim),
    ]);
    let used = line.width() as u16;
    buffer.set_line(area.x, area.y, &line, area.width);
    let rest = area.width.saturating_sub(used);
    if state.filter.is_shown() {
        let line = Rect { x: area.x + used, width: rest.saturating_sub(1), height: 1, ..area };
        state.filter.draw(line, buffer, theme, "");
    } else {
        buffer.set_string(area.x + used, area.y, "─".repeat(usize::from(rest)), theme.dim);
    }
    let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if measured.layers.is_empty() {
        buffer.set_stringn(
            below.x + 2,
            below.y,
            "The layers were not measured.",
            usize::from(below.width),
            theme.dim,
        );
        return;
    }
    table::draw(below, buffer, theme, &COLUMNS, &state.table, |at| {
        state.lines.get(at).map(|line| layer(theme, line)).unwrap_or_default()
    });
}

fn of(state: &State, measured: &Measured) -> usize {
    if state.below == Below::Kinds { layers::by_kind(&measured.layers).len() } else { measured.layers.len() }
}

fn layer(theme: &Theme, line: &LayerLine) -> Vec<Line<'static>> {
    let text = |words: String| Line::styled(words, theme.text);
    let time =
        |us: Option<f64>| us.map_or(Line::styled("–", theme.dim), |us| text(format!("{:.3}", us / 1e3)));
    let saved = line.saved_us() / 1e3;
    let sign = if saved <= -0.0005 { "−" } else { "" };
    let macs = match line.macs {
        0 => Line::styled("–", theme.dim),
        macs => text(format!("{:.1}", macs as f64 / 1e6)),
    };
    vec![
        text(line.name.clone()),
        Line::styled(line.kind.clone(), theme.dim),
        macs,
        time(line.parent_us),
        time(line.optimized_us),
        match line.ratio() {
            Some(ratio) if ratio >= 1.0 => Line::styled(format!("{}×", number(ratio)), theme.better),
            Some(ratio) => Line::styled(format!("{}×", number(ratio)), theme.worse),
            None => Line::styled("–", theme.dim),
        },
        text(format!("{sign}{:.3}", saved.abs())),
        text(line.runs_in.to_string()),
        Line::styled(line.why.to_string(), theme.dim),
    ]
}
