//! What a run shows while it is at work: a gauge per stage on a terminal, plain lines or JSON
//! elsewhere. All three are listeners of the event log.

use std::io::Write;
use std::time::{Duration, Instant};

use super::sanitized;
use crate::run::event_log::Listener;
use crate::run::events::{Entry, Event, Stage};
use crate::run::fold::{StageState, State};

/// The shortest time between two drawings of a gauge.
const REDRAW: Duration = Duration::from_millis(100);

/// Widest gauge, in characters.
const GAUGE: usize = 24;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Colours are wanted.
    pub color: bool,
    /// The locale is UTF-8.
    pub unicode: bool,
}

impl Style {
    /// From `NO_COLOR` and the locale; `variable` gives an empty text for what is not set.
    pub fn of_environment(variable: impl Fn(&'static str) -> String) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(&variable);
        let locale = locale.into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_lowercase();
        Style {
            color: variable("NO_COLOR").is_empty(),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// One line per finished stage, and a gauge for the one at work.
pub struct ProgressBar<W> {
    out: W,
    style: Style,
    state: State,
    drawn: Option<Instant>,
}

impl<W: Write + Send> ProgressBar<W> {
    /// Draws on `out`, which is a terminal.
    pub fn new(out: W, style: Style) -> Self {
        ProgressBar { out, style, state: State::default(), drawn: None }
    }

    fn draw(&mut self) {
        let width = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        if let Some(stage) = self.state.active() {
            let line = active_line(stage, width.saturating_sub(1), self.style);
            self.write(&format!("\r{line}\x1b[K"));
            self.drawn = Some(Instant::now());
        }
    }

    /// Writes a line that stays, in place of the gauge.
    fn line(&mut self, text: &str) {
        self.write(&format!("\r{text}\x1b[K\n"));
        self.drawn = None;
    }

    fn write(&mut self, text: &str) {
        // The log has it all; a terminal that has gone away is no reason to stop the work.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

impl<W: Write + Send> Listener for ProgressBar<W> {
    fn hear(&mut self, entry: &Entry) {
        self.state.apply(entry);
        match &entry.event {
            Event::StageFinished { stage, .. } => {
                let found = self.state.stages.iter().find(|state| state.stage == *stage);
                let line = found.map(|state| finished_line(state, self.style)).unwrap_or_default();
                self.line(&line);
            }
            Event::Warning { message, .. } => {
                let line = format!("{} {}", self.style.paint("33", "warning:"), sanitized(message));
                self.line(&line.replace('\n', "\r\n"));
                self.draw();
            }
            Event::Note { message, .. } => {
                self.line(&format!("  {}", sanitized(message)));
                self.draw();
            }
            Event::Progress { done, total, .. } => {
                let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW);
                if due || done == total {
                    self.draw();
                }
            }
            Event::StageStarted { .. } => self.draw(),
            // An error or summary follows on a line of its own.
            Event::Failed { .. } | Event::Interrupted if self.drawn.is_some() => self.line(""),
            _ => {}
        }
    }
}

fn finished_line(state: &StageState, style: Style) -> String {
    let mark = style.paint("32", if style.unicode { "✓" } else { "+" });
    let count = if state.total > 0 { amount(state.total, state.stage) } else { String::new() };
    let seconds = duration(state.seconds.unwrap_or(0.0));
    format!("{mark} {:<10}  {count:<14}  {seconds}", state.stage.name())
}

/// The stage at work in at most `width` columns; what does not fit is left out, the least
/// important first.
fn active_line(state: &StageState, width: usize, style: Style) -> String {
    let mark = if style.unicode { "▸" } else { ">" };
    let name = format!("{mark} {:<10}", state.stage.name());
    if state.total == 0 {
        return cut(&name, width);
    }
    let mut parts = vec![format!("{}/{}", state.done, state.total)];
    if state.rate > 0.0 {
        parts.push(format!("{} {}/s", number(state.rate), state.stage.unit()));
    }
    if let Some(left) = state.eta_seconds {
        parts.push(format!("{} left", duration(left)));
    }
    if let Some(detail) = &state.detail {
        parts.push(sanitized(detail).replace('\n', " "));
    }
    let gauge = GAUGE.min(width / 4);
    let room = |used: &str| width.saturating_sub(columns(used) + 2);
    let mut line = format!("{name}  {}", " ".repeat(gauge));
    for (index, part) in parts.iter().enumerate() {
        let shown = if index == 3 { cut(part, room(&line)) } else { part.clone() };
        if columns(&shown) > room(&line) || shown.is_empty() {
            break;
        }
        line.push_str("  ");
        line.push_str(&shown);
    }
    if columns(&line) > width {
        return cut(&format!("{name}  {}", parts[0]), width);
    }
    let drawn = bar(state.done as f64 / state.total as f64, gauge, style);
    line.replacen(&" ".repeat(gauge + 2), &format!("  {drawn}"), 1)
}

fn bar(fraction: f64, width: usize, style: Style) -> String {
    let full = ((fraction.clamp(0.0, 1.0) * width as f64).floor() as usize).min(width);
    let (on, off) = if style.unicode { ("█", "░") } else { ("#", ".") };
    format!("{}{}", style.paint("36", &on.repeat(full)), off.repeat(width - full))
}

/// Columns that a text takes at most: characters that may be wide count as two.
fn columns(text: &str) -> usize {
    text.chars().map(column_width).sum()
}

fn column_width(c: char) -> usize {
    if c.is_ascii() || matches!(c, '▸' | '…') { 1 } else { 2 }
}

/// The start of a text, in at most `width` columns.
fn cut(text: &str, width: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += column_width(*c);
        used <= width
    };
    text.trim_end().chars().take_while(fits).collect()
}

fn amount(count: usize, stage: Stage) -> String {
    format!("{count} {}", if count == 1 { stage.unit().trim_end_matches('s') } else { stage.unit() })
}

/// Three digits or so: what the eye takes in while it changes.
fn number(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{:.1} s", seconds.max(0.0)),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// One line at the start and end of each stage and at every tenth of it.
pub struct PlainLines<W> {
    out: W,
    tells_failure: bool,
    tenth: usize,
}

impl<W: Write + Send> PlainLines<W> {
    /// Writes to `out`, where the command's own error message follows.
    pub fn new(out: W) -> Self {
        PlainLines { out, tells_failure: false, tenth: 0 }
    }

    /// Writes to `out` how the run failed, too.
    pub fn with_failure(out: W) -> Self {
        PlainLines { tells_failure: true, ..Self::new(out) }
    }
}

impl<W: Write + Send> Listener for PlainLines<W> {
    fn hear(&mut self, entry: &Entry) {
        let line = match &entry.event {
            Event::Started { plan, version, .. } => format!("calib8 {version}: run {plan}"),
            Event::StageStarted { stage } => {
                self.tenth = 0;
                format!("{}: started", stage.name())
            }
            Event::Progress { stage, done, total, rate, eta_seconds, .. } => {
                let tenth = done * 10 / (*total).max(1);
                if tenth <= self.tenth || tenth >= 10 {
                    return;
                }
                self.tenth = tenth;
                let left = eta_seconds.map_or(String::new(), |left| format!(", {} left", duration(left)));
                let (name, unit) = (stage.name(), stage.unit());
                format!("{name}: {done}/{total} {unit}, {} {unit}/s{left}", number(*rate))
            }
            Event::StageFinished { stage, seconds } => {
                format!("{}: done in {}", stage.name(), duration(*seconds))
            }
            Event::Warning { message, .. } => format!("warning: {message}"),
            Event::Note { stage, message } => format!("{}: {message}", stage.name()),
            Event::Artifact { path, bytes, .. } => format!("wrote {path} ({bytes} bytes)"),
            Event::Failed { message } if self.tells_failure => format!("failed: {message}"),
            Event::Interrupted if self.tells_failure => "interrupted".to_string(),
            Event::Failed { .. } | Event::Interrupted => return,
            Event::Observed(_) | Event::Result { .. } | Event::Gate(_) | Event::Finished { .. } => return,
        };
        // The log has it all; a reader that has gone away is no reason to stop the work.
        let _ = writeln!(self.out, "{}", sanitized(&line));
    }
}

/// Each entry as it is in `events.jsonl`.
pub struct JsonLines<W> {
    out: W,
}

impl<W: Write + Send> JsonLines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        JsonLines { out }
    }
}

impl<W: Write + Send> Listener for JsonLines<W> {
    fn hear(&mut self, entry: &Entry) {
        let Ok(line) = serde_json::to_string(entry) else { return };
        let _ = self
            .out
            .write_all((super::escaped_json(&line) + "\n").as_bytes())
            .and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { color: false, unicode: false };

    fn state() -> StageState {
        StageState {
            stage: Stage::Statistics,
            done: 75,
            total: 300,
            rate: 52.125,
            eta_seconds: Some(4.3),
            detail: Some("cats/IMG_0001.jpg".into()),
            seconds: None,
            reached: 0.25,
        }
    }

    #[test]
    fn a_wide_line_shows_everything() {
        assert_eq!(
            active_line(&state(), 100, PLAIN),
            "> statistics  ######..................  75/300  52.1 images/s  4.3 s left  cats/IMG_0001.jpg"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 0..120 {
            for style in [PLAIN, Style { unicode: true, ..PLAIN }] {
                let line = active_line(&state(), width, style);
                let shown: usize =
                    line.chars().map(|c| if matches!(c, '█' | '░') { 1 } else { column_width(c) }).sum();
                assert!(shown <= width, "{width}: {line:?}");
            }
        }
        assert!(active_line(&state(), 40, PLAIN).contains("75/300"));
    }

    #[test]
    fn a_file_name_cannot_move_the_cursor() {
        let hostile = StageState { detail: Some("a\u{1b}[2J\nb".into()), ..state() };
        let line = active_line(&hostile, 120, PLAIN);
        assert!(!line.contains('\u{1b}') && !line.contains('\n'), "{line:?}");
    }

    #[test]
    fn style_follows_the_environment() {
        let of = |set: &'static [(&str, &str)]| {
            Style::of_environment(move |name| {
                set.iter().find(|(key, _)| *key == name).map_or(String::new(), |(_, value)| (*value).into())
            })
        };
        assert_eq!(of(&[("LANG", "en_GB.UTF-8")]), Style { color: true, unicode: true });
        assert_eq!(of(&[("LANG", "en_GB.UTF-8"), ("LC_ALL", "C"), ("NO_COLOR", "1")]), PLAIN);
    }

    #[test]
    fn times_are_readable() {
        let texts = [0.0, 9.94, 9.96, 59.4, 60.0, 185.0, 7_800.0].map(duration);
        assert_eq!(texts, ["0.0 s", "9.9 s", "10 s", "59 s", "1 min 00 s", "3 min 05 s", "2 h 10 min"]);
    }

    fn entry(event: Event) -> Entry {
        Entry { time: String::new(), elapsed: 0.0, event }
    }

    fn progress(done: usize) -> Entry {
        let stage = Stage::Statistics;
        entry(Event::Progress { stage, done, total: 300, rate: 50.0, eta_seconds: Some(1.0), detail: None })
    }

    #[test]
    fn plain_lines_come_at_every_tenth() {
        let mut lines = PlainLines::new(Vec::new());
        lines.hear(&entry(Event::StageStarted { stage: Stage::Statistics }));
        for done in 0..=300 {
            lines.hear(&progress(done));
        }
        lines.hear(&entry(Event::StageFinished { stage: Stage::Statistics, seconds: 6.0 }));
        let text = String::from_utf8(lines.out).unwrap();
        assert_eq!(text.lines().count(), 1 + 9 + 1, "{text}");
        assert!(text.contains("statistics: 30/300 images, 50.0 images/s, 1.0 s left\n"), "{text}");
        assert!(text.ends_with("statistics: done in 6.0 s\n"), "{text}");
    }

    #[test]
    fn a_finished_stage_replaces_the_gauge() {
        let mut bar = ProgressBar::new(Vec::new(), PLAIN);
        let started = Event::Started { plan: "p".into(), version: "0".into(), pid: 1, host: "h".into() };
        bar.hear(&entry(started));
        bar.hear(&entry(Event::StageStarted { stage: Stage::Statistics }));
        bar.hear(&progress(300));
        bar.hear(&entry(Event::StageFinished { stage: Stage::Statistics, seconds: 6.0 }));
        let text = String::from_utf8(bar.out).unwrap();
        assert!(text.ends_with("\r+ statistics  300 images      6.0 s\x1b[K\n"), "{text:?}");
        assert_eq!(text.matches('\n').count(), 1, "the gauge is redrawn in place");
    }
}
