//! `workbench.yaml` in the workspace: how the workbench looks there, and keys of its own.
//!
//! ```yaml
//! theme: light        # default, light, contrast, mono; the key that changes the theme writes it here
//! max_fps: 15         # frames a second while a run is at work; 30 otherwise, 10 over SSH
//! mouse: true         # wheel and clicks; off otherwise, so that the terminal selects text
//! keys: {theme: T}    # as keys.yaml, whose keys they take the place of
//! ```

use std::path::Path;

use serde::Deserialize;

use super::keymap::Keymap;
use super::keys_file::{self, KeysError};
use super::theme::ThemeName;
use crate::project::{ProjectError, atomic};

/// Name of the file.
const FILE: &str = "workbench.yaml";
/// Frames a second that can be asked for.
const FPS: std::ops::RangeInclusive<f64> = 1.0..=60.0;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Colours.
    pub theme: Option<ThemeName>,
    /// Frames a second while a run is at work.
    pub max_fps: Option<f64>,
    /// Whether wheel and clicks are taken.
    pub mouse: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Stored {
    theme: Option<String>,
    max_fps: Option<f64>,
    mouse: bool,
    keys: Option<serde_yaml::Mapping>,
}

/// Reads the file of the workspace in `root` and lays its keys over `keymap`. Without a file nothing is said.
///
/// # Errors
/// The file is wrong, with its line.
pub fn load(root: &Path, keymap: Keymap) -> Result<(Settings, Keymap), KeysError> {
    let path = root.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((Settings::default(), keymap));
        }
        Err(error) => return Err(KeysError::new(&path, 1, format!("cannot be read: {error}"))),
    };
    let stored: Option<Stored> = serde_yaml::from_str(&text).map_err(|error| {
        KeysError::new(&path, error.location().map_or(1, |at| at.line()), error.to_string())
    })?;
    let stored = stored.unwrap_or_default();
    let failed = |name, message| KeysError::new(&path, keys_file::line_of(&text, name), message);
    let theme = match stored.theme {
        None => None,
        Some(name) => {
            Some(ThemeName::ALL.into_iter().find(|theme| theme.name() == name).ok_or_else(|| {
                let names = ThemeName::ALL.map(ThemeName::name).join(", ");
                failed("theme", format!("theme is `{name}`, expected one of {names}"))
            })?)
        }
    };
    if let Some(fps) = stored.max_fps.filter(|fps| !FPS.contains(fps)) {
        let message = format!("max_fps is {fps}, expected {} to {}", FPS.start(), FPS.end());
        return Err(failed("max_fps", message));
    }
    let keymap = keys_file::lay_over(keymap, &path, &text, stored.keys.unwrap_or_default())?;
    Ok((Settings { theme, max_fps: stored.max_fps, mouse: stored.mouse }, keymap))
}

/// Keeps the choice of a theme; all else in the file stays as it is.
///
/// # Errors
/// The file can't be written.
pub fn keep_theme(root: &Path, theme: ThemeName) -> Result<(), ProjectError> {
    let path = root.join(FILE);
    std::fs::create_dir_all(root).map_err(|source| ProjectError::write(root, source))?;
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    atomic::write(&path, with_theme(&before, theme).as_bytes())
}

fn with_theme(before: &str, theme: ThemeName) -> String {
    let line = format!("theme: {}\n", theme.name());
    let mut text = String::new();
    let mut written = false;
    for old in before.lines() {
        if old.starts_with("theme:") && !std::mem::replace(&mut written, true) {
            text += &line;
        } else {
            text += old;
            text.push('\n');
        }
    }
    if written { text } else { text + &line }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tui::action::Action;

    fn load_text(text: &str) -> Result<(Settings, Keymap), String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let shown = folder.path().display().to_string();
        load(folder.path(), Keymap::default()).map_err(|error| error.to_string().replace(&shown, "."))
    }

    #[test]
    fn all_of_it_is_read() {
        let (settings, keymap) =
            load_text("theme: light\nmax_fps: 5\nmouse: true\nkeys: {theme: T}\n").unwrap();
        let expected = Settings { theme: Some(ThemeName::Light), max_fps: Some(5.0), mouse: true };
        assert_eq!((settings, keymap.shown(Action::Theme).as_str()), (expected, "T"));
        assert_eq!(load_text("# nothing\n").unwrap().0, Settings::default());
        assert_eq!(load(Path::new("/nonexistent"), Keymap::default()).unwrap().0, Settings::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let error = |text| load_text(text).unwrap_err();
        assert_eq!(
            error("mouse: false\ntheme: pink\n"),
            "./workbench.yaml:2: theme is `pink`, expected one of default, light, contrast, mono"
        );
        assert_eq!(error("max_fps: 1000"), "./workbench.yaml:1: max_fps is 1000, expected 1 to 60");
        assert!(error("keys:\n  themes: x\n").starts_with("./workbench.yaml:2: `themes` is no action"));
        assert!(error("colour: red").starts_with("./workbench.yaml:1: "));
    }

    #[test]
    fn a_theme_takes_the_place_of_the_old_one_and_nothing_else() {
        let before = "# mine\ntheme: light # bright room\nmouse: true";
        assert_eq!(with_theme(before, ThemeName::Mono), "# mine\ntheme: mono\nmouse: true\n");
        assert_eq!(with_theme("", ThemeName::Default), "theme: default\n");
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("new");
        keep_theme(&root, ThemeName::Contrast).unwrap();
        assert_eq!(load(&root, Keymap::default()).unwrap().0.theme, Some(ThemeName::Contrast));
    }
}
