//! The Performance tab on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::app::App;
use crate::tui::view::sentence;

/// Draws the tab.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    sentence(app, area, buffer, "No optimized model is open. Choose one in Projects.");
}
