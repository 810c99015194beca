//! What lies over a tab and takes the keyboard: commands, messages, a question.
//!
//! The keys in here are the usual ones of such boxes and are not remapped: Enter, Esc, arrows, and
//! letters as text.

use crossterm::event::KeyCode;

use super::action::{Action, Context, Move, Spec, specs};
use super::app::App;
use super::keymap::Key;
use super::message::Effect;
use super::update;
use super::widgets::input::TextInput;
use super::widgets::table::TableState;

/// What lies over the tab.
#[derive(Debug, Clone)]
pub enum Overlay {
    /// The help, or the palette.
    Commands(Commands),
    /// All messages of the session.
    Messages(Messages),
    /// A question before something that can't be taken back at once.
    Confirm(Confirm),
    /// A text.
    Page(Page),
}

/// A searchable list of actions.
#[derive(Debug, Clone)]
pub struct Commands {
    /// Its heading.
    pub title: &'static str,
    /// What is searched for.
    pub input: TextInput,
    /// The cursor.
    pub table: TableState,
    everything: bool,
    first: Context,
}

impl Commands {
    /// All actions, those of this tab first.
    pub fn help(app: &App) -> Self {
        Self::new(app, "Keys", true)
    }

    /// The actions that can be done now.
    pub fn palette(app: &App) -> Self {
        Self::new(app, "Commands", false)
    }

    fn new(app: &App, title: &'static str, everything: bool) -> Self {
        let mut commands = Commands {
            title,
            input: TextInput::default(),
            table: TableState::default(),
            everything,
            first: Context::Tab(app.tab),
        };
        commands.table.set_len(commands.found(app).len());
        commands
    }

    /// The actions that fit what was typed: every word stands somewhere in the row.
    pub fn found(&self, app: &App) -> Vec<&'static Spec> {
        let words = self.input.text().to_lowercase();
        let fits = |spec: &&Spec| {
            let keys = app.keymap.keys(spec.action).iter().map(Key::to_string).collect::<Vec<_>>().join(" ");
            let row = format!("{} {} {} {keys}", spec.id, spec.description, spec.context.title());
            let (row, lower) = (row.clone(), row.to_lowercase());
            words.split_whitespace().all(|word| lower.contains(word) || row.contains(word))
        };
        let mut found: Vec<_> = specs()
            .filter(|spec| self.everything || spec.action.enabled(app).is_ok())
            .filter(|spec| self.everything || !matches!(spec.action, Action::Move(_) | Action::Palette))
            .filter(fits)
            .collect();
        found.sort_by_key(|spec| match spec.context {
            context if context == self.first => 0,
            Context::List => 1,
            Context::Everywhere => 2,
            Context::Tab(_) => 3,
        });
        found
    }
}

/// The list of messages.
#[derive(Debug, Clone)]
pub struct Messages {
    /// The cursor; the last message is the first row.
    pub table: TableState,
}

impl Messages {
    /// Over so many messages.
    pub fn new(len: usize) -> Self {
        let mut table = TableState::default();
        table.set_len(len);
        Messages { table }
    }
}

/// A question.
#[derive(Debug, Clone)]
pub struct Confirm {
    /// What will be done, as a question.
    pub question: String,
    /// What that means, a line each.
    pub details: Vec<String>,
    /// The word on the key that does it.
    pub verb: &'static str,
    /// What to do then.
    pub effects: Vec<Effect>,
}

/// A text to read.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its heading.
    pub title: String,
    /// Its lines.
    pub lines: Vec<String>,
    /// The first line that is seen.
    pub table: TableState,
}

impl Page {
    /// A text from its start.
    pub fn new(title: String, text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        let mut table = TableState::default();
        table.set_len(lines.len());
        Page { title, lines, table }
    }

    /// From its end, as one reads a log.
    pub fn at_end(mut self) -> Self {
        self.table.step(Move::Last);
        self
    }
}

/// A key while an overlay is open.
pub(super) fn on_key(app: &mut App, key: Key) -> Vec<Effect> {
    let Some(mut overlay) = app.overlay.take() else { return Vec::new() };
    if key.code == KeyCode::Esc {
        return Vec::new();
    }
    match &mut overlay {
        Overlay::Commands(commands) => {
            if key.code == KeyCode::Enter {
                let chosen = commands.found(app).get(commands.table.selected()).map(|spec| spec.action);
                return chosen.map(|action| update::attempt(app, action)).unwrap_or_default();
            }
            match arrow(key) {
                Some(step) => commands.table.step(step),
                None => {
                    if commands.input.on_key(key) {
                        commands.table.step(Move::First);
                    }
                    let len = commands.found(app).len();
                    commands.table.set_len(len);
                }
            }
        }
        Overlay::Messages(messages) => match app.keymap.action(key, app.tab) {
            Some(Action::Move(step)) => messages.table.step(step),
            Some(Action::Back | Action::Messages) => return Vec::new(),
            _ => {}
        },
        Overlay::Page(page) => match app.keymap.action(key, app.tab) {
            Some(Action::Move(step)) => page.table.step(step),
            Some(Action::Back) => return Vec::new(),
            _ => {}
        },
        Overlay::Confirm(confirm) => match key.code {
            KeyCode::Enter | KeyCode::Char('y') => return std::mem::take(&mut confirm.effects),
            KeyCode::Char('n' | 'q') => return Vec::new(),
            _ => {}
        },
    }
    app.overlay = Some(overlay);
    Vec::new()
}

/// The step of a key that is never text.
pub(super) fn arrow(key: Key) -> Option<Move> {
    match key.code {
        KeyCode::Up => Some(Move::Up),
        KeyCode::Down => Some(Move::Down),
        KeyCode::PageUp => Some(Move::PageUp),
        KeyCode::PageDown => Some(Move::PageDown),
        KeyCode::Char('p') if key.ctrl => Some(Move::Up),
        KeyCode::Char('n') if key.ctrl => Some(Move::Down),
        _ => None,
    }
}
