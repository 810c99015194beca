//! Parent and optimized side by side on every engine and in every setting, then layer by layer.
//!
//! After each setting all that is known is written to `performance.json`, so that a run that was interrupted
//! goes on with the settings that are missing. An engine that can't be had, or that refuses a model, is a
//! record with the reason; only the built-in engine fails the run.

use std::path::{Path, PathBuf};

use ndarray::Array3;

use super::baseline::batch_of;
use super::elsewhere;
use super::load;
use super::prepare::Subject;
use super::verify::Optimized;
use crate::engine::builtin;
use crate::engine::{Engine, EngineName, Libraries, LoadOptions, Session};
use crate::kernels::Isa;
use crate::measure::{self, Settings, bottlenecks};
use crate::model::{Dim, Model, shapes};
use crate::progress::Progress;
use crate::project::atomic;
use crate::project::host::{Host, available_bytes};
use crate::project::time;
use crate::run::RunError;
use crate::run::events::Stage;
use crate::run::performance::{EngineRecord, Formats, Method, Models, Performance, SCHEMA};
use crate::run::plan::{Auto, Count, Plan};
use crate::run::stages::warnings;
use crate::run::summary::{HostPerformance, HostSummary, ModelRole, PerformanceRow, Setting, Speedup};
use crate::run::worker::{Desk, StageError};

/// Share of a setting's time that the pass over single layers gets.
const LAYER_SHARE: f64 = 0.5;
/// The largest batch that `auto` tries.
const LARGEST_AUTO: usize = 64;
/// Another doubling of the batch must bring this factor of throughput, or `auto` stops.
const WORTH_IT: f64 = 1.02;
/// Part of the available memory that the activations of a setting may take in `auto`.
const MEMORY_SHARE: u64 = 2;

/// In which settings to measure.
pub(in crate::run) struct Matrix<'a> {
    pub engines: &'a [EngineName],
    pub libraries: &'a Libraries,
    pub streams: &'a [usize],
    /// Of each stream.
    pub threads: &'a [usize],
    pub batch: &'a [Count],
    /// For each model in each setting.
    pub seconds: f64,
    pub latency_limit_ms: Option<f64>,
    pub layers: bool,
    /// Bytes that measuring may take.
    pub memory_bytes: u64,
}

/// The two models and what they are fed.
pub(in crate::run) struct Subjects<'a> {
    pub parent: &'a Model,
    pub optimized: &'a Model,
    /// The file that the parent was read from, before it was simplified.
    pub parent_file: &'a Path,
    pub image: &'a Array3<f32>,
    /// The second engine's name where it is another one than the first's.
    pub second_engine: Option<EngineName>,
}

/// What measuring gave: the speeds of the run, and those on each kind of node if the plan names some.
pub(in crate::run) struct Measured {
    pub performance: Performance,
    pub hosts: Vec<HostPerformance>,
    /// The machine that `performance` is of, where that is another one.
    pub host: Option<HostSummary>,
}

pub(in crate::run) fn run(
    desk: &Desk,
    subject: &Subject,
    optimized: &Optimized,
) -> Result<Measured, RunError> {
    let file = desk.directory.file("performance.json");
    let work = |progress: &dyn Progress| {
        if let Some(found) = elsewhere::gather(desk, subject, &optimized.model.sha256, progress)? {
            return Ok(found);
        }
        let mut save = |found: &Performance| -> Result<(), StageError> {
            let json = serde_json::to_vec_pretty(found)?;
            Ok(atomic::write(&file, &json)?)
        };
        let earlier = Performance::read(&file).ok();
        let performance = here(desk.plan, subject, &optimized.model, earlier, &mut save, progress)?;
        Ok(Measured { performance, hosts: Vec::new(), host: None })
    };
    let (measured, _) = desk.stage(Stage::Measure, work)?;
    desk.write_json("performance.json", &measured.performance)?;
    let mut csv = Vec::new();
    measure::layers::write_csv(&mut csv, &measured.performance.layers)
        .map_err(|e| RunError::stage(Stage::Measure, e))?;
    desk.write("layers.csv", &csv)?;
    Ok(measured)
}

