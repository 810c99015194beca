//! Keys and what they do: the defaults of [`super::action`], with the user's `keys.yaml` laid over.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::action::{Action, Context, specs};
use super::app::Tab;

/// A key with its modifiers. Shift is part of the character: `G`, not shift-g.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which key.
    pub code: KeyCode,
    /// With control.
    pub ctrl: bool,
    /// With alt.
    pub alt: bool,
}

impl Key {
    /// A character without modifiers.
    pub fn char(c: char) -> Self {
        Key { code: KeyCode::Char(c), ctrl: false, alt: false }
    }

    /// The keys behind bytes that were read from a terminal: characters, control characters, arrows. Other
    /// sequences are passed over: this is for the moment before crossterm reads.
    pub fn typed(bytes: &[u8]) -> Vec<Key> {
        let plain = |code| Key { code, ctrl: false, alt: false };
        let text = String::from_utf8_lossy(bytes);
        let mut chars = text.chars().peekable();
        let mut keys = Vec::new();
        while let Some(c) = chars.next() {
            keys.push(match c {
                '\x1b' if chars.next_if(|next| matches!(next, '[' | 'O')).is_some() => {
                    let last = chars.by_ref().find(|c| matches!(c, '@'..='~'));
                    match last {
                        Some('A') => plain(KeyCode::Up),
                        Some('B') => plain(KeyCode::Down),
                        Some('C') => plain(KeyCode::Right),
                        Some('D') => plain(KeyCode::Left),
                        _ => continue,
                    }
                }
                '\x1b' => plain(KeyCode::Esc),
                '\r' | '\n' => plain(KeyCode::Enter),
                '\t' => plain(KeyCode::Tab),
                '\x7f' => plain(KeyCode::Backspace),
                '\x01'..='\x1a' => {
                    let letter = char::from(b'a' + c as u8 - 1);
                    Key { code: KeyCode::Char(letter), ctrl: true, alt: false }
                }
                c if c.is_control() => continue,
                c => Key::char(c),
            });
        }
        keys
    }
}

impl From<KeyEvent> for Key {
    fn from(event: KeyEvent) -> Self {
        Key {
            code: event.code,
            ctrl: event.modifiers.contains(KeyModifiers::CONTROL),
            alt: event.modifiers.contains(KeyModifiers::ALT),
        }
    }
}

const NAMED: &[(&str, KeyCode)] = &[
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("space", KeyCode::Char(' ')),
    ("tab", KeyCode::Tab),
    ("shift-tab", KeyCode::BackTab),
    ("backspace", KeyCode::Backspace),
    ("delete", KeyCode::Delete),
    ("insert", KeyCode::Insert),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pageup", KeyCode::PageUp),
    ("pagedown", KeyCode::PageDown),
];

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "`{text}` is no key; write a character, enter, esc, space, tab, f1, up, pagedown …, with ctrl- or alt- before it"
            )
        };
        let (mut rest, mut ctrl, mut alt) = (text, false, false);
        loop {
            match rest {
                _ if rest.len() > 5 && rest.starts_with("ctrl-") => (ctrl, rest) = (true, &rest[5..]),
                _ if rest.len() > 4 && rest.starts_with("alt-") => (alt, rest) = (true, &rest[4..]),
                _ => break,
            }
        }
        let mut chars = rest.chars();
        let code = match (chars.next(), chars.as_str()) {
            (Some(c), "") if !c.is_control() && c != ' ' => Some(KeyCode::Char(c)),
            (Some('f'), number) if number.parse::<u8>().is_ok_and(|n| (1..=12).contains(&n)) => {
                number.parse().ok().map(KeyCode::F)
            }
            _ => NAMED.iter().find(|(name, _)| *name == rest).map(|(_, code)| *code),
        };
        code.map(|code| Key { code, ctrl, alt }).ok_or_else(unknown)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.ctrl {
            f.write_str("Ctrl-")?;
        }
        if self.alt {
            f.write_str("Alt-")?;
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("Space"),
            KeyCode::Char(c) if self.ctrl => write!(f, "{}", c.to_ascii_uppercase()),
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::F(n) => write!(f, "F{n}"),
            KeyCode::Up => f.write_str("↑"),
            KeyCode::Down => f.write_str("↓"),
            KeyCode::Left => f.write_str("←"),
            KeyCode::Right => f.write_str("→"),
            KeyCode::PageUp => f.write_str("PgUp"),
            KeyCode::PageDown => f.write_str("PgDn"),
            KeyCode::BackTab => f.write_str("Shift-Tab"),
            code => write!(f, "{code:?}"),
        }
    }
}

