//! The state of the workbench: plain data, changed by [`super::update`] alone, drawn by [`super::view`].

use std::path::PathBuf;
use std::time::Duration;

use super::image::Images;
use super::keymap::Keymap;
use super::overlay::Overlay;
use super::snapshot::Snapshot;
use super::tabs::{TabState, optimize, performance, projects, report};
use super::theme::Theme;
use crate::project::workspace::Workspace;

/// How long a hint stays, such as the reason why a key can't act.
pub const HINT_TIME: Duration = Duration::from_secs(2);
/// How long the word about a finished action stays, unless a key takes it away.
pub const NOTICE_TIME: Duration = Duration::from_secs(6);
/// Older messages than this many are forgotten.
const KEPT_MESSAGES: usize = 500;

/// The four screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tab {
    /// Models and what was made of them.
    Projects,
    /// Calibrate, and watch it.
    Optimize,
    /// Speed of parent and optimized.
    Performance,
    /// Where predictions changed.
    Report,
}

impl Tab {
    /// In the order of their keys.
    pub const ALL: [Tab; 4] = [Tab::Projects, Tab::Optimize, Tab::Performance, Tab::Report];

    /// As it stands in the header.
    pub fn title(self) -> &'static str {
        match self {
            Tab::Projects => "Projects",
            Tab::Optimize => "Optimize",
            Tab::Performance => "Performance",
            Tab::Report => "Accuracy Report",
        }
    }

    /// The tab so many places to the right, round about.
    pub(super) fn beside(self, steps: usize) -> Tab {
        let at = Tab::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Tab::ALL[(at + steps) % Tab::ALL.len()]
    }
}

/// How the workbench ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The user left.
    Quit,
    /// The terminal went away.
    Hangup,
    /// Something sent SIGTERM or SIGINT.
    Terminated,
}

/// How bad a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something was done.
    Done,
    /// Something to know.
    Warning,
    /// Something failed.
    Error,
}

/// One message to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How bad.
    pub level: Level,
    /// What happened, with the file that holds it, or what to do. May have several lines.
    pub text: String,
    /// When, from the start of the workbench.
    pub at: Duration,
}

/// What the tabs Performance and Accuracy Report show, and what Optimize starts from: a run that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Name of the project, then of the variant.
    pub title: String,
    /// The run directory that made it, with `summary.json`, `performance.json` and the reports.
    pub directory: PathBuf,
}

/// The state of the workbench.
#[derive(Debug, Clone)]
pub struct App {
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Time since the start; the clock of everything that passes by itself.
    pub now: Duration,
    /// The tab in front.
    pub tab: Tab,
    /// Colours.
    pub theme: Theme,
    /// Keys.
    pub keymap: Keymap,
    /// Images on this terminal.
    pub images: Images,
    /// The machine in a few words, for the header.
    pub host: String,
    /// Where everything is kept.
    pub workspace: Workspace,
    /// What it held when it was last read.
    pub snapshot: Snapshot,
    /// Whether it was read yet.
    pub loaded: bool,
    /// What the tabs beside Projects are about.
    pub subject: Option<Subject>,
    /// What lies over the tab.
    pub overlay: Option<Overlay>,
    /// Why the last key did nothing, and until when to say so.
    pub hint: Option<(String, Duration)>,
    /// Everything that was said, oldest first.
    pub messages: Vec<Notice>,
    /// Until when the last message stands in the footer.
    pub notice_until: Option<Duration>,
    /// The Projects tab.
    pub projects: projects::State,
    /// The Optimize tab.
    pub optimize: optimize::State,
    /// The Performance tab.
    pub performance: performance::State,
    /// The Accuracy Report tab.
    pub report: report::State,
    /// Set once the workbench is to end.
    pub exit: Option<Exit>,
}

impl App {
    /// The workbench as it opens, before anything was read from disk.
    pub fn new(workspace: Workspace, host: String, theme: Theme, keymap: Keymap) -> Self {
        App {
            size: (0, 0),
            now: Duration::ZERO,
            tab: Tab::Projects,
            theme,
            keymap,
            images: Images::of_environment(|_| String::new()),
            host,
            workspace,
            snapshot: Snapshot::default(),
            loaded: false,
            subject: None,
            overlay: None,
            hint: None,
            messages: Vec::new(),
            notice_until: None,
            projects: projects::State::default(),
            optimize: optimize::State::default(),
            performance: performance::State::default(),
            report: report::State::default(),
            exit: None,
        }
    }

    /// The state of the tab in front.
    pub fn state(&self) -> &dyn TabState {
        match self.tab {
            Tab::Projects => &self.projects,
            Tab::Optimize => &self.optimize,
            Tab::Performance => &self.performance,
            Tab::Report => &self.report,
        }
    }

    /// The state of the tab in front.
    pub fn state_mut(&mut self) -> &mut dyn TabState {
        match self.tab {
            Tab::Projects => &mut self.projects,
            Tab::Optimize => &mut self.optimize,
            Tab::Performance => &mut self.performance,
            Tab::Report => &mut self.report,
        }
    }

    /// Says something in the footer and keeps it in the list of messages.
    pub fn say(&mut self, level: Level, text: impl Into<String>) {
        let text = text.into();
        self.messages.push(Notice { level, text, at: self.now });
        if self.messages.len() > KEPT_MESSAGES {
            self.messages.remove(0);
        }
        self.hint = None;
        self.notice_until = Some(self.now + NOTICE_TIME);
    }

    /// Says for a moment why a key did nothing.
    pub fn hint(&mut self, text: impl Into<String>) {
        self.hint = Some((text.into(), self.now + HINT_TIME));
    }

    /// The message that stands in the footer.
    pub fn notice(&self) -> Option<&Notice> {
        self.notice_until.and(self.messages.last())
    }

    /// When something on the screen passes by itself: the loop sends [`super::Msg::Time`] then.
    pub fn wake_at(&self) -> Option<Duration> {
        let hint = self.hint.as_ref().map(|(_, until)| *until);
        [hint, self.notice_until, self.report.wake_at()].into_iter().flatten().min()
    }
}
