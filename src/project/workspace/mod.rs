//! The workspace: projects, and the variants that were made of their models.
//!
//! ```text
//! <root>/projects/<id>/project.yaml              name, model, dataset, preprocessing
//! <root>/projects/<id>/runs/<id>/variant.yaml    its name
//! <root>/projects/<id>/runs/<id>/...             a run directory
//! <root>/trash/<id>/                             what was deleted: moved, never removed
//! ```
//!
//! Each thing is one small file in a folder of its own, so that two workbenches on one workspace never
//! write the same file of different things. The folder's name is the id: made once, from the first
//! name, and never changed. How a run stands is not known here: `run` reads it from the run directory.

mod folders;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lock::RunLock;
use super::{ProjectError, atomic, places, time};
use crate::measure::Interval;

/// The file that makes a folder a project.
const PROJECT_FILE: &str = "project.yaml";
/// The file that names a variant.
const VARIANT_FILE: &str = "variant.yaml";
/// Version of both files.
const VERSION: u32 = 1;

/// A folder of projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    root: PathBuf,
}

/// A model and a dataset, and what was made of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Name of its folder; stays when the project gets another name.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// What the user calls it.
    pub name: String,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// What it is about.
    pub definition: Definition,
    /// How fast the FP32 model is, once that was measured.
    pub baseline: Option<Baseline>,
    /// What was made of it, the oldest first.
    pub variants: Vec<Variant>,
}

/// How fast the model of a project is as it came: one stream, batch 1, in the engine of calib8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Images per second.
    pub fps: Interval,
    /// Model name of the processor it was measured on.
    pub cpu: String,
    /// When: RFC 3339, UTC.
    pub measured: String,
}

/// What a project is about. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The FP32 model.
    pub model: PathBuf,
    /// How an image becomes its input: a preset or the steps, as the run file has them.
    pub preprocess: serde_yaml::Value,
    /// What reports and accuracy are computed on.
    pub dataset: DatasetDefinition,
}

/// Images, and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetDefinition {
    /// Folder or list.
    pub path: PathBuf,
    /// Labels: `name index` per line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Class names, one per line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<PathBuf>,
}

/// An optimized model: a run directory with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Name of its folder; stays when the variant gets another name.
    pub id: String,
    /// The run directory.
    pub path: PathBuf,
    /// What the user calls it.
    pub name: String,
    /// When it was made: RFC 3339, UTC; empty if nothing says so.
    pub created: String,
}

/// A project to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewProject {
    /// What the user calls it.
    pub name: String,
    /// What it is about.
    pub definition: Definition,
}

