//! `performance.json`: everything that measuring gave, with what it takes to judge it. Numbers are not
//! rounded. Files of other hosts are read, too ([`Performance::read`]), so that fields that came later are
//! optional.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::plan::EngineName;
use super::summary::{ModelRole, PerformanceRow, Setting, Speedup, one};
use crate::measure::{Conditions, FormatShare, LayerRow, Warning};
use crate::project::host::Host;

/// Name and version of the format.
pub const SCHEMA: &str = "calib8/performance/1";

/// What measuring gave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// [`SCHEMA`].
    #[serde(default)]
    pub schema: String,
    /// Name of the run.
    #[serde(default)]
    pub name: String,
    /// When measuring ended, RFC 3339.
    #[serde(default)]
    pub measured: String,
    /// The machine.
    #[serde(default)]
    pub host: Option<Host>,
    /// The entry of `performance.on` that the machine was taken for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The two files.
    #[serde(default)]
    pub models: Option<Models>,
    /// How it was measured.
    #[serde(default)]
    pub method: Option<Method>,
    /// The engines that were asked for, with the reason where one could not be measured.
    #[serde(default)]
    pub engines: Vec<EngineRecord>,
    /// Speed of each model in each setting.
    pub rows: Vec<PerformanceRow>,
    /// How much faster the optimized model is in each setting.
    pub speedup: Vec<Speedup>,
    /// The setting with the most throughput for each model on each engine.
    #[serde(default)]
    pub best: Vec<Best>,
    /// How often both models predict the same class on this host, on each engine; only with `performance.on`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreement: Vec<Agreement>,
    /// Load time and memory of each model on each engine.
    #[serde(default)]
    pub loads: Vec<LoadRecord>,
    /// What made the numbers doubtful.
    pub warnings: Vec<Warning>,
    /// The host when measuring began.
    pub conditions: Option<Conditions>,
    /// How the work of both models is spread over number formats, from the layer times.
    #[serde(default)]
    pub formats: Option<Formats>,
    /// Time of each layer in both models, on the built-in engine.
    pub layers: Vec<LayerRow>,
    /// False while settings are missing: a run that goes on measures only these.
    #[serde(default)]
    pub complete: bool,
}

/// Hashes and sizes of the files that were measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Models {
    /// SHA-256 of the parent.
    pub parent_sha256: String,
    /// Its bytes.
    pub parent_bytes: u64,
    /// SHA-256 of the optimized model.
    pub optimized_sha256: String,
    /// Its bytes.
    pub optimized_bytes: u64,
}

/// How it was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Version of calib8.
    pub calib8: String,
    /// The order of turns.
    pub order: String,
    /// Seconds for each model in each setting.
    pub seconds: f64,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Kernels of the built-in engine.
    pub isa: String,
    /// Milliseconds that the 99th percentile of latency may be at most in the best setting.
    #[serde(default)]
    pub latency_limit_ms: Option<f64>,
}

/// An engine that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// Which.
    pub engine: EngineName,
    /// Its version, if it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The shared library that it was loaded from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    /// Why rows of it are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A setting in which a model has the most throughput.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The engine.
    pub engine: EngineName,
    /// The model.
    pub model: ModelRole,
    /// Streams.
    pub streams: usize,
    /// Threads of each stream.
    #[serde(default = "one")]
    pub threads: usize,
    /// Batch size.
    pub batch: usize,
    /// Images per second.
    pub fps: f64,
    /// 99th percentile of latency, in milliseconds.
    pub p99_ms: f64,
    /// Whether that is within the limit; false if no setting is, and this one is the quickest.
    pub within_limit: bool,
}

/// On which share of some images of the dataset both models predict the same class, with its 95 % interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The engine that ran both.
    pub engine: EngineName,
    /// Images, spread evenly over the dataset.
    pub images: u64,
    /// The share, 0 to 1.
    pub agreement: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Best {
    /// In what it was measured.
    pub fn setting(&self) -> Setting {
        Setting { streams: self.streams, threads: self.threads, batch: self.batch }
    }
}

