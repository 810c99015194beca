//! Reads the two kinds of list a dataset may come with: labels (`name index` per line) and class
//! names (line i+1 names class i).

use super::DatasetError;
use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path};

/// One line of a list of labels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the dataset folder, `/` between its parts.
    pub name: String,
    pub label: u32,
    /// 1-based.
    pub line: usize,
}

/// Reads a list of labels: on each line the file's name, which may contain spaces, and as the last
/// word the index of its class. Blank lines and lines that start with `#` are skipped.
pub(super) fn read_labels(path: &Path) -> Result<Vec<Entry>, DatasetError> {
    let text = read_text(path)?;
    let mut entries = Vec::new();
    let mut lines_of_names: HashMap<String, usize> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, label) = split_entry(line).map_err(|(what, hint)| DatasetError::ListLine {
            path: path.to_path_buf(),
            line: line_number,
            what,
            hint,
        })?;
        if let Some(first) = lines_of_names.insert(name.clone(), line_number) {
            return Err(DatasetError::DuplicateLabel {
                path: path.to_path_buf(),
                name,
                first,
                second: line_number,
            });
        }
        entries.push(Entry { name, label, line: line_number });
    }
    if entries.is_empty() {
        return Err(DatasetError::List {
            path: path.to_path_buf(),
            what: "the list of labels is empty".into(),
            hint: "expected lines of the form `name index`; leave `labels` out for images without labels"
                .into(),
        });
    }
    Ok(entries)
}

/// Whether a text looks like a list of labels, judged by its first entry.
pub(super) fn looks_like_labels(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .is_some_and(|line| split_entry(line).is_ok())
}

/// Splits `name index`; on failure says what was found and what to do.
fn split_entry(line: &str) -> Result<(String, u32), (String, String)> {
    const FORM: &str = "expected `name index`, such as `dog/1.jpg 151`, with the index counted from 0";
    let Some((name, label)) = line.rsplit_once(char::is_whitespace) else {
        return Err((format!("'{line}' is a single word"), FORM.into()));
    };
    let label = label
        .parse::<u32>()
        .map_err(|_| (format!("the label '{label}' is not a whole number of at least 0"), FORM.to_owned()))?;
    let mut parts = Vec::new();
    for part in Path::new(name.trim_end()).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy()),
            Component::CurDir => {}
            _ => {
                let what = format!("'{name}' lies outside the dataset folder");
                return Err((what, "give names relative to the dataset's `path`, without `..`".into()));
            }
        }
    }
    Ok((parts.join("/"), label))
}

/// The names of a class list, index by index.
///
/// # Errors
/// [`DatasetError`] when the file can't be read, is empty or has a blank line among the names.
pub fn class_names(path: &Path) -> Result<Vec<String>, DatasetError> {
    Ok(read_classes(path)?.names)
}

/// A class list.
#[derive(Debug)]
pub(super) struct Classes {
    /// Index by index, without the WordNet id.
    pub names: Vec<String>,
    /// The WordNet id that led the line.
    wnids: Vec<Option<String>>,
}

impl Classes {
    /// The class that a folder is named after: by WordNet id, by name, or by the first of several
    /// names that commas divide. A name that two classes share (ImageNet has two *maillot*) is no
    /// answer.
    pub fn index_of(&self, folder: &str) -> Option<u32> {
        if is_wnid(folder) {
            let index = self.wnids.iter().position(|wnid| wnid.as_deref() == Some(folder))?;
            return u32::try_from(index).ok();
        }
        let wanted = comparable(folder);
        self.only(|name| comparable(name) == wanted)
            .or_else(|| self.only(|name| name.split(',').next().is_some_and(|n| comparable(n) == wanted)))
    }

    fn only(&self, matches: impl Fn(&str) -> bool) -> Option<u32> {
        let mut indices = self.names.iter().enumerate().filter(|(_, name)| matches(name)).map(|(i, _)| i);
        match (indices.next(), indices.next()) {
            (Some(index), None) => u32::try_from(index).ok(),
            _ => None,
        }
    }
}

/// Folders are often named with `_` for a space, and in another case.
fn comparable(name: &str) -> String {
    name.trim().to_lowercase().replace('_', " ")
}

/// Reads class names: line i+1 names class i. On `n01440764 tench, Tinca tinca` the name follows
/// the WordNet id.
pub(super) fn read_classes(path: &Path) -> Result<Classes, DatasetError> {
    let text = read_text(path)?;
    let mut classes = Classes { names: Vec::new(), wnids: Vec::new() };
    for (index, line) in text.trim_end().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            return Err(DatasetError::ListLine {
                path: path.to_path_buf(),
                line: index + 1,
                what: "this line is blank".into(),
                hint: format!("line i+1 names class i, so a name is needed for class {index}"),
            });
        }
        let first_word = line.split_whitespace().next().unwrap_or(line);
        let wnid = is_wnid(first_word).then(|| first_word.to_owned());
        let name = match &wnid {
            Some(wnid) if line.len() > wnid.len() => line[wnid.len()..].trim_start(),
            _ => line,
        };
        classes.names.push(name.to_owned());
        classes.wnids.push(wnid);
    }
    if classes.names.is_empty() {
        return Err(DatasetError::List {
            path: path.to_path_buf(),
            what: "the list of class names is empty".into(),
            hint: "expected one name a line: line i+1 names class i".into(),
        });
    }
    Ok(classes)
}

