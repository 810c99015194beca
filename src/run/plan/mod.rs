//! The run file and the plan that it becomes.
//!
//! ```text
//! text ── node: a tree with duplicates ── overrides: --set ── de: the structs of `file`
//!      ── resolve: paths, ranges, defaults ── Plan ── run.yaml
//! ```
//!
//! Whatever is wrong is a [`PlanError`] that shows the place. `run.yaml` is itself a run file.

mod counts;
mod de;
mod executor;
mod file;
mod hosts;
mod memory_limit;
mod node;
mod overrides;
mod paths;
mod preprocessing;
mod problem;
mod project;
mod resolve;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use counts::Counts;
pub use executor::{ExecutorKind, ExecutorSection, SlurmTime};
pub use file::{
    Auto, BiasCorrection, CalibrationSection, Count, EngineName, Gates, IgnoredScope, Method,
    OptimizeSection, PerformanceSection, Precision, Preset, RangeMethod, ReportKind, RunFile,
};
pub use hosts::{NamedNodes, Nodes};
pub use memory_limit::MemoryLimit;
use node::{Node, Segment, Target};
use overrides::Override;
pub use preprocessing::{ColorOrder, Preprocessing, Steps};
pub use problem::PlanError;
use problem::{Problem, Source};
pub use project::{OptimizeOptions, for_definition, for_project};

use crate::engine::Libraries;
use crate::project::host;

/// A larger file is no run file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A run file that was checked, with all paths absolute and all defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Version of the run file format.
    pub version: u32,
    /// Name of the run.
    pub name: String,
    /// The parent model.
    pub model: ModelPlan,
    /// How an image becomes the model's input.
    pub preprocess: Preprocessing,
    /// The images that reports and accuracy are computed on.
    pub dataset: DatasetPlan,
    /// How to quantize.
    pub optimize: OptimizePlan,
    /// How to measure speed.
    pub performance: PerformancePlan,
    /// Which reports to make.
    pub reports: Vec<ReportKind>,
    /// Which engine predicts for them.
    pub reports_engine: EngineName,
    /// What must hold.
    pub gates: Gates,
    /// Threads for calibration and reports.
    pub threads: usize,
    /// Bytes of memory that the run may take; `None` for a share of what there is where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// The scheduler that spreads the run over a cluster, if one does. Where the work is done changes nothing of
    /// what comes of it, so it is not part of `run.yaml` and of manifests.
    #[serde(skip)]
    pub executor: Option<ExecutorSection>,
    /// Folder for everything the run makes.
    pub output: PathBuf,
}

/// The parent model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelPlan {
    /// The ONNX file.
    pub path: PathBuf,
}

/// The images that reports and accuracy are computed on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetPlan {
    /// Folder or list.
    pub path: PathBuf,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Class names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<PathBuf>,
    /// The share of images that may be unreadable, 0 to 1.
    pub max_unreadable: f64,
}

/// How to quantize.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptimizePlan {
    /// Images to calibrate on; `None` means the dataset itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<CalibrationPlan>,
    /// The number format.
    pub precision: Precision,
    /// How far to go.
    pub method: Method,
    /// Which zero-points activations may have.
    pub preset: Preset,
    /// At most this many images to calibrate on.
    pub subset_size: usize,
    /// How ranges of activations are chosen.
    pub range: RangeMethod,
    /// How to correct mean errors.
    pub bias_correction: BiasCorrection,
    /// Whether channels are equalized where that helps; written where they are not.
    #[serde(skip_serializing_if = "is_true")]
    pub equalization: bool,
    /// Whether layers whose sums would saturate elsewhere get weights of 7 bits; written where they do.
    #[serde(skip_serializing_if = "is_false")]
    pub avoid_saturation: bool,
    /// For [`Method::AccuracyAware`]: the largest drop, in percentage points.
    pub max_drop: f64,
    /// For [`Method::AccuracyAware`]: seconds after which the best so far is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_budget_seconds: Option<f64>,
    /// What to leave in FP32.
    pub ignored_scope: IgnoredScope,
    /// Whether statistics are shared with other runs; written where they are not.
    #[serde(skip_serializing_if = "is_true")]
    pub cache: bool,
}

