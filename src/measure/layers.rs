//! Where the time goes: each layer of parent and optimized model, in a pass of its own.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::streams::Subject;
use super::{MeasureError, host, stats};
use crate::engine::{Precision, Runner, Session, Value};
use crate::model::csv_field;
use crate::progress::Progress;

/// Runs that are always made, however long they take.
const LEAST_RUNS: usize = 3;
/// More runs than this change no median.
const MOST_RUNS: usize = 1_000;

/// The time of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerTime {
    /// Name of the ONNX node it comes from.
    pub name: String,
    /// What it does, such as `Conv`.
    pub kind: String,
    /// Its number format.
    pub precision: Precision,
    /// Multiply-accumulates of one inference; 0 where that is not the measure.
    pub macs: u64,
    /// Median time over all runs, in microseconds.
    pub median_us: f64,
}

impl LayerTime {
    /// Billions of multiply-accumulates per second; `None` where those are not the measure.
    pub fn gmac_per_s(&self) -> Option<f64> {
        (self.macs > 0 && self.median_us > 0.0).then(|| self.macs as f64 / self.median_us / 1e3)
    }

    fn is_part_of(&self, before: &LayerTime) -> bool {
        let of = |time: &LayerTime| (time.name.clone(), time.kind.clone(), time.precision);
        self.precision == Precision::Int8 && !self.name.is_empty() && of(self) == of(before)
    }
}

/// The same layer in both models, or a layer that only one of them has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Name of the layer.
    pub name: String,
    /// What it does in the parent, or else in the optimized model.
    pub kind: String,
    /// The parent's; `None` where it was added by the optimization, such as a border.
    pub parent: Option<LayerTime>,
    /// The optimized model's; `None` where it went into another layer.
    pub optimized: Option<LayerTime>,
    /// Time in the parent ÷ time in the optimized model; above 1 the layer got faster.
    pub ratio: Option<f64>,
    /// Share (0 to 1) of the parent's time.
    #[serde(default)]
    pub parent_share: Option<f64>,
    /// Share (0 to 1) of the optimized model's time.
    #[serde(default)]
    pub optimized_share: Option<f64>,
    /// Why it did not get faster, where it did not.
    #[serde(default)]
    pub note: Option<String>,
}

impl LayerRow {
    fn new(name: &str, kind: &str) -> LayerRow {
        LayerRow {
            name: name.into(),
            kind: kind.into(),
            parent: None,
            optimized: None,
            ratio: None,
            parent_share: None,
            optimized_share: None,
            note: None,
        }
    }
}

/// Times the layers of one model for `seconds`, at least three runs, on one pinned thread. Layers that
/// never ran, such as constants, are left out.
///
/// The clock is read between layers, so their sum is a little more than an inference takes.
///
/// # Errors
/// The engine failed, or the user stopped.
pub fn profile(
    session: &dyn Session,
    inputs: &[Value],
    seconds: f64,
    progress: &dyn Progress,
) -> Result<Vec<LayerTime>, MeasureError> {
    let subjects = [Subject { name: "the model", session, inputs }];
    Ok(profile_all(&subjects, seconds, progress)?.pop().unwrap_or_default())
}

/// Times the layers of both models for `seconds` together, a run of one after a run of the other.
///
/// # Errors
/// As [`profile`].
pub fn profile_pair(
    parent: (&dyn Session, &[Value]),
    optimized: (&dyn Session, &[Value]),
    seconds: f64,
    progress: &dyn Progress,
) -> Result<(Vec<LayerTime>, Vec<LayerTime>), MeasureError> {
    let subjects = [
        Subject { name: "the parent", session: parent.0, inputs: parent.1 },
        Subject { name: "the optimized model", session: optimized.0, inputs: optimized.1 },
    ];
    let mut both = profile_all(&subjects, seconds, progress)?;
    let optimized = both.pop().unwrap_or_default();
    Ok((both.pop().unwrap_or_default(), optimized))
}

