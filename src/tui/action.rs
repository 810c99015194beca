//! Everything that a key can do, in one table: dispatch, footer, `?`, `:`, the key table of the README and
//! the user's `keys.yaml` all read it, so they can't disagree.
//!
//! Each tab adds its own part, as `ACTIONS` in its folder. An action that can't be done now says why.

use std::borrow::Cow;

use super::app::{App, Tab};
use super::tabs::{optimize, performance, projects, report};

/// Why an action can't be done now: a sentence without a full stop, for the footer.
pub type Reason = Cow<'static, str>;

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Goes to a tab.
    ShowTab(Tab),
    /// Goes to the tab on the right, round about.
    NextTab,
    /// Goes to the tab on the left, round about.
    PreviousTab,
    /// Opens the help.
    Help,
    /// Opens the command palette.
    Palette,
    /// Opens the list of what was said and what went wrong.
    Messages,
    /// Goes to the next theme.
    Theme,
    /// Draws the screen anew.
    Redraw,
    /// Stops the program as `kill -TSTP` does; `fg` brings it back.
    Suspend,
    /// Steps back; quits where there is nothing to step back from.
    Back,
    /// Steps back, and never quits.
    Leave,
    /// Quits.
    Quit,
    /// Moves the cursor of the list or form in front.
    Move(Move),
    /// Sorts by the next column.
    Sort,
    /// Turns the order round.
    ReverseSort,
    /// An action of the Projects tab.
    Projects(projects::Action),
    /// An action of the Optimize tab.
    Optimize(optimize::Action),
    /// An action of the Performance tab.
    Performance(performance::Action),
    /// An action of the Accuracy Report tab.
    Report(report::Action),
}

/// A step of the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is what its name says")]
pub enum Move {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// Where an action can be done, and its keys hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Context {
    /// On every tab.
    Everywhere,
    /// Where there is a list.
    List,
    /// On one tab.
    Tab(Tab),
}

impl Context {
    /// The heading in the help and the README.
    pub fn title(self) -> &'static str {
        match self {
            Context::Everywhere => "Everywhere",
            Context::List => "Lists and forms",
            Context::Tab(tab) => tab.title(),
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Spec {
    /// What it does.
    pub action: Action,
    /// Its name in `keys.yaml`.
    pub id: &'static str,
    /// A sentence for the help.
    pub description: &'static str,
    /// Its keys, unless the user says otherwise; the first is the one that is shown.
    pub keys: &'static [&'static str],
    /// Where.
    pub context: Context,
    /// A word for the footer; without one it is only in the help.
    pub hint: Option<&'static str>,
}

/// A row of a tab.
pub(super) const fn on_tab(
    tab: Tab,
    action: Action,
    id: &'static str,
    keys: &'static [&'static str],
    hint: Option<&'static str>,
    description: &'static str,
) -> Spec {
    Spec { action, id, description, keys, context: Context::Tab(tab), hint }
}

const fn everywhere(
    action: Action,
    id: &'static str,
    keys: &'static [&'static str],
    hint: Option<&'static str>,
    description: &'static str,
) -> Spec {
    Spec { action, id, description, keys, context: Context::Everywhere, hint }
}

const fn list(
    action: Action,
    id: &'static str,
    keys: &'static [&'static str],
    description: &'static str,
) -> Spec {
    Spec { action, id, description, keys, context: Context::List, hint: None }
}

