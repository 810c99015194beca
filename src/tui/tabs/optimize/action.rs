//! What can be done on the Optimize tab, and doing it.

use super::{Effect, Estimated, watched};
use crate::project::workspace::Project;
use crate::run::plan::OptimizeOptions;
use crate::run::status::Standing;
use crate::tui::action::{Reason, Spec, on_tab};
use crate::tui::app::{App, Tab};
use crate::tui::message;
use crate::tui::tabs::projects;

/// What can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table below says what each does")]
pub enum Action {
    Edit,
    Previous,
    Next,
    Start,
    Write,
    Cancel,
    Background,
    Log,
}

const fn spec(
    action: Action,
    id: &'static str,
    keys: &'static [&'static str],
    hint: Option<&'static str>,
    description: &'static str,
) -> Spec {
    on_tab(Tab::Optimize, crate::tui::action::Action::Optimize(action), id, keys, hint, description)
}

/// The tab's part of the table of actions.
pub const ACTIONS: &[Spec] = &[
    spec(
        Action::Start,
        "run",
        &["r"],
        Some("run"),
        "start the run of the form, or go on with an interrupted one",
    ),
    spec(
        Action::Edit,
        "edit",
        &["enter"],
        Some("edit"),
        "edit the field under the cursor, or take the next choice",
    ),
    spec(Action::Next, "next-choice", &["right", "l", "space"], Some("choose"), "take the next choice"),
    spec(Action::Previous, "previous-choice", &["left", "h"], None, "take the choice before"),
    spec(
        Action::Write,
        "write-yaml",
        &["w"],
        Some("write YAML"),
        "write the form as a run file into this folder",
    ),
    spec(
        Action::Cancel,
        "cancel",
        &["c"],
        Some("cancel"),
        "stop the run; what is done stays, r goes on with it",
    ),
    spec(
        Action::Background,
        "background",
        &["b"],
        Some("background"),
        "leave the run at work and go back to the form",
    ),
    spec(Action::Log, "log", &["L"], Some("log"), "show the log of the run"),
];

impl Action {
    /// Its word in the footer where that is not always the same.
    pub fn word(self, app: &App) -> Option<&'static str> {
        match (self, watched(app)?.standing) {
            (Action::Start, Standing::Interrupted) => Some("resume"),
            (Action::Start, Standing::Failed) => Some("try again"),
            (Action::Background, standing) if standing != Standing::Running => Some("back"),
            _ => None,
        }
    }

    /// Whether it can be done now.
    ///
    /// # Errors
    /// Why not.
    pub fn enabled(self, app: &App) -> Result<(), Reason> {
        let no = |reason: &'static str| Err(Reason::Borrowed(reason));
        let form = app.optimize.form.is_some();
        match (self, watched(app)) {
            (Action::Edit | Action::Previous | Action::Next | Action::Write, Some(_)) => {
                no("a run is shown; b goes back to the form")
            }
            (Action::Edit | Action::Previous | Action::Next | Action::Write | Action::Start, None) => {
                match &app.optimize.estimate {
                    _ if !form => no("no project is chosen; choose one in Projects"),
                    _ if self == Action::Edit && app.optimize.idle().is_some() => {
                        app.optimize.idle().map_or(Ok(()), no)
                    }
                    Estimated::Fails(_) if matches!(self, Action::Start | Action::Write) => {
                        no("the form has a mistake, which is said below it")
                    }
                    _ => Ok(()),
                }
            }
            (Action::Start, Some(run)) => match run.standing {
                Standing::Interrupted | Standing::Failed | Standing::Waiting => Ok(()),
                Standing::Running => no("it is at work"),
                Standing::Finished(_) => no("it is finished; b goes back to the form"),
            },
            (Action::Cancel | Action::Background | Action::Log, None) => no("no run is shown"),
            (Action::Cancel, Some(run)) if run.standing != Standing::Running => no("it is not at work"),
            _ => Ok(()),
        }
    }
}

/// Does an action that is enabled.
pub fn perform(app: &mut App, action: Action) -> Vec<message::Effect> {
    let effect = |effect| vec![message::Effect::Optimize(effect)];
    let directory = app.optimize.watched.clone().filter(|_| watched(app).is_some());
    match (action, directory) {
        (Action::Start, Some(directory)) => return effect(Effect::Begin(directory)),
        (Action::Start | Action::Write, None) => {
            let Some((project, options)) = chosen(app) else { return Vec::new() };
            let wait = app.snapshot.running().is_some() || app.snapshot.queued().is_some();
            app.optimize.starting = action == Action::Start;
            return effect(match action {
                Action::Start => Effect::Start { project, options, wait },
                _ => Effect::Write(project, options),
            });
        }
        (Action::Edit, None) => {
            if let Some(form) = &mut app.optimize.form
                && form.here().choices().is_empty()
            {
                form.editing = true;
            } else {
                return perform(app, Action::Next);
            }
        }
        (Action::Next | Action::Previous, None) => {
            let turned = app.optimize.form.as_mut().map(|form| form.turn(action == Action::Next));
            match turned {
                Some(Err(reason)) => app.hint(reason),
                _ => return app.optimize.estimate(),
            }
        }
        (Action::Cancel, Some(directory)) => return effect(Effect::Cancel(directory)),
        (Action::Background, Some(_)) => {
            app.optimize.watched = None;
            if app.optimize.form.is_none() {
                app.tab = Tab::Projects;
                projects::refreshed(app);
            }
        }
        (Action::Log, Some(directory)) => return effect(Effect::Log(directory)),
        _ => {}
    }
    Vec::new()
}

/// The project and the options of the form, or a word on what is wrong with it.
fn chosen(app: &mut App) -> Option<(Box<Project>, Box<OptimizeOptions>)> {
    let form = app.optimize.form.as_ref()?;
    match form.options() {
        Ok(options) => Some((Box::new(form.project.clone()), Box::new(options))),
        Err(text) => {
            app.hint(text);
            None
        }
    }
}
