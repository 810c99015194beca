//! The usual preprocessings, tried on the model and the first images: `calib8 doctor --model --dataset --json` in
//! a process of its own, which ends when nobody wants its answer any more.

use std::process::Command;

use super::child;
use super::files::expanded;
use crate::dataset::Preprocess;
use crate::run::fit::Fits;
use crate::run::launch;
use crate::run::plan::Preprocessing;

/// What is tried, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The model.
    pub model: String,
    /// The images.
    pub images: String,
    /// Labels, or nothing.
    pub labels: String,
    /// Class names, or nothing.
    pub classes: String,
}

/// How far trying is.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Trial {
    /// Nothing was tried.
    #[default]
    None,
    /// It is at work.
    Busy(Request),
    /// This came out.
    Known(Request, Fits),
    /// Nothing can be said, because of this.
    Fails(Request, String),
}

impl Trial {
    /// What is being tried, or was.
    pub fn request(&self) -> Option<&Request> {
        match self {
            Trial::None => None,
            Trial::Busy(request) | Trial::Known(request, _) | Trial::Fails(request, _) => Some(request),
        }
    }
}

/// A preprocessing that can be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its name.
    pub name: String,
    /// The preset, or the steps.
    pub preprocess: Preprocessing,
}

/// The presets.
pub fn presets() -> Vec<Choice> {
    let preset =
        |name: &&str| Choice { name: (*name).into(), preprocess: Preprocessing::Preset((*name).into()) };
    Preprocess::preset_names().iter().map(preset).collect()
}

/// What was tried, the best first, and the presets that do not fit the model's input at the end.
pub fn choices(fits: &Fits) -> Vec<Choice> {
    let tried =
        |fit: &crate::run::fit::Fit| Choice { name: fit.name.clone(), preprocess: fit.preprocess.clone() };
    let mut choices: Vec<Choice> = fits.fits.iter().map(tried).collect();
    for preset in presets() {
        if !choices.iter().any(|choice| choice.name == preset.name) {
            choices.push(preset);
        }
    }
    choices
}

/// Tries, which takes some seconds; `None` if it was stopped.
///
/// # Errors
/// What the process says, in words.
pub fn run(request: &Request) -> Result<Option<Fits>, String> {
    let program = launch::program().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("doctor").arg("--json").arg("--model").arg(expanded(&request.model));
    command.arg("--dataset").arg(expanded(&request.images));
    for (option, path) in [("--labels", &request.labels), ("--classes", &request.classes)] {
        if !path.is_empty() {
            command.arg(option).arg(expanded(path));
        }
    }
    let Some(json) = child::ask(&mut command)? else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|error| format!("its answer can't be read: {error}"))
}
