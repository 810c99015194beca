//! Text for narrow places.

use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text in at most `width` columns; what was cut off leaves an ellipsis. Control characters,
/// which may come from file names and models, become `·`, so that no text can steer the terminal.
pub fn shorten(text: &str, width: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    if clean.width() <= width {
        return clean;
    }
    let mut short = String::new();
    let mut used = 0;
    for c in clean.chars() {
        let columns = c.width().unwrap_or(0);
        if used + columns + 1 > width {
            break;
        }
        short.push(c);
        used += columns;
    }
    if width > 0 {
        short.push('…');
    }
    short
}

/// As [`shorten`], but keeps the end: the name of a file says more than its folders.
pub fn shorten_start(text: &str, width: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    if clean.width() <= width {
        return clean;
    }
    let mut kept = Vec::new();
    let mut used = 1;
    for c in clean.chars().rev() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    let end: String = kept.into_iter().rev().collect();
    if width == 0 { String::new() } else { format!("…{end}") }
}

/// A styled line in at most `width` columns.
pub fn fit(line: &Line<'_>, width: usize) -> Line<'static> {
    let mut left = width;
    let mut spans = Vec::new();
    for span in &line.spans {
        if left == 0 {
            break;
        }
        let text = shorten(&span.content, left);
        left -= text.width();
        spans.push(Span::styled(text, span.style));
    }
    Line { spans, style: line.style, alignment: None }
}

/// Breaks text into lines of at most `width` columns, at spaces where there are some.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let word = shorten(word, width);
            if !line.is_empty() && line.width() + 1 + word.width() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_columns_not_by_characters() {
        assert_eq!(shorten("mobilenet", 9), "mobilenet");
        assert_eq!(shorten("mobilenet", 5), "mobi…");
        assert_eq!(shorten("日本語", 5), "日本…");
        assert_eq!(shorten("日本語", 4), "日…");
        assert_eq!(shorten("ab", 0), "");
        assert_eq!(shorten_start("models/resnet.onnx", 12), "…resnet.onnx");
    }

    #[test]
    fn an_escape_sequence_in_a_name_stays_text() {
        assert_eq!(shorten("a\u{1b}[31m\nb", 20), "a·[31m·b");
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three\nfour", 8), ["one two", "three", "four"]);
        assert_eq!(wrap("unbreakable", 5), ["unbr…"]);
    }
}
