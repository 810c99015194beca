//! The Optimize tab on the screen: the form, or the run.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{Estimated, Field, Form, watched};
use crate::cli::progress_bar::duration;
use crate::cli::summary_text::bytes;
use crate::run::events::{Look, Stage};
use crate::run::fold::{Phase, StageState};
use crate::run::status::Standing;
use crate::tui::app::App;
use crate::tui::snapshot::VariantEntry;
use crate::tui::text::{fit, shorten, shorten_start, wrap};
use crate::tui::view::sentence;
use crate::tui::widgets::gauge::{gauge, histogram};

/// Columns of the labels.
const LABEL: usize = 18;

/// Draws the tab.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    match (watched(app), &app.optimize.form) {
        (Some(run), _) => draw_run(app, run, area, buffer),
        (None, Some(form)) => draw_form(app, form, area, buffer),
        (None, None) => {
            sentence(app, area, buffer, "No project is chosen. Choose one in Projects, and press o there.")
        }
    }
}

/// Lines from top to bottom, each cut to the width.
struct Page<'a> {
    area: Rect,
    y: u16,
    buffer: &'a mut Buffer,
}

impl Page<'_> {
    fn put(&mut self, line: Line<'_>) {
        if self.y < self.area.bottom() {
            let line = fit(&line, usize::from(self.area.width));
            self.buffer.set_line(self.area.x, self.y, &line, self.area.width);
        }
        self.y += 1;
    }

    fn gap(&mut self) {
        self.y += 1;
    }

    /// All of the lines, or as many as there is room for and a word on where the others are.
    fn rest(&mut self, lines: Vec<Line<'_>>, others: &str, style: Style) {
        let room = usize::from(self.area.bottom().saturating_sub(self.y));
        let all = lines.len();
        let shown = if all > room { room.saturating_sub(1) } else { all };
        for line in lines.into_iter().take(shown) {
            self.put(line);
        }
        if shown < all {
            self.put(Line::styled(format!("… {} lines more: {others}", all - shown), style));
        }
    }
}

fn inner(area: Rect) -> Rect {
    Rect { x: area.x + 2, width: area.width.saturating_sub(4), ..area }
}

fn draw_form(app: &App, form: &Form, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let area = inner(area);
    let roomy = area.height >= 26;
    let width = usize::from(area.width);
    let mut page = Page { area, y: area.y, buffer };
    page.put(Line::styled(format!("{} → INT8", form.project.name), theme.heading));
    if area.height >= 22 {
        page.gap();
    }
    for (at, field) in Field::ALL.into_iter().enumerate() {
        if field == Field::ADVANCED {
            if roomy {
                page.gap();
                page.put(Line::styled("  Advanced", theme.dim));
            }
        } else if field == Field::Name && roomy {
            page.gap();
        }
        let here = at == form.field;
        let style = if here { theme.selected } else { theme.text };
        let mark = if here { "▸ " } else { "  " };
        let mut line =
            Line::from(Span::styled(format!("{mark}{:<width$}", field.label(), width = LABEL - 2), style));
        if field.choices().is_empty() && here && form.editing && form.idle(field).is_none() {
            let x = area.x + LABEL as u16;
            let input = Rect { x, y: page.y, width: area.right().saturating_sub(x), height: 1 };
            page.put(line);
            if input.y < area.bottom() {
                form.inputs[at].draw(input, page.buffer, theme);
            }
            continue;
        }
        line.spans.extend(value(app, form, field, width - LABEL.min(width)));
        page.put(line);
    }
    page.gap();
    let here = form.here();
    let explanation = wrap(here.explanation(form.choice(here)), width.saturating_sub(2));
    // As many rows for each field, so that nothing below moves with the cursor.
    let rows = if width < 110 { 2 } else { 1 };
    for at in 0..rows {
        let line = explanation.get(at).map_or("", String::as_str);
        page.put(Line::styled(format!("  {line}"), theme.dim));
    }
    if roomy {
        page.gap();
    }
    let lines = estimate_lines(app, form, width.saturating_sub(2));
    page.rest(lines, "a taller window has room for them", theme.dim);
}

