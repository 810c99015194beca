//! A box over the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Widget};

use crate::tui::theme::Theme;

/// Clears a box of at most this size in the middle of `area`, draws its border with a title and a
/// line of keys, and gives the space inside, with a column of air at both sides.
pub fn popup(
    area: Rect,
    buffer: &mut Buffer,
    theme: &Theme,
    size: (u16, u16),
    title: &str,
    keys: &str,
) -> Rect {
    let width = size.0.min(area.width.saturating_sub(2));
    let height = size.1.min(area.height.saturating_sub(2));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let outer = Rect { x, y, width, height }.intersection(*buffer.area());
    if outer.width < 5 || outer.height < 3 {
        return Rect::default();
    }
    Clear.render(outer, buffer);
    let block = Block::bordered()
        .border_style(theme.dim)
        .title(Line::styled(format!(" {title} "), theme.heading))
        .title_bottom(Line::styled(format!(" {keys} "), theme.dim).right_aligned());
    let inner = block.inner(outer);
    block.render(outer, buffer);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}
