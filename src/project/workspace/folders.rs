//! Folders that are named after what the user calls a thing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::project::ProjectError;

/// Longest name in bytes, and longest start of it in the name of a folder.
const LONGEST_NAME: usize = 100;
const LONGEST_SLUG: usize = 40;

/// A name without spaces around it, if it can be one: it ends in run files, tables and file names.
///
/// # Errors
/// It is empty, too long, or holds what no file name may.
pub fn checked_name(name: &str) -> Result<&str, ProjectError> {
    let trimmed = name.trim();
    let bad = |c: char| c == '/' || c == '\\' || c.is_control();
    if trimmed.is_empty()
        || trimmed.len() > LONGEST_NAME
        || trimmed.contains(bad)
        || trimmed == ".."
        || trimmed == "."
    {
        let what = "expected 1 to 100 characters without slashes, such as mobilenet-v2";
        return Err(ProjectError::Name { name: name.to_string(), what });
    }
    Ok(trimmed)
}

/// Lowercase letters, digits and dashes from a name; `otherwise` if nothing is left.
pub fn slug(name: &str, otherwise: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() || c == '.' && !slug.is_empty() || c == '_' {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(LONGEST_SLUG);
    let slug = slug.trim_end_matches(['-', '.']);
    if slug.is_empty() { otherwise.to_string() } else { slug.to_string() }
}

/// Makes an empty folder `stem`, `stem-2`, ... in `parent`: the first that is not taken.
///
/// # Errors
/// Nothing can be made there.
pub fn claim(parent: &Path, stem: &str) -> Result<(String, PathBuf), ProjectError> {
    fs::create_dir_all(parent).map_err(|source| ProjectError::write(parent, source))?;
    let mut number = 1;
    loop {
        let id = if number == 1 { stem.to_string() } else { format!("{stem}-{number}") };
        let path = parent.join(&id);
        match fs::create_dir(&path) {
            Ok(()) => return Ok((id, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(ProjectError::write(&path, source)),
        }
    }
}

/// Folders in `parent` by name, hidden ones aside; none if there is no `parent`.
///
/// # Errors
/// `parent` can't be listed.
pub fn list(parent: &Path) -> Result<Vec<(String, PathBuf)>, ProjectError> {
    let failed = |source| ProjectError::read(parent, source);
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether nothing is in a folder: it was claimed a moment ago, or its maker was killed then.
pub fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_plain_name_of_a_folder() {
        let of = |name| slug(name, "project");
        assert_eq!(of("MobileNet v2 (224)"), "mobilenet-v2-224");
        assert_eq!(of("ResNet-50 v1.5"), "resnet-50-v1.5");
        assert_eq!(of("..//\u{1b}[31m"), "31m");
        assert_eq!(of("日本"), "project");
        assert_eq!(of(&"a".repeat(100)).len(), 40);
    }

    #[test]
    fn a_name_that_no_folder_can_have_is_refused() {
        for name in ["", "  ", "a/b", "..", "a\u{7}", &"a".repeat(101)] {
            let message = checked_name(name).map_err(|error| error.to_string()).err().unwrap_or_default();
            assert!(message.contains("expected 1 to 100 characters without slashes"), "{name:?}: {message}");
        }
        assert_eq!(checked_name(" a b ").ok(), Some("a b"));
    }
}
