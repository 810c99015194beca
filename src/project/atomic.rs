//! Files that appear whole or not at all.
//!
//! The bytes go to a temporary file in the same folder (a rename is atomic only within one file
//! system), are forced to disk, and only then take the final name; the folder is forced to disk
//! last, so that the name survives a power cut as well.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ProjectError, host};

/// How the name of every temporary file begins.
pub const TEMPORARY_PREFIX: &str = ".calib8-tmp-";

/// Writes `bytes` to `path`, replacing what is there in one step.
///
/// # Errors
/// Nothing could be written; `path` is as it was before.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), ProjectError> {
    let mut writer = Writer::create(path)?;
    writer.write_all(bytes).map_err(|source| ProjectError::write(path, source))?;
    writer.commit()
}

/// A file being written. It takes its name at [`Writer::commit`]; dropped before, it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    committed: bool,
}

impl Writer {
    /// Begins to write what will be `path`.
    ///
    /// # Errors
    /// The folder is missing or can't be written.
    pub fn create(path: &Path) -> Result<Self, ProjectError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        // Processes of several machines may write into one folder, and have the same number.
        let mut name = OsString::from(format!(
            "{TEMPORARY_PREFIX}{}-{}-{number}-",
            host::hostname(),
            std::process::id()
        ));
        name.push(path.file_name().unwrap_or_default());
        let temporary = folder_of(path).join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|source| ProjectError::write(path, source))?;
        Ok(Writer { path: path.to_path_buf(), temporary, file: BufWriter::new(file), committed: false })
    }

    /// Forces the bytes to disk and gives the file its name.
    ///
    /// # Errors
    /// The disk is full, or the name is taken by a folder; what was there before stays.
    pub fn commit(mut self) -> Result<(), ProjectError> {
        self.try_commit().map_err(|source| ProjectError::write(&self.path, source))
    }

    fn try_commit(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        self.committed = true;
        File::open(folder_of(&self.path))?.sync_all()
    }
}

impl Write for Writer {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.committed {
            // Nobody is left to tell; a file that stays has a name that `remove_leftovers` knows.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Removes the temporary files that a killed process left in `folder`. Call it only while no other
/// process writes there.
///
/// # Errors
/// The folder can't be listed, or a file can't be removed.
pub fn remove_leftovers(folder: &Path) -> Result<(), ProjectError> {
    for entry in fs::read_dir(folder).map_err(|source| ProjectError::read(folder, source))? {
        let path = entry.map_err(|source| ProjectError::read(folder, source))?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY_PREFIX));
        if ours {
            fs::remove_file(&path).map_err(|source| ProjectError::write(&path, source))?;
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn write_replaces_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"a longer first text").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_dropped_writer_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"old").unwrap();
        let mut writer = Writer::create(&path).unwrap();
        writer.write_all(b"half of the n").unwrap();
        writer.flush().unwrap();
        assert_eq!(names(folder.path()).len(), 2, "the temporary file stands beside the old one");
        drop(writer);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_failed_commit_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"old").unwrap();
        let error = write(&path, b"new").unwrap_err().to_string();
        assert!(error.contains("taken: cannot write"), "{error}");
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("no/a.json"), b"x").unwrap_err().to_string();
        assert!(error.contains("no/a.json: cannot write: No such file"), "{error}");
    }

    #[test]
    fn leftovers_go_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!("{TEMPORARY_PREFIX}1-0-a.json")), b"half").unwrap();
        fs::write(folder.path().join("mine.txt"), b"keep").unwrap();
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["mine.txt"]);
    }
}
