//! Paths of a run file: made absolute, and what to say when they lead nowhere.

use std::fs;
use std::path::{Path, PathBuf};

use super::problem::Problem;

/// The problem of a path that leads nowhere.
pub fn missing(keys: &[&str], path: &Path, text: &str, expected: &str) -> Problem {
    let problem = Problem::new(format!("'{}' does not exist: {}", keys.join("."), path.display()));
    let problem = problem.expected(expected);
    if text.starts_with("~/") {
        return problem.hint("`~` means nothing in a run file: write the home folder out");
    }
    problem.hint("paths are relative to the run file")
}

/// Resolves `..` and links in all but the last component, which keeps its own name: the name of a
/// model should not turn into that of a file in some cache that it links to.
pub fn tidy(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().unwrap_or_else(|_| tidy(parent)).join(name),
        _ => path.canonicalize().unwrap_or_else(|_| path.to_path_buf()),
    }
}

/// Up to five ONNX files beside `path` or, where its folder does not exist, beside the run file.
pub fn models_near(path: &Path, folder: &Path) -> Vec<String> {
    let listed = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let is_model = |p: &PathBuf| p.extension().is_some_and(|e| e == "onnx") && p.is_file();
        entries.map(|entry| entry.path()).filter(is_model).collect()
    };
    let mut found = path.parent().map(listed).unwrap_or_default();
    if found.is_empty() {
        found = listed(folder);
    }
    found.sort();
    found
        .iter()
        .take(5)
        .map(|near| {
            let base = folder.canonicalize().unwrap_or_default();
            near.strip_prefix(&base)
                .or_else(|_| near.strip_prefix(folder))
                .unwrap_or(near)
                .display()
                .to_string()
        })
        .collect()
}
