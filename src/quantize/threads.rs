//! Work on images, on threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::QuantizeError;

/// Does `0..count` on threads, each with the state that `start` makes; gives the results in order.
pub(super) fn on_threads<T: Send, W: FnMut(usize) -> Result<T, QuantizeError>>(
    count: usize,
    threads: usize,
    start: impl Fn() -> Result<W, QuantizeError> + Sync,
) -> Result<Vec<T>, QuantizeError> {
    let results: Mutex<Vec<Option<T>>> = Mutex::new((0..count).map(|_| None).collect());
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), QuantizeError> {
        let mut one = start()?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            let result = one(index)?;
            results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
        }
    };
    let ends: Vec<Result<(), QuantizeError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.clamp(1, count.max(1))).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    ends.into_iter().collect::<Result<(), _>>()?;
    Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect())
}