fn profile_all(
    subjects: &[Subject<'_>],
    seconds: f64,
    progress: &dyn Progress,
) -> Result<Vec<Vec<LayerTime>>, MeasureError> {
    let budget = Duration::try_from_secs_f64(seconds).map_err(|_| MeasureError::Setting {
        name: "seconds",
        value: seconds.to_string(),
        expected: "a number of 0 or more",
    })?;
    let (_, cores) = host::observe(Duration::from_millis(100));
    let died = |what: String| MeasureError::Stream { stream: 0, model: "layer times", what };
    // A thread of its own, so that the caller's is not left pinned.
    std::thread::scope(|scope| {
        let work = || {
            if let Some(core) = cores.first() {
                host::pin_to(*core);
            }
            take_times(subjects, budget, progress)
        };
        let thread = std::thread::Builder::new().name("layer times".into());
        let thread = thread.spawn_scoped(scope, work).map_err(|e| died(e.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(died("its thread panicked".into())))
    })
}

/// One model at work: its runner, and for each layer the microseconds of all runs.
struct Bench<'a> {
    subject: &'a Subject<'a>,
    runner: Box<dyn Runner>,
    times: Vec<Duration>,
    runs_us: Vec<Vec<f64>>,
}

fn take_times(
    subjects: &[Subject<'_>],
    budget: Duration,
    progress: &dyn Progress,
) -> Result<Vec<Vec<LayerTime>>, MeasureError> {
    let mut benches = Vec::new();
    for subject in subjects {
        let failed = |source| MeasureError::Engine { model: subject.name, source };
        let mut runner = subject.session.spawn().map_err(failed)?;
        // Caches and allocations settle.
        runner.run(subject.inputs).map_err(failed)?;
        let count = subject.session.layers().len();
        benches.push(Bench {
            subject,
            runner,
            times: vec![Duration::ZERO; count],
            runs_us: vec![Vec::new(); count],
        });
    }
    let start = Instant::now();
    for run in 0..MOST_RUNS {
        for bench in &mut benches {
            if progress.cancelled() {
                return Err(MeasureError::Cancelled);
            }
            bench.run()?;
        }
        let done = run + 1;
        let fits = done as f64 * budget.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-9);
        let expected = (fits as usize).clamp(LEAST_RUNS, MOST_RUNS).max(done);
        progress.step(done, expected, None);
        if done >= expected {
            break;
        }
    }
    Ok(benches.iter().map(Bench::medians).collect())
}

impl Bench<'_> {
    fn run(&mut self) -> Result<(), MeasureError> {
        self.times.fill(Duration::ZERO);
        self.runner
            .profile(self.subject.inputs, &mut self.times)
            .map_err(|source| MeasureError::Engine { model: self.subject.name, source })?;
        for (runs, time) in self.runs_us.iter_mut().zip(&self.times) {
            runs.push(1e6 * time.as_secs_f64());
        }
        Ok(())
    }

    fn medians(&self) -> Vec<LayerTime> {
        let layers = self.subject.session.layers().iter().zip(&self.runs_us);
        let time = |(layer, runs): (&crate::engine::Layer, &Vec<f64>)| LayerTime {
            name: layer.name.clone(),
            kind: layer.kind.clone(),
            precision: layer.precision,
            macs: layer.macs,
            median_us: stats::median(runs),
        };
        let mut times: Vec<LayerTime> = vec![];
        for time in layers.filter(|(_, runs)| runs.iter().any(|us| *us > 0.0)).map(time) {
            match times.last_mut() {
                // An INT8 layer in several steps, such as a product in parts.
                Some(last) if time.is_part_of(last) => {
                    last.macs += time.macs;
                    last.median_us += time.median_us;
                }
                _ => times.push(time),
            }
        }
        times
    }
}

/// Puts the layers of both models side by side. Layers of the same name belong together, the first
/// with the first where a name occurs more than once; what has no counterpart is kept. The order is
/// the parent's; what only the optimized model has follows the layer that it follows there.
pub fn join(parent: &[LayerTime], optimized: &[LayerTime]) -> Vec<LayerRow> {
    let mut rows: Vec<LayerRow> = parent
        .iter()
        .map(|layer| LayerRow { parent: Some(layer.clone()), ..LayerRow::new(&layer.name, &layer.kind) })
        .collect();
    let mut next = 0;
    for layer in optimized {
        match rows.iter().position(|row| row.name == layer.name && row.optimized.is_none()) {
            Some(found) => {
                let row = &mut rows[found];
                row.ratio = row.parent.as_ref().and_then(|p| speedup(p.median_us, layer.median_us));
                row.optimized = Some(layer.clone());
                next = found + 1;
            }
            None => {
                let row =
                    LayerRow { optimized: Some(layer.clone()), ..LayerRow::new(&layer.name, &layer.kind) };
                rows.insert(next, row);
                next += 1;
            }
        }
    }
    let total = |layers: &[LayerTime]| layers.iter().map(|layer| layer.median_us).sum::<f64>();
    let totals = (total(parent), total(optimized));
    let share = |time: &Option<LayerTime>, total: f64| {
        time.as_ref().filter(|_| total > 0.0).map(|time| time.median_us / total)
    };
    for row in &mut rows {
        row.parent_share = share(&row.parent, totals.0);
        row.optimized_share = share(&row.optimized, totals.1);
    }
    rows
}

/// `None` where a clock was too coarse to see one of the two.
fn speedup(parent_us: f64, optimized_us: f64) -> Option<f64> {
    (parent_us > 0.0 && optimized_us > 0.0).then(|| parent_us / optimized_us)
}

