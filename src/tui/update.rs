//! From what happened to the next state: pure, so that tests and random walks run it without a
//! terminal. What must be done outside comes back as effects.

use crossterm::event::KeyCode;

use super::action::{Action, Move, spec};
use super::app::{App, Exit, Tab};
use super::keymap::Key;
use super::message::{Effect, Msg};
use super::overlay::{self, Commands, Messages, Overlay};
use super::tabs::{optimize, performance, projects, report};
use super::theme::Theme;
use super::widgets::table::TableState;

/// Takes one message in. The caller has set `app.now`.
pub fn update(app: &mut App, msg: Msg) -> Vec<Effect> {
    let mut effects = take(app, msg);
    effects.extend(report::settle(app));
    effects
}

fn take(app: &mut App, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Key(key) => on_key(app, key),
        Msg::Paste(text) => {
            let line = text.lines().next().unwrap_or_default();
            line.chars().filter(|c| !c.is_control()).flat_map(|c| pasted(app, Key::char(c))).collect()
        }
        Msg::Wheel(step) => wheel(app, step),
        Msg::Click(x, y) => click(app, x, y),
        Msg::Resize(width, height) => {
            app.size = (width, height);
            Vec::new()
        }
        Msg::Time => {
            let now = app.now;
            app.hint.take_if(|(_, until)| *until <= now);
            app.notice_until.take_if(|until| *until <= now);
            Vec::new()
        }
        Msg::Say(level, text) => {
            app.say(level, text);
            Vec::new()
        }
        Msg::Workspace(snapshot) => {
            app.snapshot = *snapshot;
            app.loaded = true;
            projects::refreshed(app);
            let tabs = [optimize::refreshed, performance::refreshed];
            tabs.into_iter().flat_map(|refreshed| refreshed(app)).collect()
        }
        Msg::Open(subject) => {
            app.subject = Some(subject);
            opened(app)
        }
        Msg::Projects(msg) => projects::update(app, msg),
        Msg::Optimize(msg) => optimize::update(app, msg),
        Msg::Performance(msg) => performance::update(app, msg),
        Msg::Report(msg) => report::update(app, msg),
    }
}

/// The effects with which the workbench opens.
pub fn start(app: &mut App) -> Vec<Effect> {
    let mut effects = vec![Effect::Watch];
    if app.subject.is_some() {
        effects.extend(opened(app));
    }
    effects
}

fn opened(app: &mut App) -> Vec<Effect> {
    let tabs = [performance::opened, report::opened];
    tabs.into_iter().flat_map(|opened| opened(app)).collect()
}

fn on_key(app: &mut App, key: Key) -> Vec<Effect> {
    app.hint = None;
    app.notice_until = None;
    // Whatever has the keyboard, this leaves.
    if app.keymap.keys(Action::Quit).contains(&key) && key.ctrl {
        return perform(app, Action::Quit);
    }
    if app.overlay.is_some() {
        return overlay::on_key(app, key);
    }
    if app.state().typing() {
        return typed(app, key);
    }
    match app.keymap.action(key, app.tab) {
        Some(action) => attempt(app, action),
        None => {
            let help = app.keymap.shown(Action::Help);
            app.hint(format!("{key} does nothing here; {help} shows the keys"));
            Vec::new()
        }
    }
}

/// A key where text is expected.
fn typed(app: &mut App, key: Key) -> Vec<Effect> {
    let effects = app.state_mut().on_key(key);
    renew(app);
    effects
}

/// Has the tab in front look at the workspace again.
fn renew(app: &mut App) {
    let snapshot = std::mem::take(&mut app.snapshot);
    app.state_mut().typed(&snapshot);
    app.snapshot = snapshot;
}

/// The wheel moves the cursor of the list in front.
fn wheel(app: &mut App, step: Move) -> Vec<Effect> {
    let arrow = if step == Move::Up { KeyCode::Up } else { KeyCode::Down };
    match app.overlay {
        Some(_) => on_key(app, Key { code: arrow, ctrl: false, alt: false }),
        None if Action::Move(step).enabled(app).is_ok() => app.state_mut().step(step),
        None => Vec::new(),
    }
}

/// A click on a tab goes there; one on a row puts the cursor on it. What lies over the tab takes none.
fn click(app: &mut App, x: u16, y: u16) -> Vec<Effect> {
    if app.overlay.is_some() || app.state().typing() {
        return Vec::new();
    }
    if y == 0 {
        return super::view::tab_at(app, x).map_or_else(Vec::new, |tab| show(app, tab));
    }
    if let Some(table) = app.state_mut().table_mut() {
        table.click(y);
    }
    Vec::new()
}

