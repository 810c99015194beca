//! Follows the event log of a run, from another process.
//!
//! Nothing waits here: a reader polls, and gets the entries that are whole by then. The log of a run
//! may be cut (a worker that is taken up again removes a torn last line), or be another one (the run was
//! replaced with `--force`); a reader is told to begin anew only in the second case.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::events::Entry;
use crate::project::ProjectError;

/// The most that one poll reads, so that a long log does not keep its reader from other things.
const BYTES_PER_POLL: u64 = 1 << 20;
/// A start of this many bytes, with the time of the first entry in it, tells two logs apart.
const FINGERPRINT: usize = 96;

/// What a poll found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// The log is another one than before: forget what was folded.
    pub restarted: bool,
    /// New entries, in order.
    pub entries: Vec<Entry>,
    /// There is more to read at once.
    pub more: bool,
}

/// A reader of `events.jsonl` at its place.
#[derive(Debug)]
pub struct EventTail {
    path: PathBuf,
    /// Behind the last whole line that was read.
    offset: u64,
    /// Inode and first bytes of the log that the offset belongs to.
    log: Option<(u64, Vec<u8>)>,
}

impl EventTail {
    /// Reads the log of a run directory from its start; the log may be yet to come.
    pub fn new(directory: &Path) -> Self {
        EventTail { path: directory.join("events.jsonl"), offset: 0, log: None }
    }

    /// How many bytes were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is new since the last poll. Lines that are no entry are passed over.
    ///
    /// # Errors
    /// The log is there and can't be read.
    pub fn poll(&mut self) -> Result<News, ProjectError> {
        self.try_poll().map_err(|source| ProjectError::read(&self.path, source))
    }

    fn try_poll(&mut self) -> io::Result<News> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.restart()),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let mut news = News::default();
        if !self.is_same(&mut file, metadata.ino(), metadata.len())? {
            news = self.restart();
        }
        if metadata.len() <= self.offset {
            return Ok(news);
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        (&mut file).take(BYTES_PER_POLL).read_to_end(&mut bytes)?;
        let whole = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(last) => last + 1,
            // No entry is that long: what stands here is passed over.
            None if bytes.len() as u64 == BYTES_PER_POLL => bytes.len(),
            None => 0,
        };
        if self.offset == 0 && whole > 0 {
            self.log = Some((metadata.ino(), bytes[..whole.min(FINGERPRINT)].to_vec()));
        }
        self.offset += whole as u64;
        news.more = bytes.len() as u64 == BYTES_PER_POLL;
        let lines = bytes[..whole].split(|b| *b == b'\n');
        news.entries = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        Ok(news)
    }

    fn restart(&mut self) -> News {
        let restarted = self.log.take().is_some();
        self.offset = 0;
        News { restarted, ..News::default() }
    }

    /// Whether the file is the one that was read before, so far as that was read.
    fn is_same(&self, file: &mut File, inode: u64, length: u64) -> io::Result<bool> {
        let Some((known, start)) = &self.log else { return Ok(true) };
        if *known != inode || length < self.offset {
            return Ok(false);
        }
        let mut bytes = vec![0; start.len()];
        match file.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes == *start),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;
    use crate::run::events::Event;

    fn line(second: u32) -> String {
        let event = Event::Warning { stage: None, message: format!("w{second}") };
        let entry = Entry { time: format!("2026-01-01T00:00:{second:02}.000Z"), elapsed: 0.0, event };
        serde_json::to_string(&entry).unwrap() + "\n"
    }

    struct Log {
        folder: tempfile::TempDir,
        tail: EventTail,
    }

    impl Log {
        fn new() -> Log {
            let folder = tempfile::tempdir().unwrap();
            let tail = EventTail::new(folder.path());
            Log { folder, tail }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("events.jsonl")
        }

        fn append(&self, text: &str) {
            let mut file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        /// Whether the log is another one, and the seconds of its new entries.
        fn poll(&mut self) -> (bool, Vec<String>) {
            let news = self.tail.poll().unwrap();
            (news.restarted, news.entries.iter().map(|e| e.time[17..19].to_string()).collect())
        }
    }

    fn seconds(restarted: bool, of: &[&str]) -> (bool, Vec<String>) {
        (restarted, of.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn entries_come_once_and_only_when_they_are_whole() {
        let mut log = Log::new();
        assert_eq!(log.poll(), seconds(false, &[]), "no log yet");
        log.append(&line(1));
        assert_eq!(log.poll(), seconds(false, &["01"]));
        let (start, end) = (&line(2)[..30], &line(2)[30..]);
        log.append(start);
        assert_eq!(log.poll(), seconds(false, &[]));
        log.append(&format!("{end}{}", line(3)));
        assert_eq!(log.poll(), seconds(false, &["02", "03"]));
        assert_eq!(log.poll(), seconds(false, &[]));
    }

    #[test]
    fn a_torn_line_that_a_resumed_run_removes_is_no_new_log() {
        let mut log = Log::new();
        log.append(&(line(1) + &line(2)[..30]));
        assert_eq!(log.poll(), seconds(false, &["01"]));
        OpenOptions::new().write(true).open(log.path()).unwrap().set_len(line(1).len() as u64).unwrap();
        assert_eq!(log.poll(), seconds(false, &[]));
        log.append(&line(5));
        assert_eq!(log.poll(), seconds(false, &["05"]));
    }

    #[test]
    fn a_log_that_was_replaced_is_read_from_its_start() {
        let mut log = Log::new();
        log.append(&line(1));
        log.poll();
        fs::remove_file(log.path()).unwrap();
        assert_eq!(log.poll(), seconds(true, &[]), "gone");
        assert_eq!(log.poll(), seconds(false, &[]), "told once");
        log.append(&(line(2) + &line(3)));
        assert_eq!(log.poll(), seconds(false, &["02", "03"]));
        // In place, longer than before: only the first entry tells.
        fs::write(log.path(), line(4) + &line(5) + &line(6)).unwrap();
        assert_eq!(log.poll(), seconds(true, &["04", "05", "06"]));
        fs::write(log.path(), line(7)).unwrap();
        assert_eq!(log.poll(), seconds(true, &["07"]), "shorter");
    }

    #[test]
    fn a_long_log_comes_in_parts_and_nonsense_is_passed_over() {
        let mut log = Log::new();
        let many = (BYTES_PER_POLL as usize * 5 / 2) / line(1).len();
        log.append(&(line(1).repeat(many) + "no entry\n" + &"x".repeat(BYTES_PER_POLL as usize * 2)));
        log.append(&format!("\n{}", line(9)));
        let (mut count, mut polls) = (0, 0);
        loop {
            let news = log.tail.poll().unwrap();
            count += news.entries.len();
            polls += 1;
            if !news.more {
                break;
            }
        }
        assert_eq!(count, many + 1);
        assert!((5..8).contains(&polls), "{polls}");
        assert_eq!(log.tail.offset(), fs::metadata(log.path()).unwrap().len());
    }
}
