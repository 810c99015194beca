//! A file of a run directory while it is written.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::project::hash::Hasher;
use crate::project::{ProjectError, atomic};

/// A file that is too large to be held before it is written. It appears under its name when it is whole.
pub(super) struct Draft {
    name: String,
    path: PathBuf,
    file: atomic::Writer,
    hash: Hasher,
    bytes: u64,
}

/// What was written.
pub(super) struct Written {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

impl Draft {
    /// Begins the file `name` in `folder`.
    ///
    /// # Errors
    /// The folder can't be written to.
    pub fn create(folder: &Path, name: &str) -> Result<Draft, ProjectError> {
        let path = folder.join(name);
        let file = atomic::Writer::create(&path)?;
        Ok(Draft { name: name.into(), path, file, hash: Hasher::default(), bytes: 0 })
    }

    /// `error` with the path of the file, and what to do.
    fn says(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), ProjectError::write(&self.path, error))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// As [`atomic::Writer::commit`].
    pub fn commit(self) -> Result<Written, ProjectError> {
        self.file.commit()?;
        Ok(Written { name: self.name, bytes: self.bytes, sha256: self.hash.finish() })
    }
}

impl Write for Draft {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer).map_err(|error| self.says(error))?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.says(error))
    }
}