/// Measures what the plan says on this machine, but for what `earlier` has of it; `save` is called after each setting.
pub(super) fn here(
    whole: &Plan,
    subject: &Subject,
    optimized: &Model,
    earlier: Option<Performance>,
    save: &mut dyn FnMut(&Performance) -> Result<(), StageError>,
    progress: &dyn Progress,
) -> Result<Performance, StageError> {
    let plan = &whole.performance;
    let matrix = Matrix {
        engines: &plan.engines,
        libraries: &plan.libraries,
        streams: &plan.streams,
        threads: &plan.threads,
        batch: &plan.batch,
        seconds: plan.seconds,
        latency_limit_ms: plan.latency_limit_ms,
        layers: plan.layers,
        memory_bytes: subject.memory.budget.bytes,
    };
    let models = Subjects {
        parent: &subject.parent,
        optimized,
        parent_file: &whole.model.path,
        image: &subject.sample,
        second_engine: None,
    };
    let hashes = Models {
        parent_sha256: subject.source.sha256.clone(),
        parent_bytes: subject.source.bytes,
        optimized_sha256: optimized.sha256.clone(),
        optimized_bytes: optimized.bytes,
    };
    let now = |engine: EngineName| Some(record_of(engine, engine.open(&plan.libraries).ok()?.as_ref()));
    let start = kept(earlier, begin(&whole.name, hashes, &matrix), &now);
    if start.complete {
        // A run that was stopped after it had measured.
        tell(&start, progress);
        return Ok(start);
    }
    let performance = measure(&models, &matrix, start, save, progress)?;
    if plan.engines.contains(&EngineName::Builtin) {
        warnings::of_tract(&subject.parent, progress)?;
    }
    warnings::of_saturation(whole, &plan.engines, progress);
    tell(&performance, progress);
    Ok(performance)
}

/// What the user should know of a measurement.
pub(in crate::run) fn tell(performance: &Performance, progress: &dyn Progress) {
    for record in &performance.engines {
        if let Some(error) = &record.error {
            progress.warn(&format!("engine {}: {error}", record.engine.name()));
        }
    }
    for best in performance.best.iter().filter(|best| !best.within_limit) {
        progress.warn(&format!(
            "no setting of {} keeps the latency limit for the {} model: its quickest has a 99th percentile of {:.2} ms",
            best.engine.name(),
            best.model.name(),
            best.p99_ms
        ));
    }
    let mut kinds = Vec::new();
    for warning in &performance.warnings {
        // Every setting sees the same machine: the first warning of a kind speaks for all.
        let kind = std::mem::discriminant(warning);
        if !kinds.contains(&kind) {
            kinds.push(kind);
            progress.warn(&warning.to_string());
        }
    }
}

/// A record without measurements.
pub(in crate::run) fn begin(name: &str, models: Models, matrix: &Matrix) -> Performance {
    Performance {
        schema: SCHEMA.into(),
        name: name.into(),
        host: Some(Host::probe()),
        models: Some(models),
        method: Some(Method {
            calib8: env!("CARGO_PKG_VERSION").into(),
            order: "ABBA".into(),
            seconds: matrix.seconds,
            seed: Settings::default().seed,
            isa: Isa::from_env().map_or_else(|_| String::new(), |isa| isa.name().into()),
            latency_limit_ms: matrix.latency_limit_ms,
        }),
        ..Performance::default()
    }
}

/// An engine as it is.
fn record_of(engine: EngineName, opened: &dyn Engine) -> EngineRecord {
    let library = opened.library().map(|path| path.display().to_string());
    EngineRecord { engine, version: Some(opened.version()), library, error: None }
}

/// What an interrupted run has measured, if it was the same two models on the same host in the same way, and
/// without the engines whose library is another one by `now`; or else `fresh`.
fn kept(
    earlier: Option<Performance>,
    fresh: Performance,
    now: &dyn Fn(EngineName) -> Option<EngineRecord>,
) -> Performance {
    let Some(mut earlier) = earlier else { return fresh };
    let name = |p: &Performance| p.host.as_ref().map(|h| (h.hostname.clone(), h.cpu.clone(), h.cores));
    let same = earlier.models == fresh.models
        && earlier.method == fresh.method
        && name(&earlier) == name(&fresh)
        && earlier.name == fresh.name;
    if !same {
        return fresh;
    }
    earlier.forget_other_libraries(now);
    // What failed may succeed now.
    earlier.complete &= earlier.engines.iter().all(|engine| engine.error.is_none());
    earlier
}

