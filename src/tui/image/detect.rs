//! Which protocol for images the terminal has: decided once at the start, with the reason.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::ask;
use crate::tui::keymap::Key;

/// How long a terminal may take to answer, unless `CALIB8_TERMINAL_SECONDS` says otherwise.
const PATIENCE: Duration = Duration::from_secs(2);

/// How an image gets onto the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The graphics protocol of kitty: pixels, exact colours.
    Kitty,
    /// The inline images of iTerm2: PNG.
    Iterm2,
    /// Sixel: pixels, 256 colours.
    Sixel,
    /// Half blocks: two pixels a cell, anywhere.
    Blocks,
    /// No images: their names and sizes stand as text.
    Off,
}

impl Protocol {
    /// All, as `CALIB8_IMAGES` takes them.
    pub const ALL: [Protocol; 5] =
        [Protocol::Kitty, Protocol::Iterm2, Protocol::Sixel, Protocol::Blocks, Protocol::Off];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Kitty => "kitty",
            Protocol::Iterm2 => "iterm2",
            Protocol::Sixel => "sixel",
            Protocol::Blocks => "blocks",
            Protocol::Off => "off",
        }
    }

    /// Whether it paints over the cells of the screen.
    pub fn is_out_of_band(self) -> bool {
        matches!(self, Protocol::Kitty | Protocol::Iterm2 | Protocol::Sixel)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == text).ok_or(())
    }
}

/// A protocol and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The protocol.
    pub protocol: Protocol,
    /// Why, in words.
    pub reason: String,
}

impl Decision {
    fn new(protocol: Protocol, reason: impl Into<String>) -> Decision {
        Decision { protocol, reason: reason.into() }
    }

    /// Before the terminal was asked.
    pub fn not_asked() -> Decision {
        Decision::new(Protocol::Off, "the terminal was not asked yet")
    }
}

/// What can be asked of a terminal. Each question but that for iTerm2 is sent to it, so none is asked that
/// is not needed.
pub trait Probe {
    /// Whether it answers at all, within [`Probe::patience`]. Only then may [`Probe::kitty`] and
    /// [`Probe::sixel`] be asked.
    fn answers(&mut self) -> bool;
    /// How long an answer is waited for.
    fn patience(&self) -> Duration {
        PATIENCE
    }
    /// Whether viuer knows it as one with inline images.
    fn iterm2(&mut self) -> bool;
    /// Whether it takes kitty's graphics.
    fn kitty(&mut self) -> bool;
    /// Whether it takes sixels.
    fn sixel(&mut self) -> bool;
}

/// Decides. `variable` reads the environment; `is_terminal` says whether standard output is one.
///
/// `CALIB8_IMAGES` overrides; but what neither viuer nor the terminal knows can't be sent.
pub fn detect(variable: impl Fn(&str) -> String, is_terminal: bool, probe: &mut impl Probe) -> Decision {
    let set = |name: &str| !variable(name).is_empty();
    let term = variable("TERM");
    let asked = variable("CALIB8_IMAGES");
    if !is_terminal {
        return Decision::new(Protocol::Off, "standard output is no terminal");
    }
    match asked.parse::<Protocol>() {
        Ok(protocol) => return asked_for(protocol, probe),
        Err(()) if !asked.is_empty() && asked != "auto" => {
            let names = Protocol::ALL.map(Protocol::name).join(", ");
            let reason = format!("CALIB8_IMAGES is {}, expected auto, {names}", asked.escape_debug());
            return Decision::new(Protocol::Blocks, reason);
        }
        Err(()) => {}
    }
    if set("NO_COLOR") {
        return Decision::new(Protocol::Off, "NO_COLOR is set");
    }
    if ["dumb", "linux", "vt100", "vt102", "vt220", "ansi"].contains(&term.as_str()) || term.is_empty() {
        return Decision::new(
            Protocol::Off,
            format!("a terminal '{}' has too few colours", term.escape_debug()),
        );
    }
    // What a multiplexer answers says nothing about the terminal around it, and it drops what it does not
    // know. The variables are lost over SSH, the name of the terminal is not.
    let multiplexer = ["TMUX", "STY", "ZELLIJ"].into_iter().find(|name| set(name));
    if multiplexer.is_some() || term.starts_with("tmux") || term.starts_with("screen") {
        let reason = "inside tmux, screen or zellij; CALIB8_IMAGES=sixel if yours passes sixels on";
        return Decision::new(Protocol::Blocks, reason);
    }
    if probe.iterm2() {
        return Decision::new(Protocol::Iterm2, "the environment names a terminal with inline images");
    }
    if !probe.answers() {
        let seconds = probe.patience().as_secs_f64();
        let reason = format!(
            "the terminal did not answer within {seconds} s; CALIB8_TERMINAL_SECONDS=10 waits longer"
        );
        return Decision::new(Protocol::Blocks, reason);
    }
    if probe.kitty() {
        return Decision::new(Protocol::Kitty, "the terminal says so");
    }
    if probe.sixel() {
        return Decision::new(Protocol::Sixel, "the terminal says so");
    }
    Decision::new(Protocol::Blocks, "the terminal knows no protocol for images")
}

