//! What the HTML page is told, from what the stages found.

use std::collections::BTreeMap;

use super::report::MAX_CARDS;
use crate::measure::{FormatShare, LayerRow};
use crate::quantize::LayerSensitivity;
use crate::report::Reports;
use crate::report::html::{self, Fact, Page, Thumbnail};
use crate::run::performance::{Best, EngineRecord, LoadRecord, Performance};
use crate::run::summary::{GateResult, HostPerformance, HostSummary, ModelRole, ModelSummary, Speedup};

/// The parts of a page that runs and comparisons both have.
pub(in crate::run) struct Facts<'a> {
    pub title: &'a str,
    pub made: &'a str,
    pub parent: &'a ModelSummary,
    pub optimized: &'a ModelSummary,
    pub performance: &'a Performance,
    pub hosts: &'a [HostPerformance],
    pub sensitivity: &'a [LayerSensitivity],
    pub tradeoff: &'a [html::TradeoffPoint],
    pub gates: &'a [GateResult],
    pub reports: &'a Reports,
    pub classes: &'a [String],
    pub thumbnails: &'a BTreeMap<String, Thumbnail>,
    pub calibration: Vec<Fact>,
    pub host: &'a HostSummary,
    pub warnings: &'a [String],
    pub files: &'a [String],
}

/// A name and its value.
pub(in crate::run) fn fact(name: &str, value: impl ToString) -> Fact {
    Fact { name: name.into(), value: value.to_string() }
}

/// The page as HTML.
pub(in crate::run) fn render(facts: &Facts) -> Result<Vec<u8>, crate::report::ReportError> {
    let page = Page {
        title: facts.title,
        made: facts.made,
        parent: model(facts.parent),
        optimized: model(facts.optimized),
        speedup: facts.performance.speedup.iter().map(speedup).collect(),
        performance: performance(facts.performance),
        unmeasured: facts.performance.engines.iter().filter_map(unmeasured).collect(),
        best: facts.performance.best.iter().map(best).collect(),
        loads: facts.performance.loads.iter().map(load).collect(),
        hosts: facts.hosts.iter().flat_map(host).collect(),
        gates: facts.gates.iter().map(gate).collect(),
        layers: facts.performance.layers.iter().map(|row| layer(row, facts.sensitivity)).collect(),
        tradeoff: facts.tradeoff,
        reports: facts.reports,
        classes: facts.classes,
        thumbnails: facts.thumbnails,
        max_cards: MAX_CARDS,
        calibration: facts.calibration.clone(),
        measured: measured(facts),
        warnings: facts.warnings,
        files: facts.files,
    };
    let mut out = Vec::new();
    html::render(&page, &mut out)?;
    Ok(out)
}

fn model(model: &ModelSummary) -> html::ModelFacts {
    html::ModelFacts {
        path: model.path.clone(),
        precision: model.precision.clone(),
        bytes: model.bytes,
        sha256: model.sha256.clone(),
        quantized_layers: model.layers.zip(model.quantized_layers),
    }
}

fn speedup(s: &Speedup) -> html::Speedup {
    html::Speedup {
        engine: s.engine.name().into(),
        streams: s.streams,
        threads: s.threads,
        batch: s.batch,
        ratio: s.ratio,
        low: s.low,
        high: s.high,
    }
}

fn performance(performance: &Performance) -> Vec<html::Performance> {
    let row = |row: &crate::run::summary::PerformanceRow| html::Performance {
        engine: row.engine.name().into(),
        optimized: row.model == ModelRole::Optimized,
        streams: row.streams,
        threads: row.threads,
        batch: row.batch,
        precision: row.precision.clone(),
        fps: row.fps.median,
        fps_low: row.fps.low,
        fps_high: row.fps.high,
        p50_ms: row.latency_ms.p50,
        p90_ms: row.latency_ms.p90,
        p99_ms: row.latency_ms.p99,
    };
    performance.rows.iter().map(row).collect()
}

