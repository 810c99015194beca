//! Threads that share the work of one inference.
//!
//! Between the steps of an inference lie microseconds, so a waiting thread spins before it sleeps. Work is handed over
//! as a borrowed closure: [`Team::each`] returns only when every thread is done with it.
#![allow(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How often a worker looks for a job before it sleeps: some milliseconds, more than lies between two inferences of a busy
/// stream. To be woken takes longer than many a step does.
const LOOKS_FOR_WORK: usize = 100_000;

/// How often the caller looks whether the others are done before it gives way, in case that they wait for its core.
const LOOKS: usize = 2_000;

/// One closure for all threads, by the number of the thread.
type Work = dyn Fn(usize) + Sync;

/// A pointer to work that lives until all threads are done with it.
#[derive(Clone, Copy)]
struct Handed(*const Work);
// SAFETY: the closure behind it is `Sync`, so a reference may go to other threads.
unsafe impl Send for Handed {}

/// Something in cache lines of its own (of two, which processors fetch together): who waits for it to change does not slow
/// down those who write beside it.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// Counts the jobs; a worker that finds it changed has a job.
    job: Apart<AtomicUsize>,
    /// Workers that are not done with the current job.
    busy: Apart<AtomicUsize>,
    ends: AtomicBool,
    work: Mutex<Option<Handed>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A few threads that work together on one thing at a time.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job is under way.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Team of {}", self.threads())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Team {
    /// A team of the calling thread and `threads − 1` workers. Each worker first calls `begin` with its number, from 1.
    ///
    /// # Errors
    /// A thread can't be had.
    pub fn new(threads: usize, begin: impl Fn(usize) + Send + Clone + 'static) -> std::io::Result<Team> {
        let shared = Arc::new(Shared {
            job: Apart(AtomicUsize::new(0)),
            busy: Apart(AtomicUsize::new(0)),
            ends: AtomicBool::new(false),
            work: Mutex::new(None),
            panic: Mutex::new(None),
        });
        let mut team = Team { shared: shared.clone(), workers: Vec::new(), turn: Mutex::new(()) };
        for number in 1..threads {
            let (shared, begin) = (shared.clone(), begin.clone());
            let serve = move || {
                begin(number);
                serve(&shared, number);
            };
            team.workers.push(std::thread::Builder::new().name(format!("worker {number}")).spawn(serve)?);
        }
        Ok(team)
    }

    /// Threads of the team, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` for each of `parts`, at most as many as threads, at the same time: the first in the calling thread.
    /// Returns when all are done.
    ///
    /// # Panics
    /// There are more parts than threads, or `work` panicked.
    pub fn each<T: Send>(&self, parts: Vec<T>, work: impl Fn(T) + Sync) {
        assert!(parts.len() <= self.threads(), "{} parts for {} threads", parts.len(), self.threads());
        let parts: Vec<Mutex<Option<T>>> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
        self.all(&|thread| {
            if let Some(part) = parts.get(thread).and_then(|part| locked(part).take()) {
                work(part);
            }
        });
    }

    fn all(&self, work: &(dyn Fn(usize) + Sync)) {
        let turn = locked(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Nobody keeps the pointer: `work` is alive until this function returns, which
        // it does, by `Done` even in a panic, only when no worker is busy any more.
        let handed =
            Handed(unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Work>(work) });
        *locked(&shared.work) = Some(handed);
        shared.busy.0.store(self.workers.len(), Ordering::Relaxed);
        shared.job.0.fetch_add(1, Ordering::Release);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        let done = Done(shared);
        work(0);
        drop(done);
        let panicked = locked(&shared.panic).take();
        drop(turn);
        if let Some(payload) = panicked {
            resume_unwind(payload);
        }
    }
}

/// Waits, when dropped, until no worker is busy.
struct Done<'a>(&'a Shared);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut looks = 0;
        while self.0.busy.0.load(Ordering::Acquire) > 0 {
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        self.shared.job.0.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker that panicked outside of work has nothing to say.
            let _ = worker.join();
        }
    }
}

/// The life of a worker.
fn serve(shared: &Shared, number: usize) {
    let mut seen = 0;
    loop {
        let mut looks = 0;
        while shared.job.0.load(Ordering::Acquire) == seen {
            looks += 1;
            // A job that was given since the last look left a token, with which `park` returns at once.
            if looks < LOOKS_FOR_WORK { std::hint::spin_loop() } else { std::thread::park() }
        }
        seen += 1;
        if shared.ends.load(Ordering::Relaxed) {
            return;
        }
        let handed = *locked(&shared.work);
        if let Some(Handed(work)) = handed {
            // SAFETY: `Team::all` keeps the closure alive until `busy` is 0.
            let work = unsafe { &*work };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work(number))) {
                *locked(&shared.panic) = Some(payload);
            }
        }
        shared.busy.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once_before_the_call_returns() {
        for threads in 1..4 {
            let team = Team::new(threads, |_| {}).unwrap();
            assert_eq!(team.threads(), threads);
            let mut numbers = vec![0u64; 100];
            for round in 1..500 {
                let parts: Vec<&mut [u64]> = numbers.chunks_mut(100usize.div_ceil(threads)).collect();
                team.each(parts, |part| part.iter_mut().for_each(|n| *n += 1));
                assert!(numbers.iter().all(|n| *n == round));
            }
        }
    }

    #[test]
    fn a_worker_that_slept_wakes_up() {
        let team = Team::new(2, |_| {}).unwrap();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let mut parts = [false; 2];
            team.each(parts.iter_mut().collect(), |part| *part = true);
            assert_eq!(parts, [true; 2]);
        }
    }

    #[test]
    fn a_panic_in_a_worker_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(2, |_| {}).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| {
            team.each(vec![0, 1], |part| assert_eq!(part, 0, "no luck"));
        }));
        assert!(result.is_err());
        let done = AtomicUsize::new(0);
        team.each(vec![1, 2], |part| {
            done.fetch_add(part, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 3);
    }
}
