//! The Optimize tab: the form, and the run that it starts.

mod action;
mod effect;
mod form;
pub mod view;

use std::path::PathBuf;

use crossterm::event::KeyCode;

pub use action::{ACTIONS, Action, perform};
pub use effect::{Effect, Estimate, execute};
pub use form::{Field, Form};

use super::TabState;
use crate::tui::action::{Move, Reason};
use crate::tui::app::{App, Level, Tab};
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::overlay::{Overlay, Page};
use crate::tui::snapshot::VariantEntry;

/// What the tab holds.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The form, once a project was chosen.
    pub form: Option<Form>,
    /// The run directory that is watched instead of the form.
    pub watched: Option<PathBuf>,
    /// What the form's run would take.
    pub estimate: Estimated,
    /// The queued run for which somebody was asked to begin it, and does not yet show that it has. One that could
    /// not stays here, so that it is asked once.
    beginning: Option<PathBuf>,
    /// A run is being started, and will soon be seen.
    starting: bool,
}

/// What is known of the time and memory of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Estimated {
    /// Nothing was asked.
    #[default]
    Nothing,
    /// It is being found out; `true` if the form has changed since.
    Busy(bool),
    /// This.
    Known(Estimate),
    /// It would fail.
    Fails(String),
}

impl TabState for State {
    fn movable(&self) -> Result<(), Reason> {
        match (&self.form, &self.watched) {
            (Some(_), None) => Ok(()),
            (_, Some(_)) => Err("a run is shown; b leaves it in the background".into()),
            (None, None) => Err("no project is chosen; choose one in Projects".into()),
        }
    }

    fn step(&mut self, step: Move) -> Vec<message::Effect> {
        if let Some(form) = &mut self.form {
            let last = Field::ALL.len() - 1;
            form.field = match step {
                Move::Up => form.field.saturating_sub(1),
                Move::Down => (form.field + 1).min(last),
                Move::First | Move::PageUp => 0,
                Move::Last | Move::PageDown => last,
            };
        }
        Vec::new()
    }

    fn back(&mut self) -> bool {
        self.form.is_some() && self.watched.take().is_some()
    }

    fn typing_keys(&self) -> &'static [(&'static str, &'static str)] {
        &[("Enter", "done"), ("Ctrl-U", "empty it")]
    }

    fn typing(&self) -> bool {
        self.watched.is_none() && self.form.as_ref().is_some_and(|form| form.editing)
    }

    fn on_key(&mut self, key: Key) -> Vec<message::Effect> {
        let Some(form) = &mut self.form else { return Vec::new() };
        match key.code {
            KeyCode::Esc | KeyCode::Enter => {
                form.editing = false;
                return self.estimate();
            }
            _ => {
                let at = form.field;
                if form.inputs[at].on_key(key) {
                    form.edited();
                }
            }
        }
        Vec::new()
    }
}

impl State {
    /// Why the field under the cursor does nothing.
    fn idle(&self) -> Option<&'static str> {
        self.form.as_ref().and_then(|form| form.idle(form.here()))
    }

    /// Asks what the run of the form would take; one question at a time, as it costs an inference.
    fn estimate(&mut self) -> Vec<message::Effect> {
        let Some(form) = &self.form else { return Vec::new() };
        match form.options() {
            Err(text) => self.estimate = Estimated::Fails(text),
            Ok(_) if matches!(self.estimate, Estimated::Busy(_)) => self.estimate = Estimated::Busy(true),
            Ok(options) => {
                self.estimate = Estimated::Busy(false);
                let effect = Effect::Estimate(Box::new(form.project.clone()), Box::new(options));
                return vec![message::Effect::Optimize(effect)];
            }
        }
        Vec::new()
    }
}

/// The run that is watched.
pub fn watched(app: &App) -> Option<&VariantEntry> {
    let directory = app.optimize.watched.as_ref()?;
    app.snapshot.variant(directory).map(|(_, variant)| variant)
}

/// What effects answer.
#[derive(Debug, Clone)]
pub enum Msg {
    /// What the run of the form would take.
    Estimated(Result<Estimate, String>),
    /// The images to calibrate on that lie beside those of this project.
    Calibration {
        /// Id of the project.
        project: String,
        /// The folder; empty if there is none.
        folder: String,
    },
    /// The run of the form has begun or stands in the queue, in this directory.
    Started(PathBuf, String),
    /// Another run has begun.
    Begun(String),
    /// It could not begin.
    NotStarted(String),
    /// The log of a run.
    Log(Page),
}

/// Takes an answer in.
pub fn update(app: &mut App, msg: Msg) -> Vec<message::Effect> {
    match msg {
        Msg::Estimated(result) => {
            let again = app.optimize.estimate == Estimated::Busy(true);
            app.optimize.estimate = result.map_or_else(Estimated::Fails, Estimated::Known);
            if again {
                return app.optimize.estimate();
            }
        }
        Msg::Calibration { project, folder } => {
            if let Some(entry) = app.snapshot.project(&project) {
                app.optimize.form = Some(Form::new(entry.project.clone(), &folder));
                app.optimize.estimate = Estimated::Nothing;
                return app.optimize.estimate();
            }
        }
        Msg::Started(directory, text) => {
            app.optimize.starting = false;
            app.optimize.watched = Some(directory);
            app.say(Level::Done, text);
        }
        Msg::Begun(text) => app.say(Level::Done, text),
        Msg::NotStarted(text) => {
            app.optimize.starting = false;
            app.say(Level::Error, text);
        }
        Msg::Log(page) => app.overlay = Some(Overlay::Page(page)),
    }
    Vec::new()
}

/// The workspace was read anew: where a run has its turn and nobody is there to begin it, since the machine was
/// restarted, say, somebody is found.
pub fn refreshed(app: &mut App) -> Vec<message::Effect> {
    // A run that is being started is not seen at work yet, and must not be taken for a queued one.
    let free = !app.optimize.starting && app.snapshot.running().is_none();
    let Some(next) = app.snapshot.queued().filter(|_| free) else {
        app.optimize.beginning = None;
        return Vec::new();
    };
    let directory = next.variant.path.clone();
    if app.optimize.beginning.as_ref() == Some(&directory) {
        return Vec::new();
    }
    app.optimize.beginning = Some(directory.clone());
    vec![message::Effect::Optimize(Effect::TakeTurns)]
}

/// Shows the form for a project.
pub fn open_form(app: &mut App, project: &str) -> Vec<message::Effect> {
    app.tab = Tab::Optimize;
    app.optimize.watched = None;
    let Some(entry) = app.snapshot.project(project) else { return Vec::new() };
    let dataset = entry.project.definition.dataset.path.clone();
    vec![message::Effect::Optimize(Effect::FindCalibration { project: project.to_string(), dataset })]
}

/// Whether there is neither a form nor a run to show.
pub fn is_empty(app: &App) -> bool {
    app.optimize.form.is_none() && app.optimize.watched.is_none()
}

/// Shows a run.
pub fn watch(app: &mut App, directory: PathBuf) -> Vec<message::Effect> {
    app.tab = Tab::Optimize;
    app.optimize.watched = Some(directory);
    Vec::new()
}

/// Goes on with a run, and shows it.
pub fn resume(app: &mut App, directory: PathBuf) -> Vec<message::Effect> {
    let mut effects = watch(app, directory.clone());
    effects.push(message::Effect::Optimize(Effect::Begin(directory)));
    effects
}
