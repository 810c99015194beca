//! The Projects tab on the screen: the tree, and what is under the cursor in more words.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::import;
use super::tree::Row;
use super::{Prompt, PromptKind, Selected, resolve, selected};
use crate::cli::summary_text::bytes;
use crate::report::format::points;
use crate::run::events::Status;
use crate::run::plan::EngineName;
use crate::run::status::Standing;
use crate::run::summary::{ModelRole, Summary, Verdict};
use crate::tui::app::App;
use crate::tui::snapshot::{ProjectEntry, VariantEntry};
use crate::tui::text::{fit, shorten, shorten_start, wrap};
use crate::tui::view::{rule, sentence};
use crate::tui::widgets::gauge::gauge;
use crate::tui::widgets::table::{self, Column};

const COLUMNS: [Column; 9] = [
    Column::growing("Model", 22),
    Column::text("Dataset", 14, 6),
    Column::text("Precision", 9, 7),
    Column::number("FPS", 8, 3),
    Column::number("Speed-up", 8, 1),
    Column::number("Size", 9, 4),
    Column::number("Agreement", 9, 2),
    Column::number("Top-1", 7, 5),
    Column::text("Status", 16, 0),
];
const CREATED: Column = Column::text("Created", 10, 8);

/// Rows of the detail pane with its rule.
const DETAIL: u16 = 9;

/// Draws the tab.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    if let Some(import) = &app.projects.import {
        return import::view::draw(app, import, area, buffer);
    }
    if let Some(failure) = &app.snapshot.failure {
        return sentence(app, area, buffer, failure);
    }
    if app.projects.rows.is_empty() && !app.projects.filter.is_shown() {
        return draw_empty(app, area, buffer);
    }
    let detail = if area.height >= 20 { DETAIL } else { 0 };
    let mut list = Rect { height: area.height - detail, ..area };
    if app.projects.filter.is_shown() {
        let line = Rect { x: list.x + 2, width: list.width.saturating_sub(4), height: 1, ..list };
        app.projects.filter.draw(line, buffer, &app.theme, "");
        list = Rect { y: list.y + 1, height: list.height - 1, ..list };
    }
    let mut columns = COLUMNS.to_vec();
    columns.insert(8, CREATED);
    table::draw(list, buffer, &app.theme, &columns, &app.projects.table, |at| {
        app.projects.rows.get(at).map(|row| cells(app, row)).unwrap_or_default()
    });
    if detail > 0 {
        rule(app, Rect { y: list.bottom(), height: 1, ..area }, buffer);
        let inner = Rect {
            x: area.x + 1,
            y: list.bottom() + 1,
            width: area.width.saturating_sub(2),
            height: detail - 1,
        };
        draw_detail(app, inner, buffer);
    }
    if let Some(prompt) = &app.projects.prompt {
        draw_prompt(app, prompt, area, buffer);
    }
}

fn draw_empty(app: &App, area: Rect, buffer: &mut Buffer) {
    if !app.loaded {
        return;
    }
    let style = &app.theme;
    let lines = [
        Line::styled(format!("No projects yet in {}.", app.workspace.root().display()), style.text),
        Line::default(),
        Line::from(vec![
            Span::styled("  Enter  ", style.accent),
            Span::raw("try the bundled example: a small classifier, with images"),
        ]),
        Line::from(vec![
            Span::styled("  n      ", style.accent),
            Span::raw("make a project of your own ONNX model and a folder of images"),
        ]),
        Line::from(vec![Span::styled("  ?      ", style.accent), Span::raw("see all keys")]),
    ];
    let top = area.y + area.height / 4;
    for (y, line) in (top..area.bottom()).zip(lines) {
        let line = fit(&line, usize::from(area.width.saturating_sub(4)));
        buffer.set_line(area.x + 3, y, &line, area.width.saturating_sub(3));
    }
}

