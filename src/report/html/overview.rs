//! The top of the page: what happened, in one sentence, four tiles, and the gates.

use std::io::{self, Write};

use super::page::{Gate, Page, Speedup};
use super::text::{bytes, count, esc, number, percent, plural, points, times};

/// Title, verdict, and whether the gates hold.
pub(super) fn header(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let failed = page.gates.iter().filter(|gate| !gate.passed).count();
    let badge = match (page.gates.len(), failed) {
        (0, _) => String::new(),
        (1, 1) => "<p class=\"badge bad\">✗ gate failed</p>".to_string(),
        (1, 0) => "<p class=\"badge good\">✓ gate passed</p>".to_string(),
        (all, 0) => format!("<p class=\"badge good\">✓ all {all} gates passed</p>"),
        (all, failed) => format!("<p class=\"badge bad\">✗ {failed} of {all} gates failed</p>"),
    };
    write!(
        out,
        "<header>\n<p class=\"brand\"><b>calib8</b> <span>{} → {}</span></p>\n<h1>{}</h1>\n\
         <p class=\"verdict\">{}</p>\n{badge}\n</header>\n",
        esc(&page.parent.precision.to_uppercase()),
        esc(&page.optimized.precision.to_uppercase()),
        esc(page.title),
        verdict(page)
    )
}

/// The result in one sentence.
fn verdict(page: &Page<'_>) -> String {
    let mut parts = Vec::new();
    if let Some(speedup) = page.speedup.first() {
        parts.push(match pace(speedup) {
            Pace::Faster => format!("<strong>{} faster</strong>", times(speedup.ratio)),
            Pace::Slower => {
                format!("<strong class=\"bad\">slower: {} the speed</strong>", times(speedup.ratio))
            }
            Pace::Same => "no measurable difference in speed".to_string(),
        });
    }
    if page.parent.bytes > 0 {
        let share = page.optimized.bytes as f64 / page.parent.bytes as f64;
        parts.push(format!("{:.0} % of the size", share * 100.0));
    }
    if let Some(report) = &page.reports.predictions {
        let s = &report.summary;
        parts.push(match s.erroneous {
            0 => format!("the same prediction on all {}", plural(s.images, "image")),
            n => format!("{} of {} changed", count(n), plural(s.images, "prediction")),
        });
    }
    if parts.is_empty() { "No comparison was made.".to_string() } else { parts.join(", ") + "." }
}

/// What an interval of a speed-up says.
enum Pace {
    Faster,
    Slower,
    Same,
}

fn pace(speedup: &Speedup) -> Pace {
    if speedup.low > 1.0 {
        Pace::Faster
    } else if speedup.high < 1.0 {
        Pace::Slower
    } else {
        Pace::Same
    }
}

/// Speed-up, size, agreement, accuracy.
pub(super) fn tiles(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"<section class=\"tiles\" aria-label=\"Summary\">\n")?;
    speed_tile(page, out)?;
    size_tile(page, out)?;
    agreement_tile(page, out)?;
    accuracy_tile(page, out)?;
    out.write_all(b"</section>\n")
}

fn tile(out: &mut impl Write, name: &str, value: &str, class: &str, lines: &[String]) -> io::Result<()> {
    write!(out, "<div class=\"tile\"><h2>{name}</h2><p class=\"value {class}\">{value}</p>")?;
    for line in lines {
        write!(out, "<p>{line}</p>")?;
    }
    out.write_all(b"</div>\n")
}

fn speed_tile(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(s) = page.speedup.first() else {
        return tile(out, "Speed-up", "–", "none", &["not measured".to_string()]);
    };
    let fps = |optimized: bool| {
        let same = |p: &&super::Performance| {
            p.optimized == optimized
                && p.engine == s.engine
                && (p.streams, p.threads, p.batch) == (s.streams, s.threads, s.batch)
        };
        page.performance.iter().find(same).map(|p| number(p.fps))
    };
    let mut lines = vec![format!("95 % interval {} – {}", number(s.low), times(s.high))];
    if let (Some(parent), Some(optimized)) = (fps(false), fps(true)) {
        lines.push(format!("{parent} → {optimized} FPS"));
    }
    lines.push(setting(&s.engine, s.streams, s.threads, s.batch));
    let (class, note) = match pace(s) {
        Pace::Faster => ("good", None),
        Pace::Slower => ("bad", Some("slower than its parent")),
        Pace::Same => ("", Some("not distinguishable from 1")),
    };
    if let Some(note) = note {
        lines.insert(0, format!("<b>{note}</b>"));
    }
    tile(out, "Speed-up", &times(s.ratio), class, &lines)
}

