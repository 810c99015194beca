//! Decodes and preprocesses ahead of whoever needs the images, so that inference never waits for
//! a JPEG.

use super::decode::decode_held;
use super::{Dataset, ImageError, Preprocess};
use ndarray::Array3;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How far and how fast to work ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefetchOptions {
    /// Threads that decode. With 0, images are decoded on the thread that asks for them.
    pub threads: usize,
    /// Images that may be finished or in work ahead of the reader, at least 1. This, and not the
    /// size of the dataset, bounds the memory.
    pub depth: usize,
}

impl Default for PrefetchOptions {
    /// A thread per core, two images for each.
    fn default() -> PrefetchOptions {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        PrefetchOptions { threads, depth: 2 * threads }
    }
}

/// One image of the dataset as a model input.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Its place in [`Dataset::items`].
    pub index: usize,
    /// Channels, height, width; or why there is none.
    pub image: Result<Array3<f32>, ImageError>,
}

/// The images of a dataset in its order, each exactly once. Made by [`prefetch`]. Dropping it stops
/// and joins the threads: each finishes at most the image that it is at.
#[derive(Debug)]
pub struct Prefetch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Decodes and preprocesses the images of `dataset` on threads, at most `options.depth` of them
/// ahead of the reader.
pub fn prefetch(dataset: &Dataset, preprocess: &Preprocess, options: PrefetchOptions) -> Prefetch {
    let items = Arc::clone(&dataset.items);
    let preprocess = preprocess.clone();
    let load = move |index: usize| load(&items[index].path, &preprocess);
    Prefetch::start(dataset.items.len(), options, Box::new(load))
}

/// The model input of the image at `path`.
///
/// # Errors
/// The image can't be read, or preprocessing can't make an input of it.
pub fn load(path: &Path, preprocess: &Preprocess) -> Result<Array3<f32>, ImageError> {
    // A panic would leave the reader waiting for this image.
    catch_unwind(AssertUnwindSafe(|| {
        let (image, _held) = decode_held(path)?;
        preprocess.tensor(&image).map_err(|source| ImageError::Preprocess { path: path.into(), source })
    }))
    .unwrap_or_else(|_| Err(ImageError::Crash { path: path.into() }))
}

type Load = Box<dyn Fn(usize) -> Result<Array3<f32>, ImageError> + Send + Sync>;

struct Shared {
    len: usize,
    depth: usize,
    load: Load,
    state: Mutex<State>,
    /// An image was finished.
    finished: Condvar,
    /// The reader took an image, or stops.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The next image to begin.
    begun: usize,
    /// The next image to hand out.
    taken: usize,
    ready: BTreeMap<usize, Loaded>,
    stop: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("len", &self.len).field("depth", &self.depth).finish_non_exhaustive()
    }
}

impl Shared {
    /// The state stays whole whatever happens to a thread: it is only changed in single steps.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index to work at, once there is room for it; `None` when there is no more to do.
    fn begin(&self) -> Option<usize> {
        let full = |state: &mut State| {
            !state.stop && state.begun < self.len && state.begun >= state.taken + self.depth
        };
        let mut state = self.room.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if state.stop || state.begun == self.len {
            return None;
        }
        state.begun += 1;
        Some(state.begun - 1)
    }

    fn work(&self) {
        while let Some(index) = self.begin() {
            let image = (self.load)(index);
            self.lock().ready.insert(index, Loaded { index, image });
            self.finished.notify_one();
        }
    }
}

impl Prefetch {
    fn start(len: usize, options: PrefetchOptions, load: Load) -> Prefetch {
        let shared = Arc::new(Shared {
            len,
            depth: options.depth.max(1),
            load,
            state: Mutex::default(),
            finished: Condvar::new(),
            room: Condvar::new(),
        });
        let worker = |number| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("decode-{number}")).spawn(move || shared.work())
        };
        // Fewer threads than asked for, even none, are slower but not wrong.
        let threads = (0..options.threads.min(len)).map_while(|number| worker(number).ok()).collect();
        Prefetch { shared, threads }
    }
}

impl Iterator for Prefetch {
    type Item = Loaded;

