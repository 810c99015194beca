//! A form that was filled in, and the project that it describes.

use std::path::PathBuf;

use super::files::expanded;
use crate::project::workspace::{DatasetDefinition, Definition, NewProject};
use crate::run::plan::Preprocessing;

/// A form that was filled in.
#[derive(Debug, Clone, PartialEq)]
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
    /// How an image becomes the model's input.
    pub preprocess: Preprocessing,
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
        let preprocess = serde_yaml::to_value(&self.preprocess).map_err(|error| error.to_string())?;
        Ok(NewProject {
            name: self.name.clone(),
            definition: Definition {
                model,
                preprocess,
                dataset: DatasetDefinition {
                    path: there("the folder of images", &self.images)?,
                    labels: optional("labels", &self.labels)?,
                    classes: optional("class names", &self.classes)?,
                },
            },
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_says_what_is_missing() {
        let draft = Draft {
            name: "a".into(),
            model: String::new(),
            images: String::new(),
            labels: String::new(),
            classes: String::new(),
            preprocess: Preprocessing::Preset("unit".into()),
        };
        assert_eq!(draft.check().unwrap_err(), "the model is missing");
        let folder = Draft { model: "/".into(), ..draft.clone() };
        assert_eq!(folder.check().unwrap_err(), "the model: / is a folder, expected an ONNX file");
        let gone = Draft { model: "/no.onnx".into(), ..draft };
        assert_eq!(gone.check().unwrap_err(), "the model: /no.onnx is not there");
    }
}
