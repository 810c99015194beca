//! The form for a new project: where model and images are, what is known of the images, and how they
//! become the model's input.
//!
//! Paths are completed as they are typed; labels and class names that lie beside the images are
//! proposed, and stay a proposal.

use std::fs;
use std::path::{Path, PathBuf};

use crossterm::event::KeyCode;

use super::Effect;
use crate::dataset::Preprocess;
use crate::project::workspace::{DatasetDefinition, Definition, NewProject};
use crate::tui::action::Move;
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::overlay::arrow;
use crate::tui::widgets::input::TextInput;

/// The most entries of a folder that are listed.
const LISTED: usize = 200;

/// The fields, from top to bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The ONNX file.
    Model,
    /// Folder of images, or list.
    Images,
    /// Labels of the images.
    Labels,
    /// Names of the classes.
    Classes,
    /// How an image becomes the model's input.
    Preprocess,
    /// What the project is called.
    Name,
}

impl Field {
    /// From top to bottom.
    pub const ALL: [Field; 6] =
        [Field::Model, Field::Images, Field::Labels, Field::Classes, Field::Preprocess, Field::Name];

    /// Its label, and one line that explains it.
    pub fn texts(self) -> (&'static str, &'static str) {
        match self {
            Field::Model => ("Model", "the trained FP32 model, an ONNX file"),
            Field::Images => ("Images", "a folder of images, class folders, or an ImageNet list"),
            Field::Labels => ("Labels", "a file with `name index` per line; empty: accuracy is not judged"),
            Field::Classes => ("Class names", "a file with a name per line; empty: numbers are shown"),
            Field::Preprocess => ("Preprocessing", "what the model was trained with; ← → chooses"),
            Field::Name => ("Name", "what the project is called"),
        }
    }

    fn is_path(self) -> bool {
        !matches!(self, Field::Preprocess | Field::Name)
    }
}

/// The form.
#[derive(Debug, Clone)]
pub struct Import {
    /// The field under the cursor.
    pub field: Field,
    /// The texts of all fields but the preprocessing, in the order of [`Field::ALL`].
    pub inputs: [TextInput; 6],
    /// The chosen preset.
    pub preset: usize,
    /// What the path under the cursor can be completed to.
    pub listing: Listing,
    /// The entry of the listing that Tab takes next.
    pub chosen: usize,
    /// What was wrong when it was tried.
    pub refused: Option<String>,
    /// Whether the project is being made.
    pub busy: bool,
}

/// What the form asks for after a key.
#[derive(Debug, Default)]
pub struct Answer {
    /// The form is to close.
    pub close: bool,
    /// What to do.
    pub effects: Vec<message::Effect>,
}

/// What effects answer to the form.
#[derive(Debug, Clone)]
pub enum Msg {
    /// The entries of a folder.
    Listed(Listing),
    /// Files beside the images.
    Found(Found),
    /// The project can't be made, because of this.
    Refused(String),
}

impl Default for Import {
    fn default() -> Self {
        Import {
            field: Field::Model,
            inputs: std::array::from_fn(|_| TextInput::default()),
            preset: 0,
            listing: Listing::default(),
            chosen: 0,
            refused: None,
            busy: false,
        }
    }
}

impl Import {
    /// The text of a field.
    pub fn text(&self, field: Field) -> &str {
        self.inputs[at(field)].text()
    }

