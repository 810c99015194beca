//! What the host lets us see while we measure: cores, load, limits. All of it is best effort: where
//! a system does not say, the answer is `None` and nothing fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The state of the host when a measurement was taken; recorded with its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// The cores that this process may run on, as the system numbers them.
    pub cores: Vec<usize>,
    /// Cores' worth of time that a cgroup grants, where one limits it.
    pub cpu_limit: Option<f64>,
    /// The frequency governor of the first allowed core, such as `performance`.
    pub governor: Option<String>,
    /// Load averages over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// Share (0 to 1) of the allowed cores' time that was in use just before measuring began, that is
    /// by others.
    pub busy_before: Option<f64>,
    /// Lowest and highest frequency of the used cores between turns, in MHz, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_mhz: Option<(f64, f64)>,
    /// The cores that streams were pinned to, in the order of the streams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<usize>,
}

impl Conditions {
    /// Looks at everything that takes no time; `busy_before` stays open.
    pub fn now() -> Conditions {
        let cores = allowed_cores();
        let governor = cores.first().and_then(|core| {
            read_word(&format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"))
        });
        let load_average =
            std::fs::read_to_string("/proc/loadavg").ok().and_then(|text| parse_load_average(&text));
        let cpu_limit = cpu_limit();
        Conditions {
            cores,
            cpu_limit,
            governor,
            load_average,
            busy_before: None,
            frequency_mhz: None,
            used: Vec::new(),
        }
    }
}

/// Watches the host for `span` while we do nothing, and gives its state and the allowed cores in the
/// order in which streams should take them: one hardware thread of each physical core before their
/// siblings, and among these the idle ones before those that others use.
pub fn observe(span: Duration) -> (Conditions, Vec<usize>) {
    let before = CpuClock::now();
    std::thread::sleep(span);
    let after = CpuClock::now();
    let mut conditions = Conditions::now();
    conditions.busy_before = after.busy_since(&before, &conditions.cores);
    let busy: Vec<f64> =
        conditions.cores.iter().map(|core| after.busy_since(&before, &[*core]).unwrap_or(0.0)).collect();
    let cores = order_cores(&conditions.cores, &busy, siblings);
    (conditions, cores)
}

fn read_word(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_string()).filter(|word| !word.is_empty())
}

fn parse_load_average(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_whitespace().map_while(|word| word.parse().ok());
    Some([words.next()?, words.next()?, words.next()?])
}

/// The cores that the calling thread may run on, in the system's numbering.
#[cfg(target_os = "linux")]
pub fn allowed_cores() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
        Err(_) => any_cores(),
    }
}

/// The cores that the calling thread may run on. This system does not say which, only how many.
#[cfg(not(target_os = "linux"))]
pub fn allowed_cores() -> Vec<usize> {
    any_cores()
}

fn any_cores() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

/// Keeps the calling thread on one core from now on. False where that is not possible.
#[cfg(target_os = "linux")]
pub fn pin_to(core: usize) -> bool {
    keep_to(&[core])
}

/// Keeps the calling thread, and the processes that it starts, on some cores from now on. False where that
/// is not possible.
#[cfg(target_os = "linux")]
pub fn keep_to(cores: &[usize]) -> bool {
    use rustix::thread::{CpuSet, sched_setaffinity};
    if cores.iter().any(|core| *core >= CpuSet::MAX_CPU) {
        return false;
    }
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).is_ok()
}

/// Keeps the calling thread on one core from now on. This system can't.
#[cfg(not(target_os = "linux"))]
pub fn pin_to(_core: usize) -> bool {
    false
}

/// Keeps the calling thread, and the processes that it starts, on some cores from now on. This system can't.
#[cfg(not(target_os = "linux"))]
pub fn keep_to(_cores: &[usize]) -> bool {
    false
}

/// The frequencies of some cores over a while, and whether they got too hot.
#[derive(Debug)]
pub struct Clockwork<'a> {
    cores: &'a [usize],
    range: Option<(f64, f64)>,
    throttled_before: Option<u64>,
}

impl<'a> Clockwork<'a> {
    /// Watches `cores` from now on.
    pub fn watch(cores: &'a [usize]) -> Clockwork<'a> {
        Clockwork { cores, range: None, throttled_before: throttle_events(cores) }
    }

    /// Looks at the frequencies. Costs some microseconds per core: call it where nothing is timed.
    pub fn look(&mut self) {
        for core in self.cores {
            let path = format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq");
            let Some(khz) = read_word(&path).and_then(|word| word.parse::<f64>().ok()) else { return };
            let mhz = khz / 1e3;
            let (low, high) = self.range.unwrap_or((mhz, mhz));
            self.range = Some((low.min(mhz), high.max(mhz)));
        }
    }

    /// Lowest and highest frequency seen, in MHz.
    pub fn range(&self) -> Option<(f64, f64)> {
        self.range
    }

    /// How often the cores were slowed down because of heat since the start.
    pub fn throttled(&self) -> u64 {
        let now = throttle_events(self.cores).unwrap_or(0);
        now.saturating_sub(self.throttled_before.unwrap_or(now))
    }
}

fn throttle_events(cores: &[usize]) -> Option<u64> {
    let count = |core: &usize| {
        let path = format!("/sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count");
        read_word(&path)?.parse::<u64>().ok()
    };
    cores.iter().map(count).sum()
}

/// How long the calling thread has waited for a core so far, ready to run but not running.
pub fn waited() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// Ticks of one core since the system started, from `/proc/stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    total: u64,
    idle: u64,
    steal: u64,
}