/// What it takes to have a model ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadRecord {
    /// The engine.
    pub engine: EngineName,
    /// The model.
    pub model: ModelRole,
    /// Milliseconds from the file in memory to the end of the first inference.
    pub load_ms: f64,
    /// The most memory that loading and a few inferences added to a fresh process.
    pub peak_rss_bytes: u64,
}

/// Number formats of both models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Formats {
    /// The parent.
    pub parent: Vec<FormatShare>,
    /// The optimized model; the layers of its format `border` are the transitions.
    pub optimized: Vec<FormatShare>,
}

impl Performance {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or is no `performance.json`.
    pub fn read(path: &Path) -> Result<Performance, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let found: Performance = serde_json::from_slice(&bytes)
            .map_err(|e| format!("{}: is no performance.json: {e}", path.display()))?;
        if !found.schema.is_empty() && found.schema != SCHEMA {
            return Err(format!(
                "{}: has the schema '{}', expected '{SCHEMA}'; a newer calib8 may have made it",
                path.display(),
                found.schema
            ));
        }
        Ok(found)
    }

    /// What is known of an engine.
    pub fn record(&self, engine: EngineName) -> Option<&EngineRecord> {
        self.engines.iter().find(|record| record.engine == engine)
    }

    /// Puts in what is known of an engine, in the place of what was known.
    pub fn put_record(&mut self, record: EngineRecord) {
        match self.engines.iter_mut().find(|known| known.engine == record.engine) {
            Some(known) => *known = record,
            None => self.engines.push(record),
        }
    }

    /// Drops what was measured on engines whose library is another one by now, so that one table never holds two
    /// versions under one name. `now` gives what there is of an engine; an engine that is gone keeps its results,
    /// with the version that they were measured on.
    pub fn forget_other_libraries(&mut self, now: &dyn Fn(EngineName) -> Option<EngineRecord>) {
        let mut measured: Vec<EngineName> = self.speedup.iter().map(|s| s.engine).collect();
        measured.extend(self.engines.iter().map(|record| record.engine));
        measured.sort_unstable_by_key(|engine| engine.name());
        measured.dedup();
        for engine in measured {
            let same = |found: EngineRecord| {
                self.record(engine)
                    .is_some_and(|known| (&known.version, &known.library) == (&found.version, &found.library))
            };
            if now(engine).is_none_or(same) {
                continue;
            }
            self.rows.retain(|row| row.engine != engine);
            self.speedup.retain(|speedup| speedup.engine != engine);
            self.loads.retain(|load| load.engine != engine);
            self.best.retain(|best| best.engine != engine);
            self.agreement.retain(|agreement| agreement.engine != engine);
            self.engines.retain(|record| record.engine != engine);
            if engine == EngineName::Builtin {
                self.layers.clear();
                self.formats = None;
            }
            self.complete = false;
        }
    }

    /// Whether both models have a row in this setting.
    pub fn has(&self, engine: EngineName, setting: Setting) -> bool {
        self.speedup.iter().any(|s| (s.engine, s.setting()) == (engine, setting))
    }

    /// Fills in [`Performance::best`] under a limit for the 99th percentile of latency.
    pub fn choose_best(&mut self, limit_ms: Option<f64>) {
        let mut seen = Vec::new();
        for row in &self.rows {
            if !seen.contains(&(row.engine, row.model)) {
                seen.push((row.engine, row.model));
            }
        }
        let best = |(engine, model): (EngineName, ModelRole)| {
            let rows = || self.rows.iter().filter(move |r| r.engine == engine && r.model == model);
            let fits = |r: &&PerformanceRow| limit_ms.is_none_or(|limit| r.latency_ms.p99 <= limit);
            let most = rows().filter(fits).max_by(|a, b| a.fps.median.total_cmp(&b.fps.median));
            let quickest = || rows().min_by(|a, b| a.latency_ms.p99.total_cmp(&b.latency_ms.p99));
            let (row, within_limit) = match most {
                Some(row) => (row, true),
                None => (quickest()?, false),
            };
            Some(Best {
                engine,
                model,
                streams: row.streams,
                threads: row.threads,
                batch: row.batch,
                fps: row.fps.median,
                p99_ms: row.latency_ms.p99,
                within_limit,
            })
        };
        self.best = seen.into_iter().filter_map(best).collect();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::run::summary::{Interval, Latency};

    fn row(streams: usize, batch: usize, fps: f64, p99: f64) -> PerformanceRow {
        PerformanceRow {
            engine: EngineName::Builtin,
            model: ModelRole::Optimized,
            streams,
            threads: 1,
            batch,
            fps: Interval { median: fps, low: fps, high: fps },
            latency_ms: Latency { p50: p99, p90: p99, p99 },
            precision: "int8".into(),
            precisions: BTreeMap::new(),
        }
    }

    #[test]
    fn the_best_setting_keeps_the_limit() {
        let rows = vec![row(1, 1, 100.0, 10.0), row(2, 1, 190.0, 11.0), row(2, 4, 220.0, 40.0)];
        let mut found = Performance { rows, ..Performance::default() };
        let mut best = |limit| {
            found.choose_best(limit);
            let [best] = &found.best[..] else { panic!("{:?}", found.best) };
            (best.streams, best.batch, best.within_limit)
        };
        assert_eq!(best(None), (2, 4, true));
        assert_eq!(best(Some(20.0)), (2, 1, true));
        assert_eq!(best(Some(1.0)), (1, 1, false), "the quickest, where none is quick enough");
    }

    #[test]
    fn results_of_another_version_of_a_library_are_measured_again() {
        let record = |engine, version: &str| EngineRecord {
            engine,
            version: Some(version.into()),
            library: None,
            error: None,
        };
        let foreign = |mut row: PerformanceRow| {
            row.engine = EngineName::Onnxruntime;
            row
        };
        let found = Performance {
            engines: vec![record(EngineName::Builtin, "1"), record(EngineName::Onnxruntime, "1.26.0")],
            rows: vec![row(1, 1, 100.0, 10.0), foreign(row(1, 1, 90.0, 11.0))],
            complete: true,
            ..Performance::default()
        };
        let after = |version: Option<&str>| {
            let mut found = found.clone();
            found.forget_other_libraries(&|engine| match engine {
                EngineName::Builtin => Some(record(engine, "1")),
                _ => version.map(|version| record(engine, version)),
            });
            (found.rows.len(), found.engines.len(), found.complete)
        };
        assert_eq!(after(Some("1.26.0")), (2, 2, true));
        assert_eq!(after(Some("1.32.0")), (1, 1, false), "another version");
        assert_eq!(after(None), (2, 2, true), "it is gone, what was measured stays");
    }

    #[test]
    fn files_of_older_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("performance.json");
        std::fs::write(
            &path,
            r#"{"rows": [{"engine": "builtin", "model": "parent", "streams": 1, "threads": 1, "batch": 1,
                "fps": {"median": 1.0, "low": 0.5, "high": 1.5},
                "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0}}],
                "speedup": [], "warnings": [{"kind": "not_pinned"}], "conditions": null, "layers": []}"#,
        )
        .unwrap();
        let found = Performance::read(&path).unwrap();
        assert_eq!((found.rows.len(), found.warnings.len(), found.complete), (1, 1, false));
        std::fs::write(&path, r#"{"schema": "calib8/performance/9"}"#).unwrap();
        assert!(Performance::read(&path).is_err());
        let said = Performance::read(&folder.path().join("none")).unwrap_err();
        assert!(said.contains("none"), "{said}");
    }
}
