//! Throughput and latency over streams × batch, and the best point under a latency limit.

use crate::run::plan::EngineName;
use crate::run::summary::{ModelRole, PerformanceRow};

/// Limits that the user goes through, in milliseconds.
const LIMITS: [f64; 22] = [
    0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0, 150.0, 200.0, 300.0,
    500.0, 700.0, 1000.0, 2000.0,
];

/// One engine's settings of one model: a row for each number of streams and threads, a column for each batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings<'a> {
    /// Numbers of streams and of the threads of each, ascending.
    pub streams: Vec<(usize, usize)>,
    /// Batch sizes, ascending.
    pub batch: Vec<usize>,
    /// By streams, then by batch; `None` where it was not measured.
    pub cells: Vec<Vec<Option<&'a PerformanceRow>>>,
}

/// The engines that were measured, in the order of the file.
pub fn engines(rows: &[PerformanceRow]) -> Vec<EngineName> {
    let mut engines = Vec::new();
    for row in rows {
        if !engines.contains(&row.engine) {
            engines.push(row.engine);
        }
    }
    engines
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

impl<'a> Settings<'a> {
    /// Of one model in one engine.
    pub fn new(rows: &'a [PerformanceRow], engine: EngineName, model: ModelRole) -> Settings<'a> {
        let those: Vec<&PerformanceRow> =
            rows.iter().filter(|row| row.engine == engine && row.model == model).collect();
        let streams = sorted(those.iter().map(|row| (row.streams, row.threads)));
        let batch = sorted(those.iter().map(|row| row.batch));
        let cell = |s: (usize, usize), b: usize| {
            those.iter().copied().find(|row| (row.streams, row.threads) == s && row.batch == b)
        };
        let cells = streams.iter().map(|s| batch.iter().map(|b| cell(*s, *b)).collect()).collect();
        Settings { streams, batch, cells }
    }

    /// All that were measured.
    pub fn all(&self) -> impl Iterator<Item = &'a PerformanceRow> {
        self.cells.iter().flatten().filter_map(|cell| *cell)
    }

    /// The highest throughput whose latency (p90) keeps to the limit, in milliseconds.
    pub fn best(&self, limit: Option<f64>) -> Option<&'a PerformanceRow> {
        let fits = |row: &&PerformanceRow| limit.is_none_or(|limit| row.latency_ms.p90 <= limit);
        self.all().filter(fits).max_by(|a, b| a.fps.median.total_cmp(&b.fps.median))
    }

    /// The next stricter limit, or looser one; `None` is no limit. Limits that nothing or everything keeps to
    /// are passed over, but for one of the former.
    pub fn moved(&self, limit: Option<f64>, looser: bool) -> Option<f64> {
        let latencies = || self.all().map(|row| row.latency_ms.p90);
        let highest = latencies().fold(0.0, f64::max);
        let lowest = latencies().fold(f64::INFINITY, f64::min);
        if looser {
            let limit = limit?;
            LIMITS.into_iter().find(|next| *next > limit && *next < highest)
        } else {
            let below = limit.unwrap_or(highest);
            let next = LIMITS.into_iter().rfind(|next| *next < below);
            match (next, limit) {
                (Some(next), _) if limit.is_none_or(|limit| limit >= lowest) => Some(next),
                (_, limit) => limit,
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::run::summary::{Interval, Latency};

    pub(super) fn row(streams: usize, batch: usize, fps: f64, p90: f64) -> PerformanceRow {
        PerformanceRow {
            engine: EngineName::Builtin,
            model: ModelRole::Optimized,
            streams,
            threads: 1,
            batch,
            fps: Interval { median: fps, low: fps, high: fps },
            latency_ms: Latency { p50: p90, p90, p99: p90 },
            precision: String::new(),
            precisions: Default::default(),
        }
    }

    fn rows() -> Vec<PerformanceRow> {
        vec![row(2, 1, 150.0, 6.5), row(1, 1, 100.0, 4.0), row(1, 4, 120.0, 16.0), row(2, 4, 170.0, 31.0)]
    }

    #[test]
    fn settings_lie_in_order() {
        let rows = rows();
        let settings = Settings::new(&rows, EngineName::Builtin, ModelRole::Optimized);
        assert_eq!((&settings.streams[..], &settings.batch[..]), (&[(1, 1), (2, 1)][..], &[1, 4][..]));
        assert_eq!(settings.cells[1][0].unwrap().fps.median, 150.0);
        assert_eq!(Settings::new(&rows, EngineName::Openvino, ModelRole::Optimized).best(None), None);
    }

    #[test]
    fn the_best_point_keeps_to_the_limit() {
        let rows = rows();
        let settings = Settings::new(&rows, EngineName::Builtin, ModelRole::Optimized);
        let best = |limit| settings.best(limit).map(|row| (row.streams, row.batch));
        assert_eq!(best(None), Some((2, 4)));
        assert_eq!(best(Some(20.0)), Some((2, 1)));
        assert_eq!(best(Some(5.0)), Some((1, 1)));
        assert_eq!(best(Some(3.0)), None);
    }

    #[test]
    fn the_limit_goes_from_what_all_keep_to_what_none_does_and_back() {
        let rows = rows();
        let settings = Settings::new(&rows, EngineName::Builtin, ModelRole::Optimized);
        let mut limit = None;
        let mut seen = Vec::new();
        for _ in 0..9 {
            limit = settings.moved(limit, false);
            seen.push(limit.unwrap());
        }
        assert_eq!(seen, [30.0, 20.0, 15.0, 10.0, 7.0, 5.0, 3.0, 3.0, 3.0]);
        let mut back = Vec::new();
        while let Some(next) = settings.moved(limit, true) {
            back.push(next);
            limit = Some(next);
        }
        assert_eq!(back, [5.0, 7.0, 10.0, 15.0, 20.0, 30.0]);
        assert_eq!(settings.moved(None, true), None);
    }
}
