//! Judge the gates of a run.

use super::events::Status;
use super::plan::{Gates, ReportKind};
use super::summary::{GateResult, ReportsSummary, Speedup};

/// Judges each gate that was asked for, in the order of the run file's documentation.
///
/// - `min_speedup` holds for the lowest ratio of all settings, so that no setting hides another.
/// - `min_agreement` is a fraction.
/// - `max_drop` is in percentage points of top-1 accuracy.
///
/// A number that could not be had, or is not a number, fails its gate.
pub fn evaluate(gates: &Gates, speedup: &[Speedup], reports: &ReportsSummary) -> Vec<GateResult> {
    // `f64::min` would pass over NaN.
    let lowest = speedup.iter().map(|s| s.ratio).reduce(|a, b| if b.is_nan() || b < a { b } else { a });
    let agreement = reports.predictions.as_ref().filter(|p| p.images > 0).map(|p| p.agreement);
    let drop = reports.annotations.as_ref().filter(|a| a.images > 0).map(|a| a.drop * 100.0);
    let no_report = |kind: ReportKind| match reports.left_out.iter().find(|left| left.kind == kind) {
        Some(left) => format!("the report {} was left out: {}", kind.name(), left.reason),
        None => format!("the report {} was not made or holds no images", kind.name()),
    };
    let judge =
        |name: &str, limit: Option<f64>, value: Option<f64>, holds: fn(f64, f64) -> bool, reason: String| {
            limit.map(|limit| GateResult {
                name: name.to_string(),
                limit,
                passed: value.is_some_and(|value| holds(value, limit)),
                reason: match value {
                    None => Some(reason),
                    Some(value) if value.is_nan() => Some("the value is not a number".to_string()),
                    Some(_) => None,
                },
                value: value.filter(|value| value.is_finite()),
            })
        };
    let at_least = |value, limit| value >= limit;
    let at_most = |value, limit| value <= limit;
    [
        judge("min_speedup", gates.min_speedup, lowest, at_least, "no speed-up was measured".to_string()),
        judge("min_agreement", gates.min_agreement, agreement, at_least, no_report(ReportKind::Predictions)),
        judge("max_drop", gates.max_drop, drop, at_most, no_report(ReportKind::Annotations)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Passed if all gates did, or there are none.
pub fn status(gates: &[GateResult]) -> Status {
    if gates.iter().all(|gate| gate.passed) { Status::Passed } else { Status::GateFailed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Accuracy, LeftOut};
    use crate::run::plan::EngineName;
    use crate::run::summary::{AnnotationsSummary, PredictionsSummary, Verdict};

    fn speedup(ratio: f64) -> Speedup {
        let (engine, verdict) = (EngineName::Builtin, Verdict::Faster);
        Speedup {
            engine,
            streams: 1,
            threads: 1,
            batch: 1,
            ratio,
            low: ratio,
            high: ratio,
            verdict,
            rounds: 20,
            left_out: 0,
        }
    }

    fn reports(agreement: f64, drop: f64) -> ReportsSummary {
        let accuracy = Accuracy { top1: 0.9, top5: 1.0 };
        ReportsSummary {
            predictions: Some(PredictionsSummary {
                images: 100,
                agreement,
                low: 0.0,
                high: 1.0,
                erroneous: 3,
                failed: 0,
                unreadable: 0,
                mean_kl: Some(0.01),
            }),
            annotations: Some(AnnotationsSummary {
                images: 100,
                parent: accuracy,
                optimized: accuracy,
                drop,
                drop_low: drop - 0.01,
                drop_high: drop + 0.01,
                lost: 2,
                gained: 1,
                failed: 0,
                unreadable: 0,
                unlabelled: 0,
            }),
            ..ReportsSummary::default()
        }
    }

    const ALL: Gates = Gates { min_speedup: Some(1.2), min_agreement: Some(0.95), max_drop: Some(1.0) };

    fn passed(speedups: &[f64], agreement: f64, drop: f64) -> Vec<bool> {
        let speedups: Vec<Speedup> = speedups.iter().copied().map(speedup).collect();
        evaluate(&ALL, &speedups, &reports(agreement, drop)).iter().map(|gate| gate.passed).collect()
    }

    #[test]
    fn a_value_at_its_limit_passes() {
        assert_eq!(passed(&[1.2], 0.95, 0.01), [true, true, true]);
        assert_eq!(passed(&[1.199], 0.949, 0.0101), [false, false, false]);
        assert_eq!(passed(&[2.0], 1.0, -0.5), [true, true, true], "a gain is no drop");
    }

    #[test]
    fn the_slowest_setting_decides() {
        assert_eq!(passed(&[3.0, 1.1], 1.0, 0.0), [false, true, true]);
    }

    #[test]
    fn not_a_number_never_passes() {
        assert_eq!(passed(&[2.0, f64::NAN], f64::NAN, f64::NAN), [false, false, false]);
        assert_eq!(passed(&[f64::NAN, 2.0], 1.0, 0.0), [false, true, true]);
    }

    #[test]
    fn a_missing_value_fails_with_the_reason() {
        let left = LeftOut { kind: ReportKind::Annotations, reason: "no labels".into() };
        let reports = ReportsSummary { left_out: vec![left], ..ReportsSummary::default() };
        let results = evaluate(&ALL, &[], &reports);
        assert!(results.iter().all(|gate| !gate.passed && gate.value.is_none()));
        assert_eq!(results[2].reason.as_deref(), Some("the report annotations was left out: no labels"));
        assert_eq!(status(&results), Status::GateFailed);
    }

    #[test]
    fn without_gates_a_run_passes() {
        assert_eq!(status(&evaluate(&Gates::default(), &[], &ReportsSummary::default())), Status::Passed);
    }
}
