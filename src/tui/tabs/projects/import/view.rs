//! The form for a new project on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::trial::Trial;
use super::{Field, Import};
use crate::run::fit::{Fit, Fits};
use crate::tui::app::App;
use crate::tui::text::{fit, shorten, shorten_start, wrap};

/// Preprocessings that are shown at once.
const SHOWN: usize = 4;

/// Draws the form.
pub fn draw(app: &App, import: &Import, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    let x = area.x + 3;
    let width = area.width.saturating_sub(6);
    let mut put = |y: u16, line: Line<'_>| {
        if y < area.bottom() {
            buffer.set_line(x, y, &fit(&line, usize::from(width)), width);
        }
    };
    put(area.y, Line::styled("New project", theme.heading));
    let mut input_at = None;
    for (at, field) in Field::ALL.into_iter().enumerate() {
        let y = area.y + 2 + at as u16;
        let here = field == import.field;
        let (label, _) = field.texts();
        let style = if here { theme.selected } else { theme.text };
        let mark = if here { "▸ " } else { "  " };
        let value = match field {
            Field::Preprocess => Span::styled(format!("◂ {} ▸", import.chosen().name), style),
            _ if here => Span::raw(""),
            _ => Span::styled(
                shorten_start(import.text(field), usize::from(width.saturating_sub(18))),
                theme.text,
            ),
        };
        put(y, Line::from(vec![Span::styled(format!("{mark}{label:<15} "), style), value]));
        if here && field != Field::Preprocess {
            input_at = Some(Rect { x: x + 18, y, width: width.saturating_sub(18), height: 1 });
        }
    }
    let (_, explanation) = import.field.texts();
    let mut y = area.y + 3 + Field::ALL.len() as u16;
    put(y, Line::styled(format!("  {explanation}"), theme.dim));
    y += 1;
    let state = match &import.refused {
        _ if import.busy => {
            Some(("the model is run once, to see that all fits and how fast it is …", theme.accent))
        }
        Some(refused) => Some((refused.as_str(), theme.worse)),
        None => None,
    };
    for line in state.iter().flat_map(|(text, _)| wrap(text, usize::from(width.saturating_sub(2)))) {
        put(y, Line::styled(format!("  {line}"), state.map_or(theme.text, |(_, style)| style)));
        y += 1;
    }
    y += 1;
    let room = usize::from(area.bottom().saturating_sub(y));
    let below = if matches!(import.field, Field::Preprocess | Field::Name) {
        trial_lines(app, import, usize::from(width), room)
    } else {
        listing_lines(app, import, room)
    };
    for line in below.into_iter().take(room) {
        put(y, line);
        y += 1;
    }
    if let Some(rect) = input_at {
        import.inputs[super::at(import.field)].draw(rect, buffer, theme);
    }
}

/// What the path under the cursor can be completed to.
fn listing_lines(app: &App, import: &Import, room: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let skip = import.chosen.saturating_sub(room.max(1) - 1);
    let line = |(at, entry): (usize, &String)| {
        let (mark, style) = if at == import.chosen { ("› ", theme.accent) } else { ("  ", theme.dim) };
        Line::styled(format!("  {mark}{entry}"), style)
    };
    import.listing.entries.iter().enumerate().skip(skip).take(room).map(line).collect()
}

/// What the model says under the preprocessings, so that the user sees which is right.
fn trial_lines(app: &App, import: &Import, width: usize, room: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let said = |text: &str, style| {
        wrap(text, width.saturating_sub(2))
            .into_iter()
            .map(|line| Line::styled(format!("  {line}"), style))
            .collect()
    };
    match &import.trial {
        Trial::None => {
            said("Once model and images are named, the usual preprocessings are tried here.", theme.dim)
        }
        Trial::Busy(_) => {
            said("The model is run on some images, under the usual preprocessings …", theme.accent)
        }
        Trial::Fails(_, why) => said(&format!("None could be tried: {why}"), theme.warning),
        Trial::Known(_, fits) => known_lines(app, import, fits, width, room),
    }
}

fn known_lines(app: &App, import: &Import, fits: &Fits, width: usize, room: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    let how = match fits.labelled {
        0 => "without labels: how sure and how varied the predictions are tells",
        _ => "with labels: top-1 tells",
    };
    let mut lines = vec![
        Line::styled(format!("  Tried on {} images {how}", fits.images), theme.dim),
        Line::styled("     top-1   sure  varied  preprocessing", theme.heading),
    ];
    let skip = (import.choice + 1).saturating_sub(SHOWN).min(fits.fits.len().saturating_sub(SHOWN));
    for (at, tried) in fits.fits.iter().enumerate().skip(skip).take(SHOWN) {
        let (mark, style) = if at == import.choice { ("▸", theme.selected) } else { (" ", theme.text) };
        let top1 = tried.top1.map_or_else(|| "–".to_string(), |top1| format!("{:.1} %", 100.0 * top1));
        let text =
            format!("  {mark}{top1:>7}  {:>5.2}  {:>6.2}  {}", tried.confidence, tried.score, tried.name);
        lines.push(Line::styled(text, style));
    }
    let Some(chosen) = fits.fits.get(import.choice) else {
        lines.push(Line::styled("  The chosen one does not give the model's input size.", theme.warning));
        return lines;
    };
    if chosen.label_offset == 1 {
        let text = "  The model has a class before those of the labels: add 1 to each label in the file.";
        lines.push(Line::styled(text, theme.warning));
    }
    lines.push(Line::styled("  The model says with it", theme.dim));
    let left = room.saturating_sub(lines.len());
    lines.extend(said_lines(app, chosen, width).into_iter().take(left));
    lines
}

fn said_lines(app: &App, chosen: &Fit, width: usize) -> Vec<Line<'static>> {
    let theme = &app.theme;
    // Columns of the image and of the class; a third for the label where there is one.
    let column = (width.saturating_sub(16) / 3).clamp(8, 40);
    let line = |said: &crate::run::fit::Said| {
        let mut spans = vec![
            Span::styled(format!("     {:<column$} ", shorten_start(&said.image, column)), theme.dim),
            Span::styled(format!("{:<column$}", shorten(&said.class, column)), theme.text),
            Span::styled(format!(" {:.2}  ", said.probability), theme.text),
        ];
        match &said.label {
            Some(label) if *label == said.class => spans.push(Span::styled("✓", theme.better)),
            Some(label) => {
                let room = width.saturating_sub(2 * column + 14);
                spans.push(Span::styled(shorten(&format!("✗ is {label}"), room), theme.worse));
            }
            None => {}
        }
        Line::from(spans)
    };
    chosen.said.iter().map(line).collect()
}
