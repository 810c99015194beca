//! The end of a run in a few lines.

use std::fmt::Write;
use std::path::Path;

use crate::report::DistanceSummary;
use crate::run::plan::EngineName;
use crate::run::summary::{
    AnnotationsSummary, GateResult, HostPerformance, ModelRole, PredictionsSummary, Speedup, Summary, Verdict,
};

/// Width of the labels before the rows.
const MARGIN: usize = 13;

/// `summary.json` for people: speed, size, agreement, accuracy, gates, and where the files are.
/// Lines are broken between words to fit `width` columns.
pub fn render(summary: &Summary, name: &str, folder: &Path, width: usize) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.extend(summary.speedup.iter().map(|speedup| ("speed", speed(summary, speedup))));
    rows.extend(summary.engines.iter().filter_map(|record| {
        Some(("speed", format!("{}: not measured: {}", record.engine.name(), record.error.as_ref()?)))
    }));
    rows.extend(summary.hosts.iter().flat_map(host).map(|row| ("hosts", row)));
    rows.push(("size", size(summary)));
    rows.extend(summary.tradeoff.as_ref().map(|t| ("trade-off", t.in_words())));
    let reports = &summary.reports;
    rows.extend(reports.predictions.as_ref().map(|p| ("agreement", agreement(p))));
    rows.extend(reports.annotations.as_ref().map(|a| ("top-1", accuracy(a))));
    rows.extend(reports.tensor_distance.iter().flatten().map(|d| ("distance", distance(d))));
    rows.extend(
        reports.left_out.iter().map(|left| ("left out", format!("{}: {}", left.kind.name(), left.reason))),
    );
    rows.extend(summary.gates.iter().map(|g| ("gates", gate(g))));
    rows.extend(summary.warnings.iter().map(|warning| ("warnings", warning.clone())));
    rows.push(("files", folder.display().to_string()));
    rows.extend(
        [("report.html", "the reports as one page"), (summary.optimized.path.as_str(), "the INT8 model")]
            .map(|(file, what)| ("files", format!("  {file:<16} {what}"))),
    );

    let mut text = format!("\n{name}: {}\n\n", headline(&summary.speedup));
    let mut last = "";
    for (label, row) in &rows {
        let mut shown = if *label == last { "" } else { label };
        for line in wrapped(row, width.saturating_sub(MARGIN)) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {shown:<10} {line}");
            shown = "";
        }
        last = label;
    }
    text
}

/// `text` in lines of at most `width` characters where its words allow it. A text that fits stays
/// as it is, spaces included.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_string()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

fn headline(speedups: &[Speedup]) -> String {
    let Some(first) = speedups.first() else { return "speed was not measured".to_string() };
    match first.verdict {
        Verdict::Faster => format!("INT8 is {:.2} times as fast as its FP32 parent", first.ratio),
        Verdict::Slower => format!("INT8 is SLOWER than its FP32 parent: {:.2} times its speed", first.ratio),
        Verdict::NotDistinguishable => "INT8 and FP32 can't be told apart in speed".to_string(),
    }
}

fn speed(summary: &Summary, speedup: &Speedup) -> String {
    let fps = |role: ModelRole| {
        let row = summary.performance.iter().find(|row| {
            row.model == role && (row.engine, row.setting()) == (speedup.engine, speedup.setting())
        });
        row.map_or("?".to_string(), |row| format!("{:.1}", row.fps.median))
    };
    let verdict = match speedup.verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "SLOWER",
        Verdict::NotDistinguishable => "not distinguishable",
    };
    let formats = formats(summary, speedup.engine);
    format!("{}{formats}, {}, {verdict}", speedup.engine.name(), ratio(speedup, fps))
}

/// A setting, the speeds of both models in it, and how they compare.
fn ratio(speedup: &Speedup, fps: impl Fn(ModelRole) -> String) -> String {
    format!(
        "{}: {} → {} FPS, {:.2} × ({:.2} to {:.2})",
        speedup.setting(),
        fps(ModelRole::Parent),
        fps(ModelRole::Optimized),
        speedup.ratio,
        speedup.low,
        speedup.high,
    )
}

