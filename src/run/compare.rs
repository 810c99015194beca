//! Any two models on one dataset: the measuring and reporting of a run, without a plan, a
//! calibration, or a run directory.

use std::path::PathBuf;

use super::RunError;
use super::draft::Draft;
use super::event_log::EventLog;
use super::events::Stage;
use super::interrupt::Interrupt;
use super::performance::{Models, Performance};
use super::plan::Count;
use super::sink::Sink;
use super::stages::baseline::batch_of;
use super::stages::closing;
use super::stages::measure::{Matrix, Subjects, begin, measure, tell};
use super::stages::page::{Facts, render};
use super::stages::prepare::{check_fit, first_readable, load};
use super::stages::report::{Pair, compare_on, evaluate, tell_unreadable, thumbnails};
use super::stages::verify::head_of;
use super::summary::ModelSummary;
use crate::dataset::{Dataset, DatasetSpec, Preprocess};
use crate::engine::{EngineName, Libraries, LoadOptions};
use crate::measure::host;
use crate::model::{Model, inspect};
use crate::report::{Kind, Nowhere, Reports, Rows, Tables};

/// What to compare, and on what.
#[derive(Debug, Clone)]
pub struct Request {
    /// The reference.
    pub first: PathBuf,
    /// The other.
    pub second: PathBuf,
    /// The images.
    pub dataset: DatasetSpec,
    /// How an image becomes an input; the same for both.
    pub preprocess: Preprocess,
    /// Seconds of measuring for each model; 0 leaves speed out.
    pub seconds: f64,
    /// Threads for the reports.
    pub threads: usize,
    /// What runs the first model and the second, for speed and for the reports.
    pub engines: [EngineName; 2],
    /// Where their libraries are.
    pub libraries: Libraries,
    /// Numbers of parallel streams to measure.
    pub streams: Vec<usize>,
    /// Numbers of threads of each stream.
    pub stream_threads: Vec<usize>,
    /// Batch sizes to measure.
    pub batch: Vec<usize>,
    /// The folder that takes the files.
    pub output: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Comparison {
    /// The reference.
    pub first: ModelSummary,
    /// The other.
    pub second: ModelSummary,
    /// Speeds, load times and memory; the first model is the parent.
    pub performance: Performance,
    /// The reports, the first model being the parent.
    pub reports: Reports,
    /// `report.html` and `performance.json`; the tables are written already.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Compares two models.
///
/// # Errors
/// A model or the dataset can't be used, the models do not take the same input or give the same
/// outputs, or the user stopped the work.
pub fn compare(request: &Request, log: &EventLog, interrupt: &Interrupt) -> Result<Comparison, RunError> {
    let failed = |stage| move |source| RunError::Stage { stage, source };
    let stopped = || if interrupt.is_set() { Err(RunError::Interrupted) } else { Ok(()) };

    let sink = Sink::start(log, interrupt, Stage::Prepare);
    let prepare = failed(Stage::Prepare);
    let (first, second) = (load(&request.first).map_err(prepare)?, load(&request.second).map_err(prepare)?);
    let dataset = Dataset::open(&request.dataset).map_err(|e| RunError::stage(Stage::Prepare, e))?;
    let sample = first_readable(&dataset, &request.preprocess).map_err(prepare)?;
    for model in [&first, &second] {
        check_fit(model, &request.preprocess, &sample).map_err(prepare)?;
    }
    let options = LoadOptions { streams: request.threads, ..LoadOptions::default() };
    let load = |engine: EngineName, model| {
        let loaded = engine.open(&request.libraries).and_then(|engine| engine.load(model, &options));
        loaded.map_err(|e| RunError::stage(Stage::Prepare, e))
    };
    let [a, b] = [load(request.engines[0], &first), load(request.engines[1], &second)];
    let (a, b) = (a?, b?);
    let shapes = |session: &dyn crate::engine::Session| {
        session.outputs().iter().map(|o| o.shape.clone()).collect::<Vec<_>>()
    };
    let (from, to) = (shapes(a.as_ref()), shapes(b.as_ref()));
    if from != to {
        let what = format!(
            "the outputs of {} have the shapes {from:?}, those of {} {to:?}; only models of the same task can be compared",
            request.first.display(),
            request.second.display()
        );
        return Err(RunError::stage(Stage::Prepare, what));
    }
    sink.finish();
    stopped()?;

    let performance = if request.seconds > 0.0 {
        let sink = Sink::start(log, interrupt, Stage::Measure);
        let batch: Vec<Count> = request.batch.iter().map(|n| Count::Number(*n as u32)).collect();
        let alike = request.engines[0] == request.engines[1];
        let matrix = Matrix {
            engines: &request.engines[..1],
            libraries: &request.libraries,
            streams: &request.streams,
            threads: &request.stream_threads,
            batch: &batch,
            seconds: request.seconds,
            latency_limit_ms: None,
            layers: alike,
            memory_bytes: host::memory_limit().unwrap_or(u64::MAX),
        };
        let models = Subjects {
            parent: &first,
            optimized: &second,
            parent_file: &request.first,
            image: &sample,
            second_engine: (!alike).then_some(request.engines[1]),
        };
        let hashes = Models {
            parent_sha256: first.sha256.clone(),
            parent_bytes: first.bytes,
            optimized_sha256: second.sha256.clone(),
            optimized_bytes: second.bytes,
        };
        let start = begin("comparison", hashes, &matrix);
        let performance = measure(&models, &matrix, start, &mut |_| Ok(()), &sink);
        stopped()?;
        if let Ok(performance) = &performance {
            tell(performance, &sink);
        }
        sink.finish();
        let performance = performance.map_err(failed(Stage::Measure))?;
        // Without the engine that was asked for there is nothing to compare.
        if let Some(error) = performance.engines.iter().find_map(|engine| engine.error.clone()) {
            return Err(RunError::stage(Stage::Measure, error));
        }
        performance
    } else {
        Performance::default()
    };

    let sink = Sink::start(log, interrupt, Stage::Report);
    let report = failed(Stage::Report);
    let input = [batch_of(&sample, 1).map_err(report)?];
    let outputs = a.spawn().and_then(|mut r| r.run(&input)).map_err(|e| RunError::stage(Stage::Report, e))?;
    let samples: Vec<Vec<f32>> = outputs.first().map(|v| v.as_slice().to_vec()).into_iter().collect();
    let head = head_of(a.as_ref(), &samples);
    let kinds = [Kind::Predictions, Kind::Annotations, Kind::TensorDistance];
    let compared = compare_on(a.as_ref(), head, &dataset, &kinds);
    let pair =
        Pair { parent: a.as_ref(), optimized: b.as_ref(), compare: &compared, threads: request.threads };
    let classes = dataset.classes.clone().unwrap_or_default();
    let mut tables = None;
    if let Some(folder) = &request.output {
        let begin = |name: &str| Draft::create(folder, name);
        tables = Some(Tables::create(compared.kinds(), &classes, begin)?);
    }
    let mut nowhere = Nowhere;
    let rows: &mut dyn Rows = tables.as_mut().map_or(&mut nowhere, |tables| tables);
    let reports = evaluate(&pair, &dataset, &request.preprocess, rows, usize::MAX, &sink);
    let reports = reports.and_then(|reports| tell_unreadable(&reports, &dataset, &sink).map(|()| reports));
    stopped()?;
    let reports = reports.map_err(report)?;
    let tables = tables.map_or(Ok(Vec::new()), |tables| tables.finish(|kind| reports.made(kind)));
    let drafts = tables.map_err(|e| RunError::stage(Stage::Report, e))?;
    sink.finish();

    let mut names = Vec::new();
    for draft in drafts {
        names.push(draft.commit()?.name);
    }
    let (first, second) = (summary_of(&first), summary_of(&second));
    let page = render(&Facts {
        title: "comparison",
        made: &crate::project::time::now(),
        parent: &first,
        optimized: &second,
        performance: &performance,
        hosts: &[],
        sensitivity: &[],
        tradeoff: &[],
        gates: &[],
        reports: &reports,
        classes: &classes,
        thumbnails: &thumbnails(&reports, &dataset),
        calibration: Vec::new(),
        host: &closing::host(),
        warnings: &log.state().warnings,
        files: &names,
    });
    let mut json = serde_json::to_vec_pretty(&performance).map_err(|e| RunError::stage(Stage::Measure, e))?;
    json.push(b'\n');
    let page = page.map_err(|e| RunError::stage(Stage::Report, e))?;
    let files = vec![("performance.json".into(), json), ("report.html".into(), page)];
    Ok(Comparison { first, second, performance, reports, files })
}

fn summary_of(model: &Model) -> ModelSummary {
    let precision = if inspect::is_quantized(model) { "int8" } else { "fp32" };
    ModelSummary {
        path: model.path.display().to_string(),
        sha256: model.sha256.clone(),
        bytes: model.bytes,
        precision: precision.into(),
        layers: None,
        quantized_layers: None,
    }
}
