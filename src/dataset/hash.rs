//! Files by content: their hash, and images that two datasets share.

use super::Dataset;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// SHA-256 of a file's bytes, lower-case hex. Reads in pieces: memory doesn't grow with the file.
///
/// # Errors
/// What the system says when the file can't be read.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Names of the items of `b` that are also in `a`: the same file, or another file with the same
/// bytes. Calibrating on images that are then evaluated makes the result look better than it is.
///
/// Only files whose size occurs in both datasets are hashed; files that can't be read are no match.
pub fn overlap(a: &Dataset, b: &Dataset) -> Vec<String> {
    let mut by_size: HashMap<u64, Vec<&Path>> = HashMap::new();
    let mut real_paths: HashSet<PathBuf> = HashSet::new();
    for item in a.items.iter() {
        if let Ok(metadata) = fs::metadata(&item.path) {
            by_size.entry(metadata.len()).or_default().push(&item.path);
        }
        real_paths.extend(fs::canonicalize(&item.path));
    }

    let mut hashes_by_size: HashMap<u64, HashSet<String>> = HashMap::new();
    let mut is_shared = |path: &Path| -> bool {
        if fs::canonicalize(path).is_ok_and(|real| real_paths.contains(&real)) {
            return true;
        }
        let Ok(size) = fs::metadata(path).map(|metadata| metadata.len()) else { return false };
        let Some(candidates) = by_size.get(&size) else { return false };
        let hashes = hashes_by_size
            .entry(size)
            .or_insert_with(|| candidates.iter().filter_map(|candidate| sha256(candidate).ok()).collect());
        sha256(path).is_ok_and(|hash| hashes.contains(&hash))
    };
    b.items.iter().filter(|item| is_shared(&item.path)).map(|item| item.name.clone()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::DatasetSpec;
    use super::*;

    #[test]
    fn sha256_of_a_known_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, b"abc").unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(sha256(&dir.path().join("absent")).is_err());
    }

    fn dataset(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Dataset) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let spec = DatasetSpec { path: dir.path().to_path_buf(), ..Default::default() };
        let dataset = Dataset::open(&spec).unwrap();
        (dir, dataset)
    }

    #[test]
    fn overlap_goes_by_content_not_by_name() {
        let (_a_dir, a) = dataset(&[("1.png", b"first"), ("2.png", b"second"), ("3.png", b"other")]);
        let (_b_dir, b) = dataset(&[("1.png", b"FIRST"), ("x.png", b"second"), ("y.png", b"another size")]);
        assert_eq!(overlap(&a, &b), ["x.png"]);
        assert_eq!(overlap(&a, &a), ["1.png", "2.png", "3.png"]);
    }
}
