//! What the Accuracy Report tab does outside of the loop: reads reports, makes pictures, writes files.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use super::Msg;
use crate::dataset::{Dataset, DatasetSpec, Preprocess};
use crate::project::atomic;
use crate::report::{Format, Kind, Sheet, write_sheet};
use crate::run::plan::Preprocessing;
use crate::run::summary::{ReportsSummary, Summary};
use crate::tui::app::Level;
use crate::tui::image::{Request, picture};
use crate::tui::message::{self, Mailer};

/// The three kinds in the order in which they are shown.
pub const KINDS: [Kind; 3] = [Kind::Predictions, Kind::Annotations, Kind::TensorDistance];

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read the reports of the run in this directory.
    Load(PathBuf),
    /// Make a picture.
    Picture(Request),
    /// Write the rows that are shown.
    Export {
        /// The table.
        sheet: Arc<Sheet>,
        /// Its rows, in order.
        rows: Vec<u32>,
        /// As what.
        format: Format,
        /// Where.
        path: PathBuf,
    },
}

/// What a run left.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The aggregates.
    pub summary: Option<ReportsSummary>,
    /// The rows, or why there are none, in the order of [`KINDS`].
    pub sheets: [Option<Arc<Sheet>>; 3],
    /// Why a sheet is missing; empty where it is there.
    pub missing: [String; 3],
    /// The folder that the names of images start at.
    pub images: Option<PathBuf>,
    /// What makes of an image what the network sees.
    pub preprocess: Option<Preprocess>,
    /// Why there are no images or no names of classes.
    pub trouble: Option<String>,
}

/// Does it, on a thread of its own.
pub fn execute(effect: Effect, mailer: &Mailer) {
    match effect {
        Effect::Load(directory) => {
            let loaded = load(&directory);
            mailer.send(message::Msg::Report(Msg::Loaded(directory, Box::new(loaded))));
        }
        Effect::Picture(request) => {
            // Somebody who scrolls on does not wait for what is already out of sight.
            static NEWEST: AtomicU64 = AtomicU64::new(0);
            if NEWEST.fetch_max(request.id, Ordering::SeqCst) > request.id {
                return;
            }
            let made = picture::prepare(&request).map_err(|error| error.to_string());
            mailer.send(message::Msg::Report(Msg::Picture(request.id, made)));
        }
        Effect::Export { sheet, rows, format, path } => {
            let (level, text) = match export(&sheet, &rows, format, &path) {
                Ok(()) => (Level::Done, format!("{} rows as they are shown: {}", rows.len(), path.display())),
                Err(error) => (Level::Error, error),
            };
            mailer.send(message::Msg::Say(level, text));
        }
    }
}

fn export(sheet: &Sheet, rows: &[u32], format: Format, path: &Path) -> Result<(), String> {
    let mut writer = atomic::Writer::create(path).map_err(|error| error.to_string())?;
    write_sheet(sheet, rows, format, &mut writer).map_err(|error| error.to_string())?;
    writer.commit().map_err(|error| error.to_string())
}

/// The part of `run.yaml` that says what the images are. Read by itself: the model may have moved since.
#[derive(Deserialize)]
struct StoredPlan {
    dataset: StoredDataset,
    preprocess: Preprocessing,
}

#[derive(Deserialize)]
struct StoredDataset {
    path: PathBuf,
    labels: Option<PathBuf>,
    classes: Option<PathBuf>,
}

/// Reads all that a run left about its predictions.
pub fn load(directory: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    let classes = match images(directory, &mut loaded) {
        Ok(classes) => classes,
        Err(why) => {
            loaded.trouble = Some(why);
            Vec::new()
        }
    };
    let summary = std::fs::read(directory.join("summary.json")).ok();
    let summary = summary.and_then(|text| serde_json::from_slice::<Summary>(&text).ok());
    loaded.summary = summary.map(|summary| summary.reports);
    for (at, kind) in KINDS.into_iter().enumerate() {
        match read(directory, kind, &classes) {
            Ok(Some(sheet)) => loaded.sheets[at] = Some(Arc::new(sheet)),
            Ok(None) => loaded.missing[at] = why_missing(loaded.summary.as_ref(), kind),
            Err(why) => loaded.missing[at] = why,
        }
    }
    loaded
}

fn read(directory: &Path, kind: Kind, classes: &[String]) -> Result<Option<Sheet>, String> {
    let path = directory.join(format!("{kind}.json"));
    match File::open(&path) {
        Ok(file) => {
            let sheet = Sheet::read(kind, file, classes.to_vec());
            sheet.map(Some).map_err(|error| format!("{}: {error}", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: cannot be read: {error}", path.display())),
    }
}

fn why_missing(summary: Option<&ReportsSummary>, kind: Kind) -> String {
    let Some(summary) = summary else { return "the run has not come so far".to_string() };
    let left_out = summary.left_out.iter().find(|left| left.kind == kind);
    left_out.map_or_else(|| "the run was not asked for it".to_string(), |left| left.reason.clone())
}

/// Finds the images and gives the names of the classes.
fn images(directory: &Path, loaded: &mut Loaded) -> Result<Vec<String>, String> {
    let path = directory.join("run.yaml");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let plan: StoredPlan =
        serde_yaml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    loaded.preprocess = plan.preprocess.to_preprocess().ok();
    let StoredDataset { path, labels, classes } = plan.dataset;
    let spec = DatasetSpec { path, labels, classes, subset: None };
    let dataset = Dataset::open(&spec).map_err(|error| error.to_string())?;
    loaded.images = Some(dataset.root);
    Ok(dataset.classes.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_run_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load(folder.path());
        assert!(loaded.sheets.iter().all(Option::is_none));
        assert_eq!(loaded.missing[0], "the run has not come so far");
        assert!(loaded.trouble.unwrap().contains("run.yaml"));
        std::fs::write(folder.path().join("predictions.json"), "[{]").unwrap();
        let why = &load(folder.path()).missing[0];
        assert!(why.contains("predictions.json: the stored rows of predictions can't be read"), "{why}");
    }

    #[test]
    fn an_export_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let sheet = Sheet::read(Kind::Predictions, &b"[]"[..], Vec::new()).unwrap();
        let path = folder.path().join("no/folder.csv");
        assert!(export(&sheet, &[], Format::Csv, &path).unwrap_err().contains("folder.csv"));
        let path = folder.path().join("a.csv");
        export(&sheet, &[], Format::Csv, &path).unwrap();
        assert!(std::fs::read_to_string(path).unwrap().starts_with("Image,"));
    }
}
