//! Images that can't be read: all are listed in `unreadable.csv`, and a run goes on without them until they are
//! more than `dataset.max_unreadable` of the images of a stage. Then what was meant is another folder, or a copy
//! that was cut short, and numbers about the rest would mislead.

use std::path::Path;

use crate::model::csv_field;
use crate::project::ProjectError;
use crate::run::RunError;
use crate::run::worker::{Desk, StageError};

/// Name of the list in the run directory.
pub(in crate::run) const FILE: &str = "unreadable.csv";

/// Which images a file was among.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::run) enum Set {
    Calibration,
    Dataset,
}

/// One image that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::run) struct Unreadable {
    pub set: Set,
    pub image: String,
    pub reason: String,
}

/// How many of `total` images may be unreadable.
pub(in crate::run) fn allowed(share: f64, total: usize) -> usize {
    // The last bits of the product must not turn 0.1 of 10 into less than 1.
    (share * total as f64 + 1e-9) as usize
}

/// The error of a stage that met more of them than are allowed.
pub(in crate::run) fn too_many(root: &Path, found: &[Unreadable], total: usize, share: f64) -> StageError {
    let first = found.first().map_or_else(String::new, |u| format!("; the first: {}: {}", u.image, u.reason));
    format!(
        "{}: {} of {total} images can't be read so far, more than dataset.max_unreadable ({share}) allows; \
         {FILE} lists them; mend them or leave them out, or raise the share{first}",
        root.display(),
        found.len()
    )
    .into()
}

/// Puts the list into the run directory, sorted; an earlier one that no longer holds goes.
pub(in crate::run) fn store(desk: &Desk, mut found: Vec<Unreadable>) -> Result<(), RunError> {
    if !found.is_empty() {
        found.sort();
        return desk.write(FILE, csv(&found).as_bytes());
    }
    let file = desk.directory.file(FILE);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ProjectError::write(&file, error).into())
        }
        _ => Ok(()),
    }
}

fn csv(found: &[Unreadable]) -> String {
    let mut text = String::from("set,image,reason\r\n");
    for Unreadable { set, image, reason } in found {
        let set = match set {
            Set::Calibration => "calibration",
            Set::Dataset => "dataset",
        };
        text += &format!("{set},{},{}\r\n", csv_field(image), csv_field(reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_whole_images() {
        assert_eq!(
            [allowed(0.1, 10), allowed(0.1, 9), allowed(0.3, 10), allowed(1.0, 7), allowed(0.0, 7)],
            [1, 0, 3, 7, 0]
        );
    }

    #[test]
    fn the_list_is_safe_to_open() {
        let row = Unreadable {
            set: Set::Dataset,
            image: "=cmd|x,y.png".into(),
            reason: "the \"file\" is empty".into(),
        };
        let expected = "dataset,\"'=cmd|x,y.png\",\"the \"\"file\"\" is empty\"\r\n";
        assert_eq!(csv(&[row]), format!("set,image,reason\r\n{expected}"));
    }
}
