//! Streams: threads, each pinned to a core and with a runner of its own, that run the same model at
//! the same time and take the time of every inference.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use super::{MeasureError, host};
use crate::engine::{EngineError, Runner, Session, Value};

/// A stream counts as having had its core for 1 ÷ this of a turn at least.
const LEAST_OWN: u32 = 50;

/// A model to be timed.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// How messages call it, such as `the parent`.
    pub name: &'static str,
    /// The loaded model.
    pub session: &'a dyn Session,
    /// What it is fed, over and over.
    pub inputs: &'a [Value],
}

/// How long each stream works in one turn.
#[derive(Debug, Clone, Copy)]
pub enum Span {
    /// At least this long, and at least one timed inference. The first inference finds the other
    /// model's data in the caches: it is not timed, unless it is a quarter of the turn or more.
    For(Duration),
    /// So many inferences over all streams, each of them timed.
    Times(usize),
}

/// What all streams did in one turn.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// Inferences per second of all streams together: the sum of each stream's inferences ÷ its own
    /// time. Dividing by the time of the slowest stream instead would charge a model with long
    /// inferences for streams that had nothing left to begin.
    pub per_second: f64,
    /// Time of each inference, stream by stream, in milliseconds.
    pub latencies_ms: Vec<f64>,
    /// Measuring time, summed over streams.
    pub elapsed: Duration,
    /// As `per_second`, with the time in which a stream waited for a core left out: what the model does when it
    /// has its cores.
    pub own_per_second: f64,
    /// How much of `elapsed` streams were ready to run and had no core.
    pub waited: Duration,
    /// Share (0 to 1) of the time that the host of a virtual machine gave to somebody else; filled in by who
    /// watches the cores.
    pub stolen: f64,
    /// Whether every stream stayed on the core it was given.
    pub pinned: bool,
}

/// Running streams that wait for orders; made by [`with_streams`].
pub struct Streams {
    orders: Vec<Sender<(usize, Span)>>,
    reports: Vec<Receiver<Result<StreamTurn, EngineError>>>,
    names: Vec<&'static str>,
}

struct StreamTurn {
    latencies_ms: Vec<f64>,
    elapsed: Duration,
    waited: Duration,
    pinned: bool,
}

