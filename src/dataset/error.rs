//! What can be wrong with a dataset or an image. Each message says where, what, and what to do.
//!
//! The errors hold what the system said as text, so that they can be cloned into reports.

use std::path::PathBuf;

/// An error of the dataset as a whole: nothing can be done until it is mended.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DatasetError {
    /// The dataset folder isn't there.
    #[error("{}: this folder does not exist; check the dataset's `path`", path.display())]
    NotFound {
        /// The dataset folder.
        path: PathBuf,
    },
    /// The dataset's path is a file.
    #[error(
        "{}: this is a file, expected a folder of images, as `labels` are given too; give the folder as \
         `path`, or the list alone", path.display()
    )]
    NotAFolder {
        /// The dataset's path.
        path: PathBuf,
    },
    /// The system refused to read a folder or a list.
    #[error("{}: cannot read: {what}; check that it exists and that you may read it", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// No image lies below the folder.
    #[error(
        "{}: no images found{}; expected files ending in {}, at any depth (hidden files are skipped)",
        path.display(),
        if *other_files > 0 { format!(" among {other_files} files") } else { String::new() },
        super::walk::EXTENSIONS.join(", ")
    )]
    NoImages {
        /// The dataset folder.
        path: PathBuf,
        /// How many files of other kinds lie there.
        other_files: usize,
    },
    /// A list of labels or class names is empty or not text.
    #[error("{}: {what}; {hint}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// What was found.
        what: String,
        /// What was expected, what to do.
        hint: String,
    },
    /// One line of a list can't be understood.
    #[error("{}:{line}: {what}; {hint}", path.display())]
    ListLine {
        /// The list.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What was found.
        what: String,
        /// What was expected, what to do.
        hint: String,
    },
    /// Labels name files that aren't there.
    #[error(
        "{}: {count} of {listed} listed files do not exist: {}; names are relative to the dataset's \
         `path`, which is {}", path.display(), examples.join(", "), root.display()
    )]
    MissingFiles {
        /// The list of labels.
        path: PathBuf,
        /// The folder that names are relative to.
        root: PathBuf,
        /// How many are missing.
        count: usize,
        /// How many are listed.
        listed: usize,
        /// The first few, as `name (line n)`.
        examples: Vec<String>,
    },
    /// A file is listed twice.
    #[error(
        "{}:{second}: '{name}' is listed again, first on line {first}; keep one of the two lines",
        path.display()
    )]
    DuplicateLabel {
        /// The list of labels.
        path: PathBuf,
        /// The file that is listed twice.
        name: String,
        /// Its first line.
        first: usize,
        /// Its second line.
        second: usize,
    },
    /// The list of class names is shorter than the labels need.
    #[error(
        "{}: names {found} classes, but {at} has the label {label}; line i+1 names class i, so {} \
         lines are needed", path.display(), *label as u64 + 1
    )]
    TooFewClasses {
        /// The list of class names.
        path: PathBuf,
        /// How many it holds.
        found: usize,
        /// The largest label.
        label: u32,
        /// Where that label is, `file:line`.
        at: String,
    },
    /// A label is not among the model's classes.
    #[error("{at}: the label of '{name}' is {label}, but the model has the classes 0 to {}; {hint}", classes.saturating_sub(1))]
    LabelOutOfRange {
        /// Where the label is, `file:line` or a class folder.
        at: String,
        /// The image.
        name: String,
        /// Its label.
        label: u32,
        /// How many classes the model has.
        classes: usize,
        /// What to do.
        hint: String,
    },
    /// A subset of nothing was asked for.
    #[error("{}: a subset of 0 images was asked for; ask for at least 1", path.display())]
    EmptySubset {
        /// The dataset folder.
        path: PathBuf,
    },
    /// The preprocessing can't be applied.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

/// Why preprocessing can't turn an image into a model input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreprocessError {
    /// The steps contradict themselves, see [`super::Preprocess::validate`].
    #[error("preprocess: {0}")]
    Invalid(String),
    /// The image, after resizing, is smaller than the crop.
    #[error(
        "the image is {width}x{height} pixels{}, smaller than the crop of {crop}x{crop}; resize it first \
         (`resize_short: {crop}`) or choose a smaller crop",
        if resized == &(*width, *height) { String::new() } else { format!(" ({}x{} when resized)", resized.0, resized.1) }
    )]
    SmallerThanCrop {
        /// Of the image.
        width: u32,
        /// Of the image.
        height: u32,
        /// Width and height after the resize step.
        resized: (u32, u32),
        /// Side of the crop.
        crop: u32,
    },
    /// The resized image would not fit in memory.
    #[error(
        "the image is {width}x{height} pixels and would be resized to {}x{}, more than {} million pixels; \
         leave it out, or crop after resizing", resized.0, resized.1, super::MAX_PIXELS / 1_000_000
    )]
    TooLarge {
        /// Of the image.
        width: u32,
        /// Of the image.
        height: u32,
        /// Width and height after the resize step.
        resized: (u64, u64),
    },
    /// The image has no pixels.
    #[error("the image is {width}x{height}: it has no pixels")]
    NoPixels {
        /// Of the image.
        width: u32,
        /// Of the image.
        height: u32,
    },
}

/// Why one image can't be used. Work goes on with the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The system refused to read the file.
    #[error("{}: cannot read the image: {what}", path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// The file is no image of a known format, whatever its name says.
    #[error("{}: {found}, expected a JPEG, PNG, BMP, WebP or GIF image; convert it or leave it out", path.display())]
    Format {
        /// The image.
        path: PathBuf,
        /// What its first bytes say.
        found: String,
    },
    /// The decoder met damaged or unsupported data.
    #[error("{}: damaged or unsupported {format} image: {what}; replace it or leave it out", path.display())]
    Decode {
        /// The image.
        path: PathBuf,
        /// Its format.
        format: &'static str,
        /// What the decoder said.
        what: String,
    },
    /// The image holds too many pixels to be decoded safely.
    #[error(
        "{}: the image is {width}x{height} pixels, the limit is {} million; scale it down or leave it out",
        path.display(), super::MAX_PIXELS / 1_000_000
    )]
    TooLarge {
        /// The image.
        path: PathBuf,
        /// As its header declares.
        width: u32,
        /// As its header declares.
        height: u32,
    },
    /// The image would take more memory than the run may have.
    #[error(
        "{}: the image is {width}x{height} pixels and takes {} MB to be decoded, `memory_limit` leaves {} MB; raise \
         it, scale the image down, or leave it out", path.display(), needs.div_ceil(1_000_000), limit / 1_000_000
    )]
    Memory {
        /// The image.
        path: PathBuf,
        /// As its header declares.
        width: u32,
        /// As its header declares.
        height: u32,
        /// Bytes that decoding it takes.
        needs: u64,
        /// Bytes that all images being decoded may take.
        limit: u64,
    },
    /// A defect of calib8 itself.
    #[error("{}: calib8 crashed on this image; please report it, and leave the image out", path.display())]
    Crash {
        /// The image.
        path: PathBuf,
    },
    /// The image can't become a model input.
    #[error("{}: {source}", path.display())]
    Preprocess {
        /// The image.
        path: PathBuf,
        /// Why.
        source: PreprocessError,
    },
}
