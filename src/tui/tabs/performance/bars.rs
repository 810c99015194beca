//! Bars of parent and optimized, the ratio with its interval, the percentiles of the latency.

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::settings::engines;
use super::view::Pen;
use super::{Measured, State};
use crate::report::format::number;
use crate::run::plan::EngineName;
use crate::run::summary::{ModelRole, PerformanceRow, Speedup, Verdict};
use crate::tui::app::App;
use crate::tui::theme::Theme;

pub(super) fn engine_title(engine: EngineName) -> &'static str {
    match engine {
        EngineName::Builtin => "built-in",
        EngineName::Onnxruntime => "ONNX Runtime",
        EngineName::Openvino => "OpenVINO",
    }
}

pub(super) fn setting(row: &PerformanceRow) -> String {
    let noun = if row.streams == 1 { "stream" } else { "streams" };
    let each = if row.threads > 1 { format!(" × {} threads", row.threads) } else { String::new() };
    format!("{} {noun}{each} · batch {}", row.streams, row.batch)
}

/// The first setting of an engine: what the bars show.
fn first(rows: &[PerformanceRow], engine: EngineName, model: ModelRole) -> Option<&PerformanceRow> {
    rows.iter().find(|row| row.engine == engine && row.model == model)
}

const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

pub(super) fn draw_bars(app: &App, state: &State, measured: &Measured, pen: &mut Pen<'_>) {
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

pub(super) fn fps(value: f64) -> String {
    if value >= 10_000.0 { number(value) } else { format!("{value:.1}") }
}

pub(super) fn ms(value: f64) -> String {
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
