//! The reports while they are made: what they add up to, with the memory of a few images.

use super::metrics::DistanceSums;
use super::piece::{Entry, Seen};
use super::{
    AnnotationRow, AnnotationTotals, Annotations, Compare, Distance, DistanceRow, DistanceSummary, Distances,
    Failed, Kind, Outcome, PredictionRow, PredictionTotals, ReportError, Reports, Rows, Unreadable,
};

/// Takes the images of a dataset in the order of their names. Rows go out at once; what is kept does not grow with
/// the number of images, but for those that can't be read.
pub struct Ledger<'a> {
    compare: Compare,
    rows: &'a mut dyn Rows,
    predictions: PredictionTotals,
    annotations: AnnotationTotals,
    /// For each output the sums of all images, and how many failed.
    distances: Vec<(DistanceSums, u64)>,
    unreadable: Vec<Unreadable>,
    failed: Failed,
    images: u64,
    unlabelled: u64,
}

impl<'a> Ledger<'a> {
    /// The reports of `compare`, whose rows go to `rows`.
    pub fn new(compare: Compare, rows: &'a mut dyn Rows) -> Ledger<'a> {
        let distances = vec![(DistanceSums::default(), 0); compare.outputs.len()];
        Ledger {
            compare,
            rows,
            predictions: PredictionTotals::default(),
            annotations: AnnotationTotals::default(),
            distances,
            unreadable: Vec::new(),
            failed: Failed::default(),
            images: 0,
            unlabelled: 0,
        }
    }

    /// Adds an image, which comes behind all others by its name: sums of floating-point numbers depend on their
    /// order, and rows stand in it.
    ///
    /// # Errors
    /// Those of the rows.
    pub fn add(&mut self, seen: Seen) -> Result<(), ReportError> {
        match seen {
            Seen::Read(entry) => self.read(*entry),
            Seen::Unreadable(bad) => self.unreadable(bad),
        }
    }

    fn read(&mut self, entry: Entry) -> Result<(), ReportError> {
        let Entry { image, label, prediction, annotation, distances } = entry;
        self.images += 1;
        self.unlabelled += u64::from(label.is_none());
        let of_distances = !self.compare.makes(Kind::Predictions);
        if let Some(outcome) = prediction {
            let row = PredictionRow { image: image.clone(), label, outcome };
            self.rows.prediction(&row)?;
            self.failed.add(&image, row.outcome.failed());
            self.predictions.add(row);
        }
        if let Some(row) = annotation {
            self.rows.annotation(&row)?;
            self.annotations.add(&row);
        }
        for ((output, outcome), (sums, failed)) in
            self.compare.outputs.iter().zip(distances).zip(&mut self.distances)
        {
            let outcome = match outcome {
                Outcome::Measured(part) => {
                    sums.merge(&part);
                    Outcome::Measured(Distance::from(&part))
                }
                Outcome::Failed { failed: reason } => {
                    *failed += 1;
                    Outcome::Failed { failed: reason }
                }
            };
            if of_distances {
                self.failed.add(&image, outcome.failed());
            }
            self.rows.distance(&DistanceRow { image: image.clone(), output: output.clone(), outcome })?;
        }
        Ok(())
    }

    fn unreadable(&mut self, bad: Unreadable) -> Result<(), ReportError> {
        let Unreadable { image, label, reason } = &bad;
        if self.compare.makes(Kind::Predictions) {
            let outcome = Outcome::Failed { failed: reason.clone() };
            self.rows.prediction(&PredictionRow { image: image.clone(), label: *label, outcome })?;
        }
        if self.compare.makes(Kind::Annotations) {
            self.rows.annotation(&AnnotationRow {
                image: image.clone(),
                label: *label,
                place_parent: None,
                place_optimized: None,
                outcome: Outcome::Failed { failed: reason.clone() },
            })?;
        }
        if self.compare.makes(Kind::TensorDistance) {
            for output in &self.compare.outputs {
                let outcome = Outcome::Failed { failed: reason.clone() };
                self.rows.distance(&DistanceRow { image: image.clone(), output: output.clone(), outcome })?;
            }
        }
        self.unreadable.push(bad);
        Ok(())
    }

    /// The reports of all images added. Rows of a report that is left out after all are to be thrown away.
    pub fn finish(self) -> Reports {
        let Ledger { mut compare, images, unlabelled, .. } = self;
        let unreadable = self.unreadable.len() as u64;
        if images == 0 {
            compare.leave_out(
                &[Kind::Predictions, Kind::Annotations, Kind::TensorDistance],
                "no image could be read",
            );
        } else if unlabelled == images {
            compare.leave_out(&[Kind::Annotations], "none of the images that could be read has a label");
        }
        let summary = |(output, (sums, failed)): (&String, &(DistanceSums, u64))| DistanceSummary {
            output: output.clone(),
            distance: Distance::from(sums),
            images,
            failed: *failed,
        };
        let per_output = compare.outputs.iter().zip(&self.distances).map(summary).collect();
        let tensor_distance = compare.makes(Kind::TensorDistance).then_some(Distances { per_output });
        let annotations = compare.makes(Kind::Annotations).then(|| Annotations {
            summary: self.annotations.summary(images - unlabelled, unreadable, unlabelled),
        });
        let predictions =
            compare.makes(Kind::Predictions).then(|| self.predictions.report(images, unreadable));
        let classified = predictions.is_some() || annotations.is_some();
        Reports {
            predictions,
            annotations,
            tensor_distance,
            left_out: compare.left_out,
            unreadable: self.unreadable,
            failed: self.failed,
            softmax_applied: classified && compare.head == super::Head::Logits,
        }
    }
}
