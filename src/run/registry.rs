//! The runs of this user, wherever they were started.
//!
//! Each run directory has an entry in a folder of the user's: a small file with its path. Entries whose
//! directory holds no run any more go when somebody looks. Whether a run is at work is not kept here: its
//! lock says so.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::directory::PLAN_FILE;
use crate::project::workspace::Workspace;
use crate::project::{ProjectError, atomic, hash, places};

/// Digits of a hash that name an entry: two paths of one user do not share them.
const DIGITS: usize = 24;

/// A folder of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    folder: PathBuf,
}

impl Registry {
    /// That of this user: `runs` in `$XDG_STATE_HOME/calib8`, else in `~/.local/state/calib8`.
    ///
    /// # Errors
    /// Neither `XDG_STATE_HOME` nor `HOME` is set.
    pub fn of_user() -> Result<Self, ProjectError> {
        Ok(Registry { folder: places::state(|name| std::env::var_os(name))?.join("runs") })
    }

    /// Remembers a run directory.
    ///
    /// # Errors
    /// The entry can't be written.
    pub fn record(&self, directory: &Path) -> Result<(), ProjectError> {
        let directory = std::path::absolute(directory).map_err(|e| ProjectError::read(directory, e))?;
        let bytes = directory.as_os_str().as_bytes();
        let entry = self.folder.join(&hash::sha256_bytes(bytes)[..DIGITS]);
        if entry.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).map_err(|source| ProjectError::write(&self.folder, source))?;
        atomic::write(&entry, bytes)
    }

    /// The run directories that are still there, in the order of their paths. Entries of others are
    /// removed.
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let Ok(bytes) = fs::read(entry.path()) else { continue };
            let hidden = entry.file_name().as_bytes().starts_with(b".");
            let directory = PathBuf::from(OsString::from_vec(bytes));
            if holds_run(&directory) {
                found.insert(directory);
            } else if !hidden {
                // Should this fail, the next who looks tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
        found.into_iter().collect()
    }
}

/// Runs that are known: those of the registry and those of a workspace, none twice.
pub fn known(registry: Option<&Registry>, workspace: Option<&Workspace>) -> Vec<PathBuf> {
    let registered = registry.map(Registry::directories).unwrap_or_default();
    let projects = workspace.and_then(|workspace| workspace.projects().ok()).unwrap_or_default();
    let variants = projects.into_iter().flatten().flat_map(|project| project.variants);
    let mut seen = BTreeSet::new();
    registered
        .into_iter()
        .chain(variants.map(|variant| variant.path).filter(|path| holds_run(path)))
        .filter(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())))
        .collect()
}

/// Whether a folder holds a run, begun or not.
pub fn holds_run(directory: &Path) -> bool {
    directory.join(PLAN_FILE).is_file()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_remembered_once_and_forgotten_when_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry { folder: folder.path().join("state/runs") };
        assert_eq!(registry.directories(), [""; 0].map(PathBuf::from));
        let runs = ["a", "b\u{e9}"].map(|name| folder.path().join(name));
        for run in runs.iter().chain(&runs) {
            fs::create_dir_all(run).unwrap();
            fs::write(run.join("run.yaml"), "x").unwrap();
            registry.record(run).unwrap();
        }
        assert_eq!(registry.directories(), runs);
        assert_eq!(known(Some(&registry), None), runs);
        fs::remove_dir_all(&runs[0]).unwrap();
        assert_eq!(registry.directories(), runs[1..]);
        assert_eq!(fs::read_dir(folder.path().join("state/runs")).unwrap().count(), 1, "its entry is gone");
    }
}