/// Which key does what where.
#[derive(Debug, Clone, PartialEq)]
pub struct Keymap {
    keys: HashMap<Action, Vec<Key>>,
}

/// Two actions that hold in the same place and have the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The key.
    pub key: Key,
    /// Names of the actions.
    pub ids: [&'static str; 2],
}

impl Default for Keymap {
    fn default() -> Self {
        let parse = |keys: &[&str]| keys.iter().filter_map(|key| key.parse().ok()).collect();
        Keymap { keys: specs().map(|spec| (spec.action, parse(spec.keys))).collect() }
    }
}

impl Keymap {
    /// Gives an action other keys.
    pub fn set(&mut self, action: Action, keys: Vec<Key>) {
        self.keys.insert(action, keys);
    }

    /// The keys of an action; the first is the one to show.
    pub fn keys(&self, action: Action) -> &[Key] {
        self.keys.get(&action).map_or(&[], Vec::as_slice)
    }

    /// The key of an action as it is shown; empty if it has none.
    pub fn shown(&self, action: Action) -> String {
        self.keys(action).first().map(Key::to_string).unwrap_or_default()
    }

    /// What `key` does on `tab`: what the tab says, else lists, else everywhere.
    pub fn action(&self, key: Key, tab: Tab) -> Option<Action> {
        [Context::Tab(tab), Context::List, Context::Everywhere].into_iter().find_map(|context| {
            let mut here = specs().filter(|spec| spec.context == context);
            here.find(|spec| self.keys(spec.action).contains(&key)).map(|spec| spec.action)
        })
    }

    /// The first key, in the order of the table, that two actions in one place share.
    pub fn clash(&self) -> Option<Clash> {
        let meets = |a: Context, b: Context| a == b || !matches!((a, b), (Context::Tab(_), Context::Tab(_)));
        for (at, spec) in specs().enumerate() {
            for other in specs().skip(at + 1).filter(|other| meets(spec.context, other.context)) {
                let shared = self.keys(spec.action).iter().find(|key| self.keys(other.action).contains(key));
                if let Some(key) = shared {
                    return Some(Clash { key: *key, ids: [spec.id, other.id] });
                }
            }
        }
        None
    }

    /// The table of the README, in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| where | keys | what | name in `keys.yaml` |\n|---|---|---|---|\n");
        let contexts = [Context::Everywhere, Context::List].into_iter().chain(Tab::ALL.map(Context::Tab));
        for context in contexts {
            for spec in specs().filter(|spec| spec.context == context) {
                let keys = self.keys(spec.action).iter().map(|key| format!("`{key}`"));
                let keys = keys.collect::<Vec<_>>().join(" ");
                text += &format!("| {} | {keys} | {} | {} |\n", context.title(), spec.description, spec.id);
            }
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for text in [
            "a",
            "G",
            "?",
            ":",
            "-",
            "ctrl-d",
            "alt-x",
            "f12",
            "shift-tab",
            "pagedown",
            "space",
            "ctrl-alt-k",
        ] {
            text.parse::<Key>().unwrap_or_else(|error| panic!("{error}"));
        }
        for text in ["", "ctrl-", "f13", "f0", "hyper-x", "ab", "Enter"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
        assert_eq!("ctrl-l".parse::<Key>().unwrap().to_string(), "Ctrl-L");
    }

    #[test]
    fn keys_are_found_in_what_a_terminal_sends() {
        let shown = |bytes| Key::typed(bytes).iter().map(Key::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(
            shown(b"4j\r\x03\x1b[A\x1b[5~\x1bOB\xc3\xa9\x7f\x1b"),
            "4 j Enter Ctrl-C \u{2191} \u{2193} é Backspace Esc"
        );
        assert_eq!(shown(b"\x1b[?1u"), "");
    }

    #[test]
    fn every_default_key_is_a_key_and_none_clashes() {
        for spec in specs() {
            for key in spec.keys {
                key.parse::<Key>().unwrap_or_else(|error| panic!("{}: {error}", spec.id));
            }
        }
        assert_eq!(Keymap::default().clash(), None);
    }

    #[test]
    fn a_key_that_another_action_has_is_a_clash() {
        let mut keymap = Keymap::default();
        keymap.set(Action::Theme, vec!["j".parse().unwrap()]);
        let clash = keymap.clash().unwrap();
        assert_eq!(clash.ids, ["down", "theme"]);
    }
}