    fn next(&mut self) -> Option<Loaded> {
        let mut state = self.shared.lock();
        let index = state.taken;
        if index == self.shared.len {
            return None;
        }
        if self.threads.is_empty() {
            state.taken += 1;
            drop(state);
            return Some(Loaded { index, image: (self.shared.load)(index) });
        }
        let missing = |state: &mut State| !state.ready.contains_key(&index);
        let mut state =
            self.shared.finished.wait_while(state, missing).unwrap_or_else(PoisonError::into_inner);
        let loaded = state.ready.remove(&index);
        state.taken += 1;
        drop(state);
        self.shared.room.notify_one();
        loaded
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.shared.len - self.shared.lock().taken;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Prefetch {}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // A thread ends by itself or by a panic that was reported where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::DatasetSpec;
    use super::*;
    use image::{Rgb, RgbImage};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn options(threads: usize, depth: usize) -> PrefetchOptions {
        PrefetchOptions { threads, depth }
    }

    /// Loads index i as an array that holds i, later ones sooner, and reports each begin.
    fn numbers(len: usize, options: PrefetchOptions, begun: Arc<AtomicUsize>) -> Prefetch {
        Prefetch::start(
            len,
            options,
            Box::new(move |index| {
                begun.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_micros(if index % 3 == 0 { 600 } else { 10 }));
                Ok(Array3::from_elem((1, 1, 1), index as f32))
            }),
        )
    }

    #[test]
    fn images_come_in_order_whatever_finishes_first() {
        for (threads, depth) in [(0, 1), (1, 1), (4, 2), (3, 8), (8, 0)] {
            let mut images = numbers(40, options(threads, depth), Arc::default());
            assert_eq!(images.len(), 40);
            for expected in 0..40 {
                let loaded = images.next().unwrap();
                assert_eq!((loaded.index, loaded.image.unwrap()[[0, 0, 0]]), (expected, expected as f32));
            }
            assert!(images.next().is_none() && images.next().is_none());
        }
    }

    #[test]
    fn no_more_than_depth_images_are_ahead_of_the_reader() {
        let begun = Arc::new(AtomicUsize::new(0));
        let images = numbers(60, options(4, 3), Arc::clone(&begun));
        for (taken, _) in images.enumerate() {
            // This image was handed out, which made room for one more.
            let ahead = begun.load(Ordering::SeqCst) - (taken + 1);
            assert!(ahead <= 3, "{ahead} images ahead after {taken}");
        }
        assert_eq!(begun.load(Ordering::SeqCst), 60);
    }

    #[test]
    fn dropping_it_early_stops_and_joins_the_threads() {
        for taken in [0, 1, 5] {
            let begun = Arc::new(AtomicUsize::new(0));
            let mut images = numbers(1_000_000, options(3, 4), Arc::clone(&begun));
            for _ in 0..taken {
                images.next();
            }
            drop(images);
            // All threads are gone: no one else holds the counter, and it stays where it is.
            assert_eq!(Arc::strong_count(&begun), 1);
            assert!(begun.load(Ordering::SeqCst) <= taken + 4);
        }
    }

    #[test]
    fn an_empty_dataset_ends_at_once() {
        assert!(numbers(0, options(2, 2), Arc::default()).next().is_none());
    }

    #[test]
    fn a_corrupt_image_is_an_error_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        for (name, side) in [("a.png", 8), ("c.png", 3), ("d.png", 6)] {
            RgbImage::from_pixel(side, side, Rgb([9, 0, 0])).save(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("b.png"), b"\x89PNG\r\n\x1a\nbroken").unwrap();
        let dataset =
            Dataset::open(&DatasetSpec { path: dir.path().to_path_buf(), ..Default::default() }).unwrap();
        let preprocess = Preprocess { crop: Some(4), ..Preprocess::default() };
        let loaded: Vec<_> =
            prefetch(&dataset, &preprocess, options(2, 2)).map(|loaded| loaded.image).collect();
        assert_eq!(loaded[0].as_ref().unwrap().shape(), [3, 4, 4]);
        assert!(matches!(&loaded[1], Err(ImageError::Decode { path, .. }) if path.ends_with("b.png")));
        let message = loaded[2].as_ref().unwrap_err().to_string();
        assert!(
            message.contains("c.png: the image is 3x3 pixels, smaller than the crop of 4x4"),
            "{message}"
        );
        assert!(loaded[3].is_ok());
    }
}