/// The clocks of all cores at one moment. Two of them say what happened between.
#[derive(Debug, Clone, Default)]
pub struct CpuClock(Vec<(usize, Ticks)>);

impl CpuClock {
    /// Reads the clocks; without `/proc/stat` there are none.
    pub fn now() -> CpuClock {
        CpuClock::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// Lines `cpuN user nice system idle iowait irq softirq steal guest guest_nice`, proc(5).
    /// Guest time is already in user time.
    fn parse(text: &str) -> CpuClock {
        let core = |line: &str| {
            let mut words = line.strip_prefix("cpu")?.split(' ');
            let core = words.next()?.parse().ok()?;
            let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).take(8).collect();
            let at = |i: usize| ticks.get(i).copied().unwrap_or(0);
            Some((core, Ticks { total: ticks.iter().sum(), idle: at(3) + at(4), steal: at(7) }))
        };
        CpuClock(text.lines().filter_map(core).collect())
    }

    fn since(&self, earlier: &CpuClock, core: usize) -> Option<Ticks> {
        let find = |clock: &CpuClock| clock.0.iter().find(|(c, _)| *c == core).map(|(_, t)| *t);
        let (now, then) = (find(self)?, find(earlier)?);
        Some(Ticks {
            total: now.total.saturating_sub(then.total),
            idle: now.idle.saturating_sub(then.idle),
            steal: now.steal.saturating_sub(then.steal),
        })
    }

    fn share(&self, earlier: &CpuClock, cores: &[usize], part: fn(&Ticks) -> u64) -> Option<f64> {
        let spans: Vec<Ticks> = cores.iter().filter_map(|core| self.since(earlier, *core)).collect();
        let total: u64 = spans.iter().map(|t| t.total).sum();
        (total > 0).then(|| spans.iter().map(part).sum::<u64>() as f64 / total as f64)
    }

    /// Share (0 to 1) of the time since `earlier` in which `cores` did anything at all.
    pub fn busy_since(&self, earlier: &CpuClock, cores: &[usize]) -> Option<f64> {
        self.share(earlier, cores, |t| t.total.saturating_sub(t.idle))
    }

    /// Share (0 to 1) of the time since `earlier` in which the host of this virtual machine gave
    /// `cores` to somebody else.
    pub fn stolen_since(&self, earlier: &CpuClock, cores: &[usize]) -> Option<f64> {
        self.share(earlier, cores, |t| t.steal)
    }
}

/// The hardware threads of the physical core that `core` belongs to, itself included.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    std::fs::read_to_string(path).map_or_else(|_| vec![core], |text| parse_cpu_list(&text))
}

/// How many of `cores` are an earlier hardware thread of the same physical core.
fn sibling_rank(core: usize, siblings: &[usize], cores: &[usize]) -> usize {
    siblings.iter().filter(|s| **s < core && cores.contains(s)).count()
}

fn order_cores(cores: &[usize], busy: &[f64], siblings: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
    let mut ranked: Vec<(usize, u64, usize)> = cores
        .iter()
        .zip(busy)
        .map(|(core, busy)| {
            let rank = sibling_rank(*core, &siblings(*core), cores);
            // In steps of a fifth: the clocks tick too slowly to tell more.
            (rank, (busy * 5.0) as u64, *core)
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, _, core)| core).collect()
}

/// The number of physical cores among `cores`.
pub fn physical_cores(cores: &[usize]) -> usize {
    cores.iter().filter(|core| sibling_rank(**core, &siblings(**core), cores) == 0).count()
}

/// A kernel list such as `0-3,8`.
fn parse_cpu_list(text: &str) -> Vec<usize> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// Cores' worth of CPU time that the cgroups of this process grant; `None` where nothing limits it.
/// The strictest of the groups above counts, too.
pub fn cpu_limit() -> Option<f64> {
    strictest("cpu", cpu_limit_of)
}

/// Bytes of memory that the cgroups of this process grant; `None` where nothing limits it.
pub fn memory_limit() -> Option<u64> {
    strictest("memory", memory_limit_of).map(|bytes| bytes as u64)
}

/// How a file of a cgroup is read; tests have files of their own.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

fn strictest(controller: &str, limit_of: fn(&Path, Read) -> Option<f64>) -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let folders = cgroup_folders(&groups, controller);
    folders.iter().filter_map(|folder| limit_of(folder, &read)).reduce(f64::min)
}

