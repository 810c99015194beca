//! What can go wrong on disk. Each message says which path, what the system said, what to do.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the project room.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// A file can't be read.
    #[error("{path}: cannot read: {source}{hint}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do, with a leading `; `, or nothing.
        hint: &'static str,
    },
    /// A file or folder can't be written.
    #[error("{path}: cannot write: {source}{hint}")]
    Write {
        /// The file under its final name, or the folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do, with a leading `; `, or nothing.
        hint: &'static str,
    },
    /// Another process works in the folder.
    #[error("{folder}: in use by {holder}; wait for it, stop it, or choose another output folder")]
    Locked {
        /// The locked folder.
        folder: PathBuf,
        /// Who holds the lock, as the lock file says.
        holder: String,
    },
    /// A file of the workspace is not what calib8 writes there.
    #[error("{path}: {what}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        what: String,
    },
    /// A name that can't be given.
    #[error("the name {name:?} can't be used: {what}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it, and what was expected.
        what: &'static str,
    },
    /// Nothing says where the user's files are.
    #[error(
        "neither {variable} nor HOME is set, so there is no place to keep files; set {variable} to a folder"
    )]
    NoHome {
        /// What to set.
        variable: &'static str,
    },
}

impl ProjectError {
    /// A [`ProjectError::Read`] with its hint.
    pub fn read(path: &Path, source: io::Error) -> Self {
        ProjectError::Read { path: path.to_path_buf(), hint: io_hint(&source), source }
    }

    /// A [`ProjectError::Write`] with its hint.
    pub fn write(path: &Path, source: io::Error) -> Self {
        ProjectError::Write { path: path.to_path_buf(), hint: io_hint(&source), source }
    }
}

/// What to do about an error of the system: empty, or text with a leading `; ` to append to it.
pub fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; free some space (`df -h` shows it) or choose an output on another disk"
        }
        io::ErrorKind::QuotaExceeded => "; your quota is used up: free some space or choose another disk",
        io::ErrorKind::PermissionDenied => {
            "; check the owner and permissions of the file and its folder (`ls -ld`)"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; the file system is read-only: choose an output elsewhere",
        io::ErrorKind::NotADirectory => "; a part of the path is a file, not a folder",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_carry_a_hint() {
        let hint = |code| io_hint(&io::Error::from_raw_os_error(code));
        assert!(hint(28).contains("free some space"), "ENOSPC");
        assert!(hint(13).contains("permissions"), "EACCES");
        assert!(hint(30).contains("read-only"), "EROFS");
        assert_eq!(hint(5), "", "EIO has no advice to give");
    }

    #[test]
    fn a_message_names_path_cause_and_advice() {
        let error = ProjectError::write(Path::new("out/summary.json"), io::Error::from_raw_os_error(28));
        let text = error.to_string();
        assert!(text.starts_with("out/summary.json: cannot write: No space left on device"), "{text}");
        assert!(text.contains("choose an output on another disk"), "{text}");
    }
}
