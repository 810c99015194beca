//! The same two models on several kinds of node, side by side.

use std::io::{self, Write};

use super::overview::setting;
use super::page::{Host, Page};
use super::text::{esc, number, number_cell, number_or_dash, times};

/// A table with a row for each setting on each kind of node; nothing where one machine measured.
pub(super) fn hosts(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    if page.hosts.is_empty() {
        return Ok(());
    }
    out.write_all(
        b"<section><h2>Hosts</h2><p class=\"lead\">The same two files on each kind of node of performance.on, which had \
          the node to themselves. The first is the one that the rest of this page speaks of. Agreement is with the \
          parent on the same node, on a part of the images.</p>\n<div class=\"scroll\"><table class=\"sortable\">\n\
          <thead><tr><th>Kind of node</th><th>Host</th><th>Processor</th><th>Kernels</th><th class=\"n\">Cores</th>\
          <th>Setting</th><th class=\"n\">Parent, FPS</th><th class=\"n\">Optimized, FPS</th><th class=\"n\">Ratio</th>\
          <th>95 % interval</th><th class=\"n\">Agreement</th></tr></thead>\n<tbody>\n",
    )?;
    for host in &page.hosts {
        row(host, out)?;
    }
    out.write_all(b"</tbody></table></div></section>\n")
}

fn row(host: &Host, out: &mut impl Write) -> io::Result<()> {
    let s = &host.speedup;
    let ratio = match s.high < 1.0 {
        true => format!("<span class=\"bad\">{} slower</span>", times(s.ratio)),
        false => times(s.ratio),
    };
    let agreement = host
        .agreement
        .map_or_else(|| "–".to_string(), |(share, images)| format!("{:.1} % of {images}", 100.0 * share));
    write!(
        out,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
        esc(&host.on),
        esc(&host.hostname),
        esc(&host.cpu),
        esc(&host.kernels)
    )?;
    writeln!(
        out,
        "{}<td>{}</td>{}{}{}<td>{} – {}</td>{}</tr>",
        number_cell(Some(host.cores as f64), &host.cores.to_string()),
        setting(&s.engine, s.streams, s.threads, s.batch),
        number_cell(host.parent_fps, &number_or_dash(host.parent_fps)),
        number_cell(host.optimized_fps, &number_or_dash(host.optimized_fps)),
        number_cell(Some(s.ratio), &ratio),
        number(s.low),
        number(s.high),
        number_cell(host.agreement.map(|(share, _)| share), &agreement)
    )
}
