//! Ctrl-C and SIGTERM: the first asks the work to stop between two items, the second ends at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a run that was stopped by its user.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Whether the user asked to stop. Clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
    late: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens to the signals of this process from now on.
    ///
    /// # Errors
    /// The system gives no thread or signal handler.
    pub fn install() -> io::Result<Self> {
        let interrupt = Interrupt::default();
        let flag = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (ctrl_c, terminate) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(listen(flag, ctrl_c, terminate)))?;
        Ok(interrupt)
    }

    /// As [`Interrupt::install`], and SIGUSR1 asks to stop because the time that a scheduler grants is nearly up.
    ///
    /// # Errors
    /// As [`Interrupt::install`].
    pub fn install_in_task() -> io::Result<Self> {
        let interrupt = Self::install()?;
        let (flag, late) = (interrupt.flag.clone(), interrupt.late.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let mut warned = {
            let _entered = runtime.enter();
            signal(SignalKind::user_defined1())?
        };
        let listen = async move {
            if warned.recv().await.is_some() {
                late.store(true, Ordering::Relaxed);
                flag.store(true, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("time limit".into()).spawn(move || runtime.block_on(listen))?;
        Ok(interrupt)
    }

    /// Whether it was a time limit that asked to stop.
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// As [`Interrupt::install`], and the hang-up of a terminal is no longer heard: for a worker that
    /// outlives the terminal it was started from.
    ///
    /// # Errors
    /// As [`Interrupt::install`].
    pub fn install_detached() -> io::Result<Self> {
        // Whoever listens replaces what a hang-up would do, for as long as the process lives.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let _entered = runtime.enter();
        drop(signal(SignalKind::hangup())?);
        Self::install()
    }

    /// Asks the work to stop.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether the work should stop.
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

async fn listen(interrupt: Interrupt, mut ctrl_c: Signal, mut terminate: Signal) {
    for _ in 0..2 {
        let heard = tokio::select! {
            heard = ctrl_c.recv() => heard,
            heard = terminate.recv() => heard,
        };
        if heard.is_none() {
            return;
        }
        if interrupt.is_set() {
            // Files are whole at any time, so nothing has to be tidied up.
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        interrupt.set();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn the_first_signal_asks_and_does_not_end_the_process() {
        let interrupt = Interrupt::install().unwrap();
        assert!(!interrupt.is_set());
        kill_process(getpid(), Signal::TERM).unwrap();
        let patience = Instant::now() + Duration::from_secs(30);
        while !interrupt.is_set() {
            assert!(Instant::now() < patience, "the signal was not heard");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
