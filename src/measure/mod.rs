//! Throughput, latency, per-layer time; paired comparison and its statistics.
//!
//! An FPS number is only worth something beside another one that was taken under the same
//! conditions. So two models are timed in turns, A B B A B A A B, in one process and on the same cores:
//! what disturbs the machine for a while disturbs both alike, and a drift of its clock cancels
//! within the round.
//!
//! ```text
//! Session ─ streams ─> Turn ─ schedule ─> rounds ─ stats ─> Timing, Ratio, Verdict
//!                                                └ warnings (what the host did meanwhile)
//! ```
//!
//! [`paired::compare`] and [`paired::single`] are the way in; [`layers`] times single layers, in a
//! pass of its own because its clock readings slow a model down.

pub mod bottlenecks;
pub mod error;
#[cfg(test)]
mod fake;
pub mod host;
mod latencies;
pub mod layers;
#[cfg(test)]
mod noise;
pub mod paired;
mod random;
mod schedule;
pub mod stats;
pub mod streams;
pub mod warnings;

pub use bottlenecks::FormatShare;
pub use error::MeasureError;
pub use host::Conditions;
pub use layers::{LayerRow, LayerTime};
pub use paired::{Latency, PairedResult, Settings, SingleResult, Timing, compare, single};
pub use random::{SplitMix64, random_inputs};
pub use stats::{Interval, Ratio, Verdict};
pub use warnings::Warning;
