//! Gates, `summary.json`, `manifest.json`, `report.html`.

use super::calibrate::Calibrated;
use super::measure::Measured;
use super::page::{self, Facts, fact};
use super::prepare::Subject;
use super::report::Evaluated;
use super::tradeoff::Traded;
use super::verify::Optimized;
use crate::dataset::{self, Dataset};
use crate::kernels::Isa;
use crate::project::hash;
use crate::project::host::Host;
use crate::quantize::LayerSensitivity;
use crate::run::RunError;
use crate::run::directory::ARTIFACTS;
use crate::run::events::{Event, Stage};
use crate::run::gates;
use crate::run::shards::FOLDER;
use crate::run::summary::{
    FileRecord, HostSummary, MANIFEST_SCHEMA, Manifest, ModelSummary, SCHEMA, Summary,
};
use crate::run::worker::Desk;

/// Operators with weights, which are the layers that people count.
const WEIGHTED: [&str; 3] = ["Conv", "Gemm", "MatMul"];

/// Names in the run directory that the page does not link to.
const UNLINKED: [&str; 6] =
    ["checkpoint", "state.json", "worker.log", "report.html", FOLDER, super::HOSTS_FOLDER];

/// What the stages made.
pub(in crate::run) struct Results<'a> {
    pub calibrated: &'a Calibrated,
    pub optimized: &'a Optimized,
    pub measured: &'a Measured,
    pub sensitivity: &'a [LayerSensitivity],
    pub tradeoff: Option<Traded>,
    pub evaluated: &'a Evaluated,
}

pub(in crate::run) fn run(desk: &Desk, subject: &Subject, results: &Results) -> Result<Summary, RunError> {
    let Results { calibrated, optimized, measured, evaluated, .. } = results;
    let performance = &measured.performance;
    let reports = evaluated.reports.summary();
    let gates = gates::evaluate(&desk.plan.gates, &performance.speedup, &reports);
    gates.iter().for_each(|gate| desk.emit(Event::Gate(gate.clone())));
    let weighted = calibrated.layers().iter().filter(|l| WEIGHTED.contains(&l.op_type.as_str()));
    let layers = weighted.clone().count();
    let summary = Summary {
        schema: SCHEMA.into(),
        status: gates::status(&gates),
        host: measured.host.clone().unwrap_or_else(host),
        parent: ModelSummary {
            path: desk.plan.model.path.display().to_string(),
            sha256: subject.source.sha256.clone(),
            bytes: subject.source.bytes,
            precision: "fp32".into(),
            layers: Some(layers),
            quantized_layers: None,
        },
        optimized: ModelSummary {
            path: super::calibrate::MODEL_FILE.into(),
            sha256: optimized.model.sha256.clone(),
            bytes: optimized.model.bytes,
            precision: "int8".into(),
            layers: Some(layers),
            quantized_layers: Some(weighted.filter(|l| l.quantized).count()),
        },
        calibration: calibrated.summary,
        stages: desk.stages(),
        performance: performance.rows.clone(),
        speedup: performance.speedup.clone(),
        engines: performance.engines.clone(),
        hosts: measured.hosts.clone(),
        tradeoff: results.tradeoff.as_ref().map(|t| t.summary.clone()),
        reports,
        gates,
        warnings: desk.warnings(),
    };
    desk.write_json("manifest.json", &manifest(desk, subject, &summary)?)?;
    desk.write("report.html", &html(desk, subject, results, &summary)?)?;
    desk.write_json("summary.json", &summary)?;
    desk.emit(Event::Result {
        speedup: summary.speedup.first().map(|s| s.ratio),
        agreement: summary.reports.predictions.as_ref().map(|p| p.agreement),
        drop: summary.reports.annotations.as_ref().map(|a| a.drop * 100.0),
    });
    Ok(summary)
}

/// The machine, as summaries name it.
pub(in crate::run) fn host() -> HostSummary {
    let host = Host::probe();
    let isa = Isa::available().into_iter().map(|isa| isa.name().to_string()).collect();
    HostSummary { cpu: host.cpu, isa, cores: host.cores }
}