fn asked_for(protocol: Protocol, probe: &mut impl Probe) -> Decision {
    let known = match protocol {
        Protocol::Blocks | Protocol::Off => true,
        Protocol::Iterm2 => probe.iterm2(),
        Protocol::Kitty => probe.answers() && probe.kitty(),
        Protocol::Sixel => probe.answers() && probe.sixel(),
    };
    if known {
        return Decision::new(protocol, format!("CALIB8_IMAGES={protocol}"));
    }
    let why = match protocol {
        Protocol::Iterm2 => "the environment names no such terminal (LC_TERMINAL=iTerm2 would)",
        _ => "the terminal does not say that it can",
    };
    Decision::new(Protocol::Blocks, format!("CALIB8_IMAGES={protocol}, but {why}"))
}

/// Asks the terminal of this process, which must be in raw mode, with nobody else reading from it.
#[derive(Debug)]
pub struct Terminal {
    patience: Duration,
    answers: Option<bool>,
    typed: Vec<u8>,
}

impl Terminal {
    /// Waits for an answer as long as `CALIB8_TERMINAL_SECONDS` says; `variable` reads the environment.
    pub fn of_environment(variable: impl Fn(&str) -> String) -> Terminal {
        let seconds = variable("CALIB8_TERMINAL_SECONDS").parse().ok();
        let patience = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Terminal { patience: patience.unwrap_or(PATIENCE), answers: None, typed: Vec::new() }
    }

    /// The keys that were pressed before the answer came.
    pub fn typed(&self) -> Vec<Key> {
        Key::typed(&self.typed)
    }
}