/// `builtin · 1 stream · batch 1` or `builtin · 1 stream × 4 threads · batch 1`, escaped.
pub(super) fn setting(engine: &str, streams: usize, threads: usize, batch: usize) -> String {
    let each = if threads > 1 { format!(" × {threads} threads") } else { String::new() };
    format!("{} · {}{each} · batch {batch}", esc(engine), plural(streams as u64, "stream"))
}

fn size_tile(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let (parent, optimized) = (&page.parent, &page.optimized);
    let share = optimized.bytes as f64 / parent.bytes.max(1) as f64;
    let mut lines = vec![format!("{} → {}", bytes(parent.bytes), bytes(optimized.bytes))];
    if let Some((all, quantized)) = optimized.quantized_layers {
        let precision = esc(&optimized.precision.to_uppercase()).to_string();
        lines.push(format!("{quantized} of {} in {precision}", plural(all as u64, "layer")));
    }
    let class = if share < 1.0 { "good" } else { "bad" };
    tile(out, "Size", &format!("{:.0} %", share * 100.0), class, &lines)
}

fn agreement_tile(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(report) = &page.reports.predictions else {
        return tile(out, "Agreement", "–", "none", &[why_not(page, super::super::Kind::Predictions)]);
    };
    let s = &report.summary;
    let mut lines = vec![
        format!("same class on {} of {}", count(s.images - s.erroneous), plural(s.images, "image")),
        format!("95 % interval {} – {}", percent(s.low), percent(s.high)),
    ];
    if let Some(kl) = s.mean_kl {
        lines.push(format!("mean KL {} nats", number(kl)));
    }
    if s.failed > 0 {
        lines.insert(0, format!("<b>{} failed</b>", plural(s.failed, "image")));
    }
    tile(out, "Agreement with parent", &percent(s.agreement), if s.failed > 0 { "bad" } else { "" }, &lines)
}

fn accuracy_tile(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(report) = &page.reports.annotations else {
        return tile(out, "Top-1 accuracy", "–", "none", &[why_not(page, super::super::Kind::Annotations)]);
    };
    let s = &report.summary;
    let noise = s.drop_low <= 0.0 && 0.0 <= s.drop_high;
    let lines = [
        format!("parent {}, n = {}", percent(s.parent.top1), count(s.images)),
        format!(
            "change {} points{}, interval {} to {}",
            points(-s.drop),
            if noise { ", within noise" } else { "" },
            points(-s.drop_high),
            points(-s.drop_low)
        ),
        format!("top-5 {} → {}", percent(s.parent.top5), percent(s.optimized.top5)),
    ];
    let class = match noise {
        true => "",
        false if s.drop > 0.0 => "bad",
        false => "good",
    };
    tile(out, "Top-1 accuracy", &percent(s.optimized.top1), class, &lines)
}

/// Why a report is missing, escaped.
fn why_not(page: &Page<'_>, kind: super::super::Kind) -> String {
    let left = page.reports.left_out.iter().find(|left| left.kind == kind);
    left.map_or_else(|| "not asked for".to_string(), |left| esc(&left.reason).to_string())
}

/// Warnings, before any number below is believed.
pub(super) fn warnings(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    if page.warnings.is_empty() {
        return Ok(());
    }
    out.write_all(b"<section class=\"warnings\"><h2>Warnings</h2><ul>\n")?;
    for warning in page.warnings {
        writeln!(out, "<li>{}</li>", esc(warning))?;
    }
    out.write_all(b"</ul></section>\n")
}

/// The conditions of the run file.
pub(super) fn gates(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    if page.gates.is_empty() {
        return Ok(());
    }
    out.write_all(
        b"<section><h2>Gates</h2><div class=\"scroll\"><table>\n<thead><tr><th>Condition</th>\
          <th class=\"n\">Limit</th><th class=\"n\">Measured</th><th>Result</th></tr></thead>\n<tbody>\n",
    )?;
    for gate in &page.gates {
        let (name, show) = wording(gate);
        let value = gate.value.map_or_else(|| "not measured".to_string(), show);
        let result = if gate.passed {
            "<td class=\"good\">✓ passed</td>"
        } else {
            "<td class=\"bad\">✗ failed</td>"
        };
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{value}</td>{result}</tr>",
            esc(name),
            show(gate.limit)
        )?;
    }
    out.write_all(b"</tbody></table></div></section>\n")
}

fn wording(gate: &Gate) -> (&str, fn(f64) -> String) {
    match gate.name.as_str() {
        "min_speedup" => ("Speed-up at least", times),
        "min_agreement" => ("Agreement with parent at least", percent),
        "max_drop" => ("Top-1 drop at most", |value| format!("{value:.2} points")),
        other => (other, number),
    }
}