/// The first line of `layers.csv`. Times are medians in microseconds, `macs` multiply-accumulates,
/// `precision` is `fp32`, `int8` or `border`, `speedup` the parent's time ÷ the optimized model's.
/// Where one of the models lacks the layer, its fields and the speed-up are empty. Shares are of the
/// model's time, from 0 to 1, rates in 10⁹ multiply-accumulates per second; `note` says why a layer did
/// not get faster.
pub const CSV_HEADER: &str = "name,parent_kind,parent_precision,parent_macs,parent_us,\
                              optimized_kind,optimized_precision,optimized_macs,optimized_us,speedup,\
                              parent_share,optimized_share,parent_gmac_per_s,optimized_gmac_per_s,note";

/// Writes rows as RFC 4180 says: CRLF at each line's end, fields quoted where they must be.
///
/// # Errors
/// Those of `out`.
pub fn write_csv(out: &mut dyn Write, rows: &[LayerRow]) -> io::Result<()> {
    write!(out, "{CSV_HEADER}\r\n")?;
    for row in rows {
        let mut fields = vec![csv_field(&row.name)];
        for side in [&row.parent, &row.optimized] {
            fields.extend(side.as_ref().map_or_else(Default::default, |layer| {
                let precision = layer.precision.name().to_string();
                [csv_field(&layer.kind), precision, layer.macs.to_string(), layer.median_us.to_string()]
            }));
        }
        let rate = |time: &Option<LayerTime>| time.as_ref().and_then(LayerTime::gmac_per_s);
        let numbers =
            [row.ratio, row.parent_share, row.optimized_share, rate(&row.parent), rate(&row.optimized)];
        fields.extend(numbers.map(|number| number.map_or_else(String::new, |number| number.to_string())));
        fields.push(csv_field(row.note.as_deref().unwrap_or_default()));
        write!(out, "{}\r\n", fields.join(","))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::measure::fake::{Fake, Mishap};
    use crate::progress::Silent;

    fn layer(name: &str, median_us: f64) -> LayerTime {
        LayerTime { name: name.into(), kind: "Conv".into(), precision: Precision::Int8, macs: 12, median_us }
    }

    #[test]
    fn medians_per_layer_of_both_models() {
        let parent = Fake::with_layers(&[("a", 40), ("constant", 0), ("b", 10)]);
        let optimized = Fake::with_layers(&[("a", 8)]);
        let (p, o) = profile_pair((&parent, &[]), (&optimized, &[]), 0.0, &Silent).unwrap();
        assert_eq!(p.iter().map(|l| l.median_us.round()).collect::<Vec<_>>(), [40.0, 10.0]);
        assert_eq!((o.len(), o[0].macs, o[0].precision), (1, 7, Precision::Fp32));
        assert_eq!(parent.runs(), 1 + LEAST_RUNS);
        assert_eq!(profile(&parent, &[], 0.0, &Silent).unwrap(), p);
    }

    #[test]
    fn failures_name_the_model() {
        let (good, bad) = (Fake::default(), Fake::with(Mishap::Error));
        let said = profile_pair((&good, &[]), (&bad, &[]), 0.0, &Silent).unwrap_err().to_string();
        assert!(said.contains("the optimized model"), "{said}");
        assert!(profile(&good, &[], -1.0, &Silent).is_err());
    }

    #[test]
    fn layers_meet_by_name_and_none_is_lost() {
        let parent = ["conv1", "relu1", "conv2", "twice", "twice"].map(|n| layer(n, 10.0));
        let optimized = [
            layer("quantize", 1.0),
            layer("conv1", 4.0),
            layer("border", 2.0),
            layer("conv2", 5.0),
            layer("twice", 10.0),
        ];
        let rows = join(&parent, &optimized);
        let names: Vec<_> = rows.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["quantize", "conv1", "border", "relu1", "conv2", "twice", "twice"]);
        let ratios: Vec<_> = rows.iter().map(|r| r.ratio).collect();
        assert_eq!(ratios, [None, Some(2.5), None, None, Some(2.0), Some(1.0), None]);
        assert_eq!(rows.iter().filter(|r| r.parent.is_some()).count(), parent.len());
        assert_eq!(rows.iter().filter(|r| r.optimized.is_some()).count(), optimized.len());
    }

    #[test]
    fn a_time_of_zero_has_no_speedup() {
        assert_eq!(join(&[layer("a", 0.0)], &[layer("a", 1.0)])[0].ratio, None);
        assert_eq!(join(&[layer("a", 1.0)], &[layer("a", 0.0)])[0].ratio, None);
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        let rows = join(&[layer("a,\"b\"", 2.5)], &[layer("c", 0.5)]);
        let mut out = Vec::new();
        write_csv(&mut out, &rows).unwrap();
        let expected = format!(
            "{CSV_HEADER}\r\nc,,,,,Conv,int8,12,0.5,,,1,,0.024,\r\n\"a,\"\"b\"\"\",Conv,int8,12,2.5,,,,,,1,,0.0048,,\r\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
