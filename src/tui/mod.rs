//! The workbench: four tabs over a workspace, with the keyboard, over SSH.
//!
//! ```text
//! key, answer, time ── Msg ── update ── App ── view ── screen
//!                               └── Effect ── a thread ── Msg
//! ```
//!
//! [`App`] is plain data; [`update()`] is pure and gives effects; [`view()`] draws from `&App`; [`runtime`] owns the
//! terminal and runs the effects. Every key goes through the table of [`action`], which also feeds footer,
//! help, README and the user's `keys.yaml`. A tab is a folder of [`tabs`], which says what belongs into it.
//!
//! No model is ever run in this process: it ends with its terminal, and work must not.

pub mod action;
pub mod app;
mod example;
pub mod image;
pub mod keymap;
pub mod keys_file;
mod message;
pub mod overlay;
pub mod pace;
mod runtime;
mod session;
pub mod settings;
pub mod snapshot;
pub mod tabs;
pub mod terminal;
pub mod text;
pub mod theme;
mod update;
pub mod view;
pub mod widgets;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

pub use app::{App, Exit};
pub use message::{Effect, Mailer, Msg};
pub use update::{start, update};
pub use view::view;

use app::{Subject, Tab};
use keys_file::KeysError;
use pace::Pace;
use theme::Theme;

use crate::cli::summary_text;
use crate::kernels::Isa;
use crate::project::workspace::Workspace;
use crate::project::{ProjectError, host};

/// Why the workbench did not open, or ended.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// The user's keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The workspace.
    #[error(transparent)]
    Workspace(#[from] ProjectError),
    /// A directory that holds no run.
    #[error("{}: holds no run, expected a folder with run.yaml or summary.json in it", .0.display())]
    NoRun(PathBuf),
    /// The terminal.
    #[error("the terminal can't be used: {0}")]
    Terminal(#[from] io::Error),
}

/// How a workbench ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub exit: Exit,
    /// What to leave on the normal screen: the last result and its folder, or the run at work.
    pub farewell: String,
}

/// Opens the workbench on this terminal and stays until the user leaves. The workspace is that of
/// `folder`, or the user's; with `run`, the results of the run in that directory are open, wherever it is.
///
/// # Errors
/// `keys.yaml` or `workbench.yaml` is wrong, the workspace is a file, `run` holds no run, or the terminal can't be used.
pub fn open(folder: Option<&Path>, run: Option<&Path>) -> Result<End, TuiError> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let keymap = match keys_file::default_path(variable) {
        Some(path) => keys_file::load(&path)?,
        None => keymap::Keymap::default(),
    };
    // crossterm 0.29 resets bold and reverse with an empty sequence where NO_COLOR is set
    // (crossterm#1069); the theme takes care of NO_COLOR instead.
    crossterm::style::force_color_output(true);
    let root = folder.map_or_else(Workspace::default_root, |folder| Ok(folder.to_path_buf()))?;
    let (settings, keymap) = settings::load(&root, keymap)?;
    let theme = Theme::of_environment(variable).or_chosen(settings.theme);
    terminal::take_mouse(settings.mouse);
    let mut app = App::new(Workspace::open(&root)?, machine(), theme, keymap);
    app.images = image::Images::of_environment(variable);
    if let Some(run) = run {
        app.subject = Some(subject(run)?);
        app.tab = Tab::Performance;
    } else {
        session::take_up(&mut app);
    }
    let exit = {
        let _guard = terminal::Guard::enter()?;
        runtime::run(
            &mut app,
            Pace::new(variable, settings.max_fps),
            terminal::synchronized(variable),
            || {
                let mut terminal = image::detect::Terminal::of_environment(variable);
                let decision = image::detect::detect(variable, io::stdout().is_terminal(), &mut terminal);
                (decision, terminal.typed())
            },
        )
    };
    tabs::projects::import::child::stop();
    let exit = match exit {
        Ok(exit) => exit,
        // What fails after the terminal was taken is the terminal itself: it has gone away.
        Err(error) if gone(&error) => Exit::Hangup,
        Err(error) => return Err(error.into()),
    };
    if exit == Exit::Hangup {
        session::keep(&app);
    }
    Ok(End { exit, farewell: farewell(&app) })
}

/// The machine in a few words.
fn machine() -> String {
    let isa = Isa::available().first().map_or("", |isa| isa.name());
    format!("{} · {} cores · {isa}", host::hostname(), host::cores())
}

/// What is left on the normal screen: the last result that was open with its folder, and what goes on without the
/// workbench.
pub fn farewell(app: &App) -> String {
    let mut text = String::new();
    let open = app.subject.as_ref().map(|subject| &subject.directory);
    let shown = [app.optimize.watched.as_ref(), open].into_iter().flatten();
    let mut finished = shown.filter_map(|directory| {
        let (project, variant) = app.snapshot.variant(directory)?;
        Some((project, variant, variant.summary.as_deref()?))
    });
    if let Some((project, variant, summary)) = finished.next() {
        let name = format!("{}, {}", project.project.name, variant.variant.name);
        let width = usize::from(app.size.0).max(40);
        text += &summary_text::render(summary, &name, &variant.variant.path, width);
    }
    if let Some((project, variant)) = app.snapshot.running() {
        let (project, name) = (&project.project.name, &variant.variant.name);
        text += &format!("\n{project}, {name} goes on in {}\n", variant.variant.path.display());
    }
    text
}

fn subject(run: &Path) -> Result<Subject, TuiError> {
    let directory = std::path::absolute(run)?;
    if !["run.yaml", "summary.json"].iter().any(|name| directory.join(name).is_file()) {
        return Err(TuiError::NoRun(run.to_path_buf()));
    }
    let title = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Subject { title, directory })
}

fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
