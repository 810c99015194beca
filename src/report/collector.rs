//! Gathers what the models say, one image at a time, in any order.

use super::piece::{Piece, Seen};
use super::{Compare, Ledger, ReportError, Reports, Rows};

/// Holds what the models say on images that come in any order, some hundred bytes for each: what one of several
/// machines has seen, or what was put together from them. Where images come in the order of their names, a
/// [`Ledger`] does with less.
#[derive(Debug)]
pub struct Collector {
    compare: Compare,
    piece: Piece,
}

impl Collector {
    /// An empty one.
    pub fn new(compare: Compare) -> Collector {
        Collector { compare, piece: Piece::default() }
    }

    /// Adds one image.
    pub fn add(&mut self, seen: Seen) {
        self.piece.add(seen);
    }

    /// Adds what was gathered elsewhere, for the same reports and models.
    pub fn absorb(&mut self, piece: Piece) {
        self.piece.entries.extend(piece.entries);
        self.piece.unreadable.extend(piece.unreadable);
    }

    /// What was added so far.
    pub fn piece(&self) -> &Piece {
        &self.piece
    }

    /// What was added, sorted by image.
    pub fn into_piece(mut self) -> Piece {
        self.piece.sort();
        self.piece
    }

    /// The reports of all images added, whose rows go to `rows`: the same, bit for bit, whatever the order was.
    ///
    /// # Errors
    /// Those of `rows`.
    pub fn finish(self, rows: &mut dyn Rows) -> Result<Reports, ReportError> {
        let mut ledger = Ledger::new(self.compare, rows);
        for seen in self.piece.in_order() {
            ledger.add(seen)?;
        }
        Ok(ledger.finish())
    }
}

#[cfg(test)]
impl Collector {
    pub(crate) fn push(
        &mut self,
        image: &str,
        label: Option<u32>,
        parent: &[&[f32]],
        optimized: &[&[f32]],
    ) -> Result<(), ReportError> {
        let seen = self.compare.image(image, label, parent, optimized)?;
        self.add(seen);
        Ok(())
    }

    pub(crate) fn push_failed(&mut self, image: &str, label: Option<u32>, reason: &str) {
        self.add(Compare::unreadable(image, label, reason));
    }

    /// The reports and their rows.
    pub(crate) fn all(self) -> (Reports, super::Kept) {
        let mut rows = super::Kept::default();
        let reports = self.finish(&mut rows);
        assert!(reports.is_ok());
        (reports.unwrap_or_else(|_| unreachable!("rows in memory don't fail")), rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::{Head, Kept, Kind};
    use super::*;

    const ALL: [Kind; 3] = [Kind::Predictions, Kind::Annotations, Kind::TensorDistance];

    fn collector(head: Head, labels: bool) -> Collector {
        Collector::new(Compare::new(&ALL, vec!["prob".to_string()], head, labels))
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

    fn reports(order: &[usize]) -> (Reports, Kept) {
        let all = images();
        let mut collector = collector(Head::Probabilities, true);
        for &i in order {
            let (image, label, parent, optimized) = &all[i];
            collector.push(image, *label, &[parent], &[optimized]).unwrap();
            collector.push_failed(&format!("bad{i}.jpg"), Some(1), "not a JPEG file");
        }
        collector.all()
    }

    #[test]
    fn the_order_of_images_leaves_no_trace() {
        let (sorted, rows) = reports(&[0, 1, 2, 3, 4]);
        for order in [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 4, 0, 3, 2]] {
            let (again, again_rows) = reports(&order);
            assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&sorted).unwrap());
            assert_eq!(again_rows, rows);
        }
        let back: Reports = serde_json::from_str(&serde_json::to_string(&sorted).unwrap()).unwrap();
        assert_eq!(back, sorted);
    }

