//! Finds image files below a folder.

use super::DatasetError;
use std::fs;
use std::path::{Path, PathBuf};

/// Endings of files that are taken for images, compared without case. Only the search goes by
/// names; decoding goes by content.
pub const EXTENSIONS: [&str; 6] = ["bmp", "gif", "jpeg", "jpg", "png", "webp"];

/// What lies below a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Name relative to the folder, and path; sorted by name.
    pub images: Vec<(String, PathBuf)>,
    /// Files that are not images.
    pub others: Vec<String>,
}

/// Searches `root` recursively. Hidden files and folders are skipped. Links are followed, except
/// a link to one of the folders that lead to it, which would never end.
pub(super) fn below(root: &Path) -> Result<Found, DatasetError> {
    let mut found = Found::default();
    descend(root, "", &mut Vec::new(), &mut found)?;
    found.images.sort();
    found.others.sort();
    Ok(found)
}

/// Names of the folders directly in `root`, sorted; hidden ones and `__MACOSX` (left behind by an
/// unpacker) are no part of a dataset.
pub(super) fn subfolders(root: &Path) -> Result<Vec<String>, DatasetError> {
    let mut names: Vec<String> =
        entries(root)?.into_iter().filter(|(_, _, is_dir)| *is_dir).map(|(name, ..)| name).collect();
    names.retain(|name| name != "__MACOSX");
    names.sort();
    Ok(names)
}

fn descend(
    folder: &Path,
    prefix: &str,
    ancestors: &mut Vec<PathBuf>,
    found: &mut Found,
) -> Result<(), DatasetError> {
    let real = fs::canonicalize(folder).map_err(|e| unreadable(folder, &e))?;
    if ancestors.contains(&real) {
        return Ok(());
    }
    ancestors.push(real);
    for (name, path, is_dir) in entries(folder)? {
        let name = format!("{prefix}{name}");
        if is_dir {
            descend(&path, &format!("{name}/"), ancestors, found)?;
        } else if is_image(&path) {
            found.images.push((name, path));
        } else {
            found.others.push(name);
        }
    }
    ancestors.pop();
    Ok(())
}

/// Name, path, and whether it is a folder, of everything in `folder` that is a regular file or a
/// folder, or a link to one. Sockets and dangling links are nothing to read.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, bool)>, DatasetError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| unreadable(folder, &e))? {
        let entry = entry.map_err(|e| unreadable(folder, &e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let mut file_type = entry.file_type().map_err(|e| unreadable(&entry.path(), &e))?;
        if file_type.is_symlink() {
            match fs::metadata(entry.path()) {
                Ok(target) => file_type = target.file_type(),
                Err(_) => continue,
            }
        }
        if file_type.is_dir() || file_type.is_file() {
            entries.push((name, entry.path(), file_type.is_dir()));
        }
    }
    Ok(entries)
}

fn is_image(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

fn unreadable(path: &Path, error: &std::io::Error) -> DatasetError {
    DatasetError::Read { path: path.to_path_buf(), what: error.to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn touch(root: &Path, name: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    #[test]
    fn finds_images_at_any_depth_in_any_case_sorted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.JPEG", "a/z.png", "a/b/c.WebP", ".hidden.png", ".git/x.png", "notes.txt", "noext"] {
            touch(dir.path(), name);
        }
        let found = below(dir.path()).unwrap();
        let names: Vec<_> = found.images.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a/b/c.WebP", "a/z.png", "b.JPEG"]);
        assert_eq!(found.others, ["noext", "notes.txt"]);
        assert!(found.images.iter().all(|(_, path)| path.is_file()));
    }

    #[cfg(unix)]
    #[test]
    fn follows_links_but_not_in_circles() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        touch(dir.path(), "a/1.png");
        touch(elsewhere.path(), "2.png");
        symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        symlink(elsewhere.path(), dir.path().join("linked")).unwrap();
        symlink(dir.path().join("nowhere"), dir.path().join("dangling.png")).unwrap();
        let found = below(dir.path()).unwrap();
        let names: Vec<_> = found.images.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a/1.png", "linked/2.png"]);
    }
}
