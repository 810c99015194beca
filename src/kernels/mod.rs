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

/// An instruction set that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 with VNNI.
    Avx512Vnni,
}

impl Isa {
    const ALL: [Isa; 3] = [Isa::Avx512Vnni, Isa::Avx2, Isa::Scalar];

    /// The tiers that this machine can run, best first; [`Isa::Scalar`] is always the last.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_supported()).collect()
    }

    /// The tier named by the environment variable `CALIB8_ISA` (`scalar`, `avx2` or `avx512_vnni`), or the
    /// best one if it is unset or empty.
    ///
    /// # Errors
    /// The name is unknown, or the machine lacks the instructions.
    pub fn from_env() -> Result<Isa, IsaError> {
        let asked = std::env::var_os("CALIB8_ISA").unwrap_or_default();
        Isa::choose(&asked.to_string_lossy())
    }

    fn choose(asked: &str) -> Result<Isa, IsaError> {
        let available = Isa::available();
        if asked.is_empty() {
            return Ok(available.first().copied().unwrap_or(Isa::Scalar));
        }
        let why = match Isa::ALL.into_iter().find(|isa| isa.name() == asked) {
            Some(isa) if available.contains(&isa) => return Ok(isa),
            Some(_) => "this processor lacks these instructions",
            None => "no instruction set has this name",
        };
        let offered = available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
        Err(IsaError { asked: asked.to_owned(), why, offered })
    }

    /// `scalar`, `avx2` or `avx512_vnni`: as in `CALIB8_ISA`, reports and file names.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512Vnni => "avx512_vnni",
        }
    }

    /// Whether this machine can run the tier.
    #[cfg(target_arch = "x86_64")]
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Isa::Avx512Vnni => {
                Isa::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    /// Whether this machine can run the tier.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_supported(self) -> bool {
        self == Isa::Scalar
    }
}