impl Probe for Terminal {
    fn answers(&mut self) -> bool {
        if let Some(answers) = self.answers {
            return answers;
        }
        let answer = ask::device_attributes(self.patience).unwrap_or_default();
        self.typed = answer.typed;
        *self.answers.insert(answer.came)
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn iterm2(&mut self) -> bool {
        viuer::is_iterm_supported()
    }

    fn kitty(&mut self) -> bool {
        // Without a place for its files viuer sends pixels. Otherwise each print would wait for an
        // answer on standard input, where the loop of the workbench reads.
        let nowhere = std::path::Path::new("/nonexistent/calib8");
        let _ = tempfile::env::override_temp_dir(nowhere);
        viuer::get_kitty_support() == viuer::KittySupport::Remote
    }

    fn sixel(&mut self) -> bool {
        viuer::is_sixel_supported()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers from a table, and what was asked.
    #[derive(Default)]
    struct Script {
        answers: bool,
        iterm2: bool,
        kitty: bool,
        sixel: bool,
        asked: Vec<&'static str>,
    }

    impl Probe for Script {
        fn answers(&mut self) -> bool {
            self.asked.push("answers");
            self.answers
        }
        fn iterm2(&mut self) -> bool {
            self.iterm2
        }
        fn kitty(&mut self) -> bool {
            assert!(self.asked.contains(&"answers") && self.answers, "a mute terminal must not be asked");
            self.asked.push("kitty");
            self.kitty
        }
        fn sixel(&mut self) -> bool {
            assert!(self.asked.contains(&"answers") && self.answers, "a mute terminal must not be asked");
            self.asked.push("sixel");
            self.sixel
        }
    }

    fn decide(environment: &[(&str, &str)], probe: &mut Script) -> Decision {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map_or(
                if name == "TERM" { "xterm-256color".to_string() } else { String::new() },
                |(_, value)| (*value).to_string(),
            )
        };
        detect(variable, true, probe)
    }

    #[test]
    fn each_terminal_gets_the_best_that_it_has() {
        let all = || Script { answers: true, kitty: true, sixel: true, ..Script::default() };
        assert_eq!(decide(&[], &mut all()).protocol, Protocol::Kitty);
        assert_eq!(decide(&[], &mut Script { kitty: false, ..all() }).protocol, Protocol::Sixel);
        assert_eq!(decide(&[], &mut Script { iterm2: true, ..Script::default() }).protocol, Protocol::Iterm2);
        let plain = Script { answers: true, ..Script::default() };
        assert_eq!(decide(&[], &mut { plain }).reason, "the terminal knows no protocol for images");
    }

    #[test]
    fn a_mute_terminal_is_asked_once_and_gets_blocks() {
        let mut mute = Script::default();
        let decision = decide(&[], &mut mute);
        assert_eq!((decision.protocol, mute.asked), (Protocol::Blocks, vec!["answers"]));
    }

    #[test]
    fn nothing_is_asked_where_the_environment_decides() {
        let cases: &[(&str, &str, Protocol)] = &[
            ("NO_COLOR", "1", Protocol::Off),
            ("TERM", "dumb", Protocol::Off),
            ("TERM", "linux", Protocol::Off),
            ("TERM", "", Protocol::Off),
            ("TMUX", "x", Protocol::Blocks),
            ("ZELLIJ", "0", Protocol::Blocks),
            ("TERM", "screen.xterm-256color", Protocol::Blocks),
            ("TERM", "tmux-256color", Protocol::Blocks),
            ("CALIB8_IMAGES", "blocks", Protocol::Blocks),
            ("CALIB8_IMAGES", "off", Protocol::Off),
            ("CALIB8_IMAGES", "nonsense", Protocol::Blocks),
        ];
        for (name, value, expected) in cases {
            let mut probe = Script { answers: true, kitty: true, sixel: true, ..Script::default() };
            assert_eq!(decide(&[(name, value)], &mut probe).protocol, *expected, "{name}={value}");
            assert!(probe.asked.is_empty(), "{name}={value}");
        }
        let decision = detect(|_| String::new(), false, &mut Script::default());
        assert_eq!(decision.protocol, Protocol::Off);
    }

    #[test]
    fn what_is_asked_for_is_taken_where_it_can_be() {
        let mut tmux = Script { answers: true, sixel: true, ..Script::default() };
        let environment = [("CALIB8_IMAGES", "sixel"), ("TMUX", "x")];
        assert_eq!(decide(&environment, &mut tmux).protocol, Protocol::Sixel);
        let decision = decide(&[("CALIB8_IMAGES", "kitty")], &mut Script::default());
        assert_eq!(decision.protocol, Protocol::Blocks);
        assert_eq!(decision.reason, "CALIB8_IMAGES=kitty, but the terminal does not say that it can");
        let decision = decide(&[("CALIB8_IMAGES", "iterm2")], &mut Script::default());
        assert!(decision.reason.contains("LC_TERMINAL"), "{}", decision.reason);
    }
}
