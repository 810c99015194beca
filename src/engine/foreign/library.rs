//! The shared library of an engine, of which a process can load one, once.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::find::{self, Wanted};
use super::one_line;
use crate::engine::EngineError;

/// The library that this process has loaded for an engine, with what loading it gave.
pub(super) struct Library<T>(Mutex<Option<(PathBuf, T)>>);

impl<T: Clone> Library<T> {
    pub(super) const fn new() -> Library<T> {
        Library(Mutex::new(None))
    }

    /// Finds the library, where `option` says or else by itself, and loads it if that was not done before.
    ///
    /// # Errors
    /// [`EngineError::Library`]: it is not found, another one is loaded, or `load` says why it is none.
    pub(super) fn open(
        &self,
        wanted: &Wanted,
        option: Option<&Path>,
        load: impl FnOnce(&Path) -> Result<T, String>,
    ) -> Result<(PathBuf, T), EngineError> {
        let missing = |what: String| EngineError::Library { engine: wanted.engine, what: one_line(&what) };
        let path = find::library(wanted, option).map_err(missing)?;
        let path = path.canonicalize().unwrap_or(path);
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((other, _)) = loaded.as_ref().filter(|(other, _)| *other != path) {
            return Err(missing(format!(
                "{} can't be loaded beside {}; use one library in one process",
                path.display(),
                other.display()
            )));
        }
        if let Some(same) = loaded.as_ref() {
            return Ok(same.clone());
        }
        let value = load(&path).map_err(|e| {
            missing(format!("{} can't be used: {e}; calib8 needs {} or newer", path.display(), wanted.oldest))
        })?;
        Ok(loaded.insert((path, value)).clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        engine: "abacus",
        stem: "abacus",
        in_packages: "abacus",
        variables: &[],
        package: "abacus",
        key: "performance.libraries.abacus",
        oldest: "3.0",
    };

    #[test]
    fn one_library_is_loaded_once() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["libabacus.so", "libabacus.so.2"].map(|name| folder.path().join(name));
        for path in [&first, &second] {
            std::fs::write(path, "").unwrap();
        }
        let library = Library::new();
        let said = library.open(&WANTED, Some(&first), |_| Err::<u8, _>("no beads".into())).unwrap_err();
        assert!(said.to_string().contains("no beads; calib8 needs 3.0 or newer"), "{said}");
        assert_eq!(library.open(&WANTED, Some(&first), |_| Ok(7)).unwrap().1, 7);
        let again = library.open(&WANTED, Some(&first), |_| Err("it was loaded before".into()));
        assert_eq!(again.unwrap().1, 7);
        let said = library.open(&WANTED, Some(&second), |_| Ok(8)).unwrap_err().to_string();
        assert!(said.contains("libabacus.so.2 can't be loaded beside"), "{said}");
    }
}
