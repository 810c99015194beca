//! One model's scores for one image, made once for all reports.

use super::metrics::{
    argmax, count_non_finite, kl_of_logs, log_probabilities, log_softmax, margin, place, rank, top_k,
};
use super::{Annotation, AnnotationRow, Head, Outcome, Prediction};

/// One model's scores for one image.
pub(super) struct Scores<'a> {
    raw: &'a [f32],
    /// Natural logarithms of the probabilities.
    logs: Vec<f64>,
    probabilities: Vec<f64>,
    class: usize,
}

impl<'a> Scores<'a> {
    /// `None` if a value is not finite.
    ///
    /// Classes and ranks come from the raw scores: softmax keeps their order, but for the ties it makes where
    /// tiny probabilities underflow.
    pub(super) fn new(raw: &'a [f32], head: Head) -> Option<Self> {
        if count_non_finite(raw) > 0 {
            return None;
        }
        let class = argmax(raw)?;
        let (logs, probabilities) = if head == Head::Probabilities {
            (log_probabilities(raw), raw.iter().copied().map(f64::from).collect())
        } else {
            let logs = log_softmax(raw);
            let probabilities = logs.iter().map(|log| log.exp()).collect();
            (logs, probabilities)
        };
        Some(Scores { raw, logs, probabilities, class })
    }

    fn top5(&self) -> Vec<(u32, f32)> {
        top_k(self.raw, 5).into_iter().map(|class| (index(class), self.probabilities[class] as f32)).collect()
    }

    /// The row of this parent's scores against the optimized model's `s`.
    pub(super) fn compare(&self, s: &Scores<'_>) -> Prediction {
        Prediction {
            class_optimized: index(s.class),
            class_parent: index(self.class),
            rank_of_parent_class: rank(s.raw, self.class).unwrap_or(0) as u64,
            confidence_optimized: s.probabilities[s.class],
            confidence_optimized_in_parent: s.probabilities[self.class],
            confidence_parent: self.probabilities[self.class],
            margin: margin(&s.probabilities, s.class, self.class),
            kl: kl_of_logs(&self.logs, &s.logs),
            erroneous: s.class != self.class,
            top5_parent: self.top5(),
            top5_optimized: s.top5(),
        }
    }
}

/// A class index as files hold it. No model has 2³² classes.
fn index(class: usize) -> u32 {
    u32::try_from(class).unwrap_or(u32::MAX)
}

/// The row of a labelled image.
///
/// `label` has been checked to be a class of both models; `failed` says why `p` or `s` is missing.
pub(super) fn annotate(
    image: &str,
    label: u32,
    p: Option<&Scores<'_>>,
    s: Option<&Scores<'_>>,
    failed: String,
) -> AnnotationRow {
    let class = label as usize;
    let place_of = |scores: Option<&Scores<'_>>| Some(place(scores?.raw, class)? as u64);
    let outcome = match (p, s) {
        (Some(p), Some(s)) => Outcome::Measured(Annotation {
            class_optimized: index(s.class),
            class_parent: index(p.class),
            rank_of_label: rank(s.raw, class).unwrap_or(0) as u64,
            confidence_optimized: s.probabilities[s.class],
            confidence_optimized_in_label: s.probabilities[class],
            confidence_parent_in_label: p.probabilities[class],
            erroneous: s.class != class,
        }),
        _ => Outcome::Failed { failed },
    };
    AnnotationRow {
        image: image.to_string(),
        label: Some(label),
        place_parent: place_of(p),
        place_optimized: place_of(s),
        outcome,
    }
}
