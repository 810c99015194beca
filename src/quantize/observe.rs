//! The FP32 model runs on images, and statistics of its tensors are kept.
//!
//! Memory: one stream and one set of statistics per thread, whatever the number of images.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::{Array3, Axis};

use super::{Placement, QuantizeError, Statistics};
use crate::engine::{Runner, Session, Shown, Value};
use crate::progress::Progress;

/// How to observe.
#[derive(Clone, Copy)]
pub struct ObserveOptions<'a> {
    /// Streams that run at the same time.
    pub threads: usize,
    /// Images in all, those of an earlier part included: for the progress, not a limit.
    pub total: usize,
    /// Images after which the statistics so far are handed out; 0 for never.
    pub checkpoint_every: usize,
    /// Shown the statistics after every image, in parts that nobody has put together: for a look from time to time.
    /// Called by all threads, and must not keep them waiting.
    pub peek: &'a (dyn Fn(&[&Statistics]) + Sync),
}

impl Placement {
    /// The tensors that a session must give out as `extra_outputs` so that [`observe`] sees them.
    pub fn observed(&self, session_inputs: &[String], session_outputs: &[String]) -> Vec<String> {
        let given = |name: &String| session_inputs.contains(name) || session_outputs.contains(name);
        self.tensors.iter().map(|t| t.name.clone()).filter(|name| !given(name)).collect()
    }
}

/// Where the values of one tensor are found in an inference.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    Input,
    Output(usize),
}

/// Runs `session` on every image (CHW, preprocessed) and adds to `start`, the statistics of the
/// images before these (empty at first). `checkpoint` is called after every
/// [`ObserveOptions::checkpoint_every`] images with the statistics of exactly the images so far, so
/// that a later call with the rest of the images gives the same bits as one call with all.
///
/// The session must give out the tensors of [`Placement::observed`]. The result does not depend on
/// the number of threads.
///
/// # Errors
/// A tensor is not given out, an image has another shape than the input, inference fails, there
/// was no image, or the user asked to stop.
pub fn observe(
    session: &dyn Session,
    placement: &Placement,
    images: impl Iterator<Item = Array3<f32>> + Send,
    start: Statistics,
    options: ObserveOptions<'_>,
    progress: &dyn Progress,
    mut checkpoint: impl FnMut(&Statistics),
) -> Result<Statistics, QuantizeError> {
    let sources = sources(session, placement)?;
    let threads = options.threads.max(1);
    let mut runners: Vec<Box<dyn Runner>> =
        (0..threads).map(|_| session.spawn()).collect::<Result<_, _>>()?;
    let images = Mutex::new(images);
    let done = AtomicU64::new(start.images());
    let mut statistics = start;
    loop {
        let limit = match options.checkpoint_every {
            0 => u64::MAX,
            n => statistics.images().saturating_add(n as u64),
        };
        let (before, peek) = (&statistics, options.peek);
        let shared = Shared {
            session,
            placement,
            sources: &sources,
            images: &images,
            limit,
            done: &done,
            before,
            peek,
        };
        let parts: Vec<Result<Statistics, QuantizeError>> = std::thread::scope(|scope| {
            let shared = &shared;
            let handles: Vec<_> = runners
                .iter_mut()
                .map(|runner| scope.spawn(move || shared.work(runner.as_mut(), options.total, progress)))
                .collect();
            handles.into_iter().map(|h| h.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
        });
        for part in parts {
            statistics.merge(&part?);
        }
        if progress.cancelled() {
            checkpoint(&statistics);
            return Err(QuantizeError::Cancelled { images: statistics.images() });
        }
        if statistics.images() < limit {
            break;
        }
        checkpoint(&statistics);
    }
    if statistics.images() == 0 { Err(QuantizeError::NoImages) } else { Ok(statistics) }
}

fn sources(session: &dyn Session, placement: &Placement) -> Result<Vec<Source>, QuantizeError> {
    let find = |name: &String| {
        if session.inputs().iter().any(|i| i.name == *name) {
            return Ok(Source::Input);
        }
        let at = session.outputs().iter().position(|o| o.name == *name);
        at.map(Source::Output).ok_or_else(|| QuantizeError::MissingStatistics { tensor: name.clone() })
    };
    placement.tensors.iter().map(|t| find(&t.name)).collect()
}

/// What all threads use while they observe up to `limit` images.
struct Shared<'a, I> {
    session: &'a dyn Session,
    placement: &'a Placement,
    sources: &'a [Source],
    images: &'a Mutex<I>,
    limit: u64,
    done: &'a AtomicU64,
    before: &'a Statistics,
    peek: &'a (dyn Fn(&[&Statistics]) + Sync),
}

