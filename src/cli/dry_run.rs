//! `calib8 run --dry-run`: everything that can be checked and foretold without work.

use std::path::Path;

use serde::Serialize;

use super::progress_bar::duration;
use super::summary_text::bytes;
use crate::run::RunError;
use crate::run::directory::{self, Existing};
use crate::run::plan::Plan;
use crate::run::preview::{Preview, preview};

/// A run as it would be.
#[derive(Debug, Serialize)]
struct Forecast<'a> {
    plan: &'a Plan,
    #[serde(flatten)]
    preview: Preview,
    warnings: Vec<String>,
    disk_free_bytes: Option<u64>,
}

/// Prints the plan and what it will take.
///
/// # Errors
/// The run would fail before its first image, the output folder would be refused, or standard
/// output can't be written.
pub fn run(plan: &Plan, existing: Existing, json: bool) -> anyhow::Result<u8> {
    let yaml = plan.to_yaml()?;
    directory::check(&plan.output, existing, &yaml).map_err(RunError::from)?;
    let preview = preview(plan)?;
    let disk_free_bytes = free_bytes(&plan.output);
    let mut warnings = plan.warnings();
    if disk_free_bytes.is_some_and(|free| free < preview.disk_bytes) {
        warnings.push("the disk of the output folder has too little space".to_string());
    }
    let forecast = Forecast { plan, preview, warnings, disk_free_bytes };
    let text = if json {
        serde_json::to_string_pretty(&forecast)? + "\n"
    } else {
        super::sanitized(&format!("{yaml}\n{}", forecast.render()))
    };
    super::print(&text)?;
    Ok(0)
}

impl Forecast<'_> {
    fn render(&self) -> String {
        let preview = &self.preview;
        let mut lines = vec![
            format!("# model        {} ({})", self.plan.model.path.display(), bytes(preview.model_bytes)),
            format!("# in INT8      {} nodes; {} stay FP32", preview.quantized_nodes, preview.left.len()),
            format!("# calibration  {} images", preview.calibration_images),
            format!("# reports      {} images", preview.dataset_images),
            format!(
                "# time         about {}, {:.1} ms per FP32 inference",
                duration(preview.seconds),
                preview.parent_ms
            ),
            format!(
                "# memory       about {} of {}, {} threads",
                bytes(preview.memory_bytes),
                bytes(preview.memory_limit_bytes),
                preview.threads
            ),
            format!("# disk         about {}", bytes(preview.disk_bytes)),
        ];
        lines.extend(self.disk_free_bytes.map(|free| format!("# free there   {}", bytes(free))));
        lines.extend(preview.left.iter().map(|(node, reason)| format!("# FP32: {node}: {reason}")));
        lines.extend(self.warnings.iter().map(|warning| format!("# warning: {warning}")));
        lines.join("\n") + "\n"
    }
}

/// Free space where `path` is or will be.
fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    let space = rustix::fs::statvfs(there).ok()?;
    space.f_bavail.checked_mul(space.f_frsize)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_found_for_a_folder_to_come() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("to/come")).is_some());
    }
}
