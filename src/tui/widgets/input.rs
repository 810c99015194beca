//! A line of text that is being typed.

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use tui_input::{Input, InputRequest};
use unicode_width::UnicodeWidthChar;

use super::table::TableState;
use crate::tui::action::Move;
use crate::tui::keymap::Key;
use crate::tui::text::shorten;
use crate::tui::theme::Theme;

/// The text with its cursor.
#[derive(Debug, Clone, Default)]
pub struct TextInput {
    input: Input,
}

/// A filter over a table: what was typed, and whether it is being typed.
#[derive(Debug, Clone, Default)]
pub struct FilterLine {
    /// The filter.
    pub input: TextInput,
    /// Whether letters go into it now.
    pub typing: bool,
}

impl FilterLine {
    /// The keys that act while it is typed, with a word each.
    pub const KEYS: &'static [(&'static str, &'static str)] =
        &[("Enter", "keep the filter"), ("Esc", "take it away"), ("↑ ↓", "rows")];

    /// What stands there.
    pub fn text(&self) -> &str {
        self.input.text()
    }

    /// Whether there is something to show of it.
    pub fn is_shown(&self) -> bool {
        self.typing || !self.text().is_empty()
    }

    /// Takes a key while it is typed: Enter keeps the filter, Esc takes it away, arrows move the cursor of the
    /// table. Says whether the rows must be chosen anew.
    pub fn on_key(&mut self, key: Key, table: &mut TableState) -> bool {
        match key.code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                return self.clear();
            }
            KeyCode::Up => table.step(Move::Up),
            KeyCode::Down => table.step(Move::Down),
            _ => return self.input.on_key(key),
        }
        false
    }

    /// Takes the filter away; says whether there was one.
    pub fn clear(&mut self) -> bool {
        let was = !self.text().is_empty();
        self.input = TextInput::default();
        was
    }

    /// Draws `/ ` and the filter; where there is none, what stands for that.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, theme: &Theme, empty: &str) {
        if area.width < 4 || area.height == 0 {
            return;
        }
        buffer.set_string(area.x, area.y, "/ ", if self.typing { theme.accent } else { theme.dim });
        let input = Rect { x: area.x + 2, width: area.width - 2, height: 1, ..area };
        if self.typing {
            return self.input.draw(input, buffer, theme);
        }
        let (text, style) = match self.text() {
            "" => (empty, theme.dim),
            text => (text, theme.text),
        };
        let width = usize::from(input.width);
        buffer.set_stringn(input.x, input.y, shorten(text, width), width, style);
    }
}

impl TextInput {
    /// With this text, the cursor behind it.
    pub fn new(text: &str) -> Self {
        TextInput { input: Input::new(text.to_string()) }
    }

    /// What stands there.
    pub fn text(&self) -> &str {
        self.input.value()
    }

    /// Takes a key; says whether the text changed.
    pub fn on_key(&mut self, key: Key) -> bool {
        let request = match (key.code, key.ctrl || key.alt) {
            (KeyCode::Char(c), false) => InputRequest::InsertChar(c),
            (KeyCode::Backspace, false) => InputRequest::DeletePrevChar,
            (KeyCode::Delete, _) => InputRequest::DeleteNextChar,
            (KeyCode::Left, false) => InputRequest::GoToPrevChar,
            (KeyCode::Right, false) => InputRequest::GoToNextChar,
            (KeyCode::Left, true) => InputRequest::GoToPrevWord,
            (KeyCode::Right, true) => InputRequest::GoToNextWord,
            (KeyCode::Home, _) | (KeyCode::Char('a'), true) => InputRequest::GoToStart,
            (KeyCode::End, _) | (KeyCode::Char('e'), true) => InputRequest::GoToEnd,
            (KeyCode::Backspace | KeyCode::Char('w'), true) => InputRequest::DeletePrevWord,
            (KeyCode::Char('u'), true) => InputRequest::DeleteFromStart,
            (KeyCode::Char('k'), true) => InputRequest::DeleteTillEnd,
            _ => return false,
        };
        self.input.handle(request).is_some_and(|changed| changed.value)
    }

    /// Draws the text with its cursor; what is long scrolls. The cursor is a reversed cell: the
    /// terminal's own would have to be moved, shown and hidden with every frame.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        if area.is_empty() {
            return;
        }
        let width = usize::from(area.width);
        let mut skip = self.input.visual_scroll(width.saturating_sub(1));
        let mut x = area.x;
        for (at, c) in self.text().chars().chain([' ']).enumerate() {
            let columns = c.width().unwrap_or(0);
            if skip >= columns && skip > 0 {
                skip -= columns;
                continue;
            }
            if usize::from(x - area.x) + columns.max(1) > width {
                break;
            }
            let mut style = theme.text;
            if at == self.input.cursor() {
                style = style.add_modifier(Modifier::REVERSED);
            }
            let mut symbol = [0; 4];
            buffer.set_stringn(x, area.y, c.encode_utf8(&mut symbol), columns, style);
            x += columns as u16;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tui::theme::ThemeName;

    #[test]
    fn letters_are_text_and_control_keys_edit() {
        let mut input = TextInput::new("abc def");
        assert!(input.on_key(Key::char('G')));
        assert_eq!(input.text(), "abc defG");
        assert!(input.on_key("ctrl-w".parse().unwrap()));
        assert_eq!(input.text(), "abc ");
        assert!(!input.on_key("f1".parse().unwrap()));
        assert!(!input.on_key("left".parse().unwrap()), "the cursor moved, the text did not change");
    }

    #[test]
    fn the_end_of_a_long_text_is_seen_while_it_is_typed() {
        let theme = Theme::new(ThemeName::Mono, false);
        let area = Rect::new(0, 0, 5, 1);
        let mut buffer = Buffer::empty(area);
        TextInput::new("0123456789").draw(area, &mut buffer, &theme);
        let shown: String = buffer.content.iter().map(|cell| cell.symbol()).collect();
        assert_eq!(shown, "6789 ");
        assert!(buffer[(4, 0)].modifier.contains(Modifier::REVERSED));
    }
}
