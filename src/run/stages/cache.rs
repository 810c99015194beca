//! Statistics that earlier runs left: a run with other options on the same model, images and preprocessing
//! starts from them. They are exact sums, so that nothing depends on where they come from.
//!
//! A file is named by the hash of all that its statistics belong to, is written in one step, and is used only
//! whole. The cache never makes a run fail: what can't be read is computed, what can't be written is left out.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::checkpoint::Checkpoint;
use crate::progress::Progress;
use crate::project::{atomic, hash, places};

/// Files that are kept; the oldest go first.
const MOST_FILES: usize = 32;
const EXTENSION: &str = "json";

/// The place for the statistics of one run.
pub(in crate::run) struct Cache<'a> {
    /// `None` where nothing is cached.
    file: Option<PathBuf>,
    key: &'a str,
}

impl<'a> Cache<'a> {
    /// The cache of whoever runs this, for statistics that belong to `key`.
    pub fn of_user(enabled: bool, key: &'a str) -> Cache<'a> {
        let folder = places::cache(|name| std::env::var_os(name)).filter(|_| enabled);
        Cache::new(folder.as_deref(), key)
    }

    fn new(folder: Option<&Path>, key: &'a str) -> Cache<'a> {
        // Another version may observe otherwise.
        let name = hash::sha256_bytes(format!("{}\n{key}", env!("CARGO_PKG_VERSION")).as_bytes());
        let file = folder.map(|folder| folder.join("statistics").join(format!("{name}.{EXTENSION}")));
        Cache { file, key }
    }

    /// The statistics of all `images`, if an earlier run has left them.
    pub fn read(&self, images: usize, progress: &dyn Progress) -> Option<Checkpoint> {
        let file = self.file.as_ref()?;
        let found = match Checkpoint::read(file, self.key) {
            Ok(found) => found?,
            Err(why) => {
                progress.warn(&format!(
                    "{}: the cached statistics are not used, {why}; they are computed anew",
                    file.display()
                ));
                return None;
            }
        };
        let whole = found.position >= images && found.statistics.images() > 0;
        if whole {
            let seen = found.statistics.images();
            progress.note(&format!(
                "statistics of {seen} images are those of an earlier run; --no-cache computes them anew"
            ));
        }
        whole.then_some(found)
    }

    /// Leaves statistics for later runs.
    pub fn keep(&self, checkpoint: &Checkpoint, progress: &dyn Progress) {
        let Some(file) = &self.file else { return };
        if let Err(why) = write(file, checkpoint) {
            progress.note(&format!("the statistics are not kept for later runs: {why}"));
        }
    }
}

fn write(file: &Path, checkpoint: &Checkpoint) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some(folder) = file.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    atomic::write(file, &checkpoint.to_bytes()?)?;
    remove_oldest(folder, MOST_FILES)?;
    Ok(())
}

/// Leaves at most `most` files in `folder`.
fn remove_oldest(folder: &Path, most: usize) -> std::io::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|e| e == EXTENSION) {
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    files.sort();
    let surplus = files.len().saturating_sub(most);
    // Another run may have removed one already.
    files.iter().take(surplus).for_each(|(_, path)| drop(std::fs::remove_file(path)));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::progress::Silent;
    use crate::quantize::Statistics;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn step(&self, _done: usize, _total: usize, _detail: Option<&str>) {}
        fn warn(&self, message: &str) {
            self.0.lock().unwrap().push(message.into());
        }
        fn cancelled(&self) -> bool {
            false
        }
    }

    /// A checkpoint whose statistics are of three images.
    fn checkpoint(key: &str) -> Checkpoint {
        let statistics: Statistics = serde_json::from_str(r#"{"images": 3, "tensors": {}}"#).unwrap();
        Checkpoint::new(key, 3, Vec::new(), statistics)
    }

    #[test]
    fn what_was_kept_is_found_by_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path()), "a");
        assert!(cache.read(3, &Silent).is_none());
        cache.keep(&checkpoint("a"), &Silent);
        assert_eq!(cache.read(3, &Silent).unwrap().statistics, checkpoint("a").statistics);
        assert!(cache.read(4, &Silent).is_none(), "statistics of a part are no statistics of all");
        assert!(Cache::new(Some(folder.path()), "b").read(3, &Silent).is_none());
        assert!(Cache::new(None, "a").read(3, &Silent).is_none());
    }

    #[test]
    fn a_damaged_file_is_said_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path()), "a");
        cache.keep(&checkpoint("a"), &Silent);
        let file = cache.file.clone().unwrap();
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        let heard = Heard::default();
        assert!(cache.read(3, &heard).is_none());
        let said = heard.0.into_inner().unwrap().concat();
        assert!(said.contains("the cached statistics are not used, it is cut short"), "{said}");
        cache.keep(&checkpoint("a"), &Silent);
        assert!(cache.read(3, &Silent).is_some());
    }

    #[test]
    fn a_place_that_cannot_be_written_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        Cache::new(Some(&file), "a").keep(&checkpoint("a"), &Silent);
        assert!(file.is_file());
    }

    #[test]
    fn the_oldest_files_go() {
        let folder = tempfile::tempdir().unwrap();
        for (at, name) in ["old.json", "new.json", "other.txt"].into_iter().enumerate() {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at as u64);
            std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        }
        remove_oldest(folder.path(), 1).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["new.json", "other.txt"]);
    }
}
