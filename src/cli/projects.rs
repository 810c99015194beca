//! `calib8 projects`: the workspace as a tree of parents and what was made of them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::columns::table;
use super::summary_text::bytes;
use crate::project::ProjectError;
use crate::project::workspace::{Project, Unreadable, Variant, Workspace};
use crate::run::status;
use crate::run::summary::{ModelRole, Summary};

/// Which workspace.
#[derive(Debug, clap::Args)]
pub struct In {
    /// The workspace; left out: $CALIB8_WORKSPACE, else calib8 in the XDG data folder
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
}

impl In {
    /// The workspace.
    ///
    /// # Errors
    /// Nothing says where it is, or it is a file.
    pub fn open(&self) -> Result<Workspace, ProjectError> {
        let root = self.workspace.clone().map_or_else(Workspace::default_root, Ok)?;
        Workspace::open(&root)
    }
}

/// Arguments of `projects`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    workspace: In,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// A model of the workspace: a parent, or a variant of the parent before it.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip)]
    depth: usize,
    id: String,
    name: String,
    path: PathBuf,
    fps: Option<f64>,
    speedup: Option<f64>,
    bytes: Option<u64>,
    agreement: Option<f64>,
    drop: Option<f64>,
    status: String,
    created: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    variants: Vec<Row>,
}

/// Prints the tree.
///
/// # Errors
/// The workspace can't be read, or standard output can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let workspace = args.workspace.open()?;
    let rows: Vec<Row> =
        workspace.projects()?.iter().map(|entry| entry.as_ref().map_or_else(broken, parent)).collect();
    let text = if args.json {
        let value = serde_json::json!({
            "schema": "calib8/projects/1", "workspace": workspace.root(), "projects": rows,
        });
        serde_json::to_string_pretty(&value)? + "\n"
    } else if rows.is_empty() {
        let root = workspace.root().display();
        super::sanitized(&format!("no projects in {root}: calib8 import MODEL.onnx DATASET makes one\n"))
    } else {
        let lines: Vec<Vec<String>> =
            rows.iter().flat_map(|row| std::iter::once(row).chain(&row.variants)).map(Row::cells).collect();
        table(&["NAME", "FPS", "SPEED-UP", "SIZE", "AGREEMENT", "DROP", "STATUS", "ID"], &lines)
    };
    super::print(&text)?;
    Ok(0)
}

fn broken(entry: &Unreadable) -> Row {
    Row {
        depth: 0,
        id: entry.id.clone(),
        name: entry.id.clone(),
        path: entry.path.clone(),
        fps: None,
        speedup: None,
        bytes: None,
        agreement: None,
        drop: None,
        status: entry.reason.clone(),
        created: String::new(),
        variants: Vec::new(),
    }
}

fn parent(project: &Project) -> Row {
    Row {
        depth: 0,
        id: project.id.clone(),
        name: project.name.clone(),
        path: project.path.clone(),
        fps: project.baseline.as_ref().map(|baseline| baseline.fps.median),
        speedup: None,
        bytes: project.definition.model.metadata().ok().map(|metadata| metadata.len()),
        agreement: None,
        drop: None,
        status: if project.definition.model.is_file() { String::new() } else { "model is gone".into() },
        created: project.created.clone(),
        variants: project.variants.iter().map(|variant| child(project, variant)).collect(),
    }
}

fn child(project: &Project, variant: &Variant) -> Row {
    let summary = read_summary(&variant.path);
    let summary = summary.as_ref();
    let fps = |s: &Summary| {
        let mut rows = s.performance.iter();
        rows.find(|row| row.model == ModelRole::Optimized).map(|row| row.fps.median)
    };
    Row {
        depth: 1,
        id: format!("{}/{}", project.id, variant.id),
        name: variant.name.clone(),
        path: variant.path.clone(),
        fps: summary.and_then(fps),
        speedup: summary.and_then(|s| s.speedup.first()).map(|speedup| speedup.ratio),
        bytes: summary.map(|s| s.optimized.bytes),
        agreement: summary.and_then(|s| s.reports.predictions.as_ref()).map(|report| report.agreement),
        drop: summary.and_then(|s| s.reports.annotations.as_ref()).map(|report| report.drop * 100.0),
        status: status::of(&variant.path).standing.name().into(),
        created: variant.created.clone(),
        variants: Vec::new(),
    }
}

/// `summary.json`, once the run has come so far.
fn read_summary(directory: &Path) -> Option<Summary> {
    serde_json::from_slice(&std::fs::read(directory.join("summary.json")).ok()?).ok()
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        vec![
            format!("{}{}", "  ".repeat(self.depth), self.name),
            or_dash(self.fps.map(|fps| format!("{fps:.1}"))),
            or_dash(self.speedup.map(|ratio| format!("{ratio:.2} ×"))),
            or_dash(self.bytes.map(bytes)),
            or_dash(self.agreement.map(|fraction| format!("{:.1} %", fraction * 100.0))),
            or_dash(self.drop.map(|points| format!("{points:.2}"))),
            if self.status.is_empty() { "-".into() } else { self.status.clone() },
            self.id.clone(),
        ]
    }
}
