//! What needs the disk or other keys to be judged: paths, ranges, words that this version does not
//! take yet. All problems are collected, so that a user mends the file once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::counts::Counts;
use super::executor::ExecutorSection;
use super::file::{Count, Method, ReportKind, RunFile};
use super::hosts::Nodes;
use super::memory_limit::{self, MemoryLimit};
use super::node::{Segment, Target};
use super::paths::{missing, models_near, tidy};
use super::preprocessing::{Preprocessing, Steps};
use super::problem::{Problem, nearest};
use super::{CalibrationPlan, DatasetPlan, ModelPlan, OptimizePlan, PerformancePlan, Plan};
use crate::dataset::Preprocess;
use crate::engine::Libraries;
use crate::project::host;

/// The version of the run file format that this program reads.
const VERSION: u32 = 1;
const MAX_PIXELS: u32 = 16_384;

/// Checks values and finds files; relative paths start at `folder`.
pub fn resolve(run_file: RunFile, folder: &Path) -> Result<Plan, Vec<Problem>> {
    let mut resolver = Resolver { folder, problems: Vec::new() };
    let plan = resolver.plan(run_file);
    if resolver.problems.is_empty() { Ok(plan) } else { Err(resolver.problems) }
}

struct Resolver<'a> {
    folder: &'a Path,
    problems: Vec<Problem>,
}

/// `keys![optimize, dataset, path]`
macro_rules! keys {
    ($($key:ident),+) => { &[$(stringify!($key)),+] };
}

