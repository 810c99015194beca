//! Measurements of the whole project, those that were copied from other hosts among them, side by side.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::State;
use super::bars::{fps, setting};
use crate::run::history::Measurement;
use crate::run::summary::Verdict;
use crate::tui::app::App;
use crate::tui::text::{fit, wrap};
use crate::tui::theme::Theme;
use crate::tui::widgets::table::{self, Column};

const COLUMNS: [Column; 11] = [
    Column::growing("Run", 14),
    Column::text("Host", 14, 0),
    Column::text("Processor", 26, 6),
    Column::text("Kernels", 12, 4),
    Column::text("Engine", 11, 3),
    Column::text("Setting", 20, 1),
    Column::text("Measured", 10, 5),
    Column::number("Parent", 9, 2),
    Column::number("INT8 FPS", 9, 0),
    Column::number("Speed-up", 12, 0),
    Column::number("Agreement", 9, 7),
];

/// The columns where some were measured on several kinds of node, which may be on one host.
const WITH_KINDS: [Column; 12] = {
    let [run, host, processor, kernels, engine, setting, measured, parent, fps, ratio, agreement] = COLUMNS;
    // The kind tells nodes apart, and the host where there is none.
    let host = Column { leaves: 2, ..host };
    let kind = Column::growing("Kind of node", 14);
    [run, kind, host, processor, kernels, engine, setting, measured, parent, fps, ratio, agreement]
};

/// Draws the table, or why there is none.
pub(super) fn draw_hosts(app: &App, state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = &app.theme;
    if area.height < 3 {
        return;
    }
    let width = usize::from(area.width);
    let (count, trouble) = match &state.hosts {
        None => ("reading …".to_string(), None),
        Some(Ok((found, skipped))) => (found.len().to_string(), skipped.as_ref()),
        Some(Err(why)) => ("none".to_string(), Some(why)),
    };
    let line = Line::from(vec![
        Span::styled("── ", theme.dim),
        Span::styled("measurements of this project on all hosts", theme.heading),
        Span::styled(format!(" ({count}) "), theme.dim),
    ]);
    buffer.set_line(area.x, area.y, &fit(&line, width), area.width);
    let mut y = area.y + 1;
    for line in trouble.iter().flat_map(|why| wrap(why, width.saturating_sub(4))) {
        if y < area.bottom() {
            buffer.set_stringn(area.x + 2, y, line, width.saturating_sub(2), theme.warning);
            y += 1;
        }
    }
    let Some(Ok((found, _))) = &state.hosts else { return };
    let below = Rect { y, height: area.bottom() - y, ..area };
    let kinds = found.iter().any(|measurement| measurement.on.is_some());
    let columns = if kinds { &WITH_KINDS[..] } else { &COLUMNS };
    table::draw(below, buffer, theme, columns, &state.hosts_table, |at| {
        let Some(measurement) = found.get(at) else { return Vec::new() };
        let mut row = row(theme, measurement);
        if kinds {
            row.insert(1, kind(theme, measurement));
        }
        row
    });
}

fn kind(theme: &Theme, m: &Measurement) -> Line<'static> {
    match &m.on {
        Some(on) => Line::styled(on.clone(), theme.text),
        None => Line::styled(format!("({})", m.host), theme.dim),
    }
}

fn row(theme: &Theme, m: &Measurement) -> Vec<Line<'static>> {
    let plain = |text: String| Line::styled(text, theme.text);
    let dim = |text: String| Line::styled(text, theme.dim);
    let style = match m.verdict {
        Verdict::Faster => theme.better,
        Verdict::Slower => theme.worse,
        Verdict::NotDistinguishable => theme.warning,
    };
    let ratio = match m.verdict {
        Verdict::Faster => format!("{:.2}×", m.ratio),
        Verdict::Slower => format!("SLOWER {:.2}×", m.ratio),
        Verdict::NotDistinguishable => format!("{:.2}× unsure", m.ratio),
    };
    vec![
        plain(m.name.clone()),
        plain(m.host.clone()),
        dim(m.cpu.clone()),
        dim(m.kernels.clone()),
        dim(m.engine.to_string()),
        dim(setting(&m.optimized)),
        dim(m.measured.chars().take(10).collect()),
        plain(fps(m.parent.fps.median)),
        plain(fps(m.optimized.fps.median)),
        Line::styled(ratio, style),
        m.agreement.map_or_else(|| dim("–".into()), |share| plain(format!("{:.1} %", 100.0 * share))),
    ]
}