/// Takes a reference because serde gives one.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

fn is_true(value: &bool) -> bool {
    *value
}

/// Images to calibrate on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationPlan {
    /// Folder or list.
    pub path: PathBuf,
}

/// How to measure speed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerformancePlan {
    /// Which engines.
    pub engines: Vec<EngineName>,
    /// Numbers of parallel streams, in the order of the file, none twice.
    pub streams: Counts,
    /// Numbers of threads of each stream, as `streams`.
    pub threads: Counts,
    /// Batch sizes, in the order of the file, none twice.
    pub batch: Vec<Count>,
    /// Milliseconds that the 99th percentile of latency may be at most in the best setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_limit_ms: Option<f64>,
    /// Where the libraries of the engines are.
    #[serde(skip_serializing_if = "Libraries::is_empty")]
    pub libraries: Libraries,
    /// Seconds for each model in each setting.
    pub seconds: f64,
    /// Whether to time each layer.
    pub layers: bool,
    /// Kinds of node to measure on, in the order of the file, none twice; empty to measure where the run is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Nodes>,
}

impl Plan {
    /// Reads and checks a run file, laying `overrides` (`key.path=value`) over it.
    ///
    /// # Errors
    /// All that is wrong with the file, each with its place.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, PlanError> {
        let text = read(path)?;
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::parse(path, folder, &text, overrides)
    }

    /// As [`Plan::load`], of a text; relative paths start at `folder`, messages name `file`.
    ///
    /// # Errors
    /// As [`Plan::load`].
    pub fn parse(file: &Path, folder: &Path, text: &str, overrides: &[String]) -> Result<Self, PlanError> {
        let node = parse_tree(file, text)?;
        let argument =
            |argument: &str, problem| PlanError::argument(file, format!("--set {argument}"), problem);
        let overrides = overrides
            .iter()
            .map(|text| Override::parse(text).map_err(|problem| argument(text, problem)))
            .collect::<Result<Vec<_>, _>>()?;
        let source = || Source { file: file.to_path_buf(), text, node: &node, overrides: &overrides };

        let mut duplicates = Vec::new();
        find_duplicates(text, &node, &mut Vec::new(), &mut duplicates);
        if !duplicates.is_empty() {
            return Err(source().error(duplicates));
        }
        let mut tree = node.clone();
        for set in &overrides {
            set.apply(&mut tree).map_err(|problem| argument(&set.argument, problem))?;
        }
        let run_file = de::from_node(&tree).map_err(|error| source().error(vec![error.into_problem()]))?;
        resolve::resolve(run_file, folder).map_err(|problems| source().error(problems))
    }

    /// The plan as a run file.
    ///
    /// # Errors
    /// A path is not valid UTF-8.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    /// What the user should know about the plan before it runs, though it can run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.optimize.dataset.is_none() {
            warnings.push(
                "no images to calibrate on are given, so they are taken from the dataset that accuracy is \
                 computed on, which flatters the result; set optimize.dataset.path"
                    .to_string(),
            );
        }
        let most = |counts: &[usize]| counts.iter().copied().max().unwrap_or(1);
        let (streams, threads) = (most(&self.performance.streams), most(&self.performance.threads));
        let cores = host::cores();
        if threads > 1 && streams * threads > cores {
            warnings.push(format!(
                "performance.streams × performance.threads is up to {}, more than the {cores} cores of this \
                 machine: threads that wait for one another are slow; leave such settings out",
                streams * threads
            ));
        }
        if self.performance.seconds < 1.0 {
            warnings.push(format!(
                "performance.seconds is {}: speeds measured for less than a second have wide intervals",
                self.performance.seconds
            ));
        }
        warnings
    }
}

