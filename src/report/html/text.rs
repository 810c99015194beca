//! Words that HTML can't mistake for markup.

use std::fmt;

use crate::model::is_obeyed;

pub(super) use crate::report::format::{
    bytes, class_name, count, macs, number, number_or_dash, percent, plural, points, precision, times,
};

/// Words from a file, escaped for element content and quoted attributes. Control characters, which HTML
/// forbids and a terminal obeys, and those that turn text around are shown as Rust writes them.
pub(super) struct Escaped<'a>(&'a str);

/// Escapes words for HTML.
pub(super) fn esc(words: &str) -> Escaped<'_> {
    Escaped(words)
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || (is_obeyed(c) && c != '\n');
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| special(*c)) {
            f.write_str(&rest[..at])?;
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                control => write!(f, "{}", control.escape_unicode())?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        f.write_str(rest)
    }
}

/// A right-aligned table cell that shows `shown` and sorts by `value`, what is missing below all else.
pub(super) fn number_cell(value: Option<f64>, shown: &str) -> String {
    let key = value.map_or_else(|| "-Infinity".to_string(), |value| value.to_string());
    format!("<td class=\"n\" data-v=\"{key}\">{shown}</td>")
}

/// Base64 after RFC 4648, for `data:` addresses.
pub(super) fn base64(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * position)) as usize & 63];
            text.push(if position <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_words_is_escaped() {
        assert_eq!(
            esc("<script>alert('x')</script> & \"é\"").to_string(),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;é&quot;"
        );
        assert_eq!(esc("a\u{1b}[31m\u{9b}1m\n").to_string(), "a\\u{1b}[31m\\u{9b}1m\n");
    }

    #[test]
    fn base64_of_the_rfc() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
