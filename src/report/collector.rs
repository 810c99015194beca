//! Gathers what the models say, one image at a time, in any order.

use super::metrics::{DistanceSums, count_non_finite};
use super::scores::{self, Scores};
use super::{
    AnnotationRow, Annotations, Distance, DistanceRow, DistanceSummary, Distances, Head, Kind, LeftOut,
    Outcome, Prediction, PredictionRow, Predictions, ReportError, Reports, Unreadable,
};

/// Makes the three reports of one dataset from the outputs of both models.
///
/// Images may come in any order, from any number of threads behind a lock: the reports are the same,
/// bit for bit. It keeps some hundred bytes for each image, no outputs.
#[derive(Debug)]
pub struct Collector {
    kinds: Vec<Kind>,
    left_out: Vec<LeftOut>,
    outputs: Vec<String>,
    head: Head,
    entries: Vec<Entry>,
    unreadable: Vec<Unreadable>,
    unlabelled: u64,
}

/// One image that both models ran on.
#[derive(Debug)]
struct Entry {
    image: String,
    label: Option<u32>,
    prediction: Option<Outcome<Prediction>>,
    annotation: Option<AnnotationRow>,
    distances: Vec<Outcome<DistanceSums>>,
}

impl Collector {
    /// Opens the reports `kinds` on models with these `outputs`, the first of which is the `head`.
    /// `labels` says whether the dataset has annotations.
    pub fn new(kinds: &[Kind], outputs: Vec<String>, head: Head, labels: bool) -> Self {
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
        Collector {
            kinds: possible,
            left_out,
            outputs,
            head,
            entries: Vec::new(),
            unreadable: Vec::new(),
            unlabelled: 0,
        }
    }

    /// Adds one image: its path relative to the dataset, its label, and the raw outputs of both models for
    /// exactly the same preprocessed input, each flattened and without other images of a batch.
    ///
    /// # Errors
    /// The models' outputs differ in number or length, or the label is not a class of the model. Nothing
    /// is added then.
    pub fn push(
        &mut self,
        image: &str,
        label: Option<u32>,
        parent: &[&[f32]],
        optimized: &[&[f32]],
    ) -> Result<(), ReportError> {
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
        if label.is_none() {
            self.unlabelled += 1;
        }
        self.entries.push(Entry { image: image.to_string(), label, prediction, annotation, distances });
        Ok(())
    }

    /// Adds an image that could not be read, with the reason in words.
    pub fn push_failed(&mut self, image: &str, label: Option<u32>, reason: &str) {
        self.unreadable.push(Unreadable { image: image.to_string(), label, reason: reason.to_string() });
    }

    /// The reports of all images pushed.
    pub fn finish(mut self) -> Reports {
        self.entries.sort_by(|a, b| a.image.cmp(&b.image));
        self.unreadable.sort_by(|a, b| a.image.cmp(&b.image));
        if self.entries.is_empty() {
            self.leave_out(
                &[Kind::Predictions, Kind::Annotations, Kind::TensorDistance],
                "no image could be read",
            );
        } else if self.unlabelled == self.entries.len() as u64 {
            self.leave_out(&[Kind::Annotations], "none of the images that could be read has a label");
        }
        let tensor_distance = self.makes(Kind::TensorDistance).then(|| self.distances());
        let annotations = self.makes(Kind::Annotations).then(|| self.annotations());
        let predictions = self.makes(Kind::Predictions).then(|| self.predictions());
        let classified = predictions.is_some() || annotations.is_some();
        Reports {
            predictions,
            annotations,
            tensor_distance,
            left_out: self.left_out,
            unreadable: self.unreadable,
            softmax_applied: classified && self.head == Head::Logits,
        }
    }

