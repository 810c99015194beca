//! What can be wrong with the outputs handed to a report, or with writing it.

/// An error of the report room.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A model gave another number of outputs than the report was opened with.
    #[error(
        "image {image}: the {model} model gives {found} outputs, expected {expected}; \
         compare two models that have the same outputs"
    )]
    OutputCount {
        /// Path of the image relative to the dataset.
        image: String,
        /// `parent` or `optimized`.
        model: &'static str,
        /// Outputs given.
        found: usize,
        /// Outputs that the collector knows.
        expected: usize,
    },
    /// The two models give an output in different sizes, or an empty one.
    #[error(
        "image {image}, output '{output}': the parent gives {parent} values, the optimized model \
         {optimized}; compare two models whose outputs have the same, non-empty shape"
    )]
    OutputLength {
        /// Path of the image relative to the dataset.
        image: String,
        /// ONNX name of the output.
        output: String,
        /// Values in the parent's.
        parent: usize,
        /// Values in the optimized model's.
        optimized: usize,
    },
    /// A label names a class that the model does not have.
    #[error(
        "image {image}: its label is class {label}, but the model has {classes} classes (0 to {last}); \
         check that the labels belong to this model and count from 0", last = classes.saturating_sub(1)
    )]
    Label {
        /// Path of the image relative to the dataset.
        image: String,
        /// The label.
        label: u32,
        /// Length of the first output.
        classes: usize,
    },
    /// The rows that a run stored are not what they should be.
    #[error("the stored rows of {kind} can't be read: {source}; make the report again")]
    Stored {
        /// Which report.
        kind: super::Kind,
        /// What is wrong, and where in the file.
        source: serde_json::Error,
    },
    /// A row can't be written. Whoever made the file says which one it is, and what to do.
    #[error(transparent)]
    Row(std::io::Error),
    /// A file can't be written.
    #[error("cannot write the {what}: {source}; check the space and permissions of the output folder")]
    Write {
        /// Which file, in words.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}