fn gate(gate: &GateResult) -> html::Gate {
    html::Gate { name: gate.name.clone(), limit: gate.limit, value: gate.value, passed: gate.passed }
}

fn layer(row: &LayerRow, sensitivity: &[LayerSensitivity]) -> html::LayerRow {
    let sensitivity = sensitivity.iter().find(|s| s.node == row.name);
    let precision = |time: &Option<crate::measure::LayerTime>| {
        time.as_ref().map_or(String::new(), |t| t.precision.name().to_string())
    };
    let macs = |time: &Option<crate::measure::LayerTime>| time.as_ref().map_or(0, |t| t.macs);
    html::LayerRow {
        name: row.name.clone(),
        kind: row.kind.clone(),
        precision_parent: precision(&row.parent),
        precision_optimized: precision(&row.optimized),
        parent_us: row.parent.as_ref().map(|t| t.median_us),
        optimized_us: row.optimized.as_ref().map(|t| t.median_us),
        macs: macs(&row.parent).max(macs(&row.optimized)),
        alone_db: sensitivity.and_then(|s| s.alone_db),
        in_place_db: sensitivity.and_then(|s| s.in_place_db),
        note: row.note.clone().unwrap_or_default(),
    }
}

fn unmeasured(record: &EngineRecord) -> Option<Fact> {
    Some(fact(record.engine.name(), record.error.as_ref()?))
}

fn best(best: &Best) -> html::Best {
    html::Best {
        engine: best.engine.name().into(),
        optimized: best.model == ModelRole::Optimized,
        streams: best.streams,
        threads: best.threads,
        batch: best.batch,
        fps: best.fps,
        p99_ms: best.p99_ms,
        within_limit: best.within_limit,
    }
}

fn load(load: &LoadRecord) -> html::Load {
    html::Load {
        engine: load.engine.name().into(),
        optimized: load.model == ModelRole::Optimized,
        load_ms: load.load_ms,
        bytes: load.peak_rss_bytes,
    }
}

/// A row for each setting on a kind of node.
fn host(host: &HostPerformance) -> Vec<html::Host> {
    let row = |s: &Speedup| html::Host {
        on: host.on.clone(),
        hostname: host.hostname.clone(),
        cpu: host.host.cpu.clone(),
        kernels: host.kernels.clone(),
        cores: host.host.cores,
        speedup: speedup(s),
        parent_fps: host.fps(ModelRole::Parent, s),
        optimized_fps: host.fps(ModelRole::Optimized, s),
        agreement: host.agreement(s.engine).map(|a| (a.agreement, a.images)),
    };
    host.speedup.iter().map(row).collect()
}

fn measured(facts: &Facts) -> Vec<Fact> {
    let host = facts.host;
    let mut list = vec![
        fact("processor", &host.cpu),
        fact("cores", host.cores),
        fact("instruction sets", host.isa.join(", ")),
        fact("calib8", env!("CARGO_PKG_VERSION")),
        fact("engine", "builtin: tract for FP32, own kernels for INT8"),
        fact(
            "method",
            "parent and optimized in turns (ABBA), medians of rounds, bootstrap interval of the ratio",
        ),
    ];
    for record in facts.performance.engines.iter() {
        if let (Some(version), Some(library)) = (&record.version, &record.library) {
            list.push(fact(record.engine.name(), format!("{version}, {library}")));
        }
    }
    for (name, formats) in
        facts.performance.formats.iter().flat_map(|f| {
            [("time by format, parent", &f.parent), ("time by format, optimized", &f.optimized)]
        })
    {
        let part = |share: &FormatShare| {
            format!("{} {:.1} % in {} layers", share.precision.name(), 100.0 * share.share, share.layers)
        };
        list.push(fact(name, formats.iter().map(part).collect::<Vec<_>>().join(", ")));
    }
    if let Some(conditions) = &facts.performance.conditions {
        list.extend(conditions.governor.as_ref().map(|g| fact("frequency governor", g)));
        list.extend(
            conditions.busy_before.map(|b| fact("in use by others before", format!("{:.0} %", b * 100.0))),
        );
    }
    list
}
