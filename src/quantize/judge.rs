//! How far a candidate is from its parent on images that were kept for this.
//!
//! Whatever is chosen by measurement (corrections, presets, layers that stay FP32) is judged here, so
//! that all choices mean the same by "better".

use ndarray::{Array3, Axis};
use serde::{Deserialize, Serialize};

use super::QuantizeError;
use super::threads::on_threads;
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions, Session, Value};
use crate::model::Model;
use crate::progress::Progress;
use crate::report::Head;
use crate::report::metrics::{self, DistanceSums};

/// The images, and what the parent says of them.
pub struct Judge {
    images: Vec<Judged>,
    head: Head,
    threads: usize,
}

struct Judged {
    input: Value,
    label: Option<u32>,
    /// Each output of the parent.
    expected: Vec<Vec<f32>>,
}

/// What a candidate is worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Images it was judged on.
    pub images: usize,
    /// Mean KL divergence from the parent in nats; for a model that is no classifier the noise to signal
    /// ratio of its outputs, all alike. Infinite where an output is not finite.
    pub loss: f64,
    /// Share of the images, 0 to 1, on which both predict the same class; absent for other models.
    pub agreement: Option<f64>,
    /// Against labels, where there are any.
    pub top1: Option<Top1>,
}

/// Images whose label is the predicted class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top1 {
    /// Images with a label.
    pub labelled: usize,
    /// Right by the parent.
    pub parent: usize,
    /// Right by the candidate.
    pub optimized: usize,
}

impl Score {
    /// Percentage points that are lost: of top-1 where there are labels, of agreement where not.
    pub fn drop(&self) -> Option<f64> {
        match self.top1 {
            Some(top1) => {
                Some(100.0 * (top1.parent as f64 - top1.optimized as f64) / top1.labelled.max(1) as f64)
            }
            None => self.agreement.map(|agreement| 100.0 * (1.0 - agreement)),
        }
    }
}

/// One image.
#[derive(Debug, Clone, Copy)]
struct Seen {
    loss: f64,
    agrees: bool,
    label: Option<[bool; 2]>,
}

impl Judge {
    /// Runs `parent` on `images` (CHW, preprocessed), each with its label if it has one.
    ///
    /// # Errors
    /// Inference fails, or the user asked to stop.
    pub fn new(
        parent: &dyn Session,
        images: Vec<(Array3<f32>, Option<u32>)>,
        head: Head,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Judge, QuantizeError> {
        let inputs: Vec<(Value, Option<u32>)> = images
            .into_iter()
            .map(|(i, label)| (Value::from(i.insert_axis(Axis(0)).into_dyn()), label))
            .collect();
        let expected = outputs(parent, &inputs, threads, progress)?;
        let images = inputs.into_iter().zip(expected);
        let images = images.map(|((input, label), expected)| Judged { input, label, expected }).collect();
        Ok(Judge { images, head, threads })
    }

    /// Images that it has.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether it has none, and says nothing.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Its images (CHW), as they were given.
    pub fn images(&self) -> impl Iterator<Item = Array3<f32>> + Send + '_ {
        let image = |judged: &Judged| {
            let shape = judged.input.shape().iter().skip(1).copied().collect::<Vec<_>>();
            let [channels, height, width] = shape[..] else { return None };
            let values = judged.input.as_slice().to_vec();
            Array3::from_shape_vec((channels, height, width), values).ok()
        };
        self.images.iter().filter_map(image)
    }

    /// What `candidate`, a form of the same model, is worth.
    ///
    /// # Errors
    /// The candidate can't be loaded, inference fails, or the user asked to stop.
    pub fn score(&self, candidate: &Model, progress: &dyn Progress) -> Result<Score, QuantizeError> {
        let session = Builtin.load(candidate, &LoadOptions::default())?;
        let seen = on_threads(self.images.len(), self.threads, || {
            let mut runner = session.spawn()?;
            Ok(move |index: usize| {
                if progress.cancelled() {
                    return Err(QuantizeError::Cancelled { images: index as u64 });
                }
                let image = &self.images[index];
                let outputs = runner.run(std::slice::from_ref(&image.input))?;
                let outputs: Vec<&[f32]> = outputs.iter().map(|v| v.as_slice()).collect();
                Ok(self.compare(image, &outputs))
            })
        })?;
        let images = seen.len();
        let classifies = self.head != Head::NotAClassifier;
        let share = |count: usize| count as f64 / images.max(1) as f64;
        let labelled = || seen.iter().filter_map(|s| s.label);
        let top1 = Top1 {
            labelled: labelled().count(),
            parent: labelled().filter(|l| l[0]).count(),
            optimized: labelled().filter(|l| l[1]).count(),
        };
        Ok(Score {
            images,
            loss: seen.iter().map(|s| s.loss).sum::<f64>() / images.max(1) as f64,
            agreement: classifies.then(|| share(seen.iter().filter(|s| s.agrees).count())),
            top1: Some(top1).filter(|t| classifies && t.labelled > 0),
        })
    }