fn cells(app: &App, row: &Row) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let name = |name: &str| {
        Line::from(vec![Span::styled(row.branch(), theme.dim), Span::styled(shorten(name, 200), theme.text)])
    };
    let dash = || Line::styled("–", theme.dim);
    match resolve(&app.snapshot, row) {
        None => Vec::new(),
        Some(Selected::Unreadable(entry)) => {
            let mut cells = vec![name(&entry.id)];
            cells.extend((1..9).map(|_| dash()));
            cells.push(Line::styled("can't be read", theme.worse));
            cells
        }
        Some(Selected::Project(project)) => {
            let summary = project.summary();
            let dataset = file_name(&project.project.definition.dataset.path);
            let baseline = project.project.baseline.as_ref().map(|baseline| baseline.fps.median);
            let fps = baseline.or_else(|| summary.and_then(|summary| fps(summary, ModelRole::Parent)));
            let top1 = summary.and_then(|summary| summary.reports.annotations.as_ref());
            let status = match project.model_bytes {
                Some(_) => Line::styled("ready", theme.dim),
                None => Line::styled("model is gone", theme.worse),
            };
            vec![
                name(&project.project.name),
                Line::styled(dataset, theme.text),
                Line::styled("FP32", theme.text),
                fps.map_or_else(dash, |fps| Line::raw(format!("{fps:.1}"))),
                dash(),
                project.model_bytes.map_or_else(dash, |size| Line::raw(bytes(size))),
                dash(),
                top1.map_or_else(dash, |report| Line::raw(percent(report.parent.top1))),
                Line::styled(date(&project.project.created), theme.dim),
                status,
            ]
        }
        Some(Selected::Variant(_, variant)) => variant_cells(app, variant, name(&variant.variant.name)),
    }
}

fn variant_cells(app: &App, variant: &VariantEntry, name: Line<'static>) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let dash = || Line::styled("–", theme.dim);
    let asked = variant.asked.as_ref();
    let calibration = asked.map(|asked| asked.calibration.clone()).filter(|name| !name.is_empty());
    let mut cells = vec![name, calibration.map_or_else(dash, Line::raw)];
    match variant.summary.as_deref() {
        Some(summary) => {
            let speedup = summary.speedup.first();
            let predictions = summary.reports.predictions.as_ref();
            let annotations = summary.reports.annotations.as_ref();
            let faster = |verdict| match verdict {
                Verdict::Faster => theme.better,
                Verdict::Slower => theme.worse,
                Verdict::NotDistinguishable => theme.text,
            };
            cells.push(Line::raw(precision(summary)));
            cells.push(
                fps(summary, ModelRole::Optimized).map_or_else(dash, |fps| Line::raw(format!("{fps:.1}"))),
            );
            cells.push(
                speedup.map_or_else(dash, |s| Line::styled(format!("{:.2}×", s.ratio), faster(s.verdict))),
            );
            cells.push(Line::raw(bytes(summary.optimized.bytes)));
            cells.push(predictions.map_or_else(dash, |report| Line::raw(percent(report.agreement))));
            cells.push(annotations.map_or_else(dash, |report| Line::raw(percent(report.optimized.top1))));
        }
        None => cells.extend([Line::styled("INT8", theme.dim), dash(), dash(), dash(), dash(), dash()]),
    }
    cells.push(Line::styled(date(&variant.variant.created), theme.dim));
    cells.push(status(app, variant));
    cells
}

/// Where a variant stands, with a gauge while its run is at work.
pub fn status(app: &App, variant: &VariantEntry) -> Line<'static> {
    let theme = &app.theme;
    match variant.standing {
        Standing::Running => {
            let fraction = variant.fraction();
            let mut spans = gauge(fraction, 10, theme).spans;
            spans.push(Span::styled(format!(" {:3.0} %", (fraction * 100.0).floor()), theme.accent));
            Line::from(spans)
        }
        Standing::Waiting if variant.is_queued() => Line::styled("queued", theme.text),
        Standing::Waiting => Line::styled("never begun", theme.dim),
        Standing::Interrupted => Line::styled("interrupted", theme.warning),
        Standing::Failed => Line::styled("failed", theme.worse),
        Standing::Finished(Status::Passed) => Line::styled("ready", theme.dim),
        Standing::Finished(Status::GateFailed) => Line::styled("a gate failed", theme.warning),
    }
}

