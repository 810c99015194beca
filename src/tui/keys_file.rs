//! `keys.yaml`: the user's own keys, `name: key` or `name: [key, key]` per line.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::action::specs;
use super::keymap::{Key, Keymap};

/// What is wrong with the file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}:{line}: {message}", path.display())]
pub struct KeysError {
    path: PathBuf,
    line: usize,
    message: String,
}

impl KeysError {
    /// Something wrong on a line, from 1.
    pub(super) fn new(path: &Path, line: usize, message: String) -> Self {
        KeysError { path: path.to_path_buf(), line, message }
    }
}

/// One key or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Several(Vec<String>),
}

/// Where the file is looked for: `calib8/keys.yaml` in the user's configuration folder.
pub fn default_path(variable: impl Fn(&str) -> String) -> Option<PathBuf> {
    let config = match (variable("XDG_CONFIG_HOME"), variable("HOME")) {
        (config, _) if !config.is_empty() => PathBuf::from(config),
        (_, home) if !home.is_empty() => Path::new(&home).join(".config"),
        _ => return None,
    };
    Some(config.join("calib8/keys.yaml"))
}

/// The keymap with the file laid over the defaults; the defaults if there is no file.
///
/// # Errors
/// The file can't be read, is no YAML, names an action or a key that does not exist, or gives one
/// key to two actions of the same place.
pub fn load(path: &Path) -> Result<Keymap, KeysError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Keymap::default()),
        Err(error) => {
            Err(KeysError { path: path.into(), line: 1, message: format!("cannot be read: {error}") })
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Keymap, KeysError> {
    let failed = |line, message| KeysError::new(path, line, message);
    // A `:` cannot begin a plain YAML value, so the mapping keeps its order and duplicates fail.
    let entries: Option<serde_yaml::Mapping> = serde_yaml::from_str(text)
        .map_err(|error| failed(error.location().map_or(1, |at| at.line()), error.to_string()))?;
    lay_over(Keymap::default(), path, text, entries.unwrap_or_default())
}

/// Lays the keys of a mapping, which stands in `text`, over others.
///
/// # Errors
/// A name is no action, a key is no key, or two actions share one.
pub(super) fn lay_over(
    mut keymap: Keymap,
    path: &Path,
    text: &str,
    entries: serde_yaml::Mapping,
) -> Result<Keymap, KeysError> {
    let failed = |line, message| KeysError::new(path, line, message);
    for (name, value) in entries {
        let name = name.as_str().unwrap_or_default().to_string();
        let line = line_of(text, &name);
        let Some(spec) = specs().find(|spec| spec.id == name) else {
            let near = nearest(&name).map(|id| format!("; did you mean `{id}`?")).unwrap_or_default();
            return Err(failed(line, format!("`{name}` is no action{near} The README lists them")));
        };
        let keys = match serde_yaml::from_value(value) {
            Ok(Keys::One(key)) => vec![key],
            Ok(Keys::Several(keys)) => keys,
            Err(_) => {
                let message = format!(
                    "`{name}` needs a key such as \"g\" or a list of keys, in quotes where YAML needs them"
                );
                return Err(failed(line, message));
            }
        };
        let keys = keys.iter().map(|key| key.parse::<Key>()).collect::<Result<Vec<_>, _>>();
        keymap.set(spec.action, keys.map_err(|message| failed(line, message))?);
    }
    match keymap.clash() {
        None => Ok(keymap),
        Some(clash) => {
            let [a, b] = clash.ids;
            let line = line_of(text, a).max(line_of(text, b));
            let message =
                format!("{} is the key of `{a}` and of `{b}`; give one of them another key", clash.key);
            Err(failed(line, message))
        }
    }
}

/// The line, from 1, on which an entry stands.
pub(super) fn line_of(text: &str, name: &str) -> usize {
    let stands = |line: &str| {
        let line = line.trim_start_matches([' ', '{']);
        let rest = line.trim_start_matches(['"', '\'']).strip_prefix(name)?;
        rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':').then_some(())
    };
    text.lines().position(|line| stands(line).is_some()).map_or(1, |at| at + 1)
}

/// The action whose name shares the longest beginning with `name`.
fn nearest(name: &str) -> Option<&'static str> {
    let shared = |id: &str| id.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    specs().map(|spec| spec.id).max_by_key(|id| shared(id)).filter(|id| shared(id) >= 3)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tui::action::Action;
    use crate::tui::app::Tab;

    fn error(text: &str) -> String {
        parse(Path::new("keys.yaml"), text).unwrap_err().to_string()
    }

    #[test]
    fn the_users_keys_take_the_place_of_the_defaults() {
        let keymap = parse(Path::new("k"), "# mine\ntheme: T\nhelp: [\"?\", ctrl-h]\n").unwrap();
        assert_eq!(keymap.shown(Action::Theme), "T");
        assert_eq!(keymap.action("t".parse().unwrap(), Tab::Projects), None);
        assert_eq!(keymap.action("ctrl-h".parse().unwrap(), Tab::Projects), Some(Action::Help));
        assert_eq!(parse(Path::new("k"), "").unwrap(), Keymap::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert_eq!(
            error("theme: T\nredrw: x\n"),
            "keys.yaml:2: `redrw` is no action; did you mean `redraw`? The README lists them"
        );
        assert_eq!(
            error("\ntheme: j\n"),
            "keys.yaml:2: j is the key of `down` and of `theme`; give one of them another key"
        );
        assert!(error("theme: hyper-x").starts_with("keys.yaml:1: `hyper-x` is no key"));
        assert!(error("theme: {a: b}").starts_with("keys.yaml:1: `theme` needs a key"));
        assert!(error("a: [").starts_with("keys.yaml:"));
    }

    #[test]
    fn the_folder_is_that_of_xdg_or_home() {
        let only = |name: &'static str, value: &'static str| {
            move |asked: &str| if asked == name { value.to_string() } else { String::new() }
        };
        assert_eq!(default_path(only("XDG_CONFIG_HOME", "/c")), Some("/c/calib8/keys.yaml".into()));
        assert_eq!(default_path(only("HOME", "/h")), Some("/h/.config/calib8/keys.yaml".into()));
        assert_eq!(default_path(only("LANG", "C")), None);
    }
}
