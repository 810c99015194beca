//! `calib8 run --dry-run`: everything that can be checked and foretold without work.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::progress_bar::duration;
use super::summary_text::bytes;
use crate::run::RunError;
use crate::run::directory::{self, Existing};
use crate::run::plan::Plan;

/// What `reports` take on disk for each image: a row in each table and a thumbnail in the page.
const REPORT_BYTES_PER_IMAGE: u64 = 12_000;

/// Extensions of files that hold images.
const IMAGE_EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "webp", "gif"];

/// A run as it would be.
#[derive(Debug, Serialize)]
struct Forecast<'a> {
    plan: &'a Plan,
    warnings: Vec<String>,
    model_bytes: u64,
    calibration_images: usize,
    dataset_images: usize,
    measuring_seconds: f64,
    disk_bytes: u64,
    disk_free_bytes: Option<u64>,
}

/// Prints the plan and what it will take.
///
/// # Errors
/// The output folder would be refused, or standard output can't be written.
pub fn run(plan: &Plan, existing: Existing, json: bool) -> anyhow::Result<u8> {
    let yaml = plan.to_yaml()?;
    directory::check(&plan.output, existing, &yaml).map_err(RunError::from)?;
    let forecast = Forecast::of(plan);
    let text = if json {
        serde_json::to_string_pretty(&forecast)? + "\n"
    } else {
        super::sanitized(&format!("{yaml}\n{}", forecast.render()))
    };
    super::print(&text)?;
    Ok(0)
}

impl<'a> Forecast<'a> {
    fn of(plan: &'a Plan) -> Self {
        let dataset_images = count_images(&plan.dataset.path);
        let calibration = plan.optimize.dataset.as_ref();
        let found = calibration.map_or(dataset_images, |section| count_images(&section.path));
        let model_bytes = fs::metadata(&plan.model.path).map_or(0, |metadata| metadata.len());
        let disk_bytes = model_bytes / 3 + dataset_images as u64 * REPORT_BYTES_PER_IMAGE;
        let disk_free_bytes = free_bytes(&plan.output);
        let mut warnings = plan.warnings();
        for (section, path, images) in [
            ("dataset.path", &plan.dataset.path, dataset_images),
            ("optimize.dataset.path", calibration.map_or(&plan.dataset.path, |section| &section.path), found),
        ] {
            if images == 0 {
                warnings.push(format!("{section}: no images found in {}", path.display()));
            }
        }
        if disk_free_bytes.is_some_and(|free| free < disk_bytes) {
            warnings.push("the disk of the output folder has too little space".to_string());
        }
        Forecast {
            plan,
            warnings,
            model_bytes,
            calibration_images: found.min(plan.optimize.subset_size),
            dataset_images,
            measuring_seconds: measuring_seconds(plan),
            disk_bytes,
            disk_free_bytes,
        }
    }

    fn render(&self) -> String {
        let mut lines = vec![
            format!("# model        {} ({})", self.plan.model.path.display(), bytes(self.model_bytes)),
            format!("# calibration  {} images, one inference each", self.calibration_images),
            format!("# reports      {} images, one inference of each model", self.dataset_images),
            format!("# measuring    about {}", duration(self.measuring_seconds)),
            format!("# disk         about {}", bytes(self.disk_bytes)),
        ];
        if let Some(free) = self.disk_free_bytes {
            lines.push(format!("# free there   {}", bytes(free)));
        }
        lines.extend(self.warnings.iter().map(|warning| format!("# warning: {warning}")));
        lines.join("\n") + "\n"
    }
}

/// Both models in each setting.
fn measuring_seconds(plan: &Plan) -> f64 {
    let performance = &plan.performance;
    let settings = performance.engines.len() * performance.streams.len() * performance.batch.len();
    2.0 * performance.seconds * settings as f64
}

/// Images below a folder, by extension, or lines of a list.
fn count_images(path: &Path) -> usize {
    if path.is_file() {
        let text = fs::read_to_string(path).unwrap_or_default();
        return text.lines().filter(|line| !line.trim().is_empty()).count();
    }
    let is_image = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        IMAGE_EXTENSIONS.contains(&extension.as_str())
    };
    let (mut images, mut folders) = (0, vec![path.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if is_image(&entry.path()) => images += 1,
                _ => {}
            }
        }
    }
    images
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
    fn images_are_counted_in_folders_and_lists() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("cats")).unwrap();
        for name in ["a.JPG", "cats/b.png", "cats/readme.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(count_images(folder.path()), 2);
        let list = folder.path().join("val.txt");
        fs::write(&list, "a.jpg 0\nb.png 1\n\n").unwrap();
        assert_eq!(count_images(&list), 2);
    }

    #[test]
    fn free_space_is_found_for_a_folder_to_come() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("to/come")).is_some());
    }
}