fn draw_detail(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let width = usize::from(area.width);
    let (title, lines) = match selected(app) {
        None => return,
        Some(Selected::Unreadable(entry)) => {
            (entry.id.clone(), wrap(&entry.reason, width).into_iter().map(Line::raw).collect())
        }
        Some(Selected::Project(project)) => (project.project.name.clone(), project_lines(project, width)),
        Some(Selected::Variant(project, variant)) => {
            let title = format!("{} · {}", project.project.name, variant.variant.name);
            (title, variant_lines(app, variant, width))
        }
    };
    buffer.set_line(area.x, area.y, &fit(&Line::styled(title, theme.heading), width), area.width);
    for (y, line) in (area.y + 2..area.bottom()).zip(lines) {
        buffer.set_line(area.x, y, &fit(&line, width), area.width);
    }
}

fn project_lines(project: &ProjectEntry, width: usize) -> Vec<Line<'static>> {
    let definition = &project.project.definition;
    let room = width.saturating_sub(18);
    let row = |label: &str, text: String| Line::raw(format!("  {label:<15} {text}"));
    let path = |path: &std::path::Path| shorten_start(&path.display().to_string(), room);
    let none = || "none: accuracy is not judged, agreement is".to_string();
    let preprocess = match &definition.preprocess {
        serde_yaml::Value::String(name) => name.clone(),
        steps => serde_json::to_string(steps).unwrap_or_default().replace('"', ""),
    };
    let of_run = project.summary().and_then(|summary| fps(summary, ModelRole::Parent));
    let speed = match (&project.project.baseline, of_run) {
        (Some(baseline), _) => {
            let (fps, day) = (&baseline.fps, date(&baseline.measured));
            let interval = format!("{:.1} FPS ({:.1} – {:.1})", fps.median, fps.low, fps.high);
            format!("{interval}, one stream, {day} on {}", baseline.cpu)
        }
        (None, Some(fps)) => format!("{fps:.1} FPS in its newest run"),
        (None, None) => "not measured yet; a run does".to_string(),
    };
    let size = project.model_bytes.map_or("gone".into(), bytes);
    let model = definition.model.display().to_string();
    let model = format!("{}, {size}", shorten_start(&model, room.saturating_sub(size.len() + 2)));
    vec![
        row("model", model),
        row("speed", shorten(&speed, room)),
        row("images", path(&definition.dataset.path)),
        row("labels", definition.dataset.labels.as_deref().map_or_else(none, path)),
        row("preprocessing", shorten(&preprocess, room)),
        row("kept in", path(&project.project.path)),
    ]
}

