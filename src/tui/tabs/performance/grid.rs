//! Streams × batch: a heat table, with the best point under the latency limit.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::State;
use super::bars::{engine_title, fps, ms, setting};
use crate::tui::app::App;
use crate::tui::text::fit;

/// Draws it.
pub(super) fn draw_settings(app: &App, state: &State, area: Rect, buffer: &mut Buffer) {
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
    ]);
    let width = usize::from(area.width);
    buffer.set_line(area.x, area.y, &fit(&line, width), area.width);
    let found = Line::styled(found, if best.is_some() { theme.better } else { theme.worse });
    let beside = line.width() + found.width() <= width;
    let (x, y) = if beside { (area.x + line.width() as u16, area.y) } else { (area.x + 3, area.y + 1) };
    let left = area.right().saturating_sub(x);
    buffer.set_line(x, y, &fit(&found, usize::from(left)), left);
    let area = if beside { area } else { Rect { y: area.y + 1, height: area.height - 1, ..area } };
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