/// Where the limits of a controller may stand, given `/proc/self/cgroup`: the folders of the process's
/// own group and of all above it, of cgroup v2 and v1. In a container the own group's path may be
/// that of the host, of which only the top can be seen.
fn cgroup_folders(groups: &str, controller: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let bases = match controllers {
            "" => [root.to_path_buf(), root.join("unified")],
            list if list.split(',').any(|c| c == controller) => [root.join(controller), root.join(list)],
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        folders.extend(bases.iter().flat_map(|base| group.ancestors().map(|folder| base.join(folder))));
    }
    folders
}

/// `cpu.max` of cgroup v2 is `max 100000` or `QUOTA PERIOD`; v1 has two files, and −1 for no limit.
fn cpu_limit_of(folder: &Path, read: Read) -> Option<f64> {
    let (quota, period) = match read(&folder.join("cpu.max")) {
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_string(), period.to_string())
        }
        None => (read(&folder.join("cpu.cfs_quota_us"))?, read(&folder.join("cpu.cfs_period_us"))?),
    };
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// `memory.max` of cgroup v2 is `max` or bytes; v1 says no limit with a number near 2⁶³.
fn memory_limit_of(folder: &Path, read: Read) -> Option<f64> {
    let text = read(&folder.join("memory.max")).or_else(|| read(&folder.join("memory.limit_in_bytes")))?;
    text.trim().parse().ok().filter(|bytes| *bytes < 2f64.powi(60))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn clocks_tell_busy_from_idle_and_stolen() {
        let head = "cpu  9 9 9 9 9 9 9 9 0 0\n";
        let then = CpuClock::parse(&format!("{head}cpu0 10 0 10 80 0 0 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0\n"));
        let now = CpuClock::parse(&format!(
            "{head}cpu0 60 0 10 100 10 0 0 20 50 0\ncpu1 0 0 0 200 0 0 0 0\nintr 1"
        ));
        assert_eq!(now.busy_since(&then, &[0]), Some(0.7));
        assert_eq!(now.stolen_since(&then, &[0]), Some(0.2));
        assert_eq!(now.busy_since(&then, &[0, 1]), Some(0.35));
        assert_eq!(now.busy_since(&then, &[7]), None);
        assert_eq!(CpuClock::default().busy_since(&then, &[0]), None);
    }

    #[test]
    fn streams_take_idle_physical_cores_first() {
        let siblings = |core: usize| vec![core % 4, core % 4 + 4];
        let all: Vec<usize> = (0..8).collect();
        let idle = [0.0; 8];
        assert_eq!(order_cores(&all, &idle, siblings), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(order_cores(&[0, 4, 1, 5], &[0.0; 4], siblings), [0, 1, 4, 5]);
        assert_eq!(order_cores(&[0, 1], &[0.95, 0.02], siblings), [1, 0]);
        assert_eq!(order_cores(&[6, 7], &[0.0; 2], siblings), [6, 7]);
    }

    #[test]
    fn kernel_lists() {
        assert_eq!(parse_cpu_list("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(parse_cpu_list("5"), [5]);
        assert!(parse_cpu_list("").is_empty());
    }

    #[test]
    fn cgroups_are_looked_up_to_the_top() {
        let folders = |groups, controller| -> Vec<String> {
            cgroup_folders(groups, controller).iter().map(|f| f.display().to_string()).collect()
        };
        let v2 = folders("0::/a/b\n", "cpu");
        for folder in ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"] {
            assert!(v2.iter().any(|f| f == folder), "{folder} in {v2:?}");
        }
        let v1 = folders("3:memory:/x\n2:cpu,cpuacct:/y\n", "cpu");
        assert!(v1.iter().any(|f| f == "/sys/fs/cgroup/cpu,cpuacct/y"), "{v1:?}");
        assert!(v1.iter().all(|f| !f.contains("memory")), "{v1:?}");
    }

    #[test]
    fn limits_of_both_cgroup_versions() {
        let limits = |files: &[(&str, &str)]| {
            let read = |path: &Path| {
                let name = path.file_name()?.to_str()?;
                files.iter().find(|(file, _)| *file == name).map(|(_, text)| format!("{text}\n"))
            };
            let folder = Path::new("/");
            (cpu_limit_of(folder, &read), memory_limit_of(folder, &read))
        };
        assert_eq!(
            limits(&[("cpu.max", "150000 100000"), ("memory.max", "1024")]),
            (Some(1.5), Some(1024.0))
        );
        assert_eq!(limits(&[("cpu.max", "max 100000"), ("memory.max", "max")]), (None, None));
        let v1 = [("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "100000")];
        assert_eq!(limits(&v1), (Some(0.5), None));
        let v1 = [
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.cfs_period_us", "100000"),
            ("memory.limit_in_bytes", "9223372036854771712"),
        ];
        assert_eq!(limits(&v1), (None, None));
    }

    #[test]
    fn load_averages() {
        assert_eq!(parse_load_average("2.22 2.07 1.42 3/97 14158\n"), Some([2.22, 2.07, 1.42]));
        assert_eq!(parse_load_average("nonsense"), None);
    }
}