    /// The chosen preset.
    pub fn preset_name(&self) -> &'static str {
        let names = Preprocess::preset_names();
        names[self.preset % names.len()]
    }

    /// Lists what the path under the cursor can be completed to.
    pub fn look(&self) -> Vec<message::Effect> {
        let list = || message::Effect::Projects(Effect::List(self.text(self.field).to_string()));
        if self.field.is_path() { vec![list()] } else { Vec::new() }
    }

    /// Takes an answer in.
    pub fn update(&mut self, msg: Msg) -> Vec<message::Effect> {
        match msg {
            Msg::Listed(listing) => {
                // One that is late belongs to what stood there before.
                if listing.text == self.text(self.field) {
                    self.listing = listing;
                    self.chosen = 0;
                }
            }
            Msg::Found(found) => {
                for (field, path) in [(Field::Labels, found.labels), (Field::Classes, found.classes)] {
                    if let Some(path) = path
                        && self.text(field).is_empty()
                    {
                        self.inputs[at(field)] = TextInput::new(&path);
                    }
                }
            }
            Msg::Refused(text) => {
                self.refused = Some(text);
                self.busy = false;
            }
        }
        Vec::new()
    }

    /// Takes a key.
    pub fn on_key(&mut self, key: Key) -> Answer {
        self.refused = None;
        match key.code {
            KeyCode::Esc => return Answer { close: true, effects: Vec::new() },
            KeyCode::Tab if self.field.is_path() && !self.listing.entries.is_empty() => {
                return Answer { effects: self.complete(), ..Answer::default() };
            }
            KeyCode::Tab => return Answer { effects: self.go(1), ..Answer::default() },
            KeyCode::BackTab => return Answer { effects: self.go(-1), ..Answer::default() },
            KeyCode::Enter if self.field == Field::Name => {
                self.busy = true;
                let create = message::Effect::Projects(Effect::Create(self.draft()));
                return Answer { effects: vec![create], ..Answer::default() };
            }
            KeyCode::Enter => return Answer { effects: self.go(1), ..Answer::default() },
            KeyCode::PageDown if self.field.is_path() => {
                self.chosen = (self.chosen + 1).min(self.listing.entries.len().saturating_sub(1));
                return Answer::default();
            }
            KeyCode::PageUp if self.field.is_path() => {
                self.chosen = self.chosen.saturating_sub(1);
                return Answer::default();
            }
            _ => {}
        }
        match arrow(key) {
            Some(Move::Up) => return Answer { effects: self.go(-1), ..Answer::default() },
            Some(Move::Down) => return Answer { effects: self.go(1), ..Answer::default() },
            _ => {}
        }
        if self.field == Field::Preprocess {
            let count = Preprocess::preset_names().len();
            match key.code {
                KeyCode::Right | KeyCode::Char(' ') => self.preset = (self.preset + 1) % count,
                KeyCode::Left => self.preset = (self.preset + count - 1) % count,
                _ => {}
            }
        } else if self.inputs[at(self.field)].on_key(key) {
            return Answer { effects: self.look(), ..Answer::default() };
        }
        Answer::default()
    }

    /// Takes the chosen entry of the listing.
    fn complete(&mut self) -> Vec<message::Effect> {
        if let Some(entry) = self.listing.entries.get(self.chosen) {
            self.inputs[at(self.field)] = TextInput::new(&format!("{}{entry}", self.listing.folder));
        }
        self.look()
    }

    fn go(&mut self, steps: isize) -> Vec<message::Effect> {
        let mut effects = Vec::new();
        if self.field == Field::Model && self.text(Field::Name).is_empty() {
            let stem = Path::new(self.text(Field::Model)).file_stem().unwrap_or_default();
            self.inputs[at(Field::Name)] = TextInput::new(&stem.to_string_lossy());
        }
        if self.field == Field::Images && !self.text(Field::Images).is_empty() {
            let (images, model) = (self.text(Field::Images).to_string(), self.text(Field::Model).to_string());
            effects.push(message::Effect::Projects(Effect::Find { images, model }));
        }
        let last = Field::ALL.len() as isize - 1;
        let next = (at(self.field) as isize + steps).clamp(0, last);
        self.field = Field::ALL[next as usize];
        self.listing = Listing::default();
        effects.extend(self.look());
        effects
    }

    fn draft(&self) -> Draft {
        let text = |field| self.text(field).trim().to_string();
        Draft {
            name: text(Field::Name),
            model: text(Field::Model),
            images: text(Field::Images),
            labels: text(Field::Labels),
            classes: text(Field::Classes),
            preset: self.preset_name(),
        }
    }
}

fn at(field: Field) -> usize {
    Field::ALL.iter().position(|other| *other == field).unwrap_or(0)
}

/// A form that was filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Name of the project.
    pub name: String,
    /// The model.
    pub model: String,
    /// The images.
    pub images: String,
    /// Labels, or nothing.
    pub labels: String,
    /// Class names, or nothing.
    pub classes: String,
    /// Preprocessing.
    pub preset: &'static str,
}

impl Draft {
    /// The project that it describes.
    ///
    /// # Errors
    /// Something is missing or not there.
    pub fn check(&self) -> Result<NewProject, String> {
        let there = |what: &str, text: &str| -> Result<PathBuf, String> {
            if text.is_empty() {
                return Err(format!("{what} is missing"));
            }
            let path = std::path::absolute(expanded(text)).map_err(|error| format!("{what}: {error}"))?;
            if path.exists() { Ok(path) } else { Err(format!("{what}: {} is not there", path.display())) }
        };
        let optional =
            |what, text: &str| if text.is_empty() { Ok(None) } else { there(what, text).map(Some) };
        let model = there("the model", &self.model)?;
        if model.is_dir() {
            return Err(format!("the model: {} is a folder, expected an ONNX file", model.display()));
        }
        Ok(NewProject {
            name: self.name.clone(),
            definition: Definition {
                model,
                preprocess: self.preset.into(),
                dataset: DatasetDefinition {
                    path: there("the folder of images", &self.images)?,
                    labels: optional("labels", &self.labels)?,
                    classes: optional("class names", &self.classes)?,
                },
            },
        })
    }
}

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
fn expanded(text: &str) -> PathBuf {
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

    #[test]
    fn a_draft_says_what_is_missing() {
        let draft = Draft {
            name: "a".into(),
            model: String::new(),
            images: String::new(),
            labels: String::new(),
            classes: String::new(),
            preset: "unit",
        };
        assert_eq!(draft.check().unwrap_err(), "the model is missing");
        let folder = Draft { model: "/".into(), ..draft.clone() };
        assert_eq!(folder.check().unwrap_err(), "the model: / is a folder, expected an ONNX file");
        let gone = Draft { model: "/no.onnx".into(), ..draft };
        assert_eq!(gone.check().unwrap_err(), "the model: /no.onnx is not there");
    }
}
