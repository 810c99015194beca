//! `calib8 doctor`: what this machine offers, and what to expect of INT8 on it.

mod facts;
mod preprocessing;

use std::io::Write;
use std::path::PathBuf;

use facts::{Facts, Terminal};

use crate::dataset::DatasetSpec;

/// Arguments of `calib8 doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Find out which preprocessing this model was trained with, on the images of --dataset
    #[arg(long, value_name = "FILE", requires = "dataset")]
    model: Option<PathBuf>,
    /// Folder of images, or a list
    #[arg(long, value_name = "DIR", requires = "model")]
    dataset: Option<PathBuf>,
    /// `name index` on each line; with labels the answer is much surer
    #[arg(long, value_name = "FILE", requires = "dataset")]
    labels: Option<PathBuf>,
    /// Class names, one per line
    #[arg(long, value_name = "FILE", requires = "dataset")]
    classes: Option<PathBuf>,
    /// Print JSON (schema calib8/doctor/1).
    #[arg(long)]
    json: bool,
}

/// Looks at the machine and prints what it finds on standard output. The exit code is 2 if
/// `CALIB8_ISA` names something that can't be used.
///
/// # Errors
/// Standard output can't be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    if let (Some(model), Some(dataset)) = (&args.model, &args.dataset) {
        let dataset = DatasetSpec {
            path: dataset.clone(),
            labels: args.labels.clone(),
            classes: args.classes.clone(),
            subset: None,
        };
        return preprocessing::run(model, &dataset, args.json);
    }
    let facts = Facts::gather();
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &facts)?;
        writeln!(out)?;
    } else {
        out.write_all(page(&facts).as_bytes())?;
    }
    out.flush()?;
    Ok(if facts.kernels.error.is_some() { 2 } else { 0 })
}

/// The facts as lines of text, with nothing in them that could drive a terminal.
fn page(facts: &Facts) -> String {
    let lines = [
        ("Processor", processor(facts)),
        ("Cores", cores(facts)),
        ("Flags", flags(facts)),
        ("Kernels", kernels(facts)),
        ("INT8 gain", facts.kernels.gain.to_string()),
        ("Memory", memory(facts)),
        ("Frequency", frequency(facts)),
        ("Load", load(facts)),
        ("Terminal", terminal(&facts.terminal)),
    ];
    let mut text = format!("calib8 {}\n\n", facts.version);
    for (title, line) in lines {
        text += &format!("{title:<11}{}\n", printable(&line));
    }
    for (i, engine) in facts.engines.iter().enumerate() {
        let title = if i == 0 { "Engines" } else { "" };
        let said = match (&engine.version, &engine.library) {
            (Some(version), Some(library)) => format!("{version}, {library}"),
            (Some(version), None) => version.clone(),
            _ => engine.state.clone(),
        };
        text += &format!("{title:<11}{:<12} {}\n", engine.name, printable(&said));
    }
    text
}

fn processor(facts: &Facts) -> String {
    format!("{} ({})", facts.cpu.as_deref().unwrap_or("unknown"), facts.arch)
}

fn cores(facts: &Facts) -> String {
    let allowed = facts.conditions.cores.len();
    let mut text = format!("{allowed} of {} allowed", facts.cores_online.max(allowed));
    if facts.physical_cores < allowed {
        text += &format!(", {} physical", facts.physical_cores);
    }
    match facts.conditions.cpu_limit {
        Some(limit) => text += &format!("; a cgroup grants {limit:.2} cores' time"),
        None => text += "; no cgroup limit",
    }
    text
}

fn flags(facts: &Facts) -> String {
    let Some(flags) = &facts.flags else { return "not known on this system".into() };
    let names = |present: bool| -> Vec<&str> {
        flags.iter().filter(|(_, has)| **has == present).map(|(name, _)| name.as_str()).collect()
    };
    let (has, lacks) = (names(true), names(false));
    let mut text = if has.is_empty() { "none of interest".into() } else { has.join(" ") };
    if !lacks.is_empty() {
        text += &format!("; lacks {}", lacks.join(" "));
    }
    text
}

