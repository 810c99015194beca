//! One process per run directory.
//!
//! The lock is the kernel's (`flock`), not the file's existence: it ends with the process, however
//! that ends. The file only says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{ProjectError, host};

/// Name of the lock file in a run directory.
pub const LOCK_FILE: &str = "lock";

/// Holds a folder until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

impl RunLock {
    /// Takes the lock of `folder`, which must exist.
    ///
    /// # Errors
    /// [`ProjectError::Locked`] with the holder, or the lock file can't be written.
    pub fn take(folder: &Path) -> Result<Self, ProjectError> {
        let path = folder.join(LOCK_FILE);
        let failed = |source| ProjectError::write(&path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(folder, &mut file)),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        let holder = format!("process {} on {}\n", std::process::id(), host::hostname());
        file.write_all(holder.as_bytes()).map_err(failed)?;
        Ok(RunLock { file })
    }

    /// Who works in `folder` now, if anybody does. Changes nothing.
    pub fn holder(folder: &Path) -> Option<ProjectError> {
        let path: PathBuf = folder.join(LOCK_FILE);
        let mut file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Some(locked(folder, &mut file)),
            _ => None,
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // An empty file holds nobody's name; should this fail, the lock still ends with the handle.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn locked(folder: &Path, file: &mut File) -> ProjectError {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(200).read_to_string(&mut text));
    let holder = match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_string(),
        _ => "another process".to_string(),
    };
    ProjectError::Locked { folder: folder.to_path_buf(), holder }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_with_the_holders_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::take(folder.path()).unwrap();
        let message = RunLock::take(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("in use by process {} on ", std::process::id())), "{message}");
        assert!(RunLock::holder(folder.path()).is_some());
        drop(first);
        assert!(RunLock::holder(folder.path()).is_none());
        RunLock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_lock_file_that_a_dead_process_left_does_not_hold() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK_FILE), "process 1 on gone\n").unwrap();
        RunLock::take(folder.path()).unwrap();
    }
}
