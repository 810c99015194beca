//! What images may take while they are decoded, all threads together.
//!
//! A header of a few bytes can ask for gigabytes, and a folder may hold a thousand such files, so threads that
//! decode share one account: whoever needs more than is left waits for the others. It belongs to the process,
//! as its memory does. What an image gets does not depend on who decodes at the same time, only on the limit.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that are promised to images at work.
#[derive(Debug)]
struct Account {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug)]
struct State {
    limit: u64,
    used: u64,
}

static ACCOUNT: Account = Account::new();

/// Limits what images that are being decoded take, in bytes, in this process from now on. An image that needs
/// more alone is an error of its own ([`super::ImageError::Memory`]).
pub fn limit_decoding(bytes: u64) {
    ACCOUNT.lock().limit = bytes;
    ACCOUNT.returned.notify_all();
}

/// Takes `bytes` from the account of the process, once they are there.
///
/// # Errors
/// The limit, if it is below `bytes`.
pub(super) fn reserve(bytes: u64) -> Result<Reservation<'static>, u64> {
    ACCOUNT.reserve(bytes)
}

/// Bytes that go back when this is dropped.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    account: &'a Account,
    bytes: u64,
}

impl Account {
    const fn new() -> Account {
        Account { state: Mutex::new(State { limit: u64::MAX, used: 0 }), returned: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, bytes: u64) -> Result<Reservation<'_>, u64> {
        // Nobody waits while holding a part, so that whoever works gives back what it has.
        let full = |state: &mut State| bytes <= state.limit && bytes > state.limit.saturating_sub(state.used);
        let mut state = self.returned.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if bytes > state.limit {
            return Err(state.limit);
        }
        state.used += bytes;
        Ok(Reservation { account: self, bytes })
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.account.lock().used -= self.bytes;
        self.account.returned.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn threads_together_stay_within_the_limit_and_all_get_their_turn() {
        let account = Account::new();
        account.lock().limit = 100;
        let (held, most, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..6u64 {
                let (account, held, most, done) = (&account, &held, &most, &done);
                scope.spawn(move || {
                    for turn in 0..50 {
                        let bytes = 1 + (thread * 37 + turn * 11) % 100;
                        let reservation = account.reserve(bytes).unwrap();
                        most.fetch_max(held.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                        std::thread::yield_now();
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        drop(reservation);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 100, "{most:?}");
        assert_eq!((done.load(Ordering::SeqCst), account.lock().used), (300, 0));
    }

    #[test]
    fn more_than_the_limit_is_refused_at_once() {
        let account = Account::new();
        account.lock().limit = 10;
        let _all = account.reserve(10).unwrap();
        assert_eq!(account.reserve(11).unwrap_err(), 10);
    }
}