    fn compare(&self, image: &Judged, outputs: &[&[f32]]) -> Seen {
        let finite = |values: &[f32]| metrics::count_non_finite(values) == 0;
        let p = image.expected.first().map_or(&[][..], Vec::as_slice);
        let s = outputs.first().copied().unwrap_or(&[]);
        let (class_p, class_s) = (metrics::argmax(p), metrics::argmax(s));
        let whole = outputs.iter().all(|o| finite(o)) && image.expected.iter().all(|o| finite(o));
        let loss = match self.head {
            _ if !whole => f64::INFINITY,
            Head::Logits => metrics::kl_of_logs(&metrics::log_softmax(p), &metrics::log_softmax(s)),
            Head::Probabilities => metrics::kl(p, s),
            Head::NotAClassifier => noise(&image.expected, outputs),
        };
        let label = image.label.map(|l| [class_p == Some(l as usize), class_s == Some(l as usize)]);
        Seen { loss, agrees: class_p.is_some() && class_p == class_s, label }
    }
}

/// Mean over the outputs of noise ÷ signal.
fn noise(expected: &[Vec<f32>], outputs: &[&[f32]]) -> f64 {
    let of_output = |(p, s): (&Vec<f32>, &&[f32])| {
        let mut sums = DistanceSums::default();
        sums.add(p, s);
        sums.nmse().unwrap_or(0.0)
    };
    expected.iter().zip(outputs).map(of_output).sum::<f64>() / expected.len().max(1) as f64
}

/// Each output of `session` for each image.
fn outputs(
    session: &dyn Session,
    inputs: &[(Value, Option<u32>)],
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Vec<Vec<f32>>>, QuantizeError> {
    on_threads(inputs.len(), threads, || {
        let mut runner = session.spawn()?;
        Ok(move |index: usize| {
            if progress.cancelled() {
                return Err(QuantizeError::Cancelled { images: index as u64 });
            }
            let outputs = runner.run(std::slice::from_ref(&inputs[index].0))?;
            Ok(outputs.iter().map(|v| v.as_slice().to_vec()).collect())
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::quantize::Options;
    use crate::quantize::testing::{self, Builder};

    fn model() -> Model {
        let mut b = Builder::new(&[1, 4, 8, 8]);
        let x = b.conv("conv", "input", 4, 4, 3, 1);
        let x = b.op("GlobalAveragePool", "pool", &[&x]);
        let x = b.op("Flatten", "flat", &[&x]);
        let x = b.gemm("head", &x, 4, 3);
        b.model(&x, &[1, 3])
    }

    fn judge(head: Head, labels: bool, threads: usize) -> Judge {
        let session = Builtin.load(&model(), &LoadOptions::default()).unwrap();
        let images = (0..7).map(|i| (testing::image(&[1, 4, 8, 8], i), labels.then_some(0)));
        Judge::new(session.as_ref(), images.collect(), head, threads, &Silent).unwrap()
    }

    #[test]
    fn the_parent_itself_loses_nothing() {
        for head in [Head::Logits, Head::NotAClassifier] {
            let score = judge(head, true, 2).score(&model(), &Silent).unwrap();
            assert_eq!((score.images, score.loss), (7, 0.0));
            assert_eq!(score.agreement, (head == Head::Logits).then_some(1.0));
            assert_eq!(score.drop(), (head == Head::Logits).then_some(0.0));
        }
    }

    #[test]
    fn an_int8_model_loses_a_little_whatever_the_threads() {
        let quantized = testing::quantized(&model(), &Options::default(), 1).model;
        let score = judge(Head::Logits, true, 1).score(&quantized, &Silent).unwrap();
        assert!(score.loss > 0.0 && score.loss < 0.05, "{score:?}");
        assert_eq!(score.top1.unwrap().labelled, 7);
        assert_eq!(score, judge(Head::Logits, true, 3).score(&quantized, &Silent).unwrap());
    }

    #[test]
    fn the_drop_is_of_top1_with_labels_and_of_agreement_without() {
        let score = |top1| Score { images: 200, loss: 0.1, agreement: Some(0.97), top1 };
        let top1 = Top1 { labelled: 200, parent: 180, optimized: 177 };
        assert_eq!(score(Some(top1)).drop(), Some(1.5));
        assert!((score(None).drop().unwrap() - 3.0).abs() < 1e-9);
    }
}
