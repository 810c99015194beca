//! Find images and labels, decode, preprocess into arrays, prefetch. Knows no model.
//!
//! An image walks through this room in four steps, one file each:
//!
//! ```text
//! Dataset::open          which files, which labels              open.rs, walk.rs, labels.rs
//!   └─ decode            any format → 8-bit RGB, upright        decode.rs
//!        └─ Preprocess   resize, crop, normalise → CHW f32      preprocess.rs, resample.rs
//!             └─ prefetch  the same on threads, in order        prefetch.rs
//! ```
//!
//! Two rules explain most of the code. *Same pixels as everybody*: accuracy is only comparable
//! with other tools when the network sees the same input, so resizing reproduces Pillow's fixed-point
//! bilinear filter bit for bit. *Nothing vanishes*: a file that can't be read is an error in
//! its place, what is left out is counted in [`Dataset::warnings`].

mod decode;
mod error;
mod hash;
mod jpeg;
mod labels;
mod memory;
mod open;
mod prefetch;
mod preprocess;
mod resample;
mod walk;

pub use decode::{MAX_PIXELS, decode};
pub use error::{DatasetError, ImageError, PreprocessError};
pub use hash::{overlap, sha256};
pub use labels::class_names;
pub use memory::limit_decoding;
pub use prefetch::{Loaded, Prefetch, PrefetchOptions, load, prefetch};
pub use preprocess::{Color, Preprocess, Resize};
pub use walk::EXTENSIONS;

use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a dataset lies, as a run file or the command line gives it. Paths are taken as they are,
/// relative to the working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatasetSpec {
    /// The folder that holds the images; or, without `labels`, a list of `name index` lines in it.
    pub path: PathBuf,
    /// A list of `name index` lines; names are relative to `path`.
    pub labels: Option<PathBuf>,
    /// Class names, one a line: line i+1 names class i. A leading WordNet id is recognised.
    pub classes: Option<PathBuf>,
    /// Keep only so many images, see [`Dataset::subset`].
    pub subset: Option<usize>,
}

/// One image of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Path relative to the dataset folder, with `/` between its parts.
    pub name: String,
    /// Where to open it.
    pub path: PathBuf,
    /// Index of its class, when the dataset is annotated.
    pub label: Option<u32>,
    /// Line of the label list (1-based) that gave the label.
    pub line: Option<usize>,
}

/// The layout that a dataset was recognised as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Images without labels, found recursively.
    Unannotated,
    /// Images named by a list of `name index` lines.
    ImageNetList,
    /// One folder per class.
    ClassFolders,
}

/// Images and, where there are any, their labels. Nothing is decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The dataset folder.
    pub root: PathBuf,
    /// The images, sorted by name (bytewise). Copies of a dataset share them.
    pub items: Arc<[Item]>,
    /// Names of the classes, index by index, when known.
    pub classes: Option<Vec<String>>,
    /// The recognised layout.
    pub kind: Kind,
    /// The label list that was used.
    pub labels: Option<PathBuf>,
    /// What a user should know, each one sentence or two.
    pub warnings: Vec<String>,
}