/// Starts `count` streams, each with a runner for every subject, and hands them to `body`. Stream
/// `i` is pinned to core `i` of `cores` (from the front again when there are more streams); with no
/// cores given, streams run where their creator may. All have ended when this returns.
///
/// # Errors
/// Those of `body`; a runner or a thread can't be had; a stream's thread panicked.
pub fn with_streams<T>(
    subjects: &[Subject<'_>],
    count: usize,
    cores: &[usize],
    body: impl FnOnce(&mut Streams) -> Result<T, MeasureError>,
) -> Result<T, MeasureError> {
    with_teams(subjects, count, 1, cores, body)
}

/// As [`with_streams`], with `threads` threads that compute each inference of a stream together. Stream `i` has the
/// cores from `i · threads` on, one for each of its threads.
///
/// # Errors
/// As [`with_streams`].
pub fn with_teams<T>(
    subjects: &[Subject<'_>],
    count: usize,
    threads: usize,
    cores: &[usize],
    body: impl FnOnce(&mut Streams) -> Result<T, MeasureError>,
) -> Result<T, MeasureError> {
    let width = threads;
    let barrier = &Barrier::new(count);
    let died = |stream, what: String| MeasureError::Stream {
        stream,
        model: subjects.first().map_or("no model", |s| s.name),
        what,
    };
    std::thread::scope(|scope| {
        let mut streams = Streams {
            orders: Vec::new(),
            reports: Vec::new(),
            names: subjects.iter().map(|s| s.name).collect(),
        };
        let mut threads = Vec::new();
        for stream in 0..count {
            let mut seats = Vec::new();
            let own: Vec<usize> = cores.iter().copied().cycle().skip(stream * width).take(width).collect();
            for subject in subjects {
                let own = own.clone();
                let begin = move |number: usize| {
                    if let Some(core) = own.get(number) {
                        // A worker that can't be pinned runs where the system puts it.
                        let _ = host::pin_to(*core);
                    }
                };
                let spawned = subject.session.spawn_team(width, Arc::new(begin));
                let runner =
                    spawned.map_err(|source| MeasureError::Engine { model: subject.name, source })?;
                seats.push((runner, subject.inputs));
            }
            let (order, orders) = channel();
            let (report, reports) = channel();
            // Threads of an engine's own run where the stream's may.
            let loose = subjects.iter().any(|subject| subject.session.places_threads());
            let places = if loose { own } else { own.into_iter().take(1).collect() };
            let work = move || serve(&places, seats, barrier, &orders, &report);
            let thread = std::thread::Builder::new().name(format!("stream {stream}"));
            threads.push(thread.spawn_scoped(scope, work).map_err(|e| died(stream, e.to_string()))?);
            streams.orders.push(order);
            streams.reports.push(reports);
        }
        let result = body(&mut streams);
        drop(streams);
        // All are joined: the scope itself would panic over one that is left.
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        if let Some(stream) = ends.iter().position(|end| end.is_err()) {
            return Err(died(stream, "its thread panicked".into()));
        }
        result
    })
}

impl Streams {
    /// All streams run the subject of this number for `span`.
    ///
    /// # Errors
    /// The engine failed in a stream, or the stream's thread is gone; after the latter, all further turns
    /// fail.
    pub fn turn(&mut self, subject: usize, span: Span) -> Result<Turn, MeasureError> {
        let model = self.names.get(subject).copied().unwrap_or("no model");
        let count = self.orders.len();
        if count == 0 {
            let what = "a stream's thread ended in an earlier turn".into();
            return Err(MeasureError::Stream { stream: 0, model, what });
        }
        for (stream, order) in self.orders.iter().enumerate() {
            let span = match span {
                Span::Times(n) => Span::Times(n / count + usize::from(stream < n % count)),
                span => span,
            };
            // A stream that is gone shows when its report is missing.
            let _ = order.send((subject, span));
        }
        let mut turn = Turn { pinned: true, ..Turn::default() };
        let mut failure = None;
        for (stream, report) in self.reports.iter().enumerate() {
            match report.recv() {
                Ok(Ok(part)) => {
                    let inferences = part.latencies_ms.len() as f64;
                    turn.per_second += inferences / part.elapsed.as_secs_f64();
                    // The system's accounts of waiting are not exact to the last microsecond.
                    let own = part.elapsed.saturating_sub(part.waited).max(part.elapsed / LEAST_OWN);
                    turn.own_per_second += inferences / own.as_secs_f64();
                    turn.latencies_ms.extend(part.latencies_ms);
                    turn.elapsed += part.elapsed;
                    turn.waited += part.waited;
                    turn.pinned &= part.pinned;
                }
                Ok(Err(source)) => failure = Some(MeasureError::Engine { model, source }),
                Err(_) => {
                    failure =
                        Some(MeasureError::Stream { stream, model, what: "its thread has ended".into() });
                }
            }
        }
        if let Some(MeasureError::Stream { .. }) = failure {
            // In another turn the streams that are left would wait for it for ever.
            self.orders.clear();
        }
        failure.map_or(Ok(turn), Err)
    }
}

/// The life of one stream's thread.
fn serve(
    cores: &[usize],
    mut seats: Vec<(Box<dyn Runner>, &[Value])>,
    barrier: &Barrier,
    orders: &Receiver<(usize, Span)>,
    reports: &Sender<Result<StreamTurn, EngineError>>,
) {
    let pinned = cores.is_empty() || host::keep_to(cores);
    while let Ok((subject, span)) = orders.recv() {
        barrier.wait();
        let Some((runner, inputs)) = seats.get_mut(subject) else { break };
        let turn = take_turn(runner.as_mut(), inputs, span).map(|turn| StreamTurn { pinned, ..turn });
        if reports.send(turn).is_err() {
            break;
        }
    }
}

fn take_turn(runner: &mut dyn Runner, inputs: &[Value], span: Span) -> Result<StreamTurn, EngineError> {
    let milliseconds = |time: Duration| 1e3 * time.as_secs_f64();
    let mut waited_before = host::waited();
    let mut latencies_ms = Vec::with_capacity(1_024);
    let mut started = Instant::now();
    match span {
        Span::For(length) => {
            drop(runner.run(inputs)?);
            let first = started.elapsed();
            if first >= length / 4 {
                latencies_ms.push(milliseconds(first));
            } else {
                waited_before = host::waited();
                started = Instant::now();
            }
            while latencies_ms.is_empty() || started.elapsed() < length {
                let begin = Instant::now();
                let outputs = runner.run(inputs)?;
                latencies_ms.push(milliseconds(begin.elapsed()));
                drop(outputs);
            }
        }
        Span::Times(count) => {
            latencies_ms.reserve(count);
            for _ in 0..count {
                let begin = Instant::now();
                let outputs = runner.run(inputs)?;
                latencies_ms.push(milliseconds(begin.elapsed()));
                drop(outputs);
            }
        }
    }
    let elapsed = started.elapsed();
    let waited = host::waited().unwrap_or_default().saturating_sub(waited_before.unwrap_or_default());
    Ok(StreamTurn { latencies_ms, elapsed, waited, pinned: true })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::measure::fake::{Fake, Mishap};

    fn subject<'a>(session: &'a Fake, name: &'static str) -> Subject<'a> {
        Subject { name, session, inputs: &[] }
    }

    #[test]
    fn inferences_are_shared_out_to_the_streams() {
        let session = Fake::default();
        for streams in [1, 2, 3] {
            let times = with_streams(&[subject(&session, "the model")], streams, &[], |s| {
                Ok([5, 1, 0].map(|n| s.turn(0, Span::Times(n)).unwrap().latencies_ms.len()))
            });
            assert_eq!(times.unwrap(), [5, 1, 0]);
        }
        assert_eq!(session.runs(), 3 * 6);
        assert_eq!(session.spawned(), 6, "one runner per stream");
    }

    #[test]
    fn a_timed_turn_has_at_least_one_inference() {
        let session = Fake::default();
        let turn =
            with_streams(&[subject(&session, "the model")], 2, &[], |s| s.turn(0, Span::For(Duration::ZERO)));
        let turn = turn.unwrap();
        assert!(turn.latencies_ms.len() >= 2 && turn.per_second > 0.0, "{turn:?}");
    }

    #[test]
    fn an_engine_that_fails_is_named() {
        let (good, bad) = (Fake::default(), Fake::with(Mishap::Error));
        let subjects = [subject(&good, "the parent"), subject(&bad, "the optimized model")];
        let result = with_streams(&subjects, 2, &[], |s| {
            s.turn(0, Span::Times(2))?;
            s.turn(1, Span::Times(2))
        });
        let said = result.unwrap_err().to_string();
        assert!(said.contains("the optimized model") && said.contains("no luck"), "{said}");
    }

    #[test]
    fn a_stream_that_panics_is_an_error_and_stops_nobody() {
        let bad = Fake::with(Mishap::Panic);
        let result =
            with_streams(&[subject(&bad, "the model")], 2, &[], |s| s.turn(0, Span::Times(2)).map(|_| ()));
        assert!(matches!(result, Err(MeasureError::Stream { .. })), "{result:?}");
    }

    #[test]
    fn a_core_that_does_not_exist_is_reported_not_fatal() {
        let session = Fake::default();
        let turn =
            with_streams(&[subject(&session, "the model")], 1, &[100_000], |s| s.turn(0, Span::Times(1)));
        assert!(!turn.unwrap().pinned);
    }
}
