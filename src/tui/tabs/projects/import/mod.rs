//! The form for a new project: where model and images are, what is known of the images, and how they
//! become the model's input.
//!
//! Paths are completed as they are typed; labels and class names that lie beside the images are
//! proposed, and stay a proposal. So is the preprocessing: once the cursor comes to it, the model runs under the
//! usual ones, in a process of its own, and the form shows what it says of the first images. The project is made by
//! another one, `calib8 import`, which runs the model once: what does not fit together is no project.

pub mod child;
pub mod draft;
pub mod files;
pub mod trial;
pub mod view;

use std::path::Path;

use crossterm::event::KeyCode;

use draft::Draft;
use files::{Found, Listing};
use trial::{Choice, Request, Trial, presets};

use super::Effect;
use crate::run::fit::Fits;
use crate::tui::action::Move;
use crate::tui::keymap::Key;
use crate::tui::message;
use crate::tui::overlay::arrow;
use crate::tui::widgets::input::TextInput;

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
            Field::Preprocess => {
                ("Preprocessing", "as the model was trained; ← → chooses, below stands what it says then")
            }
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
    /// The preprocessings that can be chosen; the best first, once they were tried.
    pub choices: Vec<Choice>,
    /// The chosen one.
    pub choice: usize,
    /// Whether the user has chosen: a proposal does not take that back.
    by_hand: bool,
    /// What the model says with each.
    pub trial: Trial,
    /// What the path under the cursor can be completed to.
    pub listing: Listing,
    /// The entry of the listing that Tab takes next.
    pub chosen: usize,
    /// Whether the listing of what stands in the field is still being read.
    awaited: bool,
    /// Whether Tab was pressed meanwhile.
    completing: bool,
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
    /// What the model says under the usual preprocessings, or why that can't be said.
    Tried(Request, Result<Fits, String>),
    /// The project can't be made, because of this.
    Refused(String),
}

impl Default for Import {
    fn default() -> Self {
        Import {
            field: Field::Model,
            inputs: std::array::from_fn(|_| TextInput::default()),
            choices: presets(),
            choice: 0,
            by_hand: false,
            trial: Trial::default(),
            listing: Listing::default(),
            chosen: 0,
            awaited: false,
            completing: false,
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

    /// The chosen preprocessing.
    pub fn chosen(&self) -> &Choice {
        &self.choices[self.choice.min(self.choices.len() - 1)]
    }

    /// Lists what the path under the cursor can be completed to.
    pub fn look(&mut self) -> Vec<message::Effect> {
        self.awaited = self.field.is_path();
        let list = || message::Effect::Projects(Effect::List(self.text(self.field).to_string()));
        if self.awaited { vec![list()] } else { Vec::new() }
    }

    /// Takes an answer in.
    pub fn update(&mut self, msg: Msg) -> Vec<message::Effect> {
        match msg {
            Msg::Listed(listing) => {
                // One that is late belongs to what stood there before.
                if listing.text == self.text(self.field) {
                    self.listing = listing;
                    self.chosen = 0;
                    self.awaited = false;
                    if std::mem::take(&mut self.completing) {
                        return self.complete();
                    }
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
            Msg::Tried(request, result) => {
                // One that is late belongs to what stood there before.
                if self.trial == Trial::Busy(request.clone()) {
                    self.tried(request, result);
                }
            }
            Msg::Refused(text) => {
                self.refused = Some(text);
                self.busy = false;
                // Making it ended the trial, whose proposal is what is needed now.
                return self.try_out();
            }
        }
        Vec::new()
    }

    fn tried(&mut self, request: Request, result: Result<Fits, String>) {
        let name = self.chosen().name.clone();
        self.choices = result.as_ref().map_or_else(|_| presets(), trial::choices);
        let same = self.choices.iter().position(|choice| choice.name == name);
        self.choice = same.filter(|_| self.by_hand || result.is_err()).unwrap_or(0);
        self.trial = match result {
            Ok(fits) => Trial::Known(request, fits),
            Err(why) => Trial::Fails(request, why),
        };
    }

    /// Has the preprocessings tried, unless that was done for what stands in the form.
    fn try_out(&mut self) -> Vec<message::Effect> {
        let text = |field| self.text(field).trim().to_string();
        let request = Request {
            model: text(Field::Model),
            images: text(Field::Images),
            labels: text(Field::Labels),
            classes: text(Field::Classes),
        };
        if request.model.is_empty() || request.images.is_empty() || self.trial.request() == Some(&request) {
            return Vec::new();
        }
        self.trial = Trial::Busy(request.clone());
        vec![message::Effect::Projects(Effect::Try(request))]
    }

    /// Gives the trial up, or the project that is being made, if one is at work.
    pub fn stop_trying(&mut self) -> Vec<message::Effect> {
        let tries = matches!(self.trial, Trial::Busy(_));
        if tries {
            self.trial = Trial::None;
        }
        let stop = message::Effect::Projects(Effect::StopTrying);
        if tries || self.busy { vec![stop] } else { Vec::new() }
    }

    /// Takes a key.
    pub fn on_key(&mut self, key: Key) -> Answer {
        if key.code == KeyCode::Esc {
            return Answer { close: true, effects: self.stop_trying() };
        }
        if self.busy {
            return Answer::default();
        }
        self.refused = None;
        self.completing = false;
        match key.code {
            KeyCode::Tab if self.awaited => {
                self.completing = true;
                return Answer::default();
            }
            KeyCode::Tab => return Answer { effects: self.complete(), ..Answer::default() },
            KeyCode::BackTab => return Answer { effects: self.go(-1), ..Answer::default() },
            KeyCode::Enter if self.field == Field::Name => {
                let mut effects = self.stop_trying();
                self.busy = true;
                effects.push(message::Effect::Projects(Effect::Create(self.draft())));
                return Answer { effects, ..Answer::default() };
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
            let count = self.choices.len();
            let step = match key.code {
                KeyCode::Right | KeyCode::Char(' ') => 1,
                KeyCode::Left => count - 1,
                _ => return Answer::default(),
            };
            self.choice = (self.choice + step) % count;
            self.by_hand = true;
        } else if self.inputs[at(self.field)].on_key(key) {
            return Answer { effects: self.look(), ..Answer::default() };
        }
        Answer::default()
    }

    /// Takes the chosen entry of the listing; goes on to the next field where nothing is left to complete.
    fn complete(&mut self) -> Vec<message::Effect> {
        let entry = self.listing.entries.get(self.chosen).filter(|_| self.field.is_path());
        let path = entry.map(|entry| format!("{}{entry}", self.listing.folder));
        match path.filter(|path| path != self.text(self.field)) {
            Some(path) => {
                self.inputs[at(self.field)] = TextInput::new(&path);
                self.look()
            }
            None => self.go(1),
        }
    }

    /// The keys that act now, with a word each.
    pub fn keys(&self) -> &'static [(&'static str, &'static str)] {
        match self.field {
            _ if self.busy => &[("Esc", "stop")],
            Field::Preprocess => &[("← →", "choose"), ("↑ ↓", "fields"), ("Esc", "leave")],
            Field::Name => &[("Enter", "make the project"), ("↑ ↓", "fields"), ("Esc", "leave")],
            _ => &[("Tab", "complete"), ("PgDn", "next entry"), ("↑ ↓", "fields"), ("Esc", "leave")],
        }
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
        if self.field == Field::Preprocess {
            effects.extend(self.try_out());
        }
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
            preprocess: self.chosen().preprocess.clone(),
        }
    }
}

fn at(field: Field) -> usize {
    Field::ALL.iter().position(|other| *other == field).unwrap_or(0)
}