/// A folder among the projects that can't be read as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Name of the folder.
    pub id: String,
    /// The folder.
    pub path: PathBuf,
    /// Why, and where.
    pub reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProjectFile {
    version: u32,
    name: String,
    created: String,
    #[serde(flatten)]
    definition: Definition,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baseline: Option<Baseline>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VariantFile {
    version: u32,
    name: String,
    created: String,
}

impl Workspace {
    /// Where the workspace is when nobody says where: `$CALIB8_WORKSPACE`, else `$XDG_DATA_HOME/calib8`,
    /// else `~/.local/share/calib8`.
    ///
    /// # Errors
    /// None of these variables is set, nor `HOME`.
    pub fn default_root() -> Result<PathBuf, ProjectError> {
        places::workspace(|name| std::env::var_os(name))
    }

    /// The workspace in `root`. Nothing is made there before the first project is.
    ///
    /// # Errors
    /// `root` is a file.
    pub fn open(root: &Path) -> Result<Self, ProjectError> {
        let root = std::path::absolute(root).map_err(|source| ProjectError::read(root, source))?;
        if root.exists() && !root.is_dir() {
            let what = "is a file, expected a folder for the workspace; choose another one".into();
            return Err(ProjectError::Invalid { path: root, what });
        }
        Ok(Workspace { root })
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn projects_folder(&self) -> PathBuf {
        self.root.join("projects")
    }

    /// All projects, the oldest first, and at the end the folders that can't be read as one.
    ///
    /// # Errors
    /// The folder of projects can't be listed.
    pub fn projects(&self) -> Result<Vec<Result<Project, Unreadable>>, ProjectError> {
        let mut found = Vec::new();
        for (id, path) in folders::list(&self.projects_folder())? {
            if folders::is_empty(&path) {
                continue;
            }
            found.push(read_project(&id, &path).map_err(|error| Unreadable {
                id,
                path,
                reason: error.to_string(),
            }));
        }
        found.sort_by(|a, b| match (a, b) {
            (Ok(a), Ok(b)) => (&a.created, &a.id).cmp(&(&b.created, &b.id)),
            (a, b) => a.is_err().cmp(&b.is_err()),
        });
        Ok(found)
    }

    /// The project with this id, or the only one with this name.
    ///
    /// # Errors
    /// There is none, there are several, or it can't be read.
    pub fn project(&self, id_or_name: &str) -> Result<Project, ProjectError> {
        let failed = |what: String| ProjectError::Invalid { path: self.projects_folder(), what };
        let projects = self.projects()?;
        for entry in &projects {
            match entry {
                Ok(project) if project.id == id_or_name => return Ok(project.clone()),
                Err(entry) if entry.id == id_or_name => return Err(failed(entry.reason.clone())),
                _ => {}
            }
        }
        let readable: Vec<&Project> = projects.iter().flatten().collect();
        let named: Vec<&&Project> = readable.iter().filter(|project| project.name == id_or_name).collect();
        let ids = |projects: &[&Project]| {
            projects.iter().map(|project| project.id.as_str()).collect::<Vec<_>>().join(", ")
        };
        match named[..] {
            [project] => Ok((**project).clone()),
            [] if readable.is_empty() => Err(failed("holds no project".into())),
            [] => Err(failed(format!("holds no project {id_or_name:?}; there are: {}", ids(&readable)))),
            _ => Err(failed(format!("several projects are called {id_or_name:?}; use an id instead"))),
        }
    }

    /// Makes a project.
    ///
    /// # Errors
    /// The name can't be used, or nothing can be written.
    pub fn create(&self, new: &NewProject) -> Result<Project, ProjectError> {
        let name = folders::checked_name(&new.name)?;
        let (id, path) = folders::claim(&self.projects_folder(), &folders::slug(name, "project"))?;
        let created = time::now();
        let file = ProjectFile {
            version: VERSION,
            name: name.to_string(),
            created: created.clone(),
            definition: new.definition.clone(),
            baseline: None,
        };
        if let Err(error) = write_yaml(&path.join(PROJECT_FILE), &file) {
            // An empty folder is no project to anybody, so it does not matter if it stays.
            let _ = fs::remove_dir(&path);
            return Err(error);
        }
        let definition = new.definition.clone();
        let name = name.to_string();
        Ok(Project { id, path, name, created, definition, baseline: None, variants: Vec::new() })
    }

    /// Keeps how fast the model of a project is.
    ///
    /// # Errors
    /// The project can't be read or written.
    pub fn set_baseline(&self, project: &Project, baseline: &Baseline) -> Result<(), ProjectError> {
        let file = project.path.join(PROJECT_FILE);
        let stored: ProjectFile = read_yaml(&file)?;
        write_yaml(&file, &ProjectFile { baseline: Some(baseline.clone()), ..stored })
    }

    /// Gives a project another name.
    ///
    /// # Errors
    /// The name can't be used, or the project can't be read or written.
    pub fn rename(&self, project: &Project, name: &str) -> Result<(), ProjectError> {
        let file = project.path.join(PROJECT_FILE);
        let stored: ProjectFile = read_yaml(&file)?;
        write_yaml(&file, &ProjectFile { name: folders::checked_name(name)?.to_string(), ..stored })
    }

    /// Moves a project with all that was made of it to the trash; gives its place there.
    ///
    /// # Errors
    /// A run is at work in it, or it can't be moved.
    pub fn trash(&self, project: &Project) -> Result<PathBuf, ProjectError> {
        // Held until the folder is away, so that no worker begins meanwhile.
        let locks: Result<Vec<RunLock>, ProjectError> =
            project.variants.iter().map(|variant| RunLock::take(&variant.path)).collect();
        let _locks = locks?;
        self.move_to_trash(&project.path, &project.id)
    }

    /// Makes the folder of a variant to be, for a run to be started in.
    ///
    /// # Errors
    /// The name can't be used, or nothing can be written.
    pub fn new_variant(&self, project: &Project, name: &str) -> Result<Variant, ProjectError> {
        let name = folders::checked_name(name)?;
        let (id, path) = folders::claim(&project.path.join("runs"), &folders::slug(name, "variant"))?;
        let created = time::now();
        let file = VariantFile { version: VERSION, name: name.to_string(), created: created.clone() };
        if let Err(error) = write_yaml(&path.join(VARIANT_FILE), &file) {
            let _ = fs::remove_dir(&path);
            return Err(error);
        }
        Ok(Variant { id, path, name: name.to_string(), created })
    }

    /// Gives a variant another name.
    ///
    /// # Errors
    /// The name can't be used, or the file can't be written.
    pub fn rename_variant(&self, variant: &Variant, name: &str) -> Result<(), ProjectError> {
        let name = folders::checked_name(name)?.to_string();
        let file = VariantFile { version: VERSION, name, created: variant.created.clone() };
        write_yaml(&variant.path.join(VARIANT_FILE), &file)
    }

    /// Moves a variant to the trash; gives its place there.
    ///
    /// # Errors
    /// A run is at work in it, or it can't be moved.
    pub fn trash_variant(&self, project: &Project, variant: &Variant) -> Result<PathBuf, ProjectError> {
        let _lock = RunLock::take(&variant.path)?;
        self.move_to_trash(&variant.path, &format!("{}-{}", project.id, variant.id))
    }

    fn move_to_trash(&self, path: &Path, stem: &str) -> Result<PathBuf, ProjectError> {
        let (_, place) = folders::claim(&self.root.join("trash"), stem)?;
        // A folder takes the place of an empty one in one step.
        fs::rename(path, &place).map_err(|source| ProjectError::write(path, source))?;
        Ok(place)
    }
}

fn read_project(id: &str, path: &Path) -> Result<Project, ProjectError> {
    let file: ProjectFile = read_yaml(&path.join(PROJECT_FILE))?;
    if file.version != VERSION {
        let what =
            format!("is of version {}, expected {VERSION}; a newer calib8 may have made it", file.version);
        return Err(ProjectError::Invalid { path: path.join(PROJECT_FILE), what });
    }
    let mut variants: Vec<Variant> = folders::list(&path.join("runs"))?
        .into_iter()
        .filter(|(_, path)| !folders::is_empty(path))
        .map(|(id, path)| read_variant(id, path))
        .collect();
    variants.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    Ok(Project {
        id: id.to_string(),
        path: path.to_path_buf(),
        name: file.name,
        created: file.created,
        definition: file.definition,
        baseline: file.baseline,
        variants,
    })
}

/// A run directory is a variant whatever its name file says: the results are what counts.
fn read_variant(id: String, path: PathBuf) -> Variant {
    let (name, created) = match read_yaml::<VariantFile>(&path.join(VARIANT_FILE)) {
        Ok(file) => (file.name, file.created),
        Err(_) => (id.clone(), String::new()),
    };
    Variant { id, path, name, created }
}

fn read_yaml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ProjectError> {
    let text = fs::read_to_string(path).map_err(|source| ProjectError::read(path, source))?;
    serde_yaml::from_str(&text).map_err(|error| ProjectError::Invalid {
        path: path.to_path_buf(),
        what: format!("is not as calib8 writes it: {error}"),
    })
}

fn write_yaml(path: &Path, value: &impl Serialize) -> Result<(), ProjectError> {
    let text = serde_yaml::to_string(value).map_err(|error| ProjectError::Invalid {
        path: path.to_path_buf(),
        what: format!("can't be written as YAML: {error}"),
    })?;
    atomic::write(path, text.as_bytes())
}

#[cfg(test)]
mod tests;
