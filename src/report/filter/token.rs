//! The words of a filter.

use super::FilterError;

/// A word and where it stands, in characters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub at: usize,
    pub length: usize,
    pub word: Word,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    And,
    Or,
    Not,
    Open,
    Close,
    Operator(Operator),
    /// As it was typed, without quotes.
    Plain(String),
    /// In quotes, so no name of a column.
    Quoted(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Contains,
    ContainsNot,
}

/// Longest first, so that `<=` is not read as `<`.
const OPERATORS: [(&str, Operator); 11] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<>", Operator::NotEqual),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("!~", Operator::ContainsNot),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("~", Operator::Contains),
    ("≠", Operator::NotEqual),
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        let c = chars[at];
        let word = if c.is_whitespace() {
            at += 1;
            continue;
        } else if c == '(' || c == ')' {
            at += 1;
            if c == '(' { Word::Open } else { Word::Close }
        } else if c == '"' || c == '\'' {
            let Some(length) = chars[at + 1..].iter().position(|end| *end == c) else {
                return Err(error(text, at, chars.len() - at, format!("this text has no closing {c}")));
            };
            at += length + 2;
            Word::Quoted(chars[start + 1..at - 1].iter().collect())
        } else if let Some((operator, length)) = operator_at(&chars[at..]) {
            at += length;
            Word::Operator(operator)
        } else {
            while at < chars.len() && !ends_word(&chars[at..]) {
                at += 1;
            }
            // A lone `!` begins no operator and ends a word.
            at = at.max(start + 1);
            plain(chars[start..at].iter().collect())
        };
        tokens.push(Token { at: start, length: at - start, word });
    }
    Ok(tokens)
}

fn plain(word: String) -> Word {
    match word.to_ascii_lowercase().as_str() {
        "and" | "&&" => Word::And,
        "or" | "||" => Word::Or,
        "not" | "!" => Word::Not,
        "contains" => Word::Operator(Operator::Contains),
        _ => Word::Plain(word),
    }
}

fn operator_at(chars: &[char]) -> Option<(Operator, usize)> {
    OPERATORS.iter().find_map(|(sign, operator)| {
        let length = sign.chars().count();
        (chars.len() >= length && sign.chars().eq(chars[..length].iter().copied()))
            .then_some((*operator, length))
    })
}

fn ends_word(chars: &[char]) -> bool {
    let c = chars[0];
    c.is_whitespace() || matches!(c, '(' | ')' | '"' | '!') || operator_at(chars).is_some()
}

pub(super) fn error(text: &str, at: usize, length: usize, message: String) -> FilterError {
    // Control characters that were pasted would move the caret, or the terminal's cursor.
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    FilterError { text, at, length: length.max(1), message }
}
