//! A model packed for deployment: what it takes to run it elsewhere, without calib8 and with it.
//!
//! ```text
//! run directory ── export ──> model.onnx, package.json (hashes, measured settings), preprocess.json,
//!                             classes.txt, programs in Python and Rust ── Package::open ──> Session
//! ```

use std::path::{Path, PathBuf};

use ndarray::{ArrayD, Axis};
use serde::{Deserialize, Serialize};

use super::performance::{Best, Performance};
use super::plan::Preprocessing;
use super::stages::calibrate::MODEL_FILE;
use super::summary::{FileRecord, ModelRole, Summary};
use crate::dataset::{self, Dataset, DatasetSpec, Preprocess};
use crate::engine::{EngineError, OwnedSession};
use crate::model::{Dim, Model};
use crate::project::{ProjectError, atomic, hash};

/// Name and version of the format of `package.json`.
pub const SCHEMA: &str = "calib8/package/1";

const MODEL: &str = "model.onnx";
const MANIFEST: &str = "package.json";
const STEPS: &str = "preprocess.json";
const CLASSES: &str = "classes.txt";

/// The programs, by their names in the package.
const PROGRAMS: [(&str, &str); 4] = [
    ("preprocess.py", include_str!("preprocess.py")),
    ("classify_onnxruntime.py", include_str!("classify_onnxruntime.py")),
    ("classify_openvino.py", include_str!("classify_openvino.py")),
    ("rust/src/main.rs", include_str!("../../../examples/classify.rs")),
];

/// What can go wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The folder to export is no finished run.
    #[error("{folder}: {what}; give the folder of a finished run, which holds {file}")]
    NoRun {
        /// The folder.
        folder: PathBuf,
        /// The file at fault.
        file: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// A file is not what it was when it was written.
    #[error("{path}: has the hash {found}, expected {expected}; it was changed since: export it again")]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its hash now.
        found: String,
        /// Its hash then.
        expected: String,
    },
    /// The target holds something else.
    #[error("{0}: is not empty and no package of calib8; choose another folder")]
    Taken(PathBuf),
    /// A file of the package can't be read.
    #[error("{path}: {what}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Nothing could be written.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The model can't be loaded or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// `package.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name of the run.
    pub name: String,
    /// Version of calib8.
    pub calib8: String,
    /// Number format of the model.
    pub precision: String,
    /// Its inputs, a symbolic batch as 0.
    pub inputs: Vec<Tensor>,
    /// Its outputs.
    pub outputs: Vec<Tensor>,
    /// Every file but this one.
    pub files: Vec<FileRecord>,
    /// The FP32 model that it was made from.
    pub parent: FileRecord,
    /// The setting with the most throughput on each engine, on the host below.
    pub best: Vec<Best>,
    /// Where that was measured.
    pub measured_on: Option<String>,
    /// Agreement with the parent and accuracy, as in `summary.json`.
    pub reports: serde_json::Value,
}

/// Name and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    /// ONNX name.
    pub name: String,
    /// Shape; 0 for a dimension that is chosen when the model is loaded.
    pub shape: Vec<usize>,
}

/// The part of `run.yaml` that a package needs. Not the whole plan: its paths may be gone.
#[derive(Deserialize)]
struct RunYaml {
    name: String,
    preprocess: Preprocessing,
    dataset: DatasetYaml,
}

#[derive(Deserialize)]
struct DatasetYaml {
    path: PathBuf,
    #[serde(default)]
    labels: Option<PathBuf>,
    #[serde(default)]
    classes: Option<PathBuf>,
}