fn html(desk: &Desk, subject: &Subject, results: &Results, summary: &Summary) -> Result<Vec<u8>, RunError> {
    let Results { calibrated, measured, evaluated, sensitivity, .. } = results;
    let plan = desk.plan;
    let mut calibration = vec![
        fact("images", summary.calibration.images),
        fact("folder", subject.calibration.root.display()),
        fact("recipe", calibrated.recipe.in_words()),
    ];
    if let Some(tradeoff) = &summary.tradeoff {
        calibration.push(fact("accuracy_aware", tradeoff.in_words()));
        if !tradeoff.fp32_layers.is_empty() {
            calibration.push(fact("kept in FP32 for accuracy", tradeoff.fp32_layers.join(", ")));
        }
    }
    let speed = match summary.calibration.from_cache {
        true => "statistics of an earlier run".to_string(),
        false => {
            format!("{:.1} images/s on {} threads", summary.calibration.images_per_second, subject.threads())
        }
    };
    calibration.extend([
        fact("speed", speed),
        fact("peak memory", format!("{:.0} MB", summary.calibration.peak_rss_bytes as f64 / 1e6)),
    ]);
    let unquantized: Vec<&str> =
        calibrated.layers().iter().filter(|l| !l.quantized).map(|l| l.op_type.as_str()).collect();
    if !unquantized.is_empty() {
        calibration.push(fact("nodes in FP32", unquantized.join(", ")));
    }
    if !calibrated.unreadable.is_empty() {
        calibration.push(fact("unreadable images", calibrated.unreadable.len()));
    }
    let made = crate::project::time::now();
    let files: Vec<String> = ARTIFACTS
        .iter()
        .filter(|name| desk.directory.file(name).exists() || **name == "summary.json")
        .filter(|name| !UNLINKED.contains(name))
        .map(ToString::to_string)
        .collect();
    let facts = Facts {
        title: &plan.name,
        made: &made,
        parent: &summary.parent,
        optimized: &summary.optimized,
        performance: &measured.performance,
        hosts: &measured.hosts,
        sensitivity,
        tradeoff: results.tradeoff.as_ref().map_or(&[][..], |t| &t.points),
        gates: &summary.gates,
        reports: &evaluated.reports,
        classes: subject.classes(),
        thumbnails: &evaluated.thumbnails,
        calibration,
        host: &summary.host,
        warnings: &summary.warnings,
        files: &files,
    };
    page::render(&facts).map_err(|e| RunError::stage(Stage::Report, e))
}

/// What went in and came out, without times, so that the same inputs give the same bytes.
fn manifest(desk: &Desk, subject: &Subject, summary: &Summary) -> Result<Manifest, RunError> {
    let plan = serde_json::to_value(desk.plan).map_err(|e| RunError::stage(Stage::Report, e))?;
    let record =
        |m: &ModelSummary| FileRecord { path: m.path.clone(), bytes: m.bytes, sha256: m.sha256.clone() };
    Ok(Manifest {
        schema: MANIFEST_SCHEMA.into(),
        calib8: env!("CARGO_PKG_VERSION").into(),
        host: host(),
        plan,
        inputs: vec![record(&summary.parent), content(&subject.calibration), content(&subject.dataset)],
        outputs: vec![record(&summary.optimized)],
    })
}

/// A dataset as one record: the hash over names and hashes of its images.
fn content(dataset: &Dataset) -> FileRecord {
    let mut hash = hash::Hasher::default();
    let mut bytes = 0;
    for item in dataset.items.iter() {
        bytes += std::fs::metadata(&item.path).map_or(0, |m| m.len());
        let line = format!("{} {}\n", item.name, dataset::sha256(&item.path).unwrap_or_default());
        hash.update(line.as_bytes());
    }
    FileRecord { path: dataset.root.display().to_string(), bytes, sha256: hash.finish() }
}
