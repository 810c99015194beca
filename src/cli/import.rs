//! `calib8 import`: a model and a dataset become a project of the workspace.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::projects::In;
use crate::project::workspace::{DatasetDefinition, Definition, NewProject};
use crate::run::event_log::EventLog;
use crate::run::import::baseline;
use crate::run::interrupt::Interrupt;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The trained FP32 model
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Folder of images, or a list
    dataset: PathBuf,
    /// Name of the project; left out: that of the model's file
    #[arg(long)]
    name: Option<String>,
    /// A preset, or the steps as in a run file: '{resize_short: 256, crop: 224, mean: [..], std: [..]}'
    #[arg(long, default_value = "imagenet-torchvision")]
    preprocess: String,
    /// `name index` on each line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Class names, one per line
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    #[command(flatten)]
    workspace: In,
    /// Print the project as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the model once, and makes the project.
///
/// # Errors
/// Model, dataset and preprocessing do not fit, or the workspace can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
    let stem = || args.model.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(stem).unwrap_or_default();
    let preprocess = serde_yaml::from_str(&args.preprocess)
        .map_err(|error| super::Usage(format!("--preprocess {}: {error}", args.preprocess)))?;
    let definition = Definition {
        model: absolute(&args.model)?,
        preprocess,
        dataset: DatasetDefinition {
            path: absolute(&args.dataset)?,
            labels: args.labels.as_deref().map(absolute).transpose()?,
            classes: args.classes.as_deref().map(absolute).transpose()?,
        },
    };
    let workspace = args.workspace.open()?;
    let interrupt = Interrupt::install().context("cannot listen to Ctrl-C")?;
    let log = EventLog::detached(vec![super::run::view(false)]);
    let baseline = baseline(&name, &definition, &log, &interrupt)?;
    let project = workspace.create(&NewProject { name, definition })?;
    workspace.set_baseline(&project, &baseline)?;
    let text = if args.json {
        let value = serde_json::json!({
            "id": project.id, "name": project.name, "path": project.path, "baseline": baseline,
        });
        format!("{value}\n")
    } else {
        super::sanitized(&format!(
            "project {} in {}: {:.1} FPS ({:.1} to {:.1}) with one stream\n",
            project.id,
            project.path.display(),
            baseline.fps.median,
            baseline.fps.low,
            baseline.fps.high
        ))
    };
    super::print(&text)?;
    Ok(0)
}
