//! Files on disk: the workspace, atomic writes, locks, hashes, and facts about the machine they were made on.
//!
//! Whatever calib8 leaves behind is either whole or absent: a crash, a full disk or a lost
//! connection never leaves half a file under its final name ([`atomic`]). Two processes never work
//! in one run directory ([`lock`]).

pub mod atomic;
mod error;
pub mod hash;
pub mod host;
pub mod lock;
pub mod places;
pub mod time;
pub mod workspace;

pub use error::{ProjectError, io_hint};