const EVERYWHERE: &[Spec] = &[
    everywhere(Action::ShowTab(Tab::Projects), "tab-projects", &["1"], None, "go to Projects"),
    everywhere(Action::ShowTab(Tab::Optimize), "tab-optimize", &["2"], None, "go to Optimize"),
    everywhere(Action::ShowTab(Tab::Performance), "tab-performance", &["3"], None, "go to Performance"),
    everywhere(Action::ShowTab(Tab::Report), "tab-report", &["4"], None, "go to Accuracy Report"),
    everywhere(Action::NextTab, "next-tab", &["tab"], None, "go to the next tab"),
    everywhere(Action::PreviousTab, "previous-tab", &["shift-tab"], None, "go to the previous tab"),
    everywhere(Action::Palette, "palette", &[":"], None, "find a command by typing a part of it"),
    everywhere(Action::Messages, "messages", &["M"], None, "show all messages of this session"),
    everywhere(Action::Theme, "theme", &["t"], None, "change the theme: default, light, contrast, mono"),
    everywhere(Action::Redraw, "redraw", &["ctrl-l"], None, "draw the screen anew"),
    everywhere(
        Action::Suspend,
        "suspend",
        &["ctrl-z"],
        None,
        "stop calib8 and give the shell back; fg returns",
    ),
    everywhere(Action::Help, "help", &["?", "f1"], Some("help"), "show all keys; type to search, Enter runs"),
    everywhere(Action::Leave, "leave", &["esc"], None, "step back"),
    everywhere(Action::Back, "back", &["q"], Some("quit"), "step back, or quit; runs go on"),
    everywhere(Action::Quit, "quit", &["ctrl-c"], None, "quit at once; runs go on"),
];

const LIST: &[Spec] = &[
    list(Action::Move(Move::Up), "up", &["k", "up"], "up"),
    list(Action::Move(Move::Down), "down", &["j", "down"], "down"),
    list(Action::Move(Move::PageUp), "page-up", &["ctrl-u", "pageup"], "a page up"),
    list(Action::Move(Move::PageDown), "page-down", &["ctrl-d", "pagedown"], "a page down"),
    list(Action::Move(Move::First), "first", &["g", "home"], "to the first"),
    list(Action::Move(Move::Last), "last", &["G", "end"], "to the last"),
    list(Action::Sort, "sort", &["s"], "sort by the next column"),
    list(Action::ReverseSort, "reverse-sort", &["S"], "turn the order round"),
];

/// The whole table.
pub fn specs() -> impl Iterator<Item = &'static Spec> {
    let tabs = [projects::ACTIONS, optimize::ACTIONS, performance::ACTIONS, report::ACTIONS];
    tabs.into_iter().flatten().chain(LIST).chain(EVERYWHERE)
}

/// The row of an action.
pub fn spec(action: Action) -> Option<&'static Spec> {
    specs().find(|spec| spec.action == action)
}

impl Action {
    /// Its word in the footer now; `None` where it stands in the help alone.
    pub fn word(self, app: &App) -> Option<&'static str> {
        let hint = || spec(self).and_then(|spec| spec.hint);
        match self {
            Action::Projects(action) => action.word(app).or_else(hint),
            Action::Optimize(action) => action.word(app).or_else(hint),
            Action::Report(action) => action.word(app),
            _ => hint(),
        }
    }

    /// Whether it can be done now.
    ///
    /// # Errors
    /// Why not.
    pub fn enabled(self, app: &App) -> Result<(), Reason> {
        match self {
            Action::Move(_) => app.state().movable(),
            Action::Sort | Action::ReverseSort => {
                let sortable = app.state().table().is_some_and(|table| table.columns() > 0);
                if sortable { Ok(()) } else { Err("there is no table here to sort".into()) }
            }
            Action::Projects(action) => action.enabled(app),
            Action::Optimize(action) => action.enabled(app),
            Action::Performance(action) => action.enabled(app),
            Action::Report(action) => action.enabled(app),
            Action::ShowTab(_)
            | Action::NextTab
            | Action::PreviousTab
            | Action::Help
            | Action::Palette
            | Action::Messages
            | Action::Theme
            | Action::Redraw
            | Action::Suspend
            | Action::Back
            | Action::Leave
            | Action::Quit => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_action_has_one_row_and_one_name() {
        let ids: HashSet<_> = specs().map(|spec| spec.id).collect();
        let actions: HashSet<_> = specs().map(|spec| spec.action).collect();
        assert_eq!((ids.len(), actions.len()), (specs().count(), specs().count()));
    }

    #[test]
    fn descriptions_and_names_are_plain_and_short() {
        for spec in specs() {
            assert!(spec.description.len() <= 72 && !spec.description.ends_with('.'), "{}", spec.id);
            assert!(spec.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", spec.id);
            assert!(!spec.keys.is_empty(), "{}", spec.id);
        }
    }
}