fn value(app: &App, form: &Form, field: Field, room: usize) -> Vec<Span<'static>> {
    let theme = &app.theme;
    let choices = field.choices();
    if let Some(why) = form.idle(field) {
        return vec![Span::styled(why, theme.disabled)];
    }
    if choices.is_empty() {
        let text = form.text(field);
        return vec![match (field, text) {
            (Field::Calibration, "") => Span::styled("the judged images themselves", theme.warning),
            (Field::IgnoredNames | Field::IgnoredTypes, "") => Span::styled("nothing", theme.dim),
            (Field::Subset, text) => Span::raw(format!("at most {text} images")),
            (Field::MaxDrop, "1") => Span::raw("1 percentage point"),
            (Field::MaxDrop, text) => Span::raw(format!("{text} percentage points")),
            (Field::Seconds, text) => Span::raw(format!("{text} s for each model and setting")),
            (_, text) => Span::raw(shorten_start(text, room)),
        }];
    }
    let chosen = form.choice(field);
    let reason = |reason: &Option<&str>| reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let long: usize = choices.iter().map(|(name, why)| name.len() + reason(why).len() + 5).sum();
    let air = if long > room + 3 { "  " } else { "   " };
    let spans = choices.iter().enumerate().flat_map(|(at, (name, why))| {
        let dot = if at == chosen { "●" } else { "○" };
        let style = match (at == chosen, why) {
            (true, _) => theme.accent,
            (false, Some(_)) => theme.disabled,
            (false, None) => theme.text,
        };
        let why = reason(why);
        let air = if at + 1 == choices.len() { "" } else { air };
        [Span::styled(format!("{dot} {name}"), style), Span::styled(format!("{why}{air}"), theme.disabled)]
    });
    spans.collect()
}

fn estimate_lines(app: &App, form: &Form, width: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let mut lines = Vec::new();
    match &app.optimize.estimate {
        Estimated::Nothing => {}
        Estimated::Busy(_) => lines.push(Line::styled("  finding out what it takes …", theme.dim)),
        Estimated::Fails(text) => {
            let wrapped = wrap(text, width);
            lines.extend(wrapped.into_iter().map(|line| Line::styled(format!("  {line}"), theme.worse)));
        }
        Estimated::Known(estimate) => {
            let text = format!(
                "{} layers become INT8 · about {} · about {} of memory · {:.1} ms per inference now",
                estimate.quantized_nodes,
                duration(estimate.seconds),
                bytes(estimate.memory_bytes),
                estimate.parent_ms
            );
            lines.extend(wrap(&text, width).into_iter().map(|line| Line::raw(format!("  {line}"))));
            lines.push(Line::styled(
                format!(
                    "  calibrates on {} images, judges by {}{}",
                    estimate.calibration_images,
                    estimate.dataset_images,
                    if form.has_labels() { " with labels" } else { " without labels: by agreement" }
                ),
                theme.dim,
            ));
            for warning in &estimate.warnings {
                let wrapped = wrap(&format!("note: {warning}"), width);
                lines
                    .extend(wrapped.into_iter().map(|line| Line::styled(format!("  {line}"), theme.warning)));
            }
        }
    }
    lines
}

fn draw_run(app: &App, run: &VariantEntry, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let area = inner(area);
    let width = usize::from(area.width);
    let mut page = Page { area, y: area.y, buffer };
    let title = app.snapshot.variant(&run.variant.path).map(|(project, _)| project.project.name.clone());
    let title = format!("{} · {}", title.unwrap_or_default(), run.variant.name);
    page.put(Line::from(vec![
        Span::styled(shorten(&title, width.saturating_sub(16)), theme.heading),
        Span::raw("   "),
        standing(app, run),
    ]));
    page.gap();
    for stage in run.stages() {
        let state = run.state.stages.iter().find(|state| state.stage == stage);
        page.put(stage_line(app, run, stage, state, width));
    }
    page.gap();
    let said: Vec<Line> = match (&run.state.phase, run.standing) {
        (Phase::Failed { message }, Standing::Failed) => {
            let message = wrap(message, width).into_iter().map(|line| Line::styled(line, theme.worse));
            let key = |action| app.keymap.shown(crate::tui::action::Action::Optimize(action));
            let text = format!(
                "Once that is put right, {} tries again with what is saved; {} shows the log.",
                key(super::Action::Start),
                key(super::Action::Log)
            );
            let then = wrap(&text, width).into_iter().map(|line| Line::styled(line, theme.dim));
            message.chain([Line::default()]).chain(then).collect()
        }
        (_, Standing::Running) => {
            let detail = run.state.active().and_then(|stage| stage.detail.clone());
            let detail = match &run.state.look {
                Some(look) => Some(look_line(app, look, width)),
                None => detail.map(|detail| Line::styled(shorten(&detail, width), theme.dim)),
            };
            let calm = if run.measures() {
                "It measures: this screen looks at it once a second, so as not to disturb it."
            } else {
                "It runs on without you: close the terminal, lose the connection, come back."
            };
            let calm = wrap(calm, width).into_iter().map(|line| Line::styled(line, theme.dim));
            detail.into_iter().chain([Line::default()]).chain(calm).collect()
        }
        (_, Standing::Interrupted) => {
            let key = app.keymap.shown(crate::tui::action::Action::Optimize(super::Action::Start));
            let text = format!(
                "Interrupted. What was done is saved, and {key} goes on with it: the result is the same."
            );
            wrap(&text, width).into_iter().map(|line| Line::styled(line, theme.warning)).collect()
        }
        (_, Standing::Waiting) => {
            vec![Line::raw("Queued: it begins when the run before it ends.")]
        }
        (_, Standing::Finished(_)) => finished(app, run, width),
        _ => Vec::new(),
    };
    let mut said = said;
    if !run.state.warnings.is_empty() {
        said.push(Line::default());
    }
    for warning in &run.state.warnings {
        let lines = wrap(&format!("note: {warning}"), width);
        said.extend(lines.into_iter().map(|line| Line::styled(line, theme.warning)));
    }
    let log = app.keymap.shown(crate::tui::action::Action::Optimize(super::Action::Log));
    page.rest(said, &format!("{log} shows the log"), theme.dim);
}

