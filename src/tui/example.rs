//! The example that comes with the program: a small trained classifier with images to calibrate on and
//! others to judge it by. `fixtures/README.md` says where they come from.

use std::fs;
use std::path::{Path, PathBuf};

use crate::project::workspace::{DatasetDefinition, Definition};
use crate::project::{ProjectError, atomic};

/// Its files by their paths in `fixtures/shapes`.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/example.rs"));

/// What the model was trained with.
const PREPROCESS: &str = "\
resize_short: 128
crop: 112
color: rgb
scale: 0.00392156862745098
mean: [0.485, 0.456, 0.406]
std: [0.229, 0.224, 0.225]
";

/// Puts the files into the folder `example` of a workspace, if it is not there yet; gives the folder.
///
/// # Errors
/// Nothing can be written there.
pub fn unpack(workspace: &Path) -> Result<PathBuf, ProjectError> {
    let folder = workspace.join("example");
    if folder.is_dir() {
        return Ok(folder);
    }
    // The whole folder takes its name at once, so that it is never seen half full.
    let partial = workspace.join(format!("{}{}-example", atomic::TEMPORARY_PREFIX, std::process::id()));
    let write = |path: &Path, bytes: &[u8]| {
        let parent = path.parent().unwrap_or(&partial);
        fs::create_dir_all(parent).and_then(|()| fs::write(path, bytes))
    };
    for (name, bytes) in FILES {
        let path = partial.join(name);
        write(&path, bytes).map_err(|source| ProjectError::write(&path, source))?;
    }
    match fs::rename(&partial, &folder) {
        Ok(()) => Ok(folder),
        Err(source) => {
            let _ = fs::remove_dir_all(&partial);
            // Another workbench may have been faster.
            if folder.is_dir() { Ok(folder) } else { Err(ProjectError::write(&folder, source)) }
        }
    }
}

/// The project of the example in `folder`.
pub fn definition(folder: &Path) -> Definition {
    Definition {
        model: folder.join("shapes.onnx"),
        preprocess: serde_yaml::from_str(PREPROCESS).unwrap_or_default(),
        dataset: DatasetDefinition {
            path: folder.join("eval"),
            labels: Some(folder.join("eval_labels.txt")),
            classes: Some(folder.join("classes.txt")),
        },
    }
}

/// The images beside a dataset that are meant to calibrate on: the example's, or a folder that is
/// called so.
pub fn calibration_beside(dataset: &Path) -> Option<PathBuf> {
    let parent = dataset.parent()?;
    let names = ["calib", "calibration", "train"];
    names.iter().map(|name| parent.join(name)).find(|folder| folder != dataset && folder.is_dir())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_unpacked_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let example = unpack(folder.path()).unwrap();
        assert_eq!(unpack(folder.path()).unwrap(), example);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let definition = definition(&example);
        assert!(definition.model.is_file() && definition.dataset.path.is_dir());
        assert!(
            definition.dataset.labels.unwrap().is_file() && definition.dataset.classes.unwrap().is_file()
        );
        assert_eq!(calibration_beside(&definition.dataset.path), Some(example.join("calib")));
        assert!(definition.preprocess.get("crop").is_some());
    }

    /// The quickstart and the example are one; a change of one must reach the other.
    #[test]
    fn the_example_is_preprocessed_as_the_quickstart_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/quickstart.yaml");
        let quickstart: serde_yaml::Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let preprocess: serde_yaml::Value = serde_yaml::from_str(PREPROCESS).unwrap();
        assert_eq!(quickstart["preprocess"], preprocess);
    }
}