impl<I: Iterator<Item = Array3<f32>>> Shared<'_, I> {
    fn work(
        &self,
        runner: &mut dyn Runner,
        total: usize,
        progress: &dyn Progress,
    ) -> Result<Statistics, QuantizeError> {
        let mut statistics = Statistics::default();
        while let Some((index, image)) = self.next(progress) {
            let shape = self.session.inputs().first().map_or(&[][..], |i| &i.shape);
            if image.shape() != shape.get(1..).unwrap_or(&[]) {
                return Err(QuantizeError::Shape {
                    index,
                    got: image.shape().to_vec(),
                    input: self.session.inputs().first().map_or(String::new(), |i| i.name.clone()),
                    expected: shape.to_vec(),
                });
            }
            let input = Value::from(image.insert_axis(Axis(0)).into_dyn());
            let mut see = |source: Source, seen: Shown<'_>| {
                let tensors = self.placement.tensors.iter().zip(self.sources);
                for (tensor, _) in tensors.filter(|(_, from)| **from == source) {
                    statistics.entry(&tensor.name).observe(&seen, tensor.channel_axis);
                }
            };
            see(Source::Input, input.shown());
            runner
                .watch(std::slice::from_ref(&input), &mut |number, seen| see(Source::Output(number), seen))?;
            statistics.count_image();
            (self.peek)(&[self.before, &statistics]);
            progress.step(index as usize + 1, total, None);
        }
        Ok(statistics)
    }

    /// The next image and its number, unless the limit is reached or the user asked to stop.
    fn next(&self, progress: &dyn Progress) -> Option<(u64, Array3<f32>)> {
        let mut images = self.images.lock().unwrap_or_else(|e| e.into_inner());
        let index = self.done.load(Ordering::Relaxed);
        if index >= self.limit || progress.cancelled() {
            return None;
        }
        let image = images.next()?;
        self.done.store(index + 1, Ordering::Relaxed);
        Some((index, image))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::engine::builtin::Builtin;
    use crate::engine::{Engine, LoadOptions};
    use crate::progress::Silent;
    use crate::quantize::testing::Builder;
    use crate::quantize::{Options, place};

    fn session() -> (Placement, Box<dyn Session>) {
        let mut b = Builder::new(&[1, 2, 4, 4]);
        let x = b.conv("a", "input", 2, 3, 3, 1);
        let x = b.op("Relu", "relu", &[&x]);
        let y = b.conv("b", &x, 3, 2, 1, 1);
        let model = b.model(&y, &[1, 2, 4, 4]);
        let placement = place(&model, &Options::default()).unwrap();
        let extra_outputs = placement.observed(&["input".into()], std::slice::from_ref(&y));
        assert_eq!(extra_outputs, [x]);
        let session = Builtin.load(&model, &LoadOptions { extra_outputs, ..LoadOptions::default() }).unwrap();
        (placement, session)
    }

    fn image(seed: usize) -> Array3<f32> {
        Array3::from_shape_fn((2, 4, 4), |(c, y, x)| ((c * 5 + y * 3 + x + seed * 7) % 11) as f32 / 5.0 - 1.0)
    }

    fn options(threads: usize, checkpoint_every: usize) -> ObserveOptions<'static> {
        ObserveOptions { threads, total: 7, checkpoint_every, peek: &|_| {} }
    }

    #[test]
    fn going_on_from_a_checkpoint_gives_the_bits_of_one_run() {
        let (placement, session) = session();
        let mut checkpoints = Vec::new();
        let run = |from: usize, start, options, keep: &mut Vec<Statistics>| {
            let images = (from..7).map(image);
            observe(session.as_ref(), &placement, images, start, options, &Silent, |s| keep.push(s.clone()))
        };
        let whole = run(0, Statistics::default(), options(3, 2), &mut checkpoints).unwrap();
        assert_eq!(checkpoints.iter().map(Statistics::images).collect::<Vec<_>>(), [2, 4, 6]);
        let rest = run(4, checkpoints[1].clone(), options(1, 0), &mut Vec::new()).unwrap();
        assert_eq!(serde_json::to_string(&whole).unwrap(), serde_json::to_string(&rest).unwrap());
        assert_eq!(whole.images(), 7);
        assert!(placement.tensors.iter().all(|t| whole.tensor(&t.name).unwrap().images() == 7));
    }

    #[test]
    fn one_who_peeks_sees_every_image_once_it_is_counted() {
        let (placement, session) = session();
        let seen = Mutex::new(Vec::new());
        let peek = |parts: &[&Statistics]| {
            let images = parts.iter().map(|part| part.images()).sum::<u64>();
            seen.lock().unwrap().push(images);
        };
        let options = ObserveOptions { peek: &peek, ..options(1, 2) };
        let images = (0..7).map(image);
        let start = Statistics::default();
        observe(session.as_ref(), &placement, images, start, options, &Silent, |_| {}).unwrap();
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn an_image_of_another_shape_is_named() {
        let (placement, session) = session();
        let images = [image(0), Array3::zeros((2, 4, 5))].into_iter();
        let start = Statistics::default();
        let error = observe(session.as_ref(), &placement, images, start, options(1, 0), &Silent, |_| {});
        let message = error.err().unwrap().to_string();
        assert_eq!(
            message,
            "image 1 has the shape [2, 4, 5], the input 'input' takes [1, 2, 4, 4]; check preprocess"
        );
    }

    #[test]
    fn no_image_is_an_error() {
        let (placement, session) = session();
        let start = Statistics::default();
        let error =
            observe(session.as_ref(), &placement, std::iter::empty(), start, options(2, 5), &Silent, |_| {});
        assert!(matches!(error, Err(QuantizeError::NoImages)));
    }

    /// Asks to stop after two images.
    struct Impatient(AtomicU64);

    impl Progress for Impatient {
        fn step(&self, done: usize, _: usize, _: Option<&str>) {
            self.0.store(done as u64, Ordering::Relaxed);
        }
        fn warn(&self, _: &str) {}
        fn cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed) >= 2
        }
    }

    #[test]
    fn a_stop_hands_out_what_was_seen() {
        let (placement, session) = session();
        let mut last = None;
        let impatient = Impatient(AtomicU64::new(0));
        let images = (0..7).map(image);
        let start = Statistics::default();
        let error = observe(session.as_ref(), &placement, images, start, options(1, 0), &impatient, |s| {
            last = Some(s.images())
        });
        assert!(matches!(error, Err(QuantizeError::Cancelled { images: 2 })));
        assert_eq!(last, Some(2));
    }
}
