//! The same two files on several kinds of node: what one of them does, and what the end of the run makes of all.

use super::measure::{self, Measured};
use super::prepare::Subject;
use super::report::{Pair, compare_on, evaluate};
use crate::engine::{EngineName, LoadOptions};
use crate::model::Model;
use crate::progress::Progress;
use crate::project::{ProjectError, atomic};
use crate::report::{Head, Kind, Nowhere};
use crate::run::performance::{Agreement, Performance};
use crate::run::plan::Plan;
use crate::run::shards::Step;
use crate::run::summary::{HostPerformance, HostSummary};
use crate::run::worker::{Desk, StageError};

/// The folder in the run directory with a folder for each kind of node but the first.
pub(in crate::run) const FOLDER: &str = "hosts";
/// Images of the dataset, spread evenly, on which both models are compared on each node: enough to see kernels that
/// predict otherwise, and a minute at most where the report of 50 000 takes an hour.
const AGREED_ON: usize = 1000;

/// Speeds of both models on this machine, and how often they agree here: kernels of other engines and instruction
/// sets may predict differently.
pub(in crate::run) fn measure_here(
    plan: &Plan,
    subject: &Subject,
    (optimized, head): (&Model, Head),
    earlier: Option<Performance>,
    save: &mut dyn FnMut(&Performance) -> Result<(), StageError>,
    progress: &dyn Progress,
) -> Result<Performance, StageError> {
    let mut found = measure::here(plan, subject, optimized, earlier, save, progress)?;
    for engine in &plan.performance.engines {
        let failed = found.record(*engine).is_some_and(|record| record.error.is_some());
        if failed || found.agreement.iter().any(|known| known.engine == *engine) {
            continue;
        }
        let agreement = agreement(plan, subject, (optimized, head), *engine, progress)?;
        if progress.cancelled() {
            return Err("stopped".into());
        }
        found.agreement.extend(agreement);
        save(&found)?;
    }
    Ok(found)
}

/// How often both models predict the same class on `engine` here; `None` where they are no classifiers.
fn agreement(
    plan: &Plan,
    subject: &Subject,
    (optimized, head): (&Model, Head),
    engine: EngineName,
    progress: &dyn Progress,
) -> Result<Option<Agreement>, StageError> {
    let opened = engine.open(&plan.performance.libraries)?;
    let options = LoadOptions { streams: subject.threads(), ..LoadOptions::default() };
    let [parent, second] = [opened.load(&subject.parent, &options)?, opened.load(optimized, &options)?];
    let dataset = subject.dataset.subset(AGREED_ON);
    let compare = compare_on(parent.as_ref(), head, &dataset, &[Kind::Predictions]);
    let (parent, optimized, threads) = (parent.as_ref(), second.as_ref(), subject.threads());
    let pair = Pair { parent, optimized, compare: &compare, threads };
    let all = dataset.items.len();
    let reports = evaluate(&pair, &dataset, &subject.preprocess, &mut Nowhere, all, progress)?;
    let found = reports.summary().predictions;
    Ok(found.map(|p| Agreement {
        engine,
        images: p.images,
        agreement: p.agreement,
        low: p.low,
        high: p.high,
    }))
}

/// What shards have measured on each kind of node: the first's speeds are those of the run. `None` where there are no
/// such shards.
pub(super) fn gather(
    desk: &Desk,
    subject: &Subject,
    optimized: &str,
    progress: &dyn Progress,
) -> Result<Option<Measured>, StageError> {
    if desk.plan.performance.on.is_empty() {
        return Ok(None);
    }
    let Some(shards) = desk.shards.filter(|shards| shards.cut(Step::Performance).shards > 0) else {
        progress.warn("performance.on needs a run in shards, so speeds are measured on this machine alone");
        return Ok(None);
    };
    let mut found = shards.performances(subject, desk.plan, optimized)?;
    let mut hosts = Vec::new();
    for (at, ((performance, host), nodes)) in found.iter_mut().zip(&desk.plan.performance.on).enumerate() {
        performance.on = Some(nodes.to_string());
        hosts.push(side(&nodes.to_string(), performance, host));
        if at > 0 {
            // Where `calib8 history` and the workbench find it, as one that was copied from another machine.
            let folder = desk.directory.file(FOLDER).join(at.to_string());
            std::fs::create_dir_all(&folder).map_err(|source| ProjectError::write(&folder, source))?;
            atomic::write(&folder.join("performance.json"), &serde_json::to_vec_pretty(performance)?)?;
        }
    }
    let first = found.into_iter().next();
    Ok(first.map(|(performance, host)| {
        measure::tell(&performance, progress);
        Measured { performance, hosts, host: Some(host) }
    }))
}

fn side(on: &str, performance: &Performance, host: &HostSummary) -> HostPerformance {
    let hostname = performance.host.as_ref().map_or_else(String::new, |host| host.hostname.clone());
    HostPerformance {
        on: on.into(),
        hostname,
        host: host.clone(),
        kernels: performance.method.as_ref().map_or_else(String::new, |method| method.isa.clone()),
        performance: performance.rows.clone(),
        speedup: performance.speedup.clone(),
        engines: performance.engines.clone(),
        agreement: performance.agreement.clone(),
        warnings: performance.warnings.iter().map(ToString::to_string).collect(),
    }
}
