//! Recognises the layout of a dataset and joins images with labels.

use super::labels::{Classes, Entry, is_wnid, looks_like_labels, read_classes, read_labels};
use super::walk::{Found, below, subfolders};
use super::{Dataset, DatasetError, DatasetSpec, Item, Kind};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How many examples a message gives before it only counts.
const EXAMPLES: usize = 3;

impl Dataset {
    /// Finds the images below `spec.path` and their labels, and recognises the layout:
    ///
    /// - `labels` given: the listed files, and only those, are the dataset; without `labels`,
    ///   `spec.path` may itself be such a list, of files relative to its own folder;
    /// - at least two subfolders with images and no image beside them: class folders. With a class
    ///   list, each folder must be named after one of its lines (WordNet id or name), or the
    ///   dataset counts as unannotated, with a warning; without a class list, classes are the
    ///   sorted folder names;
    /// - anything else: unannotated.
    ///
    /// No image is opened.
    ///
    /// # Errors
    /// [`DatasetError`]: folder or list missing, no images, a malformed or contradictory list,
    /// labels for files that don't exist, too few class names.
    pub fn open(spec: &DatasetSpec) -> Result<Dataset, DatasetError> {
        let (mut root, mut labels) = (&*spec.path, spec.labels.as_deref());
        match std::fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) if labels.is_none() => {
                labels = Some(root);
                root = root.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            }
            Ok(_) => return Err(DatasetError::NotAFolder { path: root.to_path_buf() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(DatasetError::NotFound { path: root.to_path_buf() });
            }
            Err(error) => {
                return Err(DatasetError::Read { path: root.to_path_buf(), what: error.to_string() });
            }
        }
        if spec.subset == Some(0) {
            return Err(DatasetError::EmptySubset { path: root.to_path_buf() });
        }

        let classes = spec.classes.as_deref().map(read_classes).transpose()?;
        let found = below(root)?;
        let mut dataset = match labels {
            Some(labels) => listed(root, labels, &found, classes)?,
            None if found.images.is_empty() => {
                let other_files = found.others.len();
                return Err(DatasetError::NoImages { path: root.to_path_buf(), other_files });
            }
            None => unlisted(root, found, classes)?,
        };
        if let (Some(path), Some(names)) = (&spec.classes, &dataset.classes) {
            enough_classes(&dataset, path, names.len())?;
        }
        if let Some(n) = spec.subset {
            if n > dataset.items.len() {
                let available = dataset.items.len();
                dataset.warnings.push(format!("a subset of {n} images was asked for, there are {available}"));
            }
            dataset = dataset.subset(n);
        }
        Ok(dataset)
    }

    /// `n` images at even distances of the sorted list: those at the indices `i * len / n` (rounded
    /// down) for i from 0 to n-1. The same dataset and n always give the same images. All of them
    /// when there are no more than `n`.
    pub fn subset(&self, n: usize) -> Dataset {
        let len = self.items.len();
        if n >= len {
            return self.clone();
        }
        let items = (0..n).map(|i| self.items[i * len / n].clone()).collect();
        Dataset { items, ..self.clone() }
    }

    /// Checks that each label is below the number of classes of the model.
    ///
    /// # Errors
    /// [`DatasetError::LabelOutOfRange`] for the first label that isn't, with its file and line.
    pub fn check_labels(&self, classes_of_model: usize) -> Result<(), DatasetError> {
        let fits = |label: u32| (label as usize) < classes_of_model;
        let Some((item, label)) =
            self.items.iter().filter_map(|item| Some((item, item.label?))).find(|(_, label)| !fits(*label))
        else {
            return Ok(());
        };
        let labels = || self.items.iter().filter_map(|item| item.label);
        let from_one =
            labels().min() == Some(1) && labels().max().map(|l| l as usize) == Some(classes_of_model);
        let hint = if from_one {
            "the labels seem to be counted from 1, they must be counted from 0"
        } else {
            "check that labels and model are of the same set of classes"
        };
        Err(DatasetError::LabelOutOfRange {
            at: self.place_of_label(item),
            name: item.name.clone(),
            label,
            classes: classes_of_model,
            hint: hint.into(),
        })
    }

    /// `file:line`, or the class folder.
    fn place_of_label(&self, item: &Item) -> String {
        match (&self.labels, item.line) {
            (Some(list), Some(line)) => format!("{}:{line}", list.display()),
            _ => {
                let folder = item.name.split('/').next().unwrap_or_default();
                self.root.join(folder).display().to_string()
            }
        }
    }
}

