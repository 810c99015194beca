//! Accuracy against speed: each set of layers in FP32 that was tried.

use std::io::{self, Write};

use super::page::{Page, TradeoffPoint};
use super::text::{esc, number, number_cell};

/// Names of layers that are shown of one set.
const NAMES_SHOWN: usize = 8;

/// A table of the sets, the fastest first; nothing where none was tried.
pub(super) fn tradeoff(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    if page.tradeoff.is_empty() {
        return Ok(());
    }
    out.write_all(
        b"<section><h2>Accuracy against speed</h2><p class=\"lead\">Sets of layers that were kept in FP32. FPS \
          is the sum of the layers' own times, without the borders between INT8 and FP32. To take another \
          set, put its layers into optimize.ignored_scope.names; tradeoff.json has them all.</p>\n\
          <div class=\"scroll\"><table class=\"sortable\">\n<thead><tr><th class=\"n\">Layers in FP32</th>\
          <th class=\"n\">FPS, estimated</th><th class=\"n\">Drop, points</th><th class=\"n\">KL</th>\
          <th></th><th>Names</th></tr></thead>\n<tbody>\n",
    )?;
    let mut points: Vec<&TradeoffPoint> = page.tradeoff.iter().collect();
    points.sort_by(|a, b| b.fps.total_cmp(&a.fps));
    for point in points {
        let count = point.fp32_layers.len();
        let mut names = point.fp32_layers.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if count > NAMES_SHOWN {
            names += &format!(" and {} more", count - NAMES_SHOWN);
        }
        writeln!(
            out,
            "<tr>{}{}{}{}<td>{}</td><td class=\"name\">{}</td></tr>",
            number_cell(Some(count as f64), &count.to_string()),
            number_cell(Some(point.fps), &number(point.fps)),
            number_cell(Some(point.drop), &format!("{:.2}", point.drop)),
            number_cell(Some(point.kl), &number(point.kl)),
            if point.taken { "<b>taken</b>" } else { "" },
            esc(&names)
        )?;
    }
    out.write_all(b"</tbody></table></div></section>\n")
}
