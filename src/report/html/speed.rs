//! Throughput bars, latencies, and the time of each layer.

use std::io::{self, Write};

use super::overview::setting;
use super::page::{Best, LayerRow, Page, Performance};
use super::text::{bytes, count, esc, macs, number, number_cell, number_or_dash, precision, times};

/// Layers shown before the reader asks for all of them.
const LAYERS_SHOWN: usize = 20;

/// FPS of each model and setting as bars with intervals, then latency percentiles.
pub(super) fn throughput(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut settings: Vec<(&str, usize, usize, usize)> = Vec::new();
    for p in &page.performance {
        let key = (p.engine.as_str(), p.streams, p.threads, p.batch);
        if !settings.contains(&key) {
            settings.push(key);
        }
    }
    if settings.is_empty() {
        return Ok(());
    }
    let scale = page.performance.iter().map(|p| p.fps.max(p.fps_high)).fold(f64::MIN_POSITIVE, f64::max);
    out.write_all(
        b"<section><h2>Throughput</h2><p class=\"lead\">Images per second; the whisker is the 95 % interval \
          of the median. Longer is better.</p>\n<div class=\"bars\">\n",
    )?;
    for (engine, streams, threads, batch) in settings {
        let here = |p: &&Performance| {
            p.engine == engine && (p.streams, p.threads, p.batch) == (streams, threads, batch)
        };
        let ratio = page
            .speedup
            .iter()
            .find(|s| s.engine == engine && (s.streams, s.threads, s.batch) == (streams, threads, batch));
        let ratio = ratio.map_or_else(String::new, |s| {
            let note = if s.high < 1.0 { "<b class=\"bad\">slower</b> " } else { "" };
            format!("{note}<b>{}</b> <span>{} – {}</span>", times(s.ratio), number(s.low), number(s.high))
        });
        writeln!(
            out,
            "<figure><figcaption><span>{}</span><span class=\"ratio\">{ratio}</span></figcaption>",
            setting(engine, streams, threads, batch)
        )?;
        for p in page.performance.iter().filter(here) {
            bar(p, scale, out)?;
        }
        out.write_all(b"</figure>\n")?;
    }
    out.write_all(b"</div>\n")?;
    for fact in &page.unmeasured {
        writeln!(out, "<p class=\"lead\">{}: not measured: {}</p>", esc(&fact.name), esc(&fact.value))?;
    }
    latency(page, out)?;
    best(page, out)?;
    loads(page, out)?;
    out.write_all(b"</section>\n")
}

fn who(optimized: bool) -> &'static str {
    if optimized { "optimized" } else { "parent" }
}

/// The setting with the most throughput for each model on each engine, where there was a choice.
fn best(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let settings = |best: &Best| {
        let same = |p: &&Performance| p.engine == best.engine && p.optimized == best.optimized;
        page.performance.iter().filter(same).count()
    };
    let limited = page.best.iter().any(|best| !best.within_limit);
    if !limited && page.best.iter().all(|best| settings(best) < 2) {
        return Ok(());
    }
    out.write_all(
        b"<h3>Best throughput</h3>\n<div class=\"scroll\"><table class=\"sortable\">\n<thead><tr><th>Model</th>\
          <th>Setting</th><th class=\"n\">FPS</th><th class=\"n\">p99, ms</th></tr></thead>\n<tbody>\n",
    )?;
    for best in &page.best {
        let note = if best.within_limit { "" } else { " <span class=\"bad\">over the limit</span>" };
        writeln!(
            out,
            "<tr><td>{}</td><td>{}{note}</td>{}{}</tr>",
            who(best.optimized),
            setting(&best.engine, best.streams, best.threads, best.batch),
            number_cell(Some(best.fps), &number(best.fps)),
            number_cell(Some(best.p99_ms), &number(best.p99_ms)),
        )?;
    }
    out.write_all(b"</tbody></table></div>\n")
}