/// A dataset whose images and labels are given by a list.
fn listed(
    root: &Path,
    labels: &Path,
    found: &Found,
    classes: Option<Classes>,
) -> Result<Dataset, DatasetError> {
    let entries = read_labels(labels)?;
    let known: HashSet<&str> = found.images.iter().map(|(name, _)| name.as_str()).collect();
    let exists = |entry: &Entry| known.contains(entry.name.as_str()) || root.join(&entry.name).is_file();
    let missing: Vec<_> = entries.iter().filter(|entry| !exists(entry)).collect();
    if !missing.is_empty() {
        let example = |entry: &&Entry| format!("'{}' (line {})", entry.name, entry.line);
        return Err(DatasetError::MissingFiles {
            path: labels.to_path_buf(),
            root: root.to_path_buf(),
            count: missing.len(),
            listed: entries.len(),
            examples: missing.iter().take(EXAMPLES).map(example).collect(),
        });
    }

    let names: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let unlisted = found.images.iter().filter(|(name, _)| !names.contains(name.as_str())).count();
    let mut warnings = Vec::new();
    if unlisted > 0 {
        warnings.push(format!(
            "{}: {unlisted} images in {} are not listed and are left out",
            labels.display(),
            root.display()
        ));
    }
    let mut items: Vec<Item> = entries
        .into_iter()
        .map(|entry| Item {
            path: root.join(&entry.name),
            name: entry.name,
            label: Some(entry.label),
            line: Some(entry.line),
        })
        .collect();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Dataset {
        root: root.to_path_buf(),
        items: items.into(),
        classes: classes.map(|classes| classes.names),
        kind: Kind::ImageNetList,
        labels: Some(labels.to_path_buf()),
        warnings,
    })
}

/// A dataset without a list: class folders, or unannotated.
fn unlisted(root: &Path, found: Found, classes: Option<Classes>) -> Result<Dataset, DatasetError> {
    let mut warnings = Vec::new();
    let folders = match class_folders(root, &found)? {
        Some(folders) => {
            label_folders(&folders, classes.as_ref(), &mut warnings).map(|labels| (folders, labels))
        }
        None => None,
    };
    let (kind, names, labels) = match folders {
        Some((folders, labels)) => {
            let names = classes.map_or_else(|| folders.clone(), |classes| classes.names);
            (Kind::ClassFolders, Some(names), folders.into_iter().zip(labels).collect())
        }
        None => {
            if let Some(list) = stray_label_list(root, &found) {
                warnings.push(format!(
                    "{} lies beside the images; give it as `labels` to use it",
                    root.join(list).display()
                ));
            }
            (Kind::Unannotated, classes.map(|classes| classes.names), HashMap::new())
        }
    };
    let label_of = |name: &str| name.split_once('/').and_then(|(folder, _)| labels.get(folder)).copied();
    let items = found
        .images
        .into_iter()
        .map(|(name, path)| Item { label: label_of(&name), name, path, line: None })
        .collect();
    Ok(Dataset { root: root.to_path_buf(), items, classes: names, kind, labels: None, warnings })
}

/// The subfolders, sorted, if at least two hold images and no image lies outside of them. A
/// subfolder without images is still a class: leaving it out would renumber those after it.
fn class_folders(root: &Path, found: &Found) -> Result<Option<Vec<String>>, DatasetError> {
    let mut with_images: HashSet<&str> = HashSet::new();
    for (name, _) in &found.images {
        match name.split_once('/') {
            Some((folder, _)) => with_images.insert(folder),
            None => return Ok(None),
        };
    }
    if with_images.len() < 2 {
        return Ok(None);
    }
    Ok(Some(subfolders(root)?))
}