/// A row for each setting on a kind of node.
fn host(host: &HostPerformance) -> Vec<String> {
    let row = |speedup: &Speedup| {
        let fps = |role| host.fps(role, speedup).map_or("?".to_string(), |fps| format!("{fps:.1}"));
        let agreement = host.agreement(speedup.engine).map_or(String::new(), |found| {
            format!(", agreement {} of {}", percent(found.agreement), counted(found.images as usize, "image"))
        });
        format!(
            "{} on {} ({}, {}), {}, {}{agreement}",
            host.on,
            host.hostname,
            host.host.cpu,
            host.kernels,
            speedup.engine.name(),
            ratio(speedup, fps),
        )
    };
    host.speedup.iter().map(row).collect()
}

/// What an engine really computed in, where that is not FP32 and INT8.
fn formats(summary: &Summary, engine: EngineName) -> String {
    let format = |role: ModelRole| {
        let row = summary.performance.iter().find(|row| row.engine == engine && row.model == role);
        row.map_or("", |row| row.precision.as_str())
    };
    match (format(ModelRole::Parent), format(ModelRole::Optimized)) {
        ("" | "fp32", "" | "int8") => String::new(),
        (parent, optimized) => format!(" ({parent} → {optimized})"),
    }
}

fn size(summary: &Summary) -> String {
    let (parent, optimized) = (summary.parent.bytes, summary.optimized.bytes);
    let mut text = format!("{} → {}", bytes(parent), bytes(optimized));
    if optimized > 0 {
        let _ = write!(text, ", {:.2} × smaller", parent as f64 / optimized as f64);
    }
    if let (Some(layers), Some(quantized)) = (summary.optimized.layers, summary.optimized.quantized_layers) {
        let _ = write!(text, ", {quantized} of {} in INT8", counted(layers, "layer"));
    }
    text
}

/// The agreement with its interval.
pub(super) fn agreement(report: &PredictionsSummary) -> String {
    format!(
        "{} of {} ({} to {}): {} of them changed class",
        percent(report.agreement),
        counted(report.images as usize, "image"),
        percent(report.low),
        percent(report.high),
        report.erroneous,
    )
}

/// Top-1 of both models and the drop with its interval.
pub(super) fn accuracy(report: &AnnotationsSummary) -> String {
    let drop = report.drop * 100.0;
    let change = if drop >= 0.0 { "a drop" } else { "a gain" };
    format!(
        "{:.2} % → {:.2} % on {}, {change} of {:.2} points (95 % interval of the drop: {:.2} to {:.2})",
        report.parent.top1 * 100.0,
        report.optimized.top1 * 100.0,
        counted(report.images as usize, "image"),
        drop.abs(),
        report.drop_low * 100.0,
        report.drop_high * 100.0,
    )
}

/// How far an output is from the parent's.
pub(super) fn distance(report: &DistanceSummary) -> String {
    let distance = &report.distance;
    let sqnr = distance.sqnr_db.map_or("equal".to_string(), |v| format!("SQNR {v:.1} dB"));
    let cosine = distance.cosine.map_or(String::new(), |v| format!(", cosine {v:.4}"));
    format!("{}: {sqnr}{cosine}, largest difference {:.4}", report.output, distance.max_abs)
}