/// Whether a word is a WordNet id of a noun, the folder names of ImageNet: `n` and eight digits.
pub(super) fn is_wnid(word: &str) -> bool {
    word.len() == 9 && word.starts_with('n') && word[1..].bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a whole list, without the byte order mark that some editors write.
fn read_text(path: &Path) -> Result<String, DatasetError> {
    let bytes = fs::read(path)
        .map_err(|error| DatasetError::Read { path: path.to_path_buf(), what: error.to_string() })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        DatasetError::ListLine {
            path: path.to_path_buf(),
            line: valid.iter().filter(|&&byte| byte == b'\n').count() + 1,
            what: "this line is not UTF-8 text".into(),
            hint: "expected a text file; save it as UTF-8".into(),
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn labels(text: &str) -> Result<Vec<(String, u32, usize)>, String> {
        let file = file(text.as_bytes());
        let path = file.path().display().to_string();
        read_labels(file.path())
            .map(|entries| entries.into_iter().map(|e| (e.name, e.label, e.line)).collect())
            .map_err(|error| error.to_string().replace(&path, "FILE"))
    }

    #[test]
    fn labels_with_comments_blank_lines_spaces_tabs_and_windows_ends() {
        let text = "\u{feff}# val\r\n\r\na.jpg 3\r\n./b/c d.jpg \t 0\r\n  e.png\t12\r\n";
        let expected = [("a.jpg", 3, 3), ("b/c d.jpg", 0, 4), ("e.png", 12, 5)];
        assert_eq!(labels(text).unwrap(), expected.map(|(name, label, line)| (name.to_owned(), label, line)));
    }

    #[test]
    fn each_bad_list_of_labels_says_what_where_and_what_to_do() {
        let cases = [
            (
                "",
                "FILE: the list of labels is empty; expected lines of the form `name index`; leave `labels` out for images without labels",
            ),
            (
                "a.jpg 1\nb.jpg",
                "FILE:2: 'b.jpg' is a single word; expected `name index`, such as `dog/1.jpg 151`, with the index counted from 0",
            ),
            (
                "a.jpg cat",
                "FILE:1: the label 'cat' is not a whole number of at least 0; expected `name index`, such as `dog/1.jpg 151`, with the index counted from 0",
            ),
            (
                "a.jpg -1",
                "FILE:1: the label '-1' is not a whole number of at least 0; expected `name index`, such as `dog/1.jpg 151`, with the index counted from 0",
            ),
            (
                "../a.jpg 1",
                "FILE:1: '../a.jpg' lies outside the dataset folder; give names relative to the dataset's `path`, without `..`",
            ),
            (
                "a.jpg 1\n\nb.jpg 2\n./a.jpg 1",
                "FILE:4: 'a.jpg' is listed again, first on line 1; keep one of the two lines",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(labels(text).unwrap_err(), message, "for {text:?}");
        }
    }

    #[test]
    fn a_list_that_is_not_text_names_the_line() {
        let file = file(b"a.jpg 1\nb.jpg \xff\xfe 2\n");
        let message = read_labels(file.path()).unwrap_err().to_string();
        assert!(message.contains(":2: this line is not UTF-8 text"), "{message}");
    }

    #[test]
    fn a_missing_list_is_named() {
        let message = read_labels(Path::new("no/such/labels.txt")).unwrap_err().to_string();
        assert!(message.starts_with("no/such/labels.txt: cannot read:"), "{message}");
    }

    #[test]
    fn class_names_with_and_without_wordnet_ids() {
        let file = file(b"n01440764 tench, Tinca tinca\nn01443537\nnice dog\n\n");
        assert_eq!(class_names(file.path()).unwrap(), ["tench, Tinca tinca", "n01443537", "nice dog"]);
    }

    #[test]
    fn a_blank_line_among_class_names_would_shift_them() {
        let file = file(b"cat\n\ndog\n");
        let message = class_names(file.path()).unwrap_err().to_string();
        assert!(
            message
                .ends_with(":2: this line is blank; line i+1 names class i, so a name is needed for class 1")
        );
    }

    #[test]
    fn folders_match_classes_by_id_name_or_first_name_unless_ambiguous() {
        let file = file(b"n01440764 tench, Tinca tinca\nn02 Great White\nmaillot\nmaillot, tank suit\nn03710637 crane\ncrane");
        let classes = read_classes(file.path()).unwrap();
        assert_eq!(classes.index_of("n01440764"), Some(0));
        assert_eq!(classes.index_of("n01440765"), None);
        assert_eq!(classes.index_of("Tench"), Some(0));
        assert_eq!(classes.index_of("tench,_Tinca_tinca"), Some(0));
        assert_eq!(classes.index_of("n02_great_white"), Some(1));
        assert_eq!(classes.index_of("maillot"), Some(2));
        assert_eq!(classes.index_of("crane"), None);
        assert_eq!(classes.index_of("n03710637"), Some(4));
    }
}