/// The class index of each folder; `None`, with a warning, when a class list is given that doesn't
/// know all of them.
fn label_folders(
    folders: &[String],
    classes: Option<&Classes>,
    warnings: &mut Vec<String>,
) -> Option<Vec<u32>> {
    let Some(classes) = classes else {
        let wnids = folders.iter().filter(|folder| is_wnid(folder)).count();
        if wnids == folders.len() && wnids != IMAGENET_CLASSES {
            warnings.push(format!(
                "the {wnids} class folders are numbered 0 to {} in the order of their names; for a model of \
                 all {IMAGENET_CLASSES} ImageNet classes, give its list as `classes`",
                wnids - 1
            ));
        }
        return Some((0u32..).take(folders.len()).collect());
    };
    let labels: Vec<Option<u32>> = folders.iter().map(|folder| classes.index_of(folder)).collect();
    let unknown: Vec<&str> = folders
        .iter()
        .zip(&labels)
        .filter(|(_, label)| label.is_none())
        .map(|(folder, _)| folder.as_str())
        .collect();
    if !unknown.is_empty() {
        let examples = unknown.iter().take(EXAMPLES).map(|name| format!("'{name}'")).collect::<Vec<_>>();
        warnings.push(format!(
            "{} of {} folders are not named after a class of the class list ({}), so the images count as \
             unannotated",
            unknown.len(),
            folders.len(),
            examples.join(", ")
        ));
        return None;
    }
    Some(labels.into_iter().flatten().collect())
}

/// The number of classes of ImageNet-1k.
const IMAGENET_CLASSES: usize = 1000;

/// A file directly in the dataset folder that looks like a list of labels nobody asked to use.
fn stray_label_list<'a>(root: &Path, found: &'a Found) -> Option<&'a str> {
    let looks_right = |name: &&String| {
        let mut start = Vec::new();
        let read =
            File::open(root.join(name.as_str())).and_then(|file| file.take(4096).read_to_end(&mut start));
        read.is_ok() && looks_like_labels(&String::from_utf8_lossy(&start))
    };
    found
        .others
        .iter()
        .filter(|name| name.ends_with(".txt") && !name.contains('/'))
        .find(looks_right)
        .map(String::as_str)
}