fn gate(gate: &GateResult) -> String {
    let verdict = if gate.passed { "passed" } else { "FAILED" };
    // The limit stands as the user wrote it; the value has digits enough to tell the two apart.
    let value = gate.value.map_or("no value".to_string(), |value| format!("{value:.4}"));
    let reason = gate.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    format!("{verdict}  {} {}: {value}{reason}", gate.name, gate.limit)
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Decimal units, as disks and downloads are sold.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Accuracy, LeftOut};
    use crate::run::events::Status;
    use crate::run::performance::EngineRecord;
    use crate::run::plan::ReportKind;
    use crate::run::summary::{
        CalibrationSummary, HostSummary, Interval, Latency, ModelSummary, PerformanceRow, ReportsSummary,
        SCHEMA,
    };

    fn speedup(streams: usize, ratio: f64, verdict: Verdict) -> Speedup {
        let (low, high) = (ratio - 0.04, ratio + 0.03);
        Speedup {
            engine: EngineName::Builtin,
            streams,
            threads: 1,
            batch: 1,
            ratio,
            low,
            high,
            verdict,
            rounds: 40,
            left_out: 0,
        }
    }

    fn performance(model: ModelRole, streams: usize, median: f64) -> PerformanceRow {
        PerformanceRow {
            engine: EngineName::Builtin,
            model,
            streams,
            threads: 1,
            batch: 1,
            fps: Interval { median, low: median, high: median },
            latency_ms: Latency { p50: 1.0, p90: 1.0, p99: 1.0 },
            precision: String::new(),
            precisions: std::collections::BTreeMap::new(),
        }
    }

    fn model(path: &str, bytes: u64, quantized: Option<usize>) -> ModelSummary {
        ModelSummary {
            path: path.into(),
            sha256: String::new(),
            bytes,
            precision: if quantized.is_some() { "int8" } else { "fp32" }.into(),
            layers: quantized.map(|_| 53),
            quantized_layers: quantized,
        }
    }

    fn gate(name: &str, limit: f64, value: Option<f64>, passed: bool) -> GateResult {
        let reason = value.is_none().then(|| "no speed-up was measured".to_string());
        GateResult { name: name.into(), limit, value, passed, reason }
    }

    fn summary() -> Summary {
        Summary {
            schema: SCHEMA.into(),
            status: Status::Passed,
            host: HostSummary { cpu: "a CPU".into(), isa: vec!["avx2".into()], cores: 2 },
            parent: model("m.onnx", 13_600_000, None),
            optimized: model("model.int8.onnx", 3_580_000, Some(52)),
            calibration: CalibrationSummary {
                images: 150,
                seconds: 3.0,
                images_per_second: 50.0,
                peak_rss_bytes: 1,
                from_cache: false,
            },
            stages: Vec::new(),
            performance: vec![
                performance(ModelRole::Parent, 1, 412.34),
                performance(ModelRole::Optimized, 1, 968.08),
                performance(ModelRole::Parent, 2, 790.0),
                performance(ModelRole::Optimized, 2, 1850.5),
            ],
            speedup: vec![speedup(1, 2.348, Verdict::Faster), speedup(2, 2.342, Verdict::Faster)],
            hosts: Vec::new(),
            engines: vec![EngineRecord {
                engine: EngineName::Openvino,
                version: None,
                library: None,
                error: Some("libopenvino_c was not found".into()),
            }],
            tradeoff: None,
            reports: ReportsSummary {
                predictions: Some(PredictionsSummary {
                    images: 400,
                    agreement: 0.9525,
                    low: 0.927,
                    high: 0.969,
                    erroneous: 19,
                    failed: 0,
                    unreadable: 0,
                    mean_kl: Some(0.01),
                }),
                annotations: Some(AnnotationsSummary {
                    images: 400,
                    parent: Accuracy { top1: 0.9125, top5: 0.99 },
                    optimized: Accuracy { top1: 0.9075, top5: 0.99 },
                    drop: 0.005,
                    drop_low: -0.003,
                    drop_high: 0.012,
                    lost: 4,
                    gained: 2,
                    failed: 0,
                    unreadable: 0,
                    unlabelled: 0,
                }),
                ..ReportsSummary::default()
            },
            gates: vec![
                gate("min_speedup", 1.2, Some(2.342), true),
                gate("min_agreement", 0.95, Some(0.9525), true),
            ],
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_run_that_passed() {
        insta::assert_snapshot!(render(&summary(), "mobilenet-v2", Path::new("/data/out/mobilenet-v2"), 100));
    }

    #[test]
    fn a_run_that_failed_its_gates_says_so_loudly() {
        let summary = Summary {
            status: Status::GateFailed,
            speedup: vec![speedup(1, 0.81, Verdict::Slower)],
            reports: ReportsSummary {
                left_out: vec![LeftOut {
                    kind: ReportKind::Annotations,
                    reason: "the dataset has no labels".into(),
                }],
                ..ReportsSummary::default()
            },
            gates: vec![gate("min_speedup", 1.2, Some(0.81), false), gate("max_drop", 1.0, None, false)],
            warnings: vec!["the machine was busy: load 7.1 on 2 cores".into()],
            ..summary()
        };
        insta::assert_snapshot!(render(&summary, "demo", Path::new("/data/out/demo"), 60));
    }

    #[test]
    fn sizes_are_decimal() {
        assert_eq!(
            [999, 1_000, 13_600_000, 2_500_000_000].map(bytes),
            ["999 B", "1.0 kB", "13.6 MB", "2.5 GB"]
        );
    }
}
