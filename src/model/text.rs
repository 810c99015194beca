//! Text that comes from files, made harmless for where it goes. Names of layers, classes and images are
//! chosen by whoever made the files.

use std::borrow::Cow;

/// Whether a terminal or a page would obey `c` instead of showing it: control characters of 7 and of 8 bits, and
/// those that change the direction of text.
pub fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with control and direction-changing characters escaped, as everything that comes from a
/// file must be before it is shown: an escape sequence in a layer's name could otherwise take over
/// the terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_obeyed(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// `text` as a field of a CSV file after RFC 4180. What a spreadsheet would run as a formula (it begins with `=`,
/// `+`, `-`, `@`, tab or carriage return) gets a leading apostrophe.
pub fn csv_field(text: &str) -> String {
    let apostrophe = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if text.contains(['"', ',', '\r', '\n']) {
        return format!("\"{apostrophe}{}\"", text.replace('"', "\"\""));
    }
    format!("{apostrophe}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_escapes_what_could_take_over_a_terminal() {
        assert_eq!(printable("conv1/größe"), "conv1/größe");
        assert!(matches!(printable("conv1"), Cow::Borrowed(_)));
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}c\n\u{202e}"), "a\\u{1b}[2Jb\\u{9b}c\\n\\u{202e}");
    }

    #[test]
    fn a_field_stays_one_field_and_is_no_formula() {
        assert_eq!(csv_field("a b"), "a b");
        assert_eq!(csv_field("a,\"b\"\r\n"), "\"a,\"\"b\"\"\r\n\"");
        for text in ["=1+1", "+1", "-1", "@sum"] {
            assert_eq!(csv_field(text), format!("'{text}"));
        }
        assert_eq!(csv_field("=hyperlink(\"a\")"), "\"'=hyperlink(\"\"a\"\")\"");
        assert_eq!(csv_field("\r=1"), "\"'\r=1\"");
    }
}