/// What it takes to have a model ready.
fn loads(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    if page.loads.is_empty() {
        return Ok(());
    }
    out.write_all(
        b"<h3>Load and memory</h3>\n<div class=\"scroll\"><table class=\"sortable\">\n<thead><tr><th>Model</th>\
          <th>Engine</th><th class=\"n\">Load and first inference, ms</th><th class=\"n\">Memory</th></tr></thead>\n\
          <tbody>\n",
    )?;
    for load in &page.loads {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td>{}{}</tr>",
            who(load.optimized),
            esc(&load.engine),
            number_cell(Some(load.load_ms), &number(load.load_ms)),
            number_cell(Some(load.bytes as f64), &bytes(load.bytes)),
        )?;
    }
    out.write_all(b"</tbody></table></div>\n")
}

fn bar(p: &Performance, scale: f64, out: &mut impl Write) -> io::Result<()> {
    let at = |fps: f64| (fps / scale * 100.0).clamp(0.0, 100.0);
    let (class, name) = if p.optimized { ("optimized", "optimized") } else { ("parent", "parent") };
    writeln!(
        out,
        "<div class=\"bar\"><span class=\"who\">{name}</span>\
         <svg role=\"img\" aria-label=\"{name}: {fps} FPS\" height=\"18\" width=\"100%\">\
         <rect class=\"{class}\" width=\"{median:.3}%\" height=\"18\" rx=\"2\"/>\
         <g class=\"whisker\"><line x1=\"{low:.3}%\" x2=\"{high:.3}%\" y1=\"9\" y2=\"9\"/>\
         <line x1=\"{low:.3}%\" x2=\"{low:.3}%\" y1=\"5\" y2=\"13\"/>\
         <line x1=\"{high:.3}%\" x2=\"{high:.3}%\" y1=\"5\" y2=\"13\"/></g></svg>\
         <span class=\"fps\"><b>{fps}</b> FPS</span></div>",
        fps = number(p.fps),
        median = at(p.fps),
        low = at(p.fps_low),
        high = at(p.fps_high),
    )
}

fn latency(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(
        b"<h3>Latency of one inference</h3>\n<div class=\"scroll\"><table class=\"sortable\">\n<thead><tr>\
          <th>Model</th><th>Engine</th><th>Ran in</th><th class=\"n\">Streams</th><th class=\"n\">Threads per stream</th>\
          <th class=\"n\">Batch</th><th class=\"n\">FPS</th><th class=\"n\">p50, ms</th><th class=\"n\">p90, ms</th>\
          <th class=\"n\">p99, ms</th></tr></thead>\n<tbody>\n",
    )?;
    for p in &page.performance {
        write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td>",
            who(p.optimized),
            esc(&p.engine),
            esc(if p.precision.is_empty() { "–" } else { &p.precision })
        )?;
        for value in [p.streams as f64, p.threads as f64, p.batch as f64, p.fps, p.p50_ms, p.p90_ms, p.p99_ms]
        {
            let shown = if value.fract() == 0.0 { count(value as u64) } else { number(value) };
            out.write_all(number_cell(Some(value), &shown).as_bytes())?;
        }
        out.write_all(b"</tr>\n")?;
    }
    out.write_all(b"</tbody></table></div>\n")
}