fn read(path: &Path) -> Result<String, PlanError> {
    let failed = |what: String, hint| PlanError::file(path, what, hint);
    let metadata = std::fs::metadata(path).map_err(|error| {
        failed(
            format!("cannot read the run file: {error}"),
            Some("`calib8 run FILE.yaml` takes the path of a run file; config/ holds some to copy"),
        )
    })?;
    if metadata.is_dir() {
        return Err(failed("is a folder, not a run file".into(), Some("name the YAML file itself")));
    }
    if metadata.len() > MAX_FILE_BYTES {
        let what = format!("{} bytes are too many for a run file", metadata.len());
        return Err(failed(
            what,
            Some("is this the model? `calib8 run` takes the YAML file that names the model"),
        ));
    }
    let bytes =
        std::fs::read(path).map_err(|error| failed(format!("cannot read the run file: {error}"), None))?;
    String::from_utf8(bytes).map_err(|error| {
        let what = format!("not a text file (byte {} is not UTF-8)", error.utf8_error().valid_up_to());
        failed(what, Some("is this the model? `calib8 run` takes the YAML file that names the model"))
    })
}

fn parse_tree(file: &Path, text: &str) -> Result<Node, PlanError> {
    let empty = || PlanError::file(file, "the run file is empty", Some("config/ holds run files to copy"));
    match serde_yaml::from_str(text) {
        Ok(Node::Null) => Err(empty()),
        Ok(node) => Ok(node),
        Err(_) if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) => {
            Err(empty())
        }
        Err(error) => Err(syntax_error(file, text, &error)),
    }
}

fn syntax_error(file: &Path, text: &str, error: &serde_yaml::Error) -> PlanError {
    let message = error.to_string();
    let Some(location) = error.location() else {
        let hint = message.contains("more than one document").then_some("remove the lines that are `---`");
        return PlanError::file(file, format!("not valid YAML: {message}"), hint);
    };
    let tab = text.lines().enumerate().take(location.line()).find_map(|(index, line)| {
        let indentation: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        indentation.find('\t').map(|column| (index + 1, column + 1))
    });
    if let Some((line, column)) = tab {
        let problem = Problem::new("a tab in the indentation").expected("spaces: YAML allows no tabs there");
        return PlanError::spot(file, text, line, column, problem);
    }
    // The caret shows the position; what the library was reading, and since where, is worth telling.
    let what = message.split(" at line ").next().unwrap_or(&message);
    let context = message.find(", while ").map_or("", |start| &message[start..]);
    let hint = if what.contains("anchor") {
        "text that begins with `*` or `&` must stand in quotes"
    } else if what.contains("tag") {
        "remove it; text that begins with `!` must stand in quotes"
    } else {
        "check the indentation, the space behind each colon, and that quotes and brackets are closed"
    };
    let problem = Problem::new(format!("not valid YAML: {what}{context}")).hint(hint);
    PlanError::spot(file, text, location.line(), location.column(), problem)
}

fn find_duplicates(text: &str, node: &Node, path: &mut Vec<Segment>, problems: &mut Vec<Problem>) {
    match node {
        Node::Map(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                let earlier = entries[..index].iter().filter(|(name, _)| name == key).count();
                path.push(Segment::Key(key.clone()));
                if earlier > 0 {
                    let first = node::locate(text, path, Target::Key(0));
                    let line = first.map_or_else(String::new, |(line, _)| format!(", first in line {line}"));
                    problems.push(
                        Problem::new(format!("the key '{}' stands here twice{line}", node::dotted(path)))
                            .hint("remove one of the two")
                            .at(path.clone(), Target::Key(earlier)),
                    );
                } else {
                    find_duplicates(text, value, path, problems);
                }
                path.pop();
            }
        }
        Node::List(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Segment::Index(index));
                find_duplicates(text, item, path, problems);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
