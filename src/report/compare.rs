//! What the outputs of both models on one image come to.

use super::metrics::{DistanceSums, count_non_finite};
use super::piece::{Entry, Seen};
use super::scores::{self, Scores};
use super::{Head, Kind, LeftOut, Outcome, ReportError, Unreadable};

/// The reports that are made of two models and a dataset, and how an image becomes a part of them.
#[derive(Debug, Clone)]
pub struct Compare {
    pub(super) kinds: Vec<Kind>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) outputs: Vec<String>,
    pub(super) head: Head,
}

impl Compare {
    /// The reports `kinds` on models with these `outputs`, the first of which is the `head`.
    /// `labels` says whether the dataset has annotations.
    pub fn new(kinds: &[Kind], outputs: Vec<String>, head: Head, labels: bool) -> Compare {
        let mut left_out: Vec<LeftOut> = Vec::new();
        let mut possible: Vec<Kind> = Vec::new();
        for &kind in kinds {
            let reason = match kind {
                Kind::Annotations if !labels => Some("this dataset has no labels"),
                Kind::Predictions | Kind::Annotations if head == Head::NotAClassifier => {
                    Some("the model's first output is not a vector of class scores")
                }
                Kind::Predictions | Kind::Annotations if outputs.is_empty() => {
                    Some("the model has no output")
                }
                _ => None,
            };
            match reason {
                Some(reason) => left_out.push(LeftOut { kind, reason: reason.to_string() }),
                None => possible.push(kind),
            }
        }
        Compare { kinds: possible, left_out, outputs, head }
    }

    /// The reports that can be made, as far as is known before the first image.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// An image that both models ran on: its path relative to the dataset, its label, and the raw outputs of both
    /// models for exactly the same preprocessed input, each flattened and without other images of a batch.
    ///
    /// # Errors
    /// The models' outputs differ in number or length, or the label is not a class of the model.
    pub fn image(
        &self,
        image: &str,
        label: Option<u32>,
        parent: &[&[f32]],
        optimized: &[&[f32]],
    ) -> Result<Seen, ReportError> {
        self.check(image, label, parent, optimized)?;
        let distances = if self.makes(Kind::TensorDistance) {
            let pairs = self.outputs.iter().zip(parent.iter().zip(optimized));
            pairs.map(|(name, (p, s))| distance(name, p, s)).collect()
        } else {
            Vec::new()
        };
        let (mut prediction, mut annotation) = (None, None);
        if self.makes(Kind::Predictions) || self.makes(Kind::Annotations) {
            let failed = not_finite(&self.outputs[0], parent[0], optimized[0]);
            let (p, s) = (Scores::new(parent[0], self.head), Scores::new(optimized[0], self.head));
            if self.makes(Kind::Predictions) {
                prediction = Some(match (&p, &s) {
                    (Some(p), Some(s)) => Outcome::Measured(p.compare(s)),
                    _ => Outcome::Failed { failed: failed.clone() },
                });
            }
            match label {
                Some(label) if self.makes(Kind::Annotations) => {
                    annotation = Some(scores::annotate(image, label, p.as_ref(), s.as_ref(), failed));
                }
                _ => {}
            }
        }
        let image = image.to_string();
        Ok(Seen::Read(Box::new(Entry { image, label, prediction, annotation, distances })))
    }

    /// An image that could not be read, with the reason in words.
    pub fn unreadable(image: &str, label: Option<u32>, reason: &str) -> Seen {
        Seen::Unreadable(Unreadable { image: image.to_string(), label, reason: reason.to_string() })
    }

    pub(super) fn makes(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    pub(super) fn leave_out(&mut self, kinds: &[Kind], reason: &str) {
        let left = self.kinds.iter().filter(|kind| kinds.contains(kind));
        self.left_out.extend(left.map(|&kind| LeftOut { kind, reason: reason.to_string() }));
        self.kinds.retain(|kind| !kinds.contains(kind));
    }

    fn check(
        &self,
        image: &str,
        label: Option<u32>,
        parent: &[&[f32]],
        optimized: &[&[f32]],
    ) -> Result<(), ReportError> {
        let image = || image.to_string();
        for (model, found) in [("parent", parent.len()), ("optimized", optimized.len())] {
            let expected = self.outputs.len();
            if found != expected {
                return Err(ReportError::OutputCount { image: image(), model, found, expected });
            }
        }
        for (output, (p, s)) in self.outputs.iter().zip(parent.iter().zip(optimized)) {
            if p.len() != s.len() || p.is_empty() {
                let (parent, optimized) = (p.len(), s.len());
                return Err(ReportError::OutputLength {
                    image: image(),
                    output: output.clone(),
                    parent,
                    optimized,
                });
            }
        }
        match label {
            Some(label) if self.makes(Kind::Annotations) && label as usize >= parent[0].len() => {
                Err(ReportError::Label { image: image(), label, classes: parent[0].len() })
            }
            _ => Ok(()),
        }
    }
}

fn distance(output: &str, parent: &[f32], optimized: &[f32]) -> Outcome<DistanceSums> {
    if count_non_finite(parent) + count_non_finite(optimized) > 0 {
        return Outcome::Failed { failed: not_finite(output, parent, optimized) };
    }
    let mut sums = DistanceSums::default();
    sums.add(parent, optimized);
    Outcome::Measured(sums)
}

/// Says which model's output holds NaN or infinity, and how often; empty if none does.
fn not_finite(output: &str, parent: &[f32], optimized: &[f32]) -> String {
    let describe = |(model, values): (&str, &[f32])| match count_non_finite(values) {
        0 => None,
        count => {
            let of = values.len();
            Some(format!("{model} output '{output}' is NaN or infinite in {count} of {of} values"))
        }
    };
    let found: Vec<_> =
        [("parent", parent), ("optimized", optimized)].into_iter().filter_map(describe).collect();
    found.join("; ")
}