/// Time, precision and work of each layer, the slowest first.
pub(super) fn layers(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    if page.layers.is_empty() {
        return Ok(());
    }
    let longest = |layer: &LayerRow| layer.parent_us.unwrap_or(0.0).max(layer.optimized_us.unwrap_or(0.0));
    let mut layers: Vec<&LayerRow> = page.layers.iter().collect();
    layers.sort_by(|a, b| longest(b).total_cmp(&longest(a)).then_with(|| a.name.cmp(&b.name)));
    let scale = layers.iter().map(|layer| longest(layer)).fold(f64::MIN_POSITIVE, f64::max);
    let parent: f64 = layers.iter().filter_map(|layer| layer.parent_us).sum();
    let optimized: f64 = layers.iter().filter_map(|layer| layer.optimized_us).sum();
    writeln!(
        out,
        "<section><h2>Layers</h2><p class=\"lead\">Time of one inference, from a pass of its own: \
         {} µs in the parent, {} µs in the optimized model. Share is of the optimized model's time. \
         SQNR is the signal to noise ratio of the layer's result in INT8: alone, when no other layer is \
         quantized; in place, when all are.</p>",
        number(parent),
        number(optimized)
    )?;
    if layers.len() > LAYERS_SHOWN {
        writeln!(
            out,
            "<label class=\"more\"><input type=\"checkbox\" id=\"all-layers\"> show all {} layers</label>",
            layers.len()
        )?;
    }
    out.write_all(
        "<div class=\"scroll\"><table class=\"sortable layers\">\n<thead><tr><th>Layer</th><th>Kind</th>\
         <th>Precision</th><th class=\"n\">Parent, µs</th><th class=\"n\">Optimized, µs</th>\
         <th class=\"plot\" data-plain>Time</th><th class=\"n\">Ratio</th><th class=\"n\">Share</th>\
         <th class=\"n\">SQNR alone, dB</th><th class=\"n\">in place, dB</th>\
         <th class=\"n\">MACs</th><th class=\"n\">GMAC/s</th><th>Why not faster</th></tr></thead>\n<tbody>\n"
            .as_bytes(),
    )?;
    for (index, layer) in layers.into_iter().enumerate() {
        layer_row(layer, index >= LAYERS_SHOWN, scale, optimized, out)?;
    }
    out.write_all(b"</tbody></table></div></section>\n")
}

fn layer_row(
    layer: &LayerRow,
    hidden: bool,
    scale: f64,
    total_us: f64,
    out: &mut impl Write,
) -> io::Result<()> {
    let formats = match (precision(&layer.precision_parent), precision(&layer.precision_optimized)) {
        (parent, optimized) if parent == optimized || optimized.is_empty() => parent,
        (parent, optimized) if parent.is_empty() => optimized,
        (parent, optimized) => format!("{parent} → {optimized}"),
    };
    let ratio = match (layer.parent_us, layer.optimized_us) {
        (Some(parent), Some(optimized)) if optimized > 0.0 => Some(parent / optimized),
        _ => None,
    };
    let share = layer.optimized_us.filter(|_| total_us > 0.0).map(|time| time / total_us);
    let width = |time: Option<f64>| time.unwrap_or(0.0) / scale * 100.0;
    write!(
        out,
        "<tr{}><td class=\"name\">{}</td><td>{}</td><td>{}</td>",
        if hidden { " class=\"hidden\"" } else { "" },
        esc(&layer.name),
        esc(&layer.kind),
        esc(&formats)
    )?;
    for time in [layer.parent_us, layer.optimized_us] {
        out.write_all(number_cell(time, &number_or_dash(time)).as_bytes())?;
    }
    write!(
        out,
        "<td class=\"plot\"><svg aria-hidden=\"true\" width=\"100%\" height=\"13\">\
         <rect class=\"parent\" width=\"{:.2}%\" height=\"6\" rx=\"1\"/>\
         <rect class=\"optimized\" y=\"7\" width=\"{:.2}%\" height=\"6\" rx=\"1\"/></svg></td>",
        width(layer.parent_us),
        width(layer.optimized_us)
    )?;
    let shown = match ratio {
        Some(ratio) if ratio < 1.0 => format!("<span class=\"bad\">{} slower</span>", times(ratio)),
        Some(ratio) => times(ratio),
        None => "–".to_string(),
    };
    out.write_all(number_cell(ratio, &shown).as_bytes())?;
    let percent = share.map_or_else(|| "–".to_string(), |share| format!("{:.1} %", share * 100.0));
    out.write_all(number_cell(share, &percent).as_bytes())?;
    for ratio in [layer.alone_db, layer.in_place_db] {
        let shown = ratio.map_or_else(|| "–".to_string(), |ratio| format!("{ratio:.1}"));
        out.write_all(number_cell(ratio, &shown).as_bytes())?;
    }
    out.write_all(number_cell(Some(layer.macs as f64), &macs(layer.macs)).as_bytes())?;
    let rate =
        layer.optimized_us.filter(|us| *us > 0.0 && layer.macs > 0).map(|us| layer.macs as f64 / us / 1e3);
    out.write_all(number_cell(rate, &number_or_dash(rate)).as_bytes())?;
    writeln!(out, "<td>{}</td></tr>", esc(&layer.note))
}