    #[test]
    fn predictions_follow_their_definitions() {
        let (reports, Kept { predictions: rows, .. }) = reports(&[0, 1, 2, 3, 4]);
        let report = reports.predictions.unwrap();
        let names: Vec<_> = rows.iter().map(|row| row.image.as_str()).collect();
        assert_eq!(names[..2], ["a.jpg", "b/2.jpg"]);
        assert_eq!(names.len(), 10);
        let changed = rows[1].prediction().unwrap();
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
        let (_, rows) = collector.all();
        let row = rows.predictions[0].prediction().unwrap();
        assert_eq!((row.class_optimized, row.class_parent), (0, 1));
        assert_eq!((row.rank_of_parent_class, row.erroneous, row.margin), (0, true, 0.0));
    }

    #[test]
    fn nan_fails_the_row_and_says_where() {
        let (reports, rows) = reports(&[0, 1, 2, 3, 4]);
        let reason = "optimized output 'prob' is NaN or infinite in 1 of 4 values";
        let row = rows.predictions.iter().find(|row| row.image == "nan.jpg").unwrap();
        assert_eq!(row.outcome.failed(), Some(reason));
        let row = rows.annotations.iter().find(|row| row.image == "nan.jpg").unwrap();
        assert_eq!(
            (row.outcome.failed(), row.place_parent, row.place_optimized),
            (Some(reason), Some(0), None)
        );
        assert_eq!(reports.failed.first, [("nan.jpg".to_string(), reason.to_string())]);
        let distances = reports.tensor_distance.unwrap();
        assert_eq!((distances.per_output[0].images, distances.per_output[0].failed), (5, 1));
        assert!(distances.per_output[0].distance.mse.is_finite());
    }

    #[test]
    fn annotations_count_both_models_on_the_same_images() {
        let s = reports(&[0, 1, 2, 3, 4]).0.annotations.unwrap().summary;
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
        let s = collector.all().0.annotations.unwrap().summary;
        assert_eq!((s.optimized.top1, s.optimized.top5), (0.0, 0.0));
    }

    #[test]
    fn distances_are_pooled_over_raw_outputs() {
        let mut collector =
            Collector::new(Compare::new(&ALL, vec!["a".into(), "b".into()], Head::Logits, false));
        collector.push("1", None, &[&[3.0, 4.0], &[1.0]], &[&[3.0, 3.5], &[1.0]]).unwrap();
        collector.push("2", None, &[&[0.0, 1.0], &[2.0]], &[&[0.5, 1.0], &[2.0]]).unwrap();
        let (reports, Kept { distances: rows, .. }) = collector.all();
        let report = reports.tensor_distance.unwrap();
        let outputs: Vec<_> = rows.iter().map(|row| (row.image.as_str(), row.output.as_str())).collect();
        assert_eq!(outputs, [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]);
        assert_eq!(rows[0].outcome.measured().unwrap().mse, 0.125);
        assert_eq!(report.per_output[0].distance.mse, 0.125);
        assert_eq!(report.per_output[0].distance.nmse, Some(0.5 / 26.0));
        assert_eq!(report.per_output[1].distance.sqnr_db, None);
    }

    #[test]
    fn softmax_is_applied_to_logits_and_told() {
        let mut collector = collector(Head::Logits, false);
        collector.push("x", None, &[&[0.0, 3f32.ln()]], &[&[0.0, 3f32.ln()]]).unwrap();
        let (reports, rows) = collector.all();
        assert!(reports.softmax_applied);
        assert!((rows.predictions[0].prediction().unwrap().confidence_parent - 0.75).abs() < 1e-7);
    }

    #[test]
    fn impossible_kinds_are_left_out_with_their_reason() {
        let left = |reports: &Reports| -> Vec<String> {
            reports.left_out.iter().map(|l| format!("{}: {}", l.kind, l.reason)).collect()
        };
        let mut images = collector(Head::NotAClassifier, false);
        images.push("x", None, &[&[1.0]], &[&[1.5]]).unwrap();
        let (reports, _) = images.all();
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
        let (reports, _) = corrupt.all();
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
        assert!(collector.all().0.predictions.is_none());
    }

    #[test]
    fn the_summary_has_the_fields_of_the_contract() {
        let summary = serde_json::to_value(reports(&[0, 1, 2, 3, 4]).0.summary()).unwrap();
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