impl Resolver<'_> {
    fn plan(&mut self, file: RunFile) -> Plan {
        if file.version != VERSION {
            let problem =
                Problem::new(format!("version {} of the run file format is not known", file.version));
            let problem = problem.expected(format!("version: {VERSION}"));
            self.problem(keys![version], problem.hint("a newer calib8 may have made this file"));
        }
        self.name(&file.name);
        let (optimize, performance, gates) = (file.optimize, file.performance, file.gates);
        let elsewhere = !performance.on.is_empty();

        self.range(keys![optimize, subset_size], optimize.subset_size, 1, 1_000_000);
        self.range(keys![optimize, max_drop], optimize.max_drop, 0.0, 100.0);
        if let Some(seconds) = optimize.time_budget_seconds {
            self.time_budget(seconds, optimize.method);
        }
        self.range(keys![performance, seconds], performance.seconds, 0.1, 86_400.0);
        if performance.engines.is_empty() {
            self.empty_list(keys![performance, engines], "[builtin]");
        }
        if let Some(limit) = performance.latency_limit_ms {
            self.range(keys![performance, latency_limit_ms], limit, 0.001, 1_000_000.0);
        }
        self.range(keys![dataset, max_unreadable], file.dataset.max_unreadable, 0.0, 1.0);
        self.memory_limit(file.memory_limit);
        if let Some(value) = gates.min_speedup {
            self.range(keys![gates, min_speedup], value, 0.0, 1000.0);
        }
        self.agreement_gate(gates.min_agreement, &file.reports);
        self.drop_gate(gates.max_drop, &file.reports);

        Plan {
            version: VERSION,
            model: ModelPlan { path: self.model(&file.model.path) },
            preprocess: self.preprocess(file.preprocess),
            dataset: DatasetPlan {
                path: self.images(keys![dataset, path], &file.dataset.path),
                labels: file.dataset.labels.map(|path| self.file(keys![dataset, labels], &path)),
                classes: file.dataset.classes.map(|path| self.file(keys![dataset, classes], &path)),
                max_unreadable: file.dataset.max_unreadable,
            },
            optimize: OptimizePlan {
                dataset: optimize.dataset.map(|section| CalibrationPlan {
                    path: self.images(keys![optimize, dataset, path], &section.path),
                }),
                precision: optimize.precision,
                method: optimize.method,
                preset: optimize.preset,
                subset_size: optimize.subset_size as usize,
                range: optimize.range,
                bias_correction: optimize.bias_correction,
                equalization: optimize.equalization,
                avoid_saturation: optimize.avoid_saturation,
                max_drop: optimize.max_drop,
                time_budget_seconds: optimize.time_budget_seconds,
                ignored_scope: optimize.ignored_scope,
                cache: optimize.cache,
            },
            performance: PerformancePlan {
                engines: unique(performance.engines),
                streams: self.counts(keys![performance, streams], &performance.streams, elsewhere),
                threads: self.counts(keys![performance, threads], &performance.threads, elsewhere),
                batch: self.batch(&performance.batch),
                latency_limit_ms: performance.latency_limit_ms,
                libraries: Libraries {
                    onnxruntime: performance
                        .libraries
                        .onnxruntime
                        .map(|path| self.library(keys![performance, libraries, onnxruntime], &path)),
                    openvino: performance
                        .libraries
                        .openvino
                        .map(|path| self.library(keys![performance, libraries, openvino], &path)),
                },
                seconds: performance.seconds,
                layers: performance.layers,
                on: self.nodes(performance.on),
            },
            reports: unique(file.reports),
            reports_engine: file.reports_engine,
            gates,
            threads: self.count(keys![threads], None, file.threads),
            memory_limit: file.memory_limit.bytes(),
            executor: file.executor.map(|executor| self.executor(executor)),
            output: self.output(file.output, &file.name),
            name: file.name,
        }
    }

    fn problem(&mut self, keys: &[&str], problem: Problem) {
        self.problems.push(problem.at(path_of(keys), Target::Value));
    }

    fn time_budget(&mut self, seconds: f64, method: Method) {
        let keys = keys![optimize, time_budget_seconds];
        self.range(keys, seconds, 1.0, 604_800.0);
        if method != Method::AccuracyAware {
            let problem =
                Problem::new("'optimize.time_budget_seconds' limits the search of accuracy_aware alone");
            self.problem(keys, problem.hint("set `method: accuracy_aware`, or remove the key"));
        }
    }

    fn memory_limit(&mut self, limit: MemoryLimit) {
        if let Some(bytes) = limit.bytes().filter(|bytes| *bytes < memory_limit::LEAST) {
            let problem = Problem::new(format!("'memory_limit' is {bytes} bytes"));
            let problem = problem.expected(format!("at least {} bytes", memory_limit::LEAST));
            self.problem(keys![memory_limit], problem.hint("numbers without a unit are bytes; 8 GB has one"));
        }
    }

    fn range<T: PartialOrd + std::fmt::Display>(&mut self, keys: &[&str], value: T, low: T, high: T) -> bool {
        // Written so that NaN, which compares with nothing, is out of range.
        let inside = value >= low && value <= high;
        if !inside {
            let problem = Problem::new(format!("'{}' is {value}", keys.join(".")));
            self.problem(keys, problem.expected(format!("a number from {low} to {high}")));
        }
        inside
    }

    fn name(&mut self, name: &str) {
        let bad = |c: char| c == '/' || c == '\\' || c.is_control();
        if name.trim().is_empty() || name.len() > 100 || name.contains(bad) || matches!(name, "." | "..") {
            let problem = Problem::new("'name' can't be the name of a folder");
            self.problem(
                keys![name],
                problem.expected("1 to 100 characters without slashes, such as mobilenet-v2"),
            );
        }
    }

    fn empty_list(&mut self, keys: &[&str], example: &str) {
        let problem = Problem::new(format!("'{}' is an empty list", keys.join(".")));
        self.problem(keys, problem.expected(format!("at least one entry, such as {example}")));
    }

    fn agreement_gate(&mut self, value: Option<f64>, reports: &[ReportKind]) {
        let Some(value) = value else { return };
        let keys = keys![gates, min_agreement];
        if value > 1.0 && value <= 100.0 {
            let problem = Problem::new(format!("'gates.min_agreement' is {value}"));
            let problem = problem.expected("a fraction from 0 to 1");
            self.problem(keys, problem.hint(format!("{value} % is {}", value / 100.0)));
        } else {
            self.range(keys, value, 0.0, 1.0);
        }
        self.gate_needs(keys, ReportKind::Predictions, reports);
    }

    fn drop_gate(&mut self, value: Option<f64>, reports: &[ReportKind]) {
        let Some(value) = value else { return };
        let keys = keys![gates, max_drop];
        self.range(keys, value, 0.0, 100.0);
        self.gate_needs(keys, ReportKind::Annotations, reports);
    }

    fn gate_needs(&mut self, keys: &[&str], kind: ReportKind, reports: &[ReportKind]) {
        if !reports.contains(&kind) {
            let word = kind.name();
            let problem = Problem::new(format!("'{}' needs the report '{word}'", keys.join(".")));
            self.problem(keys, problem.hint(format!("add {word} to `reports`, or remove the gate")));
        }
    }

    fn counts(&mut self, keys: &[&str], counts: &[Count], elsewhere: bool) -> Counts {
        if counts.is_empty() {
            self.empty_list(keys, "[1, auto]");
        }
        let numbers = counts.iter().enumerate();
        let numbers = unique(numbers.map(|(index, count)| self.count(keys, Some(index), *count)).collect());
        match elsewhere {
            true => Counts::elsewhere(numbers, unique(counts.to_vec())),
            false => numbers.into(),
        }
    }

    fn nodes(&mut self, on: Vec<Nodes>) -> Vec<Nodes> {
        for (index, nodes) in on.iter().enumerate() {
            let Some(what) = nodes.problem() else { continue };
            let mut path = path_of(keys![performance, on]);
            path.push(Segment::Index(index));
            let problem = Problem::new(format!("'performance.on[{index}]' {what}"));
            let problem =
                problem.expected("features such as avx512, or {nodes: 'node[1-4]'}, as Slurm takes them");
            self.problems.push(problem.at(path, Target::Value));
        }
        unique(on)
    }

    fn count(&mut self, keys: &[&str], index: Option<usize>, count: Count) -> usize {
        let Count::Number(number) = count else { return host::cores() };
        if !(1..=1024).contains(&number) {
            let problem = Problem::new(format!("'{}' is {number}", keys.join(".")))
                .expected("a whole number from 1 to 1024, or auto for the number of cores");
            let mut path = path_of(keys);
            path.extend(index.map(Segment::Index));
            self.problems.push(problem.at(path, Target::Value));
        }
        number as usize
    }

    fn batch(&mut self, batch: &[Count]) -> Vec<Count> {
        if batch.is_empty() {
            self.empty_list(keys![performance, batch], "[1, auto]");
        }
        for (index, size) in batch.iter().enumerate() {
            let Count::Number(size) = size else { continue };
            if !(1..=1024).contains(size) {
                let mut path = path_of(keys![performance, batch]);
                path.push(Segment::Index(index));
                let problem = Problem::new(format!("'performance.batch' holds {size}"));
                let problem = problem.expected("whole numbers from 1 to 1024, or auto");
                self.problems.push(problem.at(path, Target::Value));
            }
        }
        unique(batch.to_vec())
    }

    /// A library or a folder; what of it is there is judged by who loads it.
    fn library(&mut self, keys: &[&str], text: &str) -> PathBuf {
        let path = self.absolute(text);
        if !path.exists() {
            self.problem(
                keys,
                missing(keys, &path, text, "a shared library, its folder, or a Python environment"),
            );
        }
        path
    }

    fn preprocess(&mut self, preprocess: Preprocessing) -> Preprocessing {
        match preprocess {
            Preprocessing::Preset(name) => {
                let known = Preprocess::preset_names();
                if !known.contains(&name.as_str()) {
                    let problem = Problem::new(format!("there is no preprocessing preset '{name}'"))
                        .expected(format!("one of {}; or the steps as a mapping", known.join(", ")))
                        .hint_option(nearest(&name, known).map(|word| format!("did you mean '{word}'?")));
                    self.problem(keys![preprocess], problem);
                }
                Preprocessing::Preset(name)
            }
            Preprocessing::Steps(steps) => Preprocessing::Steps(self.steps(steps)),
        }
    }

    fn steps(&mut self, mut steps: Steps) -> Steps {
        if steps.resize.is_some() && steps.resize_short.is_some() {
            let problem = Problem::new("'resize' and 'resize_short' exclude each other");
            self.problem(keys![preprocess, resize_short], problem.hint("remove one of the two"));
        }
        if let Some(side) = steps.resize_short {
            self.range(keys![preprocess, resize_short], side, 1, MAX_PIXELS);
        }
        for side in steps.resize.into_iter().flatten() {
            self.range(keys![preprocess, resize], side, 1, MAX_PIXELS);
        }
        let shorter = steps.resize.map(|[width, height]| width.min(height)).or(steps.resize_short);
        match (steps.crop, shorter) {
            (Some(crop), Some(shorter)) if crop > shorter => {
                let problem = Problem::new(format!("'preprocess.crop' is {crop}, the image only {shorter}"));
                self.problem(
                    keys![preprocess, crop],
                    problem.expected(format!("a crop of at most {shorter}")),
                );
            }
            (Some(crop), _) => {
                self.range(keys![preprocess, crop], crop, 1, MAX_PIXELS);
            }
            _ => {}
        }
        if steps.scale == 0.0 || !steps.scale.is_finite() {
            let problem = Problem::new(format!("'preprocess.scale' is {}", steps.scale));
            self.problem(keys![preprocess, scale], problem.expected("a number that is not 0"));
        }
        let channels = steps.color.channels();
        steps.mean = self.per_channel(keys![preprocess, mean], steps.mean, channels, 0.0, f32::is_finite);
        let divisor = |value: f32| value.is_finite() && value != 0.0;
        steps.std = self.per_channel(keys![preprocess, std], steps.std, channels, 1.0, divisor);
        steps
    }

    fn per_channel(
        &mut self,
        keys: &[&str],
        values: Vec<f32>,
        channels: usize,
        default: f32,
        valid: impl Fn(f32) -> bool,
    ) -> Vec<f32> {
        if values.is_empty() {
            return vec![default; channels];
        }
        if values.len() != channels {
            let problem = Problem::new(format!("'{}' has {} values", keys.join("."), values.len()));
            self.problem(keys, problem.expected(format!("{channels}, one for each channel of `color`")));
        }
        if let Some(index) = values.iter().position(|value| !valid(*value)) {
            let mut path = path_of(keys);
            path.push(Segment::Index(index));
            let problem = Problem::new(format!("'{}' holds {}", keys.join("."), values[index]));
            let expected = if default == 1.0 { "finite numbers that are not 0" } else { "finite numbers" };
            self.problems.push(problem.expected(expected).at(path, Target::Value));
        }
        values
    }

    fn model(&mut self, text: &str) -> PathBuf {
        let path = self.absolute(text);
        if path.is_file() {
            self.check_readable(keys![model, path], &path);
            return path;
        }
        let problem = match path.is_dir() {
            true => Problem::new(format!("'model.path' is a folder: {}", path.display())),
            false => missing(keys![model, path], &path, text, "a file"),
        };
        let near = models_near(&path, self.folder);
        let hint = (!near.is_empty()).then(|| format!("ONNX files near: {}", near.join(", ")));
        self.problem(keys![model, path], if hint.is_some() { problem.hint_option(hint) } else { problem });
        path
    }

    fn file(&mut self, keys: &[&str], text: &str) -> PathBuf {
        let path = self.absolute(text);
        if path.is_dir() {
            let problem = Problem::new(format!("'{}' is a folder: {}", keys.join("."), path.display()));
            self.problem(keys, problem.expected("a text file"));
        } else if path.exists() {
            self.check_readable(keys, &path);
        } else {
            self.problem(keys, missing(keys, &path, text, "a text file"));
        }
        path
    }

    fn images(&mut self, keys: &[&str], text: &str) -> PathBuf {
        let path = self.absolute(text);
        if !path.exists() {
            self.problem(keys, missing(keys, &path, text, "a folder of images or a list"));
        } else if path.is_dir() {
            if let Err(error) = fs::read_dir(&path) {
                self.unreadable(keys, &path, &error);
            }
        } else {
            self.check_readable(keys, &path);
        }
        path
    }

    fn check_readable(&mut self, keys: &[&str], path: &Path) {
        if let Err(error) = File::open(path) {
            self.unreadable(keys, path, &error);
        }
    }

    fn unreadable(&mut self, keys: &[&str], path: &Path, error: &std::io::Error) {
        let problem =
            Problem::new(format!("'{}' can't be read: {}: {error}", keys.join("."), path.display()));
        self.problem(keys, problem.hint("check its owner and permissions (`ls -l`)"));
    }

    fn executor(&mut self, executor: ExecutorSection) -> ExecutorSection {
        self.range(keys![executor, shards], executor.shards, 1, 10_000);
        self.range(keys![executor, cpus_per_task], executor.cpus_per_task, 1, 1024);
        if let Some(most) = executor.max_parallel {
            self.range(keys![executor, max_parallel], most, 1, 10_000);
        }
        executor
    }

    fn output(&mut self, output: Option<String>, name: &str) -> PathBuf {
        let text = output.unwrap_or_else(|| format!("out/{name}"));
        let path = self.absolute(&text);
        if path.exists() && !path.is_dir() {
            let problem = Problem::new(format!("'output' is a file: {}", path.display()));
            self.problem(keys![output], problem.expected("a folder, which is made if it does not exist"));
        }
        path
    }

    fn absolute(&self, text: &str) -> PathBuf {
        let joined = self.folder.join(text);
        tidy(&std::path::absolute(&joined).unwrap_or(joined))
    }
}

fn path_of(keys: &[&str]) -> Vec<Segment> {
    keys.iter().map(|key| Segment::Key((*key).to_string())).collect()
}

/// The first of each value, in order.
fn unique<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}
