//! Colours by meaning, not by name, and what becomes of them where there are none.
//!
//! The colours are the terminal's own sixteen, so they follow the user's palette on light and dark
//! backgrounds alike. No meaning stands on a colour alone: a sign or a word is always beside it,
//! because `mono` and half of the eyes have no red and green.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

/// The themes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThemeName {
    /// The terminal's own colours.
    Default,
    /// For light backgrounds on which cyan and yellow are hard to read.
    Light,
    /// Nothing dim; blue against yellow instead of green against red.
    Contrast,
    /// No colour at all: bold, dim, underlined and reversed.
    Mono,
}

impl ThemeName {
    /// All, in the order in which the key goes through them.
    pub const ALL: [ThemeName; 4] =
        [ThemeName::Default, ThemeName::Light, ThemeName::Contrast, ThemeName::Mono];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            ThemeName::Default => "default",
            ThemeName::Light => "light",
            ThemeName::Contrast => "contrast",
            ThemeName::Mono => "mono",
        }
    }

    /// The one after it.
    pub fn next(self) -> ThemeName {
        let at = Self::ALL.iter().position(|name| *name == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// Styles by meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    /// Which theme this is.
    pub name: ThemeName,
    /// Whether everything must be ASCII: the locale is not UTF-8.
    pub ascii: bool,
    /// What is read first: names, settled numbers.
    pub text: Style,
    /// What is secondary: units, rules, numbers that still move.
    pub dim: Style,
    /// Headings of columns and parts.
    pub heading: Style,
    /// The focus, and what is at work.
    pub accent: Style,
    /// The row or field under the cursor.
    pub selected: Style,
    /// An improvement. A sign or a word stands with it.
    pub better: Style,
    /// A loss or a failure. A sign or a word stands with it.
    pub worse: Style,
    /// Something to know before going on.
    pub warning: Style,
    /// What can't be chosen; the reason stands beside it.
    pub disabled: Style,
}

impl Theme {
    /// The theme of that name.
    pub fn new(name: ThemeName, ascii: bool) -> Self {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let theme = |dim: Style, accent: Color, better: Color, worse: Color, warning: Color| Theme {
            name,
            ascii,
            text: plain,
            dim,
            heading: bold,
            accent: plain.fg(accent),
            selected: bold.fg(accent),
            better: plain.fg(better),
            worse: plain.fg(worse),
            warning: plain.fg(warning),
            disabled: dim,
        };
        let gray = plain.fg(Color::DarkGray);
        match name {
            ThemeName::Default => theme(gray, Color::Cyan, Color::Green, Color::Red, Color::Yellow),
            ThemeName::Light => theme(gray, Color::Blue, Color::Green, Color::Red, Color::Magenta),
            ThemeName::Contrast => {
                let theme =
                    theme(plain, Color::LightCyan, Color::LightBlue, Color::LightYellow, Color::LightYellow);
                Theme { selected: plain.add_modifier(Modifier::REVERSED | Modifier::BOLD), ..theme }
            }
            ThemeName::Mono => Theme {
                name,
                ascii,
                text: plain,
                dim: plain.add_modifier(Modifier::DIM),
                heading: bold,
                accent: bold,
                selected: plain.add_modifier(Modifier::REVERSED),
                better: bold,
                worse: plain.add_modifier(Modifier::UNDERLINED),
                warning: plain.add_modifier(Modifier::UNDERLINED),
                disabled: plain.add_modifier(Modifier::DIM),
            },
        }
    }

    /// The theme that fits the environment; `variable` reads it. `NO_COLOR` means mono, a locale
    /// that is not UTF-8 means ASCII.
    pub fn of_environment(variable: impl Fn(&str) -> String) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(&variable).into_iter().find(|v| !v.is_empty());
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        let mono = !variable("NO_COLOR").is_empty() || variable("TERM") == "dumb";
        Theme::new(if mono { ThemeName::Mono } else { ThemeName::Default }, !utf8)
    }

    /// With the colours that were chosen; where the environment allows none, it stays without.
    pub fn or_chosen(self, chosen: Option<ThemeName>) -> Self {
        match chosen {
            Some(name) if self.name != ThemeName::Mono => Theme::new(name, self.ascii),
            _ => self,
        }
    }

    /// Makes a finished screen fit for this theme: ASCII where it must be, no colour in mono. Doing
    /// this last and in one place, no view has to think of it.
    pub fn finish(&self, buffer: &mut Buffer) {
        if !self.ascii && self.name != ThemeName::Mono {
            return;
        }
        for cell in &mut buffer.content {
            if self.name == ThemeName::Mono {
                cell.fg = Color::Reset;
                cell.bg = Color::Reset;
            }
            if self.ascii && !cell.symbol().is_ascii() {
                let plain = cell.symbol().chars().next().map_or(' ', ascii);
                cell.set_char(plain);
            }
        }
    }
}

/// What stands for a character where only ASCII is shown.
fn ascii(c: char) -> char {
    match c {
        '─' | '━' | '═' | '–' | '—' | '−' | '·' | '╌' => '-',
        '└' => '`',
        '├' | '│' | '┃' | '▌' | '▏' | '▎' | '▍' | '┊' => '|',
        '┌' | '┐' | '┘' | '┴' | '┬' | '┤' | '┼' | '╭' | '╮' | '╯' | '╰' | '±' => '+',
        '█' | '▓' | '▇' | '▆' | '■' | '▉' | '▊' | '▋' => '#',
        '▄' | '▅' | '▀' | '◆' | '●' | '✓' => '*',
        '▂' | '▃' | '▒' => '=',
        '▁' | '░' | '…' => '.',
        '○' => 'o',
        '×' | '✗' => 'x',
        '▸' | '▶' | '→' | '›' => '>',
        '◂' | '←' | '‹' => '<',
        '▾' | '▼' | '↓' => 'v',
        '▴' | '▲' | '↑' => '^',
        '≤' => '<',
        '≥' => '>',
        '’' | '‘' => '\'',
        '“' | '”' => '"',
        '\u{a0}' => ' ',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;

    use super::*;

    fn environment(pairs: &'static [(&str, &str)]) -> Theme {
        Theme::of_environment(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_string())
                .unwrap_or_default()
        })
    }

    #[test]
    fn no_color_means_mono_and_only_when_it_says_something() {
        assert_eq!(environment(&[("NO_COLOR", "1"), ("LANG", "C.UTF-8")]).name, ThemeName::Mono);
        assert_eq!(environment(&[("NO_COLOR", ""), ("LANG", "C.UTF-8")]).name, ThemeName::Default);
    }

    #[test]
    fn a_choice_gives_no_colour_where_there_is_to_be_none() {
        let chosen = |theme: Theme| theme.or_chosen(Some(ThemeName::Light)).name;
        assert_eq!(chosen(environment(&[("NO_COLOR", "1")])), ThemeName::Mono);
        assert_eq!(chosen(environment(&[])), ThemeName::Light);
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        assert!(!environment(&[("LC_ALL", ""), ("LC_CTYPE", "de_DE.utf8"), ("LANG", "C")]).ascii);
        assert!(environment(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]).ascii);
        assert!(environment(&[]).ascii);
    }

    #[test]
    fn a_finished_screen_is_ascii_and_without_colour() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 1));
        buffer.set_string(0, 0, "▓×│é─a", Style::new().fg(Color::Red).bg(Color::Blue));
        Theme::new(ThemeName::Mono, true).finish(&mut buffer);
        let text: String = buffer.content.iter().map(|cell| cell.symbol()).collect();
        assert_eq!(text, "#x|?-a");
        assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}