/// Checks that the class list names a class for the largest label.
fn enough_classes(dataset: &Dataset, path: &Path, found: usize) -> Result<(), DatasetError> {
    let largest =
        dataset.items.iter().filter_map(|item| Some((item.label?, item))).max_by_key(|(label, _)| *label);
    match largest {
        Some((label, item)) if label as usize >= found => Err(DatasetError::TooFewClasses {
            path: path.to_path_buf(),
            found,
            label,
            at: dataset.place_of_label(item),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder of empty files; `=` gives one its text.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let (name, text) = file.split_once('=').unwrap_or((file, ""));
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn spec(dir: &tempfile::TempDir, labels: Option<&str>, classes: Option<&str>) -> DatasetSpec {
        DatasetSpec {
            path: dir.path().join("images"),
            labels: labels.map(|name| dir.path().join(name)),
            classes: classes.map(|name| dir.path().join(name)),
            subset: None,
        }
    }

    /// The message of the error, with the folder's name taken out.
    fn message(dir: &tempfile::TempDir, spec: &DatasetSpec) -> String {
        let message = Dataset::open(spec).unwrap_err().to_string();
        message.replace(&format!("{}/", dir.path().display()), "")
    }

    fn labels_of(dataset: &Dataset) -> Vec<(&str, Option<u32>)> {
        dataset.items.iter().map(|item| (item.name.as_str(), item.label)).collect()
    }

    #[test]
    fn a_plain_folder_is_unannotated_and_hints_at_a_list_beside_it() {
        let dir = folder(&["images/b.png", "images/sub/a.png", "images/val.txt=b.png 3\n"]);
        let dataset = Dataset::open(&spec(&dir, None, None)).unwrap();
        assert_eq!(dataset.kind, Kind::Unannotated);
        assert_eq!(labels_of(&dataset), [("b.png", None), ("sub/a.png", None)]);
        assert_eq!(dataset.warnings.len(), 1);
        assert!(
            dataset.warnings[0].ends_with("val.txt lies beside the images; give it as `labels` to use it")
        );
    }

    #[test]
    fn a_list_gives_labels_in_any_order_and_leaves_out_the_rest() {
        let dir =
            folder(&["images/b.png", "images/sub/a b.png", "images/c.png", "l=sub/a b.png 1\nb.png 7\n"]);
        let dataset = Dataset::open(&spec(&dir, Some("l"), None)).unwrap();
        assert_eq!(dataset.kind, Kind::ImageNetList);
        assert_eq!(labels_of(&dataset), [("b.png", Some(7)), ("sub/a b.png", Some(1))]);
        assert_eq!(dataset.items[0].line, Some(2));
        assert!(dataset.warnings[0].contains("1 images in"), "{:?}", dataset.warnings);
    }

    #[test]
    fn class_folders_are_numbered_in_the_order_of_their_names() {
        let dir = folder(&["images/dog/1.png", "images/cat/x/2.png", "images/bird/readme.txt"]);
        let dataset = Dataset::open(&spec(&dir, None, None)).unwrap();
        assert_eq!(dataset.kind, Kind::ClassFolders);
        assert_eq!(labels_of(&dataset), [("cat/x/2.png", Some(1)), ("dog/1.png", Some(2))]);
        assert_eq!(dataset.classes.unwrap(), ["bird", "cat", "dog"]);
    }

    #[test]
    fn class_folders_take_their_index_from_a_class_list() {
        let dir =
            folder(&["images/n00000002/1.png", "images/dog/2.png", "c=dog, hound\nfox\nn00000002 cat\n"]);
        let dataset = Dataset::open(&spec(&dir, None, Some("c"))).unwrap();
        assert_eq!(dataset.kind, Kind::ClassFolders);
        assert_eq!(labels_of(&dataset), [("dog/2.png", Some(0)), ("n00000002/1.png", Some(2))]);
        assert_eq!(dataset.classes.unwrap(), ["dog, hound", "fox", "cat"]);
    }

    #[test]
    fn folders_that_a_class_list_does_not_know_are_not_classes() {
        let dir = folder(&["images/2023/1.png", "images/dog/2.png", "c=dog\ncat\n"]);
        let dataset = Dataset::open(&spec(&dir, None, Some("c"))).unwrap();
        assert_eq!(dataset.kind, Kind::Unannotated);
        assert!(dataset.items.iter().all(|item| item.label.is_none()));
        assert!(dataset.warnings[0].starts_with("1 of 2 folders are not named after a class"));
    }

    #[test]
    fn part_of_imagenet_without_its_class_list_is_warned_of() {
        let dir = folder(&["images/n00000002/1.png", "images/n00000009/2.png"]);
        let dataset = Dataset::open(&spec(&dir, None, None)).unwrap();
        assert!(dataset.warnings[0].contains("numbered 0 to 1"), "{:?}", dataset.warnings);
    }

    #[test]
    fn each_bad_dataset_says_what_where_and_what_to_do() {
        let dir = folder(&[
            "images/a.png",
            "images/b.png",
            "gone=a.png 0\nx.png 1\ny.png 1\nz.png 1\nw.png 1\n",
            "big=a.png 0\nb.png 2\n",
            "two=cat\ndog\n",
        ]);
        assert_eq!(
            message(&dir, &spec(&dir, Some("gone"), None)),
            "gone: 4 of 5 listed files do not exist: 'x.png' (line 2), 'y.png' (line 3), 'z.png' (line 4); \
             names are relative to the dataset's `path`, which is images"
        );
        assert_eq!(
            message(&dir, &spec(&dir, Some("big"), Some("two"))),
            "two: names 2 classes, but big:2 has the label 2; line i+1 names class i, so 3 lines are needed"
        );
        let mut absent = spec(&dir, None, None);
        absent.path = dir.path().join("absent");
        assert_eq!(message(&dir, &absent), "absent: this folder does not exist; check the dataset's `path`");
        absent.path = dir.path().join("big");
        absent.labels = Some(dir.path().join("gone"));
        assert_eq!(
            message(&dir, &absent),
            "big: this is a file, expected a folder of images, as `labels` are given too; give the folder as \
             `path`, or the list alone"
        );
        let mut none = spec(&dir, None, None);
        none.subset = Some(0);
        assert!(message(&dir, &none).contains("subset of 0"));
    }

    #[test]
    fn a_list_alone_names_files_of_its_own_folder() {
        let dir = folder(&[
            "images/sub/a.png",
            "images/b.png",
            "images/c.png",
            "images/list=sub/a.png 1\nb.png 0\n",
        ]);
        let mut spec = spec(&dir, None, None);
        spec.path = dir.path().join("images/list");
        let dataset = Dataset::open(&spec).unwrap();
        let items: Vec<_> = dataset.items.iter().map(|i| (i.name.as_str(), i.label)).collect();
        assert_eq!(items, [("b.png", Some(0)), ("sub/a.png", Some(1))]);
        assert_eq!(dataset.root, dir.path().join("images"));
    }

    #[test]
    fn a_folder_without_images_says_what_was_looked_for() {
        let dir = folder(&["images/a.tiff", "images/b/c.txt"]);
        assert_eq!(
            message(&dir, &spec(&dir, None, None)),
            "images: no images found among 2 files; expected files ending in bmp, gif, jpeg, jpg, png, webp, \
             at any depth (hidden files are skipped)"
        );
    }

    #[test]
    fn labels_beyond_the_classes_of_the_model_name_the_line() {
        let dir =
            folder(&["images/a.png", "images/b.png", "l=b.png 1\na.png 10\n", "one=a.png 1\nb.png 10\n"]);
        let dataset = Dataset::open(&spec(&dir, Some("l"), None)).unwrap();
        assert!(dataset.check_labels(11).is_ok());
        let message = dataset.check_labels(5).unwrap_err().to_string();
        assert!(
            message.ends_with(
                "l:2: the label of 'a.png' is 10, but the model has the classes 0 to 4; check that labels \
                 and model are of the same set of classes"
            ),
            "{message}"
        );
        let counted_from_one = Dataset::open(&spec(&dir, Some("one"), None)).unwrap();
        let message = counted_from_one.check_labels(10).unwrap_err().to_string();
        assert!(message.ends_with("they must be counted from 0"), "{message}");
    }

    #[test]
    fn a_label_beyond_the_model_names_the_class_folder() {
        let dir = folder(&["images/cat/1.png", "images/dog/2.png"]);
        let dataset = Dataset::open(&spec(&dir, None, None)).unwrap();
        let message = dataset.check_labels(1).unwrap_err().to_string();
        assert!(message.contains("images/dog: the label of 'dog/2.png' is 1"), "{message}");
    }

    #[test]
    fn a_subset_is_spread_evenly_and_always_the_same() {
        let names: Vec<String> = (0..10).map(|i| format!("images/{i}.png")).collect();
        let dir = folder(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut spec = spec(&dir, None, None);
        spec.subset = Some(4);
        let dataset = Dataset::open(&spec).unwrap();
        let names: Vec<_> = dataset.items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["0.png", "2.png", "5.png", "7.png"]);
        spec.subset = Some(11);
        let dataset = Dataset::open(&spec).unwrap();
        assert_eq!(dataset.items.len(), 10);
        assert_eq!(dataset.warnings, ["a subset of 11 images was asked for, there are 10"]);
    }
}