/// The tensor that was looked at last: the range that was chosen, and how its values lie.
fn look_line(app: &App, look: &Look, width: usize) -> Line<'static> {
    let theme = &app.theme;
    let name = width.saturating_sub(30 + 32).clamp(10, 40);
    let (low, high) = look.range;
    Line::from(vec![
        Span::styled(format!("{:<name$}", shorten_start(&look.tensor, name)), theme.text),
        Span::styled(format!("  range {low:>9.2} … {high:<9.2}  "), theme.dim),
        Span::styled(histogram(&look.histogram, 30), theme.accent),
    ])
}

fn standing(app: &App, run: &VariantEntry) -> Span<'static> {
    let style = match run.standing {
        Standing::Running => app.theme.accent,
        Standing::Failed => app.theme.worse,
        Standing::Interrupted => app.theme.warning,
        Standing::Waiting | Standing::Finished(_) => app.theme.dim,
    };
    Span::styled(if run.is_queued() { "queued" } else { run.standing.name() }, style)
}

fn stage_line(
    app: &App,
    run: &VariantEntry,
    stage: Stage,
    state: Option<&StageState>,
    width: usize,
) -> Line<'static> {
    let theme = &app.theme;
    let name = |mark: &str, style| Span::styled(format!("{mark} {:<12}", stage.name()), style);
    let Some(state) = state else { return Line::from(name(" ", theme.dim)) };
    if let Some(seconds) = state.seconds {
        let time = Span::styled(format!("{:>11}", duration(seconds)), theme.text);
        let items = match state.total {
            0 | 1 => String::new(),
            total => format!("   {total} {}", stage.unit()),
        };
        return Line::from(vec![name("✓", theme.text), time, Span::styled(items, theme.dim)]);
    }
    let (mark, style) =
        if run.standing == Standing::Running { ("▶", theme.accent) } else { ("✗", theme.warning) };
    if state.total == 0 {
        return Line::from(name(mark, style));
    }
    let fraction = state.done as f64 / state.total as f64;
    let digits = state.total.to_string().len();
    let count = format!(" {:>digits$} / {} {}", state.done, state.total, stage.unit());
    let rate =
        if state.rate > 0.0 { format!("{:>8.1} {}/s", state.rate, stage.unit()) } else { String::new() };
    let running = run.standing == Standing::Running;
    let left = state
        .eta_seconds
        .filter(|_| running)
        .map(|left| format!("   {} left", duration(left)))
        .unwrap_or_default();
    let text = format!("{count}{rate}{left}");
    let bar = width.saturating_sub(14 + 52).clamp(6, 44);
    let mut spans = vec![name(mark, style)];
    spans.extend(gauge(fraction, bar, theme).spans);
    spans.push(Span::styled(text, theme.text));
    Line::from(spans)
}

fn finished(app: &App, run: &VariantEntry, width: usize) -> Vec<Line<'static>> {
    let Some(summary) = run.summary.as_deref() else { return Vec::new() };
    let text = crate::cli::summary_text::render(summary, &run.variant.name, &run.variant.path, width);
    text.lines().skip(1).map(|line| Line::styled(shorten(line, width), app.theme.text)).collect()
}
