//! The Performance tab on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::layers::{LayerLine, shares};
use super::settings::engines;
use super::{Below, Measured, State, layers};
use crate::report::format::number;
use crate::run::plan::EngineName;
use crate::run::summary::{ModelRole, PerformanceRow, Speedup, Verdict};
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
        Below::Layers | Below::Kinds => draw_layers(app, state, measured, rest, buffer),
    }
}

/// Writes lines one below the other.
struct Pen<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
    y: u16,
}

impl Pen<'_> {
    fn line(&mut self, line: &Line<'_>) {
        if self.y < self.area.bottom() {
            let width = self.area.width.saturating_sub(2);
            self.buffer.set_line(self.area.x + 1, self.y, &fit(line, usize::from(width)), width);
            self.y += 1;
        }
    }
}

fn engine_title(engine: EngineName) -> &'static str {
    match engine {
        EngineName::Builtin => "built-in",
        EngineName::Onnxruntime => "ONNX Runtime",
        EngineName::Openvino => "OpenVINO",
    }
}

fn setting(row: &PerformanceRow) -> String {
    let noun = if row.streams == 1 { "stream" } else { "streams" };
    let each = if row.threads > 1 { format!(" × {} threads", row.threads) } else { String::new() };
    format!("{} {noun}{each} · batch {}", row.streams, row.batch)
}

/// The first setting of an engine: what the bars show.
fn first(rows: &[PerformanceRow], engine: EngineName, model: ModelRole) -> Option<&PerformanceRow> {
    rows.iter().find(|row| row.engine == engine && row.model == model)
}

fn draw_title(app: &App, measured: &Measured, pen: &mut Pen<'_>) {
    let title = app.subject.as_ref().map_or("", |subject| &subject.title);
    let about = measured.rows.first().map_or(String::new(), setting);
    let quiet = if measured.warnings.is_empty() { "quiet machine ✓" } else { "" };
    let width = usize::from(pen.area.width);
    if let Some(stage) = measuring(app) {
        return pen.line(&Line::from(vec![
            Span::styled(shorten(title, width.saturating_sub(stage.chars().count() + 7)), app.theme.heading),
            Span::styled(format!("   {stage}"), app.theme.accent),
        ]));
    }
    let right = if about.is_empty() { String::new() } else { format!("{about}   {quiet}") };
    let room = width.saturating_sub(right.chars().count() + 5);
    let title = shorten(title, room);
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

const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

fn draw_bars(app: &App, state: &State, measured: &Measured, pen: &mut Pen<'_>) {
    let theme = &app.theme;
    let engines = engines(&measured.rows);
    let held = state.held.as_ref().filter(|held| Some(&held.directory) != state.directory.as_ref());
    let highest = measured.rows.iter().chain(held.iter().flat_map(|held| &held.rows));
    let highest = highest.map(|row| row.fps.median).fold(0.0, f64::max);
    for engine in &engines {
        if engines.len() > 1 {
            pen.line(&Line::styled(engine_title(*engine), theme.heading));
        }
        let rows =
            [("parent", ModelRole::Parent, theme.dim), ("optimized", ModelRole::Optimized, theme.accent)];
        for (name, model, style) in rows {
            if let Some(row) = first(&measured.rows, *engine, model) {
                pen.line(&bar(theme, name, row, highest, usize::from(pen.area.width), style));
            }
        }
        let optimized = first(&measured.rows, *engine, ModelRole::Optimized);
        if let Some(held) = held
            && let Some(row) = first(&held.rows, *engine, ModelRole::Optimized)
        {
            pen.line(&bar(theme, "held", row, highest, usize::from(pen.area.width), theme.text));
            if let Some(optimized) = optimized {
                let ratio = optimized.fps.median / row.fps.median;
                let text = format!("{ratio:.2}× of {}, measured apart: no interval", held.title);
                pen.line(&Line::styled(text, theme.dim));
            }
        }
        if let Some(optimized) = optimized {
            let speedup = measured
                .speedup
                .iter()
                .find(|speedup| (speedup.engine, speedup.setting()) == (*engine, optimized.setting()));
            let parent = first(&measured.rows, *engine, ModelRole::Parent);
            let [verdict, latency] = verdict(theme, speedup, optimized, parent);
            // Beside each other where there is room, since rows are dear; nothing of it may be cut off.
            if verdict.width() + latency.width() + 4 < usize::from(pen.area.width) {
                pen.line(&Line::from([verdict.spans, latency.spans].concat()));
            } else {
                pen.line(&verdict);
                pen.line(&latency);
            }
        }
    }
    if engines.is_empty() {
        pen.line(&Line::styled("Speed was not measured.", theme.dim));
    }
}

fn bar(
    theme: &Theme,
    name: &str,
    row: &PerformanceRow,
    highest: f64,
    width: usize,
    style: Style,
) -> Line<'static> {
    let name = match row.precision.as_str() {
        "" => format!("{name:<11}"),
        precision => format!("{:<15}", format!("{name} {}", precision.to_uppercase())),
    };
    let room = width.saturating_sub(27 + name.len());
    let eighths = (row.fps.median / highest.max(f64::MIN_POSITIVE) * room as f64 * 8.0).round() as usize;
    let bar = format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8]);
    let air = " ".repeat(room.saturating_sub(bar.chars().count()));
    Line::from(vec![
        Span::styled(name, theme.text),
        Span::styled(bar, style),
        Span::styled(format!("{air}{:>9} FPS", fps(row.fps.median)), theme.heading),
        Span::styled(format!("{:>9} ms", ms(row.latency_ms.p50)), theme.dim),
    ])
}