/// Measures both models in every setting of `matrix` that `start` lacks; `save` is called after each.
pub(in crate::run) fn measure(
    models: &Subjects,
    matrix: &Matrix,
    start: Performance,
    save: &mut dyn FnMut(&Performance) -> Result<(), StageError>,
    progress: &dyn Progress,
) -> Result<Performance, StageError> {
    let mut found = start;
    for engine in matrix.engines {
        let opened = engine.open(matrix.libraries);
        let second = models.second_engine.map(|name| name.open(matrix.libraries)).transpose();
        let mut record = EngineRecord { engine: *engine, version: None, library: None, error: None };
        if let Ok(opened) = &opened {
            record = record_of(*engine, opened.as_ref());
            // Before the first setting is saved, so that whoever goes on knows what it was measured on.
            found.put_record(record.clone());
        }
        let result = match (opened, second) {
            (Ok(first), Ok(second)) => {
                let second = second.as_deref().unwrap_or(first.as_ref());
                let bench = Bench { engines: [first.as_ref(), second], models, matrix, progress };
                bench.measure(*engine, &mut found, save)
            }
            (Err(e), _) | (_, Err(e)) => Err(e.into()),
        };
        if progress.cancelled() {
            return Err("measuring was cancelled".into());
        }
        match result {
            Err(error) if *engine == EngineName::Builtin => return Err(error),
            Err(error) => record.error = Some(error.to_string()),
            Ok(()) => {}
        }
        found.put_record(record);
    }
    found.choose_best(matrix.latency_limit_ms);
    found.measured = time::now();
    found.complete = true;
    Ok(found)
}

/// Whether twice the batch of `row` is worth a try: it gave more than the `best` so far, within the limit.
fn worth_doubling(row: &PerformanceRow, best: f64, limit_ms: Option<f64>) -> bool {
    limit_ms.is_none_or(|limit| row.latency_ms.p99 <= limit) && row.fps.median >= WORTH_IT * best
}

/// One engine at work, or two different ones.
struct Bench<'a> {
    engines: [&'a dyn Engine; 2],
    models: &'a Subjects<'a>,
    matrix: &'a Matrix<'a>,
    progress: &'a dyn Progress,
}

/// Both models, loaded for a batch size.
struct Loaded {
    sessions: [Box<dyn Session>; 2],
    formats: [std::collections::BTreeMap<String, usize>; 2],
    batch: usize,
}