fn variant_lines(app: &App, variant: &VariantEntry, width: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let Some(summary) = variant.summary.as_deref() else {
        let folder = shorten_start(&variant.variant.path.display().to_string(), width.saturating_sub(12));
        let mut lines = match &variant.state.phase {
            crate::run::fold::Phase::Failed { message } => wrap(message, width.saturating_sub(2))
                .into_iter()
                .map(|line| Line::styled(format!("  {line}"), theme.worse))
                .collect(),
            _ => vec![Line::raw(match variant.standing {
                Standing::Interrupted => {
                    "  interrupted; what was done is saved, r goes on with it".to_string()
                }
                Standing::Running => {
                    let stage = variant.state.active().map_or("begins", |stage| stage.stage.name());
                    format!("  at work: {stage}; Enter shows it")
                }
                _ if variant.is_queued() => "  queued: begins when the run before it ends".to_string(),
                _ => "  nothing was done yet".to_string(),
            })],
        };
        lines.push(Line::styled(format!("  kept in {folder}"), theme.dim));
        return lines;
    };
    let mut lines = Vec::new();
    let row = |label: String, style, text: String| {
        Line::from(vec![Span::styled(format!("  {label:<18}"), style), Span::styled(text, theme.text)])
    };
    if let Some(speedup) = summary.speedup.first() {
        let (label, style) = match speedup.verdict {
            Verdict::Faster => (format!("{:.2}× faster", speedup.ratio), theme.better),
            Verdict::Slower => (format!("{:.2}×: SLOWER", speedup.ratio), theme.worse),
            Verdict::NotDistinguishable => ("as fast".to_string(), theme.text),
        };
        let number = |role| fps(summary, role).unwrap_or(f64::NAN);
        let engine = match speedup.engine {
            EngineName::Builtin => String::new(),
            engine => format!(", {}", engine.name()),
        };
        let text = format!(
            "{:.2} – {:.2}; {:.1} → {:.1} FPS, {}{engine}",
            speedup.low,
            speedup.high,
            number(ModelRole::Parent),
            number(ModelRole::Optimized),
            speedup.setting(),
        );
        lines.push(row(label, style, text));
    }
    if let Some(report) = &summary.reports.predictions {
        let text = format!(
            "{} images, {} – {}; {} predictions changed",
            report.images,
            percent(report.low),
            percent(report.high),
            report.erroneous
        );
        lines.push(row(format!("{} agreement", percent(report.agreement)), theme.text, text));
    }
    if let Some(report) = &summary.reports.annotations {
        let noise = if report.drop_low <= 0.0 && report.drop_high >= 0.0 { ", within noise" } else { "" };
        let text =
            format!("top-1 {} → {}{noise}", percent(report.parent.top1), percent(report.optimized.top1));
        lines.push(row(format!("{} points", points(-report.drop)), theme.text, text));
    }
    let ratio = summary.optimized.bytes as f64 / summary.parent.bytes.max(1) as f64;
    let layers = match (summary.optimized.quantized_layers, summary.optimized.layers) {
        (Some(quantized), Some(all)) => format!("; {quantized} of {all} layers in INT8"),
        _ => String::new(),
    };
    let text = format!("{} → {}{layers}", bytes(summary.parent.bytes), bytes(summary.optimized.bytes));
    lines.push(row(format!("{:.0} % of the size", ratio * 100.0), theme.text, text));
    let hash: String = summary.optimized.sha256.chars().take(12).collect();
    let made = format!("made {} in ", date(&variant.variant.created));
    let folder = variant.variant.path.display().to_string();
    let folder = shorten_start(&folder, width.saturating_sub(20 + made.len()));
    lines.push(row(format!("sha256 {hash:.8}…"), theme.dim, made + &folder));
    lines
}

fn draw_prompt(app: &App, prompt: &Prompt, area: Rect, buffer: &mut Buffer) {
    let title = match &prompt.kind {
        PromptKind::Rename(_) => "New name",
        PromptKind::Export(_) => "Pack the INT8 model for deployment into the folder",
    };
    let keys = "Enter does it · Esc leaves it";
    let inner = crate::tui::widgets::popup::popup(area, buffer, &app.theme, (70, 3), title, keys);
    prompt.input.draw(inner, buffer, &app.theme);
}

/// Frames per second of a model in the first setting that was measured.
fn fps(summary: &Summary, role: ModelRole) -> Option<f64> {
    summary.performance.iter().find(|row| row.model == role).map(|row| row.fps.median)
}

fn precision(summary: &Summary) -> String {
    match (summary.optimized.layers, summary.optimized.quantized_layers) {
        (Some(all), Some(quantized)) if all > quantized => format!("INT8 +{}", all - quantized),
        _ => "INT8".to_string(),
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

/// The day of a moment.
fn date(moment: &str) -> String {
    moment.chars().take(10).collect()
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