/// Packs the model of a finished run into `target`, which is made; gives the names of the files. An earlier
/// package there is replaced. The program in Rust depends on calib8's source in `source`, or else in a folder
/// `calib8` of the package, which whoever builds it puts there.
///
/// # Errors
/// `run` is no finished run or its model was changed, `target` holds something else, or can't be written.
pub fn export(run: &Path, target: &Path, source: Option<&Path>) -> Result<Vec<String>, PackageError> {
    let no_run = |file: &'static str| {
        move |what: String| PackageError::NoRun { folder: run.to_path_buf(), file, what }
    };
    let read = |file: &'static str| {
        std::fs::read(run.join(file)).map_err(|e| no_run(file)(format!("{file} can't be read: {e}")))
    };
    let summary: Summary =
        serde_json::from_slice(&read("summary.json")?).map_err(|e| no_run("summary.json")(e.to_string()))?;
    let yaml: RunYaml =
        serde_yaml::from_slice(&read("run.yaml")?).map_err(|e| no_run("run.yaml")(e.to_string()))?;
    let model = Model::load(&run.join(MODEL_FILE)).map_err(EngineError::from)?;
    if model.sha256 != summary.optimized.sha256 {
        return Err(PackageError::Changed {
            path: model.path,
            found: model.sha256,
            expected: summary.optimized.sha256,
        });
    }
    let preprocess = yaml.preprocess.to_preprocess().map_err(no_run("run.yaml"))?;
    // Speed may not have been measured.
    let performance = Performance::read(&run.join("performance.json")).unwrap_or_default();

    let occupied = std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !target.join(MANIFEST).is_file() {
        return Err(PackageError::Taken(target.to_path_buf()));
    }
    let mut files: Vec<(String, Vec<u8>)> = vec![
        (MODEL.into(), read(MODEL_FILE)?),
        (STEPS.into(), json(&preprocess)?),
        ("README.md".into(), readme(&yaml.name, &performance).into_bytes()),
        ("rust/Cargo.toml".into(), cargo_toml(source).into_bytes()),
    ];
    files.extend(PROGRAMS.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())));
    if let Some(classes) = classes(&yaml.dataset) {
        files.push((CLASSES.into(), (classes.join("\n") + "\n").into_bytes()));
    }
    let manifest = Manifest {
        schema: SCHEMA.into(),
        name: yaml.name,
        calib8: env!("CARGO_PKG_VERSION").into(),
        precision: summary.optimized.precision.clone(),
        inputs: model.inputs().into_iter().map(tensor).collect(),
        outputs: model.outputs().into_iter().map(tensor).collect(),
        files: files
            .iter()
            .map(|(path, bytes)| FileRecord {
                path: path.clone(),
                bytes: bytes.len() as u64,
                sha256: hash::sha256_bytes(bytes),
            })
            .collect(),
        parent: FileRecord {
            path: summary.parent.path.clone(),
            bytes: summary.parent.bytes,
            sha256: summary.parent.sha256.clone(),
        },
        best: performance.best.into_iter().filter(|best| best.model == ModelRole::Optimized).collect(),
        measured_on: performance.host.map(|host| format!("{}, {} cores", host.cpu, host.cores)),
        reports: serde_json::to_value(&summary.reports).unwrap_or_default(),
    };
    // Last, so that a package that has one is whole.
    files.push((MANIFEST.into(), json(&manifest)?));
    for (name, bytes) in &files {
        let path = target.join(name);
        let folder = path.parent().unwrap_or(target);
        let failed = |e: std::io::Error| PackageError::Read { path: folder.into(), what: e.to_string() };
        std::fs::create_dir_all(folder).map_err(failed)?;
        atomic::write(&path, bytes)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

fn tensor(port: crate::model::Port) -> Tensor {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(n) => *n,
        Dim::Symbol(_) => 0,
    };
    Tensor { shape: port.dims.iter().map(size).collect(), name: port.name }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, PackageError> {
    let failed = |e: serde_json::Error| PackageError::Read { path: MANIFEST.into(), what: e.to_string() };
    let mut bytes = serde_json::to_vec_pretty(value).map_err(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Class names from their file or, where classes are folders, from these; `None` where they are gone.
fn classes(dataset: &DatasetYaml) -> Option<Vec<String>> {
    if let Some(file) = &dataset.classes {
        return dataset::class_names(file).ok();
    }
    let spec = DatasetSpec {
        path: dataset.path.clone(),
        labels: dataset.labels.clone(),
        classes: None,
        subset: None,
    };
    Dataset::open(&spec).ok()?.classes
}

fn cargo_toml(source: Option<&Path>) -> String {
    let path = source.map(|source| std::path::absolute(source).unwrap_or_else(|_| source.to_path_buf()));
    let path = path.map_or_else(|| "../calib8".to_string(), |path| path.display().to_string());
    // A string of JSON is one of TOML, too.
    let path = serde_json::Value::from(path);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "[package]\nname = \"classify\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\n\
         # calib8 {version} is on no package registry: this is the folder of its source, a copy or a link.\n\
         calib8 = {{ path = {path} }}\n"
    )
}

fn readme(name: &str, performance: &Performance) -> String {
    let mut text = format!(
        "# {name}\n\nAn INT8 ONNX model, packed by calib8 {}. `package.json` has the hash of each file.\n\n\
         ```sh\npython3 classify_onnxruntime.py IMAGE\npython3 classify_openvino.py IMAGE\n\
         cargo run --release --manifest-path rust/Cargo.toml -- . IMAGE   # calib8 as a library\n```\n\n\
         The last one needs the source of calib8, where `rust/Cargo.toml` says. Each prints the five best classes of `classes.txt`. Images are prepared as `preprocess.json` says: \
         resize, crop, channel order, then x = (pixel · scale − mean) / std.\n",
        env!("CARGO_PKG_VERSION")
    );
    let best: Vec<&Best> =
        performance.best.iter().filter(|best| best.model == ModelRole::Optimized).collect();
    if let (false, Some(host)) = (best.is_empty(), &performance.host) {
        text += &format!("\nMost throughput, measured on {} with {} cores:\n\n", host.cpu, host.cores);
        text += "| engine | streams | threads per stream | batch | images/s | p99, ms |\n|---|---|---|---|---|---|\n";
        for b in best {
            text += &format!(
                "| {} | {} | {} | {} | {:.1} | {:.2} |\n",
                b.engine.name(),
                b.streams,
                b.threads,
                b.batch,
                b.fps,
                b.p99_ms
            );
        }
    }
    text
}

/// A package, opened to be used.
#[derive(Debug, Clone)]
pub struct Package {
    folder: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// How an image becomes the model's input.
    pub preprocess: Preprocess,
    /// Class names by index; empty if the package has none.
    pub classes: Vec<String>,
}

impl Package {
    /// Opens a folder that [`export`] made.
    ///
    /// # Errors
    /// A file is missing, or the model is not the one that was packed.
    pub fn open(folder: impl AsRef<Path>) -> Result<Package, PackageError> {
        let folder = folder.as_ref();
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|e| PackageError::Read { path, what: e.to_string() })
        };
        let wrong = |name: &str, what: String| PackageError::Read { path: folder.join(name), what };
        let manifest: Manifest =
            serde_json::from_slice(&read(MANIFEST)?).map_err(|e| wrong(MANIFEST, e.to_string()))?;
        let steps: Preprocessing =
            serde_json::from_slice(&read(STEPS)?).map_err(|e| wrong(STEPS, e.to_string()))?;
        let found = hash::sha256_bytes(&read(MODEL)?);
        let expected = manifest.files.iter().find(|f| f.path == MODEL).map(|f| f.sha256.clone());
        let expected = expected.ok_or_else(|| wrong(MANIFEST, format!("lists no {MODEL}")))?;
        if found != expected {
            return Err(PackageError::Changed { path: folder.join(MODEL), found, expected });
        }
        let listed = manifest.files.iter().any(|f| f.path == CLASSES);
        let classes =
            if listed { String::from_utf8_lossy(&read(CLASSES)?).into_owned() } else { String::new() };
        Ok(Package {
            folder: folder.to_path_buf(),
            preprocess: steps.to_preprocess().map_err(|what| wrong(STEPS, what))?,
            classes: classes.lines().map(str::to_string).collect(),
            manifest,
        })
    }

    /// The model in the built-in engine, for one image at a time.
    ///
    /// # Errors
    /// It can't be loaded.
    pub fn session(&self) -> Result<OwnedSession, PackageError> {
        Ok(OwnedSession::load(self.folder.join(MODEL))?)
    }

    /// An image file as the model's input, with a batch of 1.
    ///
    /// # Errors
    /// The image can't be read, or can't be prepared.
    pub fn input(&self, image: impl AsRef<Path>) -> Result<ArrayD<f32>, PackageError> {
        let path = image.as_ref();
        let loaded = dataset::load(path, &self.preprocess);
        let loaded =
            loaded.map_err(|e| PackageError::Read { path: path.to_path_buf(), what: e.to_string() })?;
        Ok(loaded.insert_axis(Axis(0)).into_dyn())
    }
}