fn fps(value: f64) -> String {
    if value >= 10_000.0 { number(value) } else { format!("{value:.1}") }
}

fn ms(value: f64) -> String {
    if value < 0.1 { format!("{value:.3}") } else { format!("{value:.2}") }
}

/// The ratio with its interval and verdict in words; then the percentiles of the latency.
fn verdict(
    theme: &Theme,
    speedup: Option<&Speedup>,
    optimized: &PerformanceRow,
    parent: Option<&PerformanceRow>,
) -> [Line<'static>; 2] {
    let mut spans = Vec::new();
    if let Some(speedup) = speedup {
        let (words, style) = match speedup.verdict {
            Verdict::Faster => (format!("{:.2}× faster", speedup.ratio), theme.better),
            Verdict::Slower => (format!("SLOWER: {:.2}× the parent's speed", speedup.ratio), theme.worse),
            Verdict::NotDistinguishable => {
                (format!("not distinguishable, {:.2}×", speedup.ratio), theme.warning)
            }
        };
        spans.push(Span::styled(words, style.add_modifier(Modifier::BOLD)));
        spans.push(Span::styled(format!(" ({:.2} – {:.2}, 95 %)   ", speedup.low, speedup.high), theme.dim));
    }
    let verdict = Line::from(spans);
    let latency = optimized.latency_ms;
    let mut spans = vec![Span::styled("latency p50 p90 p99  ", theme.dim)];
    let values = format!("{} {} {} ms", ms(latency.p50), ms(latency.p90), ms(latency.p99));
    spans.push(Span::styled(values, theme.text));
    if let Some(parent) = parent {
        let latency = parent.latency_ms;
        let values = format!("   parent {} {} {}", ms(latency.p50), ms(latency.p90), ms(latency.p99));
        spans.push(Span::styled(values, theme.dim));
    }
    [verdict, Line::from(spans)]
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

fn draw_settings(app: &App, state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let Some((engine, settings)) = state.settings() else { return };
    if area.height < 4 {
        return;
    }
    let model = if state.parent { "parent" } else { "optimized" };
    let limit = state.limit.map_or("no latency limit".to_string(), |limit| format!("p90 ≤ {limit} ms"));
    let best = settings.best(state.limit);
    let found = match best {
        Some(row) => {
            format!("◆ {}: {} FPS at {} ms", setting(row), fps(row.fps.median), ms(row.latency_ms.p90))
        }
        None => "nothing keeps to the limit".to_string(),
    };
    let line = Line::from(vec![
        Span::styled("── ", theme.dim),
        Span::styled(format!("streams × batch, {}, {model}", engine_title(engine)), theme.heading),
        Span::styled(format!("   {limit}   "), theme.accent),
        Span::styled(found, if best.is_some() { theme.better } else { theme.worse }),
    ]);
    let width = usize::from(area.width);
    buffer.set_line(area.x, area.y, &fit(&line, width), area.width);
    const CELL: usize = 16;
    /// Streams, and the threads of each.
    const HEAD: usize = 17;
    let highest = settings.all().map(|row| row.fps.median).fold(0.0, f64::max);
    let put = |buffer: &mut Buffer, y: u16, line: &Line<'_>| {
        if y < area.bottom() {
            buffer.set_line(area.x + 1, y, &fit(line, width.saturating_sub(2)), area.width.saturating_sub(2));
        }
    };
    let mut heading = vec![Span::styled(format!("{:<HEAD$}", "streams threads"), theme.heading)];
    heading.extend(
        settings
            .batch
            .iter()
            .map(|batch| Span::styled(format!("{:<CELL$}", format!("batch {batch}")), theme.heading)),
    );
    put(buffer, area.y + 1, &Line::from(heading));
    for (at, ((streams, threads), cells)) in settings.streams.iter().zip(&settings.cells).enumerate() {
        let y = area.y + 2 + 2 * at as u16;
        let head = format!("{:<HEAD$}", format!("{streams:<7} {threads}"));
        let mut upper = vec![Span::styled(head, theme.heading)];
        let mut lower = vec![Span::raw(" ".repeat(HEAD))];
        for cell in cells {
            let Some(row) = cell else {
                upper.push(Span::styled(format!("{:<CELL$}", "–"), theme.dim));
                lower.push(Span::raw(" ".repeat(CELL)));
                continue;
            };
            let fits = state.limit.is_none_or(|limit| row.latency_ms.p90 <= limit);
            let is_best = best.is_some_and(|best| best.setting() == row.setting());
            let mark = if is_best { "◆" } else { " " };
            let style = match (is_best, fits) {
                (true, _) => theme.better.add_modifier(Modifier::BOLD),
                (false, true) => theme.text,
                (false, false) => theme.dim,
            };
            // Heat without colour: the fuller the sign, the faster.
            let heat = ["░", "▒", "▓", "█"]
                [((row.fps.median / highest.max(f64::MIN_POSITIVE) * 4.0).ceil() as usize).clamp(1, 4) - 1];
            upper.push(Span::styled(format!("{mark} {heat}{heat} {:<11}", fps(row.fps.median)), style));
            let over = if fits { "" } else { " over" };
            lower.push(Span::styled(
                format!("     {:<11}", format!("{} ms{over}", ms(row.latency_ms.p90))),
                theme.dim,
            ));
        }
        put(buffer, y, &Line::from(upper));
        put(buffer, y + 1, &Line::from(lower));
    }
}
