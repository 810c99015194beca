//! The plan of a project of the workspace: what its definition says, and what the user chose.

use std::path::{Path, PathBuf};

use super::file::{
    DatasetSection, Gates, ModelSection, OptimizeSection, PerformanceSection, ReportKind, RunFile,
    all_reports, auto, max_unreadable,
};
use super::{Count, EngineName, MemoryLimit, Plan, PlanError, Preprocessing, resolve};
use crate::project::workspace::{Definition, Project};

/// What the user chooses when optimizing the model of a project: the sections of the run file that the
/// project does not fill in.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizeOptions {
    /// Name of the run, and of the variant.
    pub name: String,
    /// How to quantize; relative paths start at the folder of the process.
    pub optimize: OptimizeSection,
    /// How to measure speed.
    pub performance: PerformanceSection,
    /// Which reports to make.
    pub reports: Vec<ReportKind>,
    /// What must hold.
    pub gates: Gates,
    /// Threads for calibration and reports.
    pub threads: Count,
}

impl OptimizeOptions {
    /// The defaults of a run file.
    pub fn new(name: impl Into<String>) -> Self {
        OptimizeOptions {
            name: name.into(),
            optimize: OptimizeSection::default(),
            performance: PerformanceSection::default(),
            reports: all_reports(),
            gates: Gates::default(),
            threads: auto(),
        }
    }
}

/// The plan of optimizing the model of a project, checked as that of a run file. Its `output` is the
/// folder of the project until [`crate::run::launch::start_detached`] gives it that of a variant.
///
/// # Errors
/// All that is wrong with definition and options; files that are gone among it.
pub fn for_project(project: &Project, options: &OptimizeOptions) -> Result<Plan, PlanError> {
    for_definition(&project.name, &project.definition, &project.path, options)
}

/// As [`for_project`], of a project that is yet to be made; `called` stands in messages where the name
/// of a run file would.
///
/// # Errors
/// As [`for_project`].
pub fn for_definition(
    called: &str,
    definition: &Definition,
    output: &Path,
    options: &OptimizeOptions,
) -> Result<Plan, PlanError> {
    let text = |path: &Path| {
        let not_text = || PlanError::file(called, format!("the path {} is not UTF-8", path.display()), None);
        path.to_str().map(str::to_string).ok_or_else(not_text)
    };
    let option = |path: &Option<PathBuf>| path.as_deref().map(text).transpose();
    let preprocess: Preprocessing = serde_yaml::from_value(definition.preprocess.clone())
        .map_err(|error| PlanError::file(called, format!("'preprocess': {error}"), None))?;
    let run_file = RunFile {
        version: 1,
        name: options.name.clone(),
        model: ModelSection { path: text(&definition.model)? },
        preprocess,
        dataset: DatasetSection {
            path: text(&definition.dataset.path)?,
            labels: option(&definition.dataset.labels)?,
            classes: option(&definition.dataset.classes)?,
            max_unreadable: max_unreadable(),
        },
        optimize: options.optimize.clone(),
        performance: options.performance.clone(),
        reports: options.reports.clone(),
        reports_engine: EngineName::Builtin,
        gates: options.gates.clone(),
        threads: options.threads,
        memory_limit: MemoryLimit::Auto,
        executor: None,
        output: Some(text(output)?),
    };
    resolve::resolve(run_file, Path::new(".")).map_err(|problems| PlanError::without_text(called, problems))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::fs;

    use super::*;
    use crate::project::workspace::{DatasetDefinition, NewProject, Workspace};

    fn project(folder: &Path) -> Project {
        fs::create_dir_all(folder.join("images")).unwrap();
        fs::write(folder.join("m.onnx"), "x").unwrap();
        let definition = Definition {
            model: folder.join("m.onnx"),
            preprocess: serde_yaml::from_str("{crop: 8, scale: 0.5}").unwrap(),
            dataset: DatasetDefinition { path: folder.join("images"), labels: None, classes: None },
        };
        let workspace = Workspace::open(&folder.join("w")).unwrap();
        workspace.create(&NewProject { name: "demo".into(), definition }).unwrap()
    }

    #[test]
    fn the_plan_is_that_of_a_run_file_with_the_same_content() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let project = project(&root);
        let plan = for_project(&project, &OptimizeOptions::new("int8")).unwrap();
        let text = "{version: 1, name: int8, model: {path: m.onnx}, dataset: {path: images}, \
                    preprocess: {crop: 8, scale: 0.5}, output: w/projects/demo}";
        assert_eq!(plan, Plan::parse(Path::new("run.yaml"), &root, text, &[]).unwrap());
    }

    #[test]
    fn what_is_wrong_is_told_together() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        fs::remove_file(&project.definition.model).unwrap();
        let mut options = OptimizeOptions::new("int8");
        options.optimize.subset_size = 0;
        let message = for_project(&project, &options).unwrap_err().to_string();
        assert!(message.contains("demo: 'optimize.subset_size' is 0"), "{message}");
        assert!(message.contains("demo: 'model.path' does not exist"), "{message}");
    }

    #[test]
    fn preprocessing_that_is_none_names_the_project() {
        let folder = tempfile::tempdir().unwrap();
        let mut project = project(folder.path());
        project.definition.preprocess = serde_yaml::from_str("{crops: 8}").unwrap();
        let message = for_project(&project, &OptimizeOptions::new("int8")).unwrap_err().to_string();
        assert!(message.contains("demo: 'preprocess': unknown field `crops`"), "{message}");
    }
}
