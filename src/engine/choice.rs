//! Which engine, by name, and where the libraries of the foreign ones lie.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builtin::Builtin;
use super::foreign::onnxruntime::OnnxRuntime;
use super::foreign::openvino::OpenVino;
use super::{Engine, EngineError};

/// Something that runs models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    /// The engine of calib8.
    Builtin,
    /// ONNX Runtime, loaded from a shared library.
    Onnxruntime,
    /// OpenVINO, loaded from a shared library.
    Openvino,
}

impl EngineName {
    /// All engines there are.
    pub const ALL: [EngineName; 3] = [EngineName::Builtin, EngineName::Onnxruntime, EngineName::Openvino];

    /// The word in run files and tables.
    pub fn name(self) -> &'static str {
        match self {
            EngineName::Builtin => "builtin",
            EngineName::Onnxruntime => "onnxruntime",
            EngineName::Openvino => "openvino",
        }
    }

    /// The engine itself. A foreign one is looked for, loaded and asked for its version.
    ///
    /// # Errors
    /// [`EngineError::Library`]: it can't be found or loaded, or is too old.
    pub fn open(self, libraries: &Libraries) -> Result<Box<dyn Engine>, EngineError> {
        Ok(match self {
            EngineName::Builtin => Box::new(Builtin),
            EngineName::Onnxruntime => Box::new(OnnxRuntime::open(libraries.onnxruntime.as_deref())?),
            EngineName::Openvino => Box::new(OpenVino::open(libraries.openvino.as_deref())?),
        })
    }
}

impl std::str::FromStr for EngineName {
    type Err = String;

    fn from_str(word: &str) -> Result<EngineName, String> {
        let known = EngineName::ALL.map(EngineName::name);
        let found = EngineName::ALL.into_iter().find(|engine| engine.name() == word);
        found.ok_or_else(|| format!("there is no engine '{word}'; choose one of {}", known.join(", ")))
    }
}

/// Where the user says that the libraries of the foreign engines are: a shared library, or a folder that
/// holds one. What is left out is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libraries {
    /// `libonnxruntime.so`, also with a version behind it, or its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<PathBuf>,
    /// `libopenvino_c.so`, also with a version behind it, or its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openvino: Option<PathBuf>,
}

impl Libraries {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.onnxruntime.is_none() && self.openvino.is_none()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for engine in EngineName::ALL {
            assert_eq!(engine.name().parse(), Ok(engine));
        }
        let said = "tensorrt".parse::<EngineName>().unwrap_err();
        assert_eq!(said, "there is no engine 'tensorrt'; choose one of builtin, onnxruntime, openvino");
    }

    #[test]
    fn a_library_that_is_not_there_is_an_error_that_names_it() {
        let nowhere = Some(PathBuf::from("/nowhere/at/all"));
        let libraries = Libraries { onnxruntime: nowhere.clone(), openvino: nowhere };
        for engine in [EngineName::Onnxruntime, EngineName::Openvino] {
            let said = engine.open(&libraries).err().unwrap().to_string();
            assert!(said.starts_with(engine.name()) && said.contains("/nowhere/at/all"), "{said}");
        }
        assert_eq!(EngineName::Builtin.open(&libraries).unwrap().name(), "builtin");
    }
}