fn kernels(facts: &Facts) -> String {
    match (&facts.kernels.error, facts.kernels.used) {
        (Some(error), _) => error.clone(),
        (None, Some(used)) => {
            let others: Vec<&str> =
                facts.kernels.available.iter().copied().filter(|isa| *isa != used).collect();
            if others.is_empty() {
                format!("{used}, the only ones for this machine")
            } else {
                format!("{used}; CALIB8_ISA= also takes {}", others.join(", "))
            }
        }
        (None, None) => "none".into(),
    }
}

fn memory(facts: &Facts) -> String {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    let mut text = match (facts.memory.total_bytes, facts.memory.available_bytes) {
        (Some(total), Some(available)) => format!("{}, {} available", gib(total), gib(available)),
        (Some(total), None) => gib(total),
        _ => "not known on this system".into(),
    };
    if let Some(limit) = facts.memory.limit_bytes {
        text += &format!("; a cgroup grants {}", gib(limit));
    }
    text
}

fn frequency(facts: &Facts) -> String {
    match facts.conditions.governor.as_deref() {
        Some("performance") => "governor performance".into(),
        Some(governor) => {
            format!("governor {governor}; performance gives steadier timings (cpupower frequency-set)")
        }
        None => "governor not visible, as usual in virtual machines".into(),
    }
}

fn load(facts: &Facts) -> String {
    let mut parts = Vec::new();
    if let Some(busy) = facts.conditions.busy_before {
        parts.push(format!("cores {:.0} % busy now", 100.0 * busy));
    }
    if let Some([one, five, fifteen]) = facts.conditions.load_average {
        parts.push(format!("load average {one:.2} {five:.2} {fifteen:.2}"));
    }
    if parts.is_empty() { "not known on this system".into() } else { parts.join(", ") }
}

fn terminal(terminal: &Terminal) -> String {
    let mut parts = vec![match (terminal.stdout_is_terminal, terminal.columns_rows) {
        (true, Some((columns, rows))) => format!("{columns}x{rows}"),
        (true, None) => "size unknown".into(),
        (false, _) => "standard output is not a terminal".into(),
    }];
    parts.push(match &terminal.term {
        Some(term) => format!("TERM={term}"),
        None => "TERM not set".into(),
    });
    parts.push(terminal.colors.to_string());
    parts.push(if terminal.utf8 {
        "UTF-8".into()
    } else {
        "locale is not UTF-8 (LC_ALL, LC_CTYPE, LANG)".into()
    });
    parts.join(", ")
}

/// Text from outside (environment, processor name) without control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_reaches_the_terminal_raw() {
        let mut facts = Facts::gather();
        facts.cpu = Some("Evil\u{1b}[2J\u{9b}2J CPU\r\n".into());
        facts.terminal.term = Some("xterm\u{7}".into());
        let text = page(&facts);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.lines().any(|line| line.starts_with("Processor  Evil")), "{text}");
    }

    #[test]
    fn every_fact_has_its_line() {
        let text = page(&Facts::gather());
        for title in
            ["Processor", "Cores", "Flags", "Kernels", "INT8 gain", "Memory", "Load", "Terminal", "Engines"]
        {
            assert_eq!(text.lines().filter(|line| line.starts_with(title)).count(), 1, "{title}\n{text}");
        }
        assert!(text.contains("builtin"), "{text}");
    }

    #[test]
    fn limits_and_refusals_are_said() {
        let mut facts = Facts::gather();
        facts.conditions.cpu_limit = Some(1.5);
        facts.memory.limit_bytes = Some(3 << 30);
        facts.kernels.error = Some("CALIB8_ISA=mmx: unknown".into());
        let text = page(&facts);
        for said in ["grants 1.50 cores", "grants 3.0 GiB", "CALIB8_ISA=mmx: unknown"] {
            assert!(text.contains(said), "{said}\n{text}");
        }
    }
}
