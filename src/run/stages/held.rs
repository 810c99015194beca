//! Images that statistics come past and that corrections will ask for: they are decoded once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ndarray::Array3;

use crate::dataset::Dataset;

/// Preprocessed images (CHW) of a small part of the calibration images. Where statistics were not collected here, or
/// only the rest of them, some are missing.
pub(in crate::run) struct Held {
    wanted: Vec<PathBuf>,
    images: Mutex<HashMap<PathBuf, Array3<f32>>>,
}

impl Held {
    /// Wants the images of `part`.
    pub fn new(part: &Dataset) -> Held {
        Held { wanted: part.items.iter().map(|item| item.path.clone()).collect(), images: Mutex::default() }
    }

    /// Holds the image of the file at `path` if it is wanted.
    pub fn offer(&self, path: &Path, image: &Array3<f32>) {
        if self.wanted.iter().any(|wanted| wanted == path) {
            self.images.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into(), image.clone());
        }
    }

    /// The images in their order, if none is missing. They are not held any more.
    pub fn take(&self) -> Option<Vec<Array3<f32>>> {
        let mut images = std::mem::take(&mut *self.images.lock().unwrap_or_else(PoisonError::into_inner));
        self.wanted.iter().map(|path| images.remove(path)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wanted_comes_back_in_order_or_nothing() {
        let wanted = ["a", "b"].map(PathBuf::from).to_vec();
        let held = Held { wanted, images: Mutex::default() };
        let image = |value: f32| Array3::from_elem((1, 1, 1), value);
        held.offer(Path::new("b"), &image(2.0));
        held.offer(Path::new("c"), &image(3.0));
        assert!(held.take().is_none());
        held.offer(Path::new("b"), &image(2.0));
        held.offer(Path::new("a"), &image(1.0));
        assert_eq!(held.take().unwrap(), [image(1.0), image(2.0)]);
    }
}