    fn makes(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    fn leave_out(&mut self, kinds: &[Kind], reason: &str) {
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

    fn predictions(&mut self) -> Predictions {
        let seen = self.entries.iter_mut().filter_map(|entry| {
            let outcome = entry.prediction.take()?;
            Some(PredictionRow { image: entry.image.clone(), label: entry.label, outcome })
        });
        let unreadable = self.unreadable.iter().map(|bad| PredictionRow {
            image: bad.image.clone(),
            label: bad.label,
            outcome: Outcome::Failed { failed: bad.reason.clone() },
        });
        let mut rows: Vec<_> = seen.chain(unreadable).collect();
        rows.sort_by(|a, b| a.image.cmp(&b.image));
        Predictions::new(rows, self.unreadable.len() as u64)
    }

    fn annotations(&mut self) -> Annotations {
        let seen = self.entries.iter_mut().filter_map(|entry| entry.annotation.take());
        let unreadable = self.unreadable.iter().map(|bad| AnnotationRow {
            image: bad.image.clone(),
            label: bad.label,
            place_parent: None,
            place_optimized: None,
            outcome: Outcome::Failed { failed: bad.reason.clone() },
        });
        let mut rows: Vec<_> = seen.chain(unreadable).collect();
        rows.sort_by(|a, b| a.image.cmp(&b.image));
        Annotations::new(rows, self.unreadable.len() as u64, self.unlabelled)
    }

    fn distances(&self) -> Distances {
        let mut rows = Vec::new();
        let mut pooled = vec![(DistanceSums::default(), 0); self.outputs.len()];
        for entry in &self.entries {
            // Sums of floating-point numbers depend on their order: this one is by name.
            for ((output, outcome), (sums, failed)) in
                self.outputs.iter().zip(&entry.distances).zip(&mut pooled)
            {
                let outcome = match outcome {
                    Outcome::Measured(part) => {
                        sums.merge(part);
                        Outcome::Measured(Distance::from(part))
                    }
                    Outcome::Failed { failed: reason } => {
                        *failed += 1;
                        Outcome::Failed { failed: reason.clone() }
                    }
                };
                rows.push(DistanceRow { image: entry.image.clone(), output: output.clone(), outcome });
            }
        }
        for (bad, output) in self.unreadable.iter().flat_map(|bad| self.outputs.iter().map(move |o| (bad, o)))
        {
            let outcome = Outcome::Failed { failed: bad.reason.clone() };
            rows.push(DistanceRow { image: bad.image.clone(), output: output.clone(), outcome });
        }
        rows.sort_by(|a, b| a.image.cmp(&b.image));
        let images = self.entries.len() as u64;
        let summarize = |(output, (sums, failed)): (&String, &(DistanceSums, u64))| DistanceSummary {
            output: output.clone(),
            distance: Distance::from(sums),
            images,
            failed: *failed,
        };
        Distances { rows, per_output: self.outputs.iter().zip(&pooled).map(summarize).collect() }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const ALL: [Kind; 3] = [Kind::Predictions, Kind::Annotations, Kind::TensorDistance];

    fn collector(head: Head, labels: bool) -> Collector {
        Collector::new(&ALL, vec!["prob".to_string()], head, labels)
    }

    /// Image, label, parent's and optimized model's vector.
    type Image = (&'static str, Option<u32>, Vec<f32>, Vec<f32>);

    fn images() -> Vec<Image> {
        vec![
            ("b/2.jpg", Some(2), vec![0.1, 0.2, 0.6, 0.1], vec![0.1, 0.48, 0.19, 0.05]),
            ("a.jpg", Some(0), vec![0.7, 0.1, 0.1, 0.1], vec![0.8, 0.1, 0.05, 0.05]),
            ("c.jpg", Some(3), vec![0.5, 0.2, 0.2, 0.1], vec![0.1, 0.1, 0.1, 0.7]),
            ("nan.jpg", Some(1), vec![0.1, 0.7, 0.1, 0.1], vec![0.1, f32::NAN, 0.1, 0.1]),
            ("plain.jpg", None, vec![0.3, 0.3, 0.2, 0.2], vec![0.3, 0.3, 0.3, 0.1]),
        ]
    }

    fn reports(order: &[usize]) -> Reports {
        let all = images();
        let mut collector = collector(Head::Probabilities, true);
        for &i in order {
            let (image, label, parent, optimized) = &all[i];
            collector.push(image, *label, &[parent], &[optimized]).unwrap();
            collector.push_failed(&format!("bad{i}.jpg"), Some(1), "not a JPEG file");
        }
        collector.finish()
    }

    #[test]
    fn the_order_of_images_leaves_no_trace() {
        let sorted = serde_json::to_string(&reports(&[0, 1, 2, 3, 4])).unwrap();
        for order in [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 4, 0, 3, 2]] {
            assert_eq!(serde_json::to_string(&reports(&order)).unwrap(), sorted);
        }
        let back: Reports = serde_json::from_str(&sorted).unwrap();
        assert_eq!(back, reports(&[0, 1, 2, 3, 4]));
    }

    #[test]
    fn predictions_follow_their_definitions() {
        let report = reports(&[0, 1, 2, 3, 4]).predictions.unwrap();
        let names: Vec<_> = report.rows.iter().map(|row| row.image.as_str()).collect();
        assert_eq!(names[..2], ["a.jpg", "b/2.jpg"]);
        assert_eq!(names.len(), 10);
        let changed = report.rows[1].prediction().unwrap();
        assert_eq!((changed.class_optimized, changed.class_parent, changed.rank_of_parent_class), (1, 2, 1));
        assert_eq!(changed.confidence_optimized, f64::from(0.48f32));
        assert_eq!(changed.confidence_optimized_in_parent, f64::from(0.19f32));
        assert_eq!(changed.margin, f64::from(0.48f32) - f64::from(0.19f32));
        assert_eq!(changed.top5_optimized[..2], [(1, 0.48), (2, 0.19)]);
        assert!(changed.erroneous);
        let s = report.summary;
        assert_eq!((s.images, s.erroneous, s.failed, s.unreadable, s.agreement), (5, 3, 1, 5, 0.4));
        assert!(s.low < 0.4 && 0.4 < s.high && s.mean_kl.unwrap() > 0.0);
    }

    #[test]
    fn a_tie_is_erroneous_with_rank_zero() {
        let mut collector = collector(Head::Probabilities, false);
        collector.push("x.png", None, &[&[0.2, 0.7, 0.1]], &[&[0.4, 0.4, 0.2]]).unwrap();
        let report = collector.finish().predictions.unwrap();
        let row = report.rows[0].prediction().unwrap();
        assert_eq!((row.class_optimized, row.class_parent), (0, 1));
        assert_eq!((row.rank_of_parent_class, row.erroneous, row.margin), (0, true, 0.0));
    }

    #[test]
    fn nan_fails_the_row_and_says_where() {
        let reports = reports(&[0, 1, 2, 3, 4]);
        let reason = "optimized output 'prob' is NaN or infinite in 1 of 4 values";
        let predictions = reports.predictions.unwrap();
        let row = predictions.rows.iter().find(|row| row.image == "nan.jpg").unwrap();
        assert_eq!(row.outcome.failed(), Some(reason));
        let annotations = reports.annotations.unwrap();
        let row = annotations.rows.iter().find(|row| row.image == "nan.jpg").unwrap();
        assert_eq!(
            (row.outcome.failed(), row.place_parent, row.place_optimized),
            (Some(reason), Some(0), None)
        );
        let distances = reports.tensor_distance.unwrap();
        assert_eq!((distances.per_output[0].images, distances.per_output[0].failed), (5, 1));
        assert!(distances.per_output[0].distance.mse.is_finite());
    }

    #[test]
    fn annotations_count_both_models_on_the_same_images() {
        let s = reports(&[0, 1, 2, 3, 4]).annotations.unwrap().summary;
        assert_eq!((s.images, s.unlabelled, s.unreadable, s.failed), (4, 1, 5, 1));
        assert_eq!((s.parent.top1, s.optimized.top1, s.drop), (0.75, 0.5, 0.25));
        assert_eq!((s.lost, s.gained), (2, 1));
        assert_eq!((s.parent.top5, s.optimized.top5), (1.0, 0.75));
        assert!(s.drop_low < s.drop && s.drop < s.drop_high);
    }

    #[test]
    fn ties_earn_no_accuracy() {
        let mut collector = collector(Head::Probabilities, true);
        let flat = [0.1f32; 10];
        collector.push("x.png", Some(9), &[&flat], &[&flat]).unwrap();
        let s = collector.finish().annotations.unwrap().summary;
        assert_eq!((s.optimized.top1, s.optimized.top5), (0.0, 0.0));
    }

    #[test]
    fn distances_are_pooled_over_raw_outputs() {
        let mut collector = Collector::new(&ALL, vec!["a".into(), "b".into()], Head::Logits, false);
        collector.push("1", None, &[&[3.0, 4.0], &[1.0]], &[&[3.0, 3.5], &[1.0]]).unwrap();
        collector.push("2", None, &[&[0.0, 1.0], &[2.0]], &[&[0.5, 1.0], &[2.0]]).unwrap();
        let report = collector.finish().tensor_distance.unwrap();
        let outputs: Vec<_> =
            report.rows.iter().map(|row| (row.image.as_str(), row.output.as_str())).collect();
        assert_eq!(outputs, [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]);
        assert_eq!(report.rows[0].outcome.measured().unwrap().mse, 0.125);
        assert_eq!(report.per_output[0].distance.mse, 0.125);
        assert_eq!(report.per_output[0].distance.nmse, Some(0.5 / 26.0));
        assert_eq!(report.per_output[1].distance.sqnr_db, None);
    }

    #[test]
    fn softmax_is_applied_to_logits_and_told() {
        let mut collector = collector(Head::Logits, false);
        collector.push("x", None, &[&[0.0, 3f32.ln()]], &[&[0.0, 3f32.ln()]]).unwrap();
        let reports = collector.finish();
        assert!(reports.softmax_applied);
        let predictions = reports.predictions.unwrap();
        assert!((predictions.rows[0].prediction().unwrap().confidence_parent - 0.75).abs() < 1e-7);
    }

    #[test]
    fn impossible_kinds_are_left_out_with_their_reason() {
        let left = |reports: &Reports| -> Vec<String> {
            reports.left_out.iter().map(|l| format!("{}: {}", l.kind, l.reason)).collect()
        };
        let mut images = collector(Head::NotAClassifier, false);
        images.push("x", None, &[&[1.0]], &[&[1.5]]).unwrap();
        let reports = images.finish();
        assert_eq!(
            left(&reports),
            [
                "predictions: the model's first output is not a vector of class scores",
                "annotations: this dataset has no labels",
            ]
        );
        assert!(reports.predictions.is_none() && reports.annotations.is_none() && !reports.softmax_applied);
        assert!(reports.tensor_distance.is_some());

        let mut corrupt = collector(Head::Logits, true);
        corrupt.push_failed("x", None, "truncated");
        let reports = corrupt.finish();
        assert_eq!(left(&reports)[2], "tensor_distance: no image could be read");
        assert_eq!(reports.unreadable[0].reason, "truncated");
    }

    #[test]
    fn outputs_and_labels_that_do_not_fit_are_refused() {
        let mut collector = collector(Head::Logits, true);
        let say = |result: Result<(), ReportError>| result.unwrap_err().to_string();
        let error = say(collector.push("x.jpg", None, &[&[1.0, 2.0]], &[&[1.0]]));
        assert!(error.starts_with("image x.jpg, output 'prob': the parent gives 2 values"), "{error}");
        let error = say(collector.push("x.jpg", None, &[&[1.0, 2.0]], &[]));
        assert!(error.contains("optimized model gives 0 outputs, expected 1"), "{error}");
        let error = say(collector.push("x.jpg", Some(2), &[&[1.0, 2.0]], &[&[1.0, 2.0]]));
        assert!(error.contains("label is class 2, but the model has 2 classes (0 to 1)"), "{error}");
        assert!(collector.finish().predictions.is_none());
    }

    #[test]
    fn the_summary_has_the_fields_of_the_contract() {
        let summary = serde_json::to_value(reports(&[0, 1, 2, 3, 4]).summary()).unwrap();
        for path in [
            "/predictions/images",
            "/predictions/agreement",
            "/predictions/low",
            "/predictions/high",
            "/predictions/erroneous",
            "/annotations/parent/top1",
            "/annotations/optimized/top5",
            "/annotations/drop",
            "/tensor_distance/0/mse",
            "/tensor_distance/0/nmse",
            "/tensor_distance/0/sqnr_db",
            "/tensor_distance/0/cosine",
            "/tensor_distance/0/max_abs",
        ] {
            assert!(summary.pointer(path).is_some_and(serde_json::Value::is_number), "{path}: {summary}");
        }
        assert_eq!(summary.pointer("/tensor_distance/0/output"), Some(&"prob".into()));
    }
}
