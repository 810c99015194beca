//! Paths as they are typed: what they can be completed to, and what lies beside images and model.

use std::fs;
use std::path::{Path, PathBuf};

/// The most entries of a folder that are listed.
const LISTED: usize = 200;

/// What a path can be completed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The text that it was made for.
    pub text: String,
    /// The folder of it, as it was typed.
    pub folder: String,
    /// Names that go on from what was typed; folders end with a slash.
    pub entries: Vec<String>,
}

impl Listing {
    /// Reads the folder that `text` leads to.
    pub fn of(text: &str) -> Self {
        let (folder, start) = text.rsplit_once('/').map_or(("", text), |(folder, start)| (folder, start));
        let folder = if text.contains('/') { format!("{folder}/") } else { folder.to_string() };
        let place = if folder.is_empty() { PathBuf::from(".") } else { expanded(&folder) };
        let mut entries: Vec<String> = fs::read_dir(place)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let hidden = name.starts_with('.') && !start.starts_with('.');
                let folder = entry.path().is_dir();
                (name.starts_with(start) && !hidden).then(|| if folder { name + "/" } else { name })
            })
            .collect();
        entries.sort_by_key(|name| (!name.ends_with('/'), name.clone()));
        entries.truncate(LISTED);
        Listing { text: text.to_string(), folder, entries }
    }
}

/// Files that lie beside images and model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Labels.
    pub labels: Option<String>,
    /// Class names.
    pub classes: Option<String>,
}

/// Looks for labels and class names where people put them: beside the images, above them, beside the
/// model.
pub fn find(images: &str, model: &str) -> Found {
    let images = images.trim_end_matches('/');
    let folder = expanded(images);
    let stem = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let labels = [format!("{stem}_labels.txt"), "labels.txt".into(), "val.txt".into(), format!("{stem}.txt")];
    let classes = ["classes.txt", "synset_words.txt", "imagenet_classes.txt", "class_names.txt"];
    let model = expanded(model);
    let places: Vec<&Path> =
        [Some(folder.as_path()), folder.parent(), model.parent()].into_iter().flatten().collect();
    let first = |names: &[&str]| {
        let candidates = places.iter().flat_map(|place| names.iter().map(move |name| place.join(name)));
        candidates.into_iter().find(|path| path.is_file()).map(|path| path.display().to_string())
    };
    Found { labels: first(&labels.each_ref().map(String::as_str)), classes: first(&classes) }
}

/// A path as it was typed, with `~` for the home folder.
pub fn expanded(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_completed_with_folders_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.onnx", "a.txt", ".hidden"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("z")).unwrap();
        let start = format!("{}/", folder.path().display());
        assert_eq!(Listing::of(&start).entries, ["z/", "a.txt", "b.onnx"]);
        assert_eq!(Listing::of(&format!("{start}b")).entries, ["b.onnx"]);
        assert_eq!(Listing::of("/no/such/folder/").entries, [""; 0]);
    }

    #[test]
    fn labels_and_names_are_found_beside_the_images() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("eval")).unwrap();
        for name in ["eval_labels.txt", "classes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find(&format!("{}/eval/", folder.path().display()), "");
        assert!(found.labels.unwrap().ends_with("eval_labels.txt"));
        assert!(found.classes.unwrap().ends_with("classes.txt"));
        assert_eq!(find("/no/such", ""), Found::default());
    }
}
