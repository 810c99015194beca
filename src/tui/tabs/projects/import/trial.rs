//! The usual preprocessings, tried on the model and the first images: `calib8 doctor --model --dataset --json` in
//! a process of its own, which ends when nobody wants its answer any more.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::files::expanded;
use crate::dataset::Preprocess;
use crate::run::fit::Fits;
use crate::run::launch;
use crate::run::plan::Preprocessing;

/// How often it is looked whether the process has ended.
const LOOK: Duration = Duration::from_millis(30);

/// The process at work; there is one form, so there is one.
static AT_WORK: Mutex<Option<Child>> = Mutex::new(None);

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

fn at_work() -> MutexGuard<'static, Option<Child>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process at work, whose answer nobody hears then.
pub fn stop() {
    if let Some(mut child) = at_work().take() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Tries, which takes some seconds; `None` if it was stopped.
///
/// # Errors
/// What the process says, in words.
pub fn run(request: &Request) -> Result<Option<Fits>, String> {
    let text = |error: std::io::Error| error.to_string();
    // In the system's own folder: that of the tempfile crate is turned elsewhere for viuer.
    let file = || tempfile::tempfile_in(std::env::temp_dir()).map_err(text);
    let (mut said, mut complaint) = (file()?, file()?);
    let mut command = Command::new(launch::program().map_err(text)?);
    command.arg("doctor").arg("--json").arg("--model").arg(expanded(&request.model));
    command.arg("--dataset").arg(expanded(&request.images));
    for (option, path) in [("--labels", &request.labels), ("--classes", &request.classes)] {
        if !path.is_empty() {
            command.arg(option).arg(expanded(path));
        }
    }
    stop();
    let child = command
        .stdin(Stdio::null())
        .stdout(said.try_clone().map_err(text)?)
        .stderr(complaint.try_clone().map_err(text)?)
        .spawn()
        .map_err(text)?;
    let pid = child.id();
    *at_work() = Some(child);
    let Some(status) = end_of(pid).map_err(text)? else { return Ok(None) };
    if status.success() {
        let json = content(&mut said).map_err(text)?;
        return serde_json::from_slice(&json)
            .map(Some)
            .map_err(|error| format!("its answer can't be read: {error}"));
    }
    let complaint = content(&mut complaint).map_err(text)?;
    Err(String::from_utf8_lossy(&complaint).trim().trim_start_matches("error: ").to_string())
}

/// Waits for the end of the process; `None` if another one took its place, or none.
fn end_of(pid: u32) -> std::io::Result<Option<ExitStatus>> {
    loop {
        std::thread::sleep(LOOK);
        let mut at_work = at_work();
        let Some(child) = at_work.as_mut().filter(|child| child.id() == pid) else { return Ok(None) };
        if let Some(status) = child.try_wait()? {
            *at_work = None;
            return Ok(Some(status));
        }
    }
}

fn content(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
