//! Gathering what `calib8 doctor` tells.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use serde::Serialize;

use crate::engine::{EngineName, Libraries};
use crate::kernels::Isa;
use crate::measure::{Conditions, host};

/// Processor features that decide how fast INT8 and FP32 can be, by their names in `/proc/cpuinfo`
/// (x86 first, then Arm).
const X86_FLAGS: [&str; 7] = ["avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"];
const ARM_FLAGS: [&str; 3] = ["asimd", "asimddp", "i8mm"];

/// All that is known of the machine.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    pub schema: &'static str,
    pub version: &'static str,
    pub arch: &'static str,
    pub cpu: Option<String>,
    /// Cores of the machine that are switched on.
    pub cores_online: usize,
    /// Physical cores among those that this process may use.
    pub physical_cores: usize,
    pub flags: Option<BTreeMap<String, bool>>,
    pub kernels: Kernels,
    pub memory: Memory,
    pub conditions: Conditions,
    pub terminal: Terminal,
    pub engines: Vec<EngineState>,
}

/// The instruction sets of the built-in engine.
#[derive(Debug, Serialize)]
pub(super) struct Kernels {
    /// Best first.
    pub available: Vec<&'static str>,
    pub used: Option<&'static str>,
    /// Why `CALIB8_ISA` can't be obeyed.
    pub error: Option<String>,
    /// What INT8 can bring with the used one.
    pub gain: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Memory {
    pub total_bytes: Option<u64>,
    pub available_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Terminal {
    pub stdout_is_terminal: bool,
    pub columns_rows: Option<(u16, u16)>,
    pub term: Option<String>,
    pub colors: &'static str,
    pub utf8: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct EngineState {
    pub name: &'static str,
    /// `ready`, or why it can't be used.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The shared library, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
}

impl EngineState {
    /// Looks for an engine and loads it.
    fn of(engine: EngineName) -> EngineState {
        match engine.open(&Libraries::default()) {
            Ok(found) => EngineState {
                name: engine.name(),
                state: "ready".into(),
                version: Some(found.version()),
                library: found.library().map(|path| path.display().to_string()),
            },
            Err(error) => {
                EngineState { name: engine.name(), state: error.to_string(), version: None, library: None }
            }
        }
    }
}

impl Facts {
    /// Looks around; takes a third of a second, in which it watches the load.
    pub(super) fn gather() -> Facts {
        let (conditions, _) = host::observe(Duration::from_millis(300));
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let online = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        Facts {
            schema: "calib8/doctor/1",
            version: env!("CARGO_PKG_VERSION"),
            arch: std::env::consts::ARCH,
            cpu: field(&cpuinfo, "model name").map(str::to_string),
            cores_online: online.max(conditions.cores.len()),
            physical_cores: host::physical_cores(&conditions.cores),
            flags: flags(&cpuinfo),
            kernels: Kernels::gather(),
            memory: Memory {
                total_bytes: kibibytes(&meminfo, "MemTotal"),
                available_bytes: kibibytes(&meminfo, "MemAvailable"),
                limit_bytes: host::memory_limit(),
            },
            conditions,
            terminal: Terminal::gather(),
            engines: EngineName::ALL.into_iter().map(EngineState::of).collect(),
        }
    }
}

impl Kernels {
    fn gather() -> Kernels {
        let available = Isa::available().into_iter().map(Isa::name).collect();
        match Isa::from_env() {
            Ok(isa) => Kernels { available, used: Some(isa.name()), error: None, gain: gain(isa) },
            Err(e) => {
                let gain = "not known until CALIB8_ISA is put right";
                Kernels { available, used: None, error: Some(e.to_string()), gain }
            }
        }
    }
}

/// What to expect of INT8 with an instruction set, before anything is measured. The factors are the
/// multiply-accumulates of one instruction over those of one FP32 FMA of the same width; what remains of
/// them depends on how much of a model is limited by memory.
fn gain(isa: Isa) -> &'static str {
    match isa {
        Isa::Amx => {
            "AMX multiplies tiles of bytes: up to 16x an FP32 FMA in large products, else as VNNI: up to 4x"
        }
        Isa::AvxVnni | Isa::Avx512Vnni => {
            "VNNI does 4x the multiply-accumulates of an FP32 FMA per instruction: up to 4x"
        }
        Isa::Avx2 => "no VNNI: about 1.3-2x, from 16-bit pairs and a quarter of the memory traffic",
        Isa::Scalar => "none expected: plain code without vector instructions",
    }
}

impl Terminal {
    fn gather() -> Terminal {
        let stdout_is_terminal = std::io::stdout().is_terminal();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Terminal {
            stdout_is_terminal,
            columns_rows: stdout_is_terminal.then(|| crossterm::terminal::size().ok()).flatten(),
            term: variable("TERM"),
            colors: colors(&variable),
            utf8: is_utf8(&variable),
        }
    }
}

/// What the environment says about colours. See <https://no-color.org> for `NO_COLOR`.
fn colors(variable: &dyn Fn(&str) -> Option<String>) -> &'static str {
    let term = variable("TERM").unwrap_or_default();
    let direct = variable("COLORTERM").is_some_and(|v| v == "truecolor" || v == "24bit");
    if variable("NO_COLOR").is_some() {
        "no colours (NO_COLOR)"
    } else if term.is_empty() || term == "dumb" {
        "no colours"
    } else if direct || term.contains("direct") {
        "24-bit colours"
    } else if term.contains("256color") {
        "256 colours"
    } else {
        "16 colours"
    }
}

/// Whether the locale's characters are UTF-8: the first that is set counts, as in locale(7).
fn is_utf8(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

/// The value of the first line `KEY : VALUE`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn kibibytes(meminfo: &str, key: &str) -> Option<u64> {
    field(meminfo, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn flags(cpuinfo: &str) -> Option<BTreeMap<String, bool>> {
    let (line, wanted) = match field(cpuinfo, "flags") {
        Some(line) => (line, &X86_FLAGS[..]),
        None => (field(cpuinfo, "Features")?, &ARM_FLAGS[..]),
    };
    let has = |flag: &str| line.split_whitespace().any(|f| f == flag);
    Some(wanted.iter().map(|flag| ((*flag).to_string(), has(flag))).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn environment<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_string())
    }

    #[test]
    fn colours_follow_the_environment() {
        for (set, expected) in [
            (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")][..], "no colours (NO_COLOR)"),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], "24-bit colours"),
            (&[("TERM", "screen-256color")], "256 colours"),
            (&[("TERM", "linux")], "16 colours"),
            (&[("TERM", "dumb")], "no colours"),
            (&[], "no colours"),
        ] {
            assert_eq!(colors(&environment(set)), expected);
        }
    }

    #[test]
    fn the_first_locale_variable_counts() {
        assert!(is_utf8(&environment(&[("LANG", "de_DE.UTF-8")])));
        assert!(is_utf8(&environment(&[("LANG", "C"), ("LC_CTYPE", "C.utf8")])));
        assert!(!is_utf8(&environment(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")])));
        assert!(!is_utf8(&environment(&[])));
    }

    #[test]
    fn proc_files_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2: x\nflags\t\t: fpu avx2 avx512_vnni\n";
        assert_eq!(field(cpuinfo, "model name"), Some("Some CPU @ 2: x"));
        let found = flags(cpuinfo).unwrap();
        assert!(found["avx2"] && found["avx512_vnni"] && !found["avx512f"]);
        let arm = flags("processor : 0\nFeatures : fp asimd asimddp\n").unwrap();
        assert!(arm["asimddp"] && !arm["i8mm"]);
        assert_eq!(flags("nothing"), None);
        assert_eq!(kibibytes("MemTotal:        8140 kB\n", "MemTotal"), Some(8140 * 1024));
    }
}