/// A character that was pasted: only where text is expected, never as a command.
fn pasted(app: &mut App, key: Key) -> Vec<Effect> {
    match &app.overlay {
        Some(Overlay::Commands(_)) => overlay::on_key(app, key),
        None if app.state().typing() => typed(app, key),
        _ => Vec::new(),
    }
}

/// Does what can be done, and says why where it can't. An action of another tab goes there first.
pub fn attempt(app: &mut App, action: Action) -> Vec<Effect> {
    let home = match action {
        Action::Projects(_) => Some(Tab::Projects),
        Action::Optimize(_) => Some(Tab::Optimize),
        Action::Performance(_) => Some(Tab::Performance),
        Action::Report(_) => Some(Tab::Report),
        _ => None,
    };
    if let Err(reason) = action.enabled(app) {
        let what = spec(action).map_or("", |spec| spec.description);
        app.hint(format!("can't {what}: {reason}"));
        return Vec::new();
    }
    let mut effects = match home {
        Some(tab) if tab != app.tab => perform(app, Action::ShowTab(tab)),
        _ => Vec::new(),
    };
    effects.extend(perform(app, action));
    effects
}

fn perform(app: &mut App, action: Action) -> Vec<Effect> {
    match action {
        Action::ShowTab(tab) => return show(app, tab),
        Action::NextTab => return show(app, app.tab.beside(1)),
        Action::PreviousTab => return show(app, app.tab.beside(Tab::ALL.len() - 1)),
        Action::Help => app.overlay = Some(Overlay::Commands(Commands::help(app))),
        Action::Palette => app.overlay = Some(Overlay::Commands(Commands::palette(app))),
        Action::Messages => app.overlay = Some(Overlay::Messages(Messages::new(app.messages.len()))),
        Action::Theme => {
            app.theme = Theme::new(app.theme.name.next(), app.theme.ascii);
            let name = app.theme.name.name();
            app.hint(format!("theme {name}"));
            return vec![Effect::KeepTheme(app.theme.name)];
        }
        Action::Redraw => return vec![Effect::Redraw],
        Action::Suspend => return vec![Effect::Suspend],
        Action::Back => {
            if !back(app) {
                app.exit = Some(Exit::Quit);
            }
        }
        Action::Leave => {
            if !back(app) {
                let quit = app.keymap.shown(Action::Back);
                app.hint(format!("nothing is open here; {quit} quits"));
            }
        }
        Action::Quit => app.exit = Some(Exit::Quit),
        Action::Move(step) => return app.state_mut().step(step),
        Action::Sort | Action::ReverseSort => {
            if let Some(table) = app.state_mut().table_mut() {
                if action == Action::Sort { table.sort_by_next() } else { table.reverse() }
            }
            app.state_mut().sorted();
            let state = app.state();
            let text = match state.table().and_then(TableState::sort) {
                Some(sort) => {
                    let first = if sort.descending { "the largest" } else { "the smallest" };
                    format!("sorted by {}, {first} first", state.column_title(sort.column))
                }
                None => "in the order of the file".to_string(),
            };
            app.hint(text);
        }
        Action::Projects(action) => return projects::perform(app, action),
        Action::Optimize(action) => return optimize::perform(app, action),
        Action::Performance(action) => return performance::perform(app, action),
        Action::Report(action) => return report::perform(app, action),
    }
    Vec::new()
}

fn back(app: &mut App) -> bool {
    let done = app.state_mut().back();
    renew(app);
    if !done && app.tab == Tab::Optimize && optimize::watched(app).is_some() {
        // A run that was opened from Projects, without a form behind it, goes back there.
        optimize::perform(app, optimize::Action::Background);
        return true;
    }
    done
}

fn show(app: &mut App, tab: Tab) -> Vec<Effect> {
    app.tab = tab;
    // A tab without anything to show takes what is at hand: the run just watched, or what is under the cursor.
    let mut effects = match tab {
        Tab::Projects => Vec::new(),
        Tab::Optimize => match projects::project_at_hand(app) {
            Some(project) if optimize::is_empty(app) => optimize::open_form(app, &project),
            _ => Vec::new(),
        },
        Tab::Performance | Tab::Report => match projects::subject_at_hand(app) {
            Some(subject) if app.subject.is_none() => take(app, Msg::Open(subject)),
            _ => Vec::new(),
        },
    };
    effects.extend(match tab {
        Tab::Projects | Tab::Optimize => Vec::new(),
        Tab::Performance => performance::shown(app),
        Tab::Report => report::shown(app),
    });
    effects
}
