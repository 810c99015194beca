//! One process per run directory.
//!
//! The lock is the kernel's (`flock`), not the file's existence: it ends with the process, however
//! that ends. The file only says who holds it.
//!
//! Some file systems keep no locks (NFS without its lock service, a few of FUSE). A folder there can be used, but
//! nothing notices a second process; [`RunLock::is_kept`] says so, and a run warns.
//!
//! Whoever only looks takes a shared lock for a moment, so that those who look do not see each other. On a busy
//! machine a moment may be long, so whoever takes the lock for good waits while others only look, which a shared lock
//! of its own tells. A process that was killed gives its memory back before its locks, and a child that it was about to
//! start has them until it runs: so a holder that is gone is waited for, too.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{ProjectError, host};

/// Name of the lock file in a run directory.
pub const LOCK_FILE: &str = "lock";

/// How often a lock that is held is tried again, since its holder may be letting go, and after how long.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);
/// How long to wait for those who only look, a process that gets no core, or was stopped, in the middle of a look; and
/// for a holder that is gone.
const LOOKS: Duration = Duration::from_secs(10);

/// Holds a folder until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    kept: bool,
}

/// Who holds a lock, as far as the lock file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: Option<u32>,
    /// The machine it runs on.
    pub host: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.pid, &self.host) {
            (Some(pid), Some(host)) => write!(f, "process {pid} on {host}"),
            _ => f.write_str("another process"),
        }
    }
}

impl Holder {
    /// Whether it is known that this process is no more: one without a program.
    fn is_gone(&self) -> bool {
        let is_here = self.host.as_ref() == Some(&host::hostname());
        let program = self.pid.filter(|_| is_here).map(|pid| std::fs::read_link(format!("/proc/{pid}/exe")));
        matches!(program, Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound)
            && Path::new("/proc/self/exe").exists()
    }

    /// Reads `process 12 on host`.
    fn parse(text: &str) -> Holder {
        let mut words = text.split_whitespace();
        let (pid, host) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("process"), Some(pid), Some("on"), Some(host)) => {
                (pid.parse().ok(), Some(host.to_string()))
            }
            _ => (None, None),
        };
        Holder { pid, host }
    }
}

impl RunLock {
    /// Takes the lock of `folder`, which must exist.
    ///
    /// # Errors
    /// [`ProjectError::Locked`] with the holder, or the lock file can't be written.
    pub fn take(folder: &Path) -> Result<Self, ProjectError> {
        RunLock::take_with(folder, lock_patiently)
    }

    fn take_with(
        folder: &Path,
        lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, ProjectError> {
        let path = folder.join(LOCK_FILE);
        let failed = |source| ProjectError::write(&path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let kept = match lock(&file) {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Err(locked(folder, &read_holder(&file))),
            Err(TryLockError::Error(source)) if is_without_locks(&source) => false,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        };
        file.set_len(0).map_err(failed)?;
        let holder = Holder { pid: Some(std::process::id()), host: Some(host::hostname()) };
        file.write_all(format!("{holder}\n").as_bytes()).map_err(failed)?;
        Ok(RunLock { file, kept })
    }

    /// Whether the file system keeps the lock: if not, another process could work in the folder unnoticed.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Who works in `folder` now, if anybody does. Changes nothing.
    pub fn holder(folder: &Path) -> Option<Holder> {
        let file = File::open(folder.join(LOCK_FILE)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_holder(&file)),
            _ => None,
        }
    }

    /// Whether nobody works in `folder`. Changes nothing.
    ///
    /// # Errors
    /// [`ProjectError::Locked`] with the holder.
    pub fn check_free(folder: &Path) -> Result<(), ProjectError> {
        Self::holder(folder).map_or(Ok(()), |holder| Err(locked(folder, &holder)))
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // An empty file holds nobody's name; should this fail, the lock still ends with the handle.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

/// Whether the system says that this file system has no locks.
fn is_without_locks(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Unsupported
        || [Errno::NOLCK, Errno::NOTSUP, Errno::NOSYS]
            .iter()
            .any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

fn lock_patiently(file: &File) -> Result<(), TryLockError> {
    let start = Instant::now();
    let mut held = 0;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            result => return result,
        }
        // A shared lock is given beside those of others who look, and not beside one that is held for good.
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map_err(TryLockError::Error)?,
            Err(_) => held += 1,
        }
        let has_waited = held >= TRIES && !read_holder(file).is_gone();
        if has_waited || start.elapsed() > LOOKS {
            return Err(TryLockError::WouldBlock);
        }
        std::thread::sleep(PAUSE);
    }
}

fn locked(folder: &Path, holder: &Holder) -> ProjectError {
    ProjectError::Locked { folder: folder.to_path_buf(), holder: holder.to_string() }
}

fn read_holder(mut file: &File) -> Holder {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(200).read_to_string(&mut text));
    Holder::parse(if read.is_ok() { &text } else { "" })
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
        assert_eq!(RunLock::holder(folder.path()).unwrap().pid, Some(std::process::id()));
        assert!(RunLock::check_free(folder.path()).is_err());
        drop(first);
        assert!(RunLock::holder(folder.path()).is_none());
        RunLock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_lock_file_that_a_dead_process_left_does_not_hold() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK_FILE), "process 1 on gone\n").unwrap();
        assert!(RunLock::holder(folder.path()).is_none());
        RunLock::take(folder.path()).unwrap();
    }

    #[test]
    fn those_who_look_neither_see_each_other_nor_keep_a_taker_away() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunLock::take(folder.path()).unwrap());
        let looking = File::open(folder.path().join(LOCK_FILE)).unwrap();
        looking.try_lock_shared().unwrap();
        assert!(RunLock::holder(folder.path()).is_none());
        let pause = std::thread::spawn(move || {
            std::thread::sleep(2 * TRIES * PAUSE);
            drop(looking);
        });
        RunLock::take(folder.path()).unwrap();
        pause.join().unwrap();
    }

    #[test]
    fn a_file_system_without_locks_can_be_used_and_is_said_to_have_none() {
        let folder = tempfile::tempdir().unwrap();
        for errno in [Errno::NOLCK, Errno::NOTSUP, Errno::NOSYS] {
            let without = |_: &File| Err(TryLockError::Error(errno.into()));
            let lock = RunLock::take_with(folder.path(), without).unwrap();
            assert!(!lock.is_kept());
            let text = std::fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
            assert!(text.starts_with(&format!("process {} on ", std::process::id())), "{text}");
        }
        let broken = |_: &File| Err(TryLockError::Error(Errno::IO.into()));
        assert!(RunLock::take_with(folder.path(), broken).is_err());
        assert!(RunLock::take(folder.path()).unwrap().is_kept());
    }

    #[test]
    fn a_lock_file_of_another_hand_names_nobody() {
        assert_eq!(Holder::parse("process 12 on box\n"), Holder { pid: Some(12), host: Some("box".into()) });
        assert_eq!(Holder::parse("").to_string(), "another process");
        assert_eq!(Holder::parse("process x on box").to_string(), "another process");
    }

    #[test]
    fn a_holder_that_is_gone_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join(LOCK_FILE)).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = Holder { pid: Some(child.id()), host: Some(host::hostname()) };
        child.wait().unwrap();
        std::fs::write(folder.path().join(LOCK_FILE), format!("{gone}\n")).unwrap();
        file.try_lock().unwrap();
        // Longer than a holder that lives would be waited for.
        let late = std::thread::spawn(move || {
            std::thread::sleep(PAUSE * (3 * TRIES));
            drop(file);
        });
        RunLock::take(folder.path()).unwrap();
        late.join().unwrap();
    }
}
