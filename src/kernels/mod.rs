//! INT8 primitives: the only room with `unsafe`. One file per instruction set, one dispatch point.

/// `CALIB8_ISA` asks for something that this machine or build does not have.
#[derive(Debug, thiserror::Error)]
#[error("CALIB8_ISA={asked}: {why}; this machine offers {offered}")]
pub struct IsaError {
    /// What the variable says.
    pub asked: String,
    /// Why it can't be.
    pub why: &'static str,
    /// The tiers that can be chosen.
    pub offered: String,
}