impl Bench<'_> {
    fn measure(
        &self,
        engine: EngineName,
        found: &mut Performance,
        save: &mut dyn FnMut(&Performance) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let pairs = self.sizes().into_iter().flat_map(|b| self.matrix.threads.iter().map(move |t| (b, *t)));
        for (batch, threads) in pairs {
            let setting = |streams: &usize| Setting { streams: *streams, threads, batch };
            let mut missing: Vec<Setting> = self.matrix.streams.iter().map(setting).collect();
            missing.retain(|setting| !found.has(engine, *setting));
            let wants_layers = self.matrix.layers && engine == EngineName::Builtin && found.layers.is_empty();
            if missing.is_empty() && !wants_layers {
                continue;
            }
            let loaded = self.load(batch, threads)?;
            for setting in missing {
                self.setting(engine, &loaded, setting, found)?;
                save(found)?;
            }
            if wants_layers {
                self.layers(&loaded, found)?;
                save(found)?;
            }
        }
        if self.matrix.batch.contains(&Count::Word(Auto::Auto)) {
            self.climb(engine, found, save)?;
        }
        self.loads(engine, found);
        Ok(())
    }

    /// The batch sizes that were asked for by number; 1 where only `auto` was.
    fn sizes(&self) -> Vec<usize> {
        let number = |count: &Count| match count {
            Count::Number(n) => Some(*n as usize),
            Count::Word(_) => None,
        };
        let sizes: Vec<usize> = self.matrix.batch.iter().filter_map(number).collect();
        if sizes.is_empty() { vec![1] } else { sizes }
    }

    /// Doubles the batch, with as many streams as were asked for at most and the fewest threads, until
    /// throughput no longer grows, the latency limit is broken, or memory may not suffice.
    fn climb(
        &self,
        engine: EngineName,
        found: &mut Performance,
        save: &mut dyn FnMut(&Performance) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        if self.models.parent.inputs().first().is_none_or(|p| matches!(p.dims.first(), Some(Dim::Fixed(_)))) {
            self.progress
                .warn("performance.batch auto: the model's batch is fixed, so there is nothing to try");
            return Ok(());
        }
        let streams = self.matrix.streams.iter().copied().max().unwrap_or(1);
        let threads = self.matrix.threads.iter().copied().min().unwrap_or(1);
        let most = self.largest_batch(streams);
        let (mut batch, mut best) = (1, 0.0);
        while batch <= most {
            let setting = Setting { streams, threads, batch };
            if !found.has(engine, setting) {
                let loaded = self.load(batch, threads)?;
                self.setting(engine, &loaded, setting, found)?;
                save(found)?;
            }
            let second = self.models.second_engine.unwrap_or(engine);
            let row = found
                .rows
                .iter()
                .find(|r| (r.engine, r.model, r.setting()) == (second, ModelRole::Optimized, setting));
            let Some(row) = row else { break };
            if !worth_doubling(row, best, self.matrix.latency_limit_ms) {
                break;
            }
            best = row.fps.median;
            batch *= 2;
        }
        Ok(())
    }

    fn largest_batch(&self, streams: usize) -> usize {
        let tensors = shapes::infer(self.models.parent, 1).unwrap_or_default();
        let elements: usize = tensors.values().map(|shape| shape.iter().product::<usize>()).sum();
        let per_image = (elements * size_of::<f32>() * streams).max(1) as u64;
        let limits = [available_bytes(), Some(self.matrix.memory_bytes)];
        let memory = limits.into_iter().flatten().min().unwrap_or(u64::MAX);
        usize::try_from(memory / MEMORY_SHARE / per_image).unwrap_or(LARGEST_AUTO).clamp(1, LARGEST_AUTO)
    }

    fn load(&self, batch: usize, threads: usize) -> Result<Loaded, StageError> {
        let streams = self.matrix.streams.iter().copied().max().unwrap_or(1);
        let options = LoadOptions { batch, streams, threads, ..LoadOptions::default() };
        let both = [(self.engines[0], self.models.parent), (self.engines[1], self.models.optimized)];
        let [a, b] = both.map(|(engine, model)| {
            let session = engine.load(model, &options)?;
            let formats = engine.precisions(model, session.as_ref());
            Ok::<_, StageError>((session, formats))
        });
        let ((a, formats_a), (b, formats_b)) = (a?, b?);
        Ok(Loaded { sessions: [a, b], formats: [formats_a, formats_b], batch })
    }

    fn setting(
        &self,
        engine: EngineName,
        loaded: &Loaded,
        setting: Setting,
        found: &mut Performance,
    ) -> Result<(), StageError> {
        let Setting { streams, threads, batch } = setting;
        let seconds = 2.0 * self.matrix.seconds;
        let settings = Settings { streams, threads, batch, seconds, ..Settings::default() };
        let input = [batch_of(self.models.image, batch)?];
        let [a, b] = [0, 1].map(|i| loaded.sessions[i].as_ref());
        let paired = measure::compare(a, b, &input, &input, &settings, self.progress)?;
        let engines = [engine, self.models.second_engine.unwrap_or(engine)];
        let roles = [ModelRole::Parent, ModelRole::Optimized];
        for (i, timing) in [&paired.a, &paired.b].into_iter().enumerate() {
            let formats = &loaded.formats[i];
            let main = formats.iter().max_by_key(|(_, count)| **count).map(|(name, _)| name.clone());
            found.rows.push(PerformanceRow {
                engine: engines[i],
                model: roles[i],
                streams,
                threads,
                batch,
                fps: timing.fps,
                latency_ms: timing.latency_ms,
                precision: main.unwrap_or_default(),
                precisions: formats.clone(),
            });
        }
        let ratio = paired.ratio;
        found.speedup.push(Speedup {
            engine: engines[1],
            streams,
            threads,
            batch,
            ratio: ratio.ratio,
            low: ratio.low,
            high: ratio.high,
            verdict: ratio.verdict,
            rounds: paired.rounds,
            left_out: paired.left_out,
        });
        found.conditions.get_or_insert(paired.conditions);
        found.warnings.extend(paired.warnings);
        Ok(())
    }

    fn layers(&self, loaded: &Loaded, found: &mut Performance) -> Result<(), StageError> {
        let input = [batch_of(self.models.image, loaded.batch)?];
        let [a, b] = [0, 1].map(|i| (loaded.sessions[i].as_ref(), &input[..]));
        let seconds = self.matrix.seconds * LAYER_SHARE;
        let (a, b) = measure::layers::profile_pair(a, b, seconds, self.progress)?;
        let mut rows = measure::layers::join(&a, &b);
        bottlenecks::explain(&mut rows, &builtin::unfused(self.models.optimized)?);
        found.formats =
            Some(Formats { parent: bottlenecks::formats(&a), optimized: bottlenecks::formats(&b) });
        found.layers = rows;
        Ok(())
    }

    /// Load time and memory. That they can't be had is no reason to fail.
    fn loads(&self, engine: EngineName, found: &mut Performance) {
        let files: [(ModelRole, EngineName, PathBuf); 2] = [
            (ModelRole::Parent, engine, self.models.parent_file.to_path_buf()),
            (
                ModelRole::Optimized,
                self.models.second_engine.unwrap_or(engine),
                self.models.optimized.path.clone(),
            ),
        ];
        for (role, engine, file) in files {
            if found.loads.iter().any(|l| (l.engine, l.model) == (engine, role)) {
                continue;
            }
            match load::measure(&file, role, engine, self.matrix.libraries) {
                Some(Ok(record)) => found.loads.push(record),
                Some(Err(why)) => self.progress.warn(&format!(
                    "load time and memory of the {} model on {} could not be measured: {why}",
                    role.name(),
                    engine.name()
                )),
                None => {}
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
