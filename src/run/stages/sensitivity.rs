//! What INT8 costs each layer in accuracy, beside what it gains in time: `sensitivity.csv`.

use std::fmt::Write;

use super::calibrate::Calibrated;
use super::prepare::Subject;
use super::verify::Optimized;
use crate::dataset::Dataset;
use crate::measure::LayerRow;
use crate::model::{Model, csv_field};
use crate::progress::Progress;
use crate::quantize::{self, LayerNoise, LayerSensitivity, Placement};
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::performance::Performance;
use crate::run::shards::Step;
use crate::run::worker::{Desk, StageError};

/// Images to measure on: a ratio over all values of so many hardly moves with more.
pub(in crate::run) const IMAGES: usize = 16;

/// The first line of `sensitivity.csv`. Ratios are in dB, empty where there is no noise or no signal; times are
/// medians in microseconds, empty where layers were not timed; `saved_us` is the parent's time less the
/// optimized model's.
const CSV_HEADER: &str = "name,kind,sqnr_alone_db,sqnr_in_place_db,parent_us,optimized_us,saved_us";

pub(in crate::run) fn run(
    desk: &Desk,
    subject: &Subject,
    calibrated: &Calibrated,
    optimized: &Optimized,
    performance: &Performance,
) -> Result<Vec<LayerSensitivity>, RunError> {
    let work = |progress: &dyn Progress| -> Result<Vec<LayerSensitivity>, StageError> {
        let placement = &calibrated.placement;
        let found = match desk.shards.filter(|shards| shards.cut(Step::Sensitivity).shards > 0) {
            Some(shards) => shards.noises(subject, &optimized.model.sha256)?,
            None => {
                let dataset = looked_at(subject);
                // Layers are compared at their own results, which equalizing rescales.
                let (source, _) = calibrated.source(subject);
                noises(subject, source, placement, &optimized.model, &dataset, progress)?
            }
        };
        match found {
            Err(error) => {
                progress.warn(&format!("the cost of INT8 in each layer could not be measured: {error}"));
                Ok(Vec::new())
            }
            Ok(noises) => Ok(quantize::summed(placement, &noises)),
        }
    };
    let (rows, _) = desk.stage(Stage::Sensitivity, work)?;
    desk.write("sensitivity.csv", csv(&rows, &performance.layers).as_bytes())?;
    Ok(rows)
}

/// The images that sensitivity is measured on.
pub(in crate::run) fn looked_at(subject: &Subject) -> Dataset {
    subject.calibration.subset(IMAGES)
}

/// Distances of every layer on each readable image of `dataset`, of an INT8 model made from `source`; the inner error
/// says why they can't be had.
///
/// # Errors
/// The user asked to stop.
pub(in crate::run) fn noises(
    subject: &Subject,
    source: &Model,
    placement: &Placement,
    optimized: &Model,
    dataset: &Dataset,
    progress: &dyn Progress,
) -> Result<Result<Vec<Vec<LayerNoise>>, String>, StageError> {
    let threads = subject.threads();
    let images: Vec<_> = subject.stream_images(dataset, threads).collect();
    match quantize::noises(source, placement, optimized, &images, threads, progress) {
        Err(error) if !progress.cancelled() => Ok(Err(error.to_string())),
        noises => Ok(Ok(noises?)),
    }
}

fn csv(rows: &[LayerSensitivity], times: &[LayerRow]) -> String {
    let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
    let mut text = format!("{CSV_HEADER}\r\n");
    for row in rows {
        let timed = times.iter().find(|t| t.name == row.node);
        let parent = timed.and_then(|t| t.parent.as_ref()).map(|t| t.median_us);
        let optimized = timed.and_then(|t| t.optimized.as_ref()).map(|t| t.median_us);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{},{},{},{},{},{},{}\r\n",
            csv_field(&row.node),
            csv_field(&row.op_type),
            number(row.alone_db),
            number(row.in_place_db),
            number(parent),
            number(optimized),
            number(parent.zip(optimized).map(|(p, o)| p - o))
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Precision;
    use crate::measure::LayerTime;

    #[test]
    fn ratios_and_times_of_a_layer_stand_in_one_row() {
        let row = |node: &str, in_place_db| LayerSensitivity {
            node: node.into(),
            op_type: "Conv".into(),
            alone_db: Some(40.5),
            in_place_db,
        };
        let time = |median_us| {
            let (name, kind) = ("a,1".to_string(), "Conv".to_string());
            Some(LayerTime { name, kind, precision: Precision::Int8, macs: 1, median_us })
        };
        let name = "a,1".to_string();
        let times = [LayerRow {
            name,
            kind: "Conv".into(),
            parent: time(10.0),
            optimized: time(2.5),
            ratio: Some(4.0),
            parent_share: None,
            optimized_share: None,
            note: None,
        }];
        let expected = format!("{CSV_HEADER}\r\n\"a,1\",Conv,40.5,30,10,2.5,7.5\r\nb,Conv,40.5,,,,\r\n");
        assert_eq!(csv(&[row("a,1", Some(30.0)), row("b", None)], &times), expected);
    }
}
