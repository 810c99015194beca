//! The machine that numbers were measured on. A speed means nothing without it.
//!
//! Everything is read from `/proc` and `/sys`; what a system does not tell is `unknown` or left out.

use std::fs;

use serde::{Deserialize, Serialize};

/// Facts about this machine at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its name in the network.
    pub hostname: String,
    /// Model name of the processor.
    pub cpu: String,
    /// Cores this process may use, after affinity and container limits.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// Frequency governor of the first core, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Load average over the last minute, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_average: Option<f64>,
    /// Physical memory in bytes; 0 where the system does not tell.
    pub memory_bytes: u64,
}

impl Host {
    /// Looks at this machine now.
    pub fn probe() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Host {
            hostname: hostname(),
            cpu: cpu_model(&read("/proc/cpuinfo")),
            cores: cores(),
            kernel: non_empty(&read("/proc/sys/kernel/osrelease")).unwrap_or_else(unknown),
            governor: non_empty(&read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
            load_average: read("/proc/loadavg").split_whitespace().next().and_then(|word| word.parse().ok()),
            memory_bytes: kilobytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0),
        }
    }
}

/// Name of this machine in the network.
pub fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .and_then(|text| non_empty(&text))
        .unwrap_or_else(unknown)
}

/// Cores this process may use, after affinity and container limits; at least 1.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The largest amount of memory that this process has held so far (`VmHWM`), in bytes; 0 where the
/// system does not tell.
pub fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kilobytes(&status, "VmHWM:").unwrap_or(0)
}

/// The memory that this process holds now, in bytes; 0 where the system does not tell.
pub fn rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kilobytes(&status, "VmRSS:").unwrap_or(0)
}

/// Lets [`peak_rss_bytes`] begin anew, where the system can (`/proc/self/clear_refs`, proc(5)).
pub fn reset_peak_rss() {
    // Where it can't, the peak is that since the start of the process.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Memory that a new program could take without swapping, in bytes; `None` where the system does not tell.
pub fn available_bytes() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// `model name` of x86; on other processors, whatever names them.
fn cpu_model(cpuinfo: &str) -> String {
    let field = |key: &str| {
        cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| non_empty(value)).flatten()
        })
    };
    field("model name").or_else(|| field("Model")).or_else(|| field("cpu")).unwrap_or_else(unknown)
}

/// The value of a `Key:   123 kB` line, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

fn non_empty(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
}

fn unknown() -> String {
    "unknown".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_on_x86_and_elsewhere() {
        let x86 = "processor\t: 0\nmodel\t\t: 106\nmodel name\t: Some CPU @ 2.0GHz\n";
        assert_eq!(cpu_model(x86), "Some CPU @ 2.0GHz");
        assert_eq!(cpu_model("processor : 0\nModel : Raspberry Pi 4\n"), "Raspberry Pi 4");
        assert_eq!(cpu_model(""), "unknown");
    }

    #[test]
    fn proc_lines_are_kilobytes() {
        assert_eq!(kilobytes("MemTotal:       16 kB\nVmHWM:\t    2048 kB\n", "VmHWM:"), Some(2048 * 1024));
        assert_eq!(kilobytes("VmHWM:\n", "VmHWM:"), None);
    }

    #[test]
    fn this_process_has_a_core_and_holds_memory() {
        assert!(Host::probe().cores >= 1);
        if std::path::Path::new("/proc/self/status").exists() {
            assert!(peak_rss_bytes() > 1 << 16);
        }
    }
}
