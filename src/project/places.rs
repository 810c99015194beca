//! Where calib8 keeps things when nobody says where, after the XDG base directory specification.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::ProjectError;

/// Variable that names the workspace.
const WORKSPACE: &str = "CALIB8_WORKSPACE";
/// Variable that names the folder of caches, or is `off`.
const CACHE: &str = "CALIB8_CACHE";

/// Folder of the workspace: `$CALIB8_WORKSPACE`, else `$XDG_DATA_HOME/calib8`, else
/// `~/.local/share/calib8`.
///
/// # Errors
/// None of these variables is set, nor `HOME`.
pub fn workspace(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ProjectError> {
    if let Some(root) = variable(WORKSPACE).filter(|root| !root.is_empty()) {
        let root = PathBuf::from(root);
        return std::path::absolute(&root).map_err(|source| ProjectError::read(&root, source));
    }
    base(&variable, "XDG_DATA_HOME", ".local/share").ok_or(ProjectError::NoHome { variable: WORKSPACE })
}

/// Folder for what can be computed again: `$CALIB8_CACHE`, else `$XDG_CACHE_HOME/calib8`, else
/// `~/.cache/calib8`. `None` if `$CALIB8_CACHE` is `off`, or if there is no place for it.
pub fn cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    match variable(CACHE).filter(|folder| !folder.is_empty()) {
        Some(folder) if folder == "off" => None,
        Some(folder) => std::path::absolute(PathBuf::from(folder)).ok(),
        None => base(&variable, "XDG_CACHE_HOME", ".cache"),
    }
}

/// Folder for what is remembered between runs and may be lost: `$XDG_STATE_HOME/calib8`, else
/// `~/.local/state/calib8`.
///
/// # Errors
/// Neither variable is set, nor `HOME`.
pub fn state(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ProjectError> {
    const STATE: &str = "XDG_STATE_HOME";
    base(&variable, STATE, ".local/state").ok_or(ProjectError::NoHome { variable: STATE })
}

/// `calib8` in a base directory. The specification passes over base directories that are not absolute.
fn base(variable: &impl Fn(&str) -> Option<OsString>, name: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute(name).or_else(|| absolute("HOME").map(|home| home.join(Path::new(below_home))));
    folder.map(|folder| folder.join("calib8"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<PathBuf, String> {
        let find = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        workspace(find).map_err(|error| error.to_string())
    }

    #[test]
    fn caches_have_a_folder_of_their_own_or_none() {
        let of = |set: &[(&str, &str)]| {
            cache(|name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()))
        };
        let home = ("HOME", "/home/ada");
        assert_eq!(of(&[home]), Some("/home/ada/.cache/calib8".into()));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "/c")]), Some("/c/calib8".into()));
        assert_eq!(of(&[home, ("CALIB8_CACHE", "/fast")]), Some("/fast".into()));
        assert_eq!(of(&[home, ("CALIB8_CACHE", "off")]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_nearest_variable_decides() {
        let home = ("HOME", "/home/ada");
        assert_eq!(of(&[home]), Ok("/home/ada/.local/share/calib8".into()));
        assert_eq!(of(&[home, ("XDG_DATA_HOME", "/data")]), Ok("/data/calib8".into()));
        assert_eq!(of(&[home, ("XDG_DATA_HOME", "relative")]), Ok("/home/ada/.local/share/calib8".into()));
        assert_eq!(of(&[home, ("CALIB8_WORKSPACE", "/w")]), Ok("/w".into()));
        assert!(of(&[("CALIB8_WORKSPACE", "w")]).unwrap().is_absolute());
        assert!(of(&[]).unwrap_err().contains("set CALIB8_WORKSPACE"));
    }
}
