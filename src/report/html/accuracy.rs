//! What the models say: changed images, confusions, labels, distances.

use std::io::{self, Write};

use super::page::Page;
use super::text::{
    base64, class_name, count, esc, number, number_cell, number_or_dash, percent, plural, points,
};
use crate::report::{Prediction, PredictionRow};

/// Confusion pairs shown, of those that occur more than once; the cards and the CSV hold the rest.
const PAIRS_SHOWN: usize = 12;

/// A card for each changed image, the largest divergence first.
pub(super) fn changed(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(report) = &page.reports.predictions else { return Ok(()) };
    let images = plural(report.summary.images, "image");
    if report.changed_count == 0 {
        return writeln!(
            out,
            "<section><h2>Changed predictions</h2><p class=\"lead\">None: on all {images} that both models \
             ran on, they predict the same class.</p></section>"
        );
    }
    write!(
        out,
        "<section><h2>Changed predictions <span class=\"count\">{}</span></h2><p class=\"lead\">The images \
         on which the two models predict different classes, the largest KL divergence first. Bars are \
         probabilities.</p>\n<div class=\"cards\">\n",
        count(report.changed_count)
    )?;
    let cards = report.changed.iter().take(page.max_cards);
    for (row, prediction) in cards.clone().filter_map(|row| Some((row, row.prediction()?))) {
        card(page, row, prediction, out)?;
    }
    out.write_all(b"</div>\n")?;
    let rest = report.changed_count - cards.len() as u64;
    if rest > 0 {
        let rest = plural(rest, "more changed image");
        writeln!(out, "<p class=\"lead\">{rest}: see predictions.csv.</p>")?;
    }
    out.write_all(b"</section>\n")
}

fn card(
    page: &Page<'_>,
    row: &PredictionRow,
    prediction: &Prediction,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(b"<article class=\"card\">\n")?;
    match page.thumbnails.get(&row.image) {
        Some(picture) => writeln!(
            out,
            "<img alt=\"{}\" src=\"data:{};base64,{}\">",
            esc(&row.image),
            esc(picture.mime),
            base64(&picture.bytes)
        )?,
        None => out.write_all(b"<div class=\"noimage\">no picture</div>\n")?,
    }
    write!(out, "<div class=\"what\"><h3>{}</h3>\n<p class=\"facts\">", esc(&row.image))?;
    if let Some(label) = row.label {
        let right = match (prediction.class_parent == label, prediction.class_optimized == label) {
            (true, _) => " <b class=\"bad\">lost</b>",
            (_, true) => " <b class=\"good\">gained</b>",
            _ => " both wrong",
        };
        write!(out, "<span>label <b>{}</b>{right}</span> ", esc(&class_name(page.classes, label)))?;
    }
    writeln!(
        out,
        "<span>KL {}</span> <span>rank {}</span></p>",
        number(prediction.kl),
        prediction.rank_of_parent_class
    )?;
    for (who, class, top) in [
        ("Parent", "parent", &prediction.top5_parent),
        ("Optimized", "optimized", &prediction.top5_optimized),
    ] {
        write!(out, "<h4>{who}</h4><ol class=\"top\">")?;
        for &(index, share) in top {
            let mark = if row.label == Some(index) { " class=\"label\"" } else { "" };
            let name = class_name(page.classes, index);
            let name = esc(&name);
            write!(
                out,
                "<li{mark}><span class=\"class\" title=\"{name}\"><span>{name}</span></span><svg aria-hidden=\"true\" \
                 width=\"100%\" height=\"8\"><rect class=\"track\" width=\"100%\" height=\"8\" rx=\"2\"/>\
                 <rect class=\"{class}\" width=\"{:.1}%\" height=\"8\" rx=\"2\"/></svg><span class=\"p\">{share:.2}\
                 </span></li>",
                f64::from(share) * 100.0
            )?;
        }
        out.write_all(b"</ol>\n")?;
    }
    out.write_all(b"</div></article>\n")
}

/// Which class became which, where it happened more than once.
pub(super) fn confusions(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(report) = &page.reports.predictions else { return Ok(()) };
    let pairs = &report.confusions;
    let shown = pairs.iter().take_while(|pair| pair.count > 1).take(PAIRS_SHOWN);
    let Some(most) = shown.clone().next().map(|pair| pair.count as f64) else { return Ok(()) };
    out.write_all(
        b"<section><h2>Confusions</h2><div class=\"scroll\"><table class=\"sortable\">\n<thead><tr>\
          <th>Parent says</th><th>Optimized says</th><th class=\"n\">Images</th><th class=\"plot\" data-plain></th>\
          </tr></thead>\n<tbody>\n",
    )?;
    for pair in shown.clone() {
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td>{}<td class=\"plot\"><svg aria-hidden=\"true\" width=\"100%\" \
             height=\"8\"><rect class=\"optimized\" width=\"{:.1}%\" height=\"8\" rx=\"2\"/></svg></td></tr>",
            esc(&class_name(page.classes, pair.parent)),
            esc(&class_name(page.classes, pair.optimized)),
            number_cell(Some(pair.count as f64), &count(pair.count)),
            pair.count as f64 / most * 100.0
        )?;
    }
    out.write_all(b"</tbody></table></div>\n")?;
    let rest = pairs.len() - shown.count();
    if rest > 0 {
        writeln!(out, "<p class=\"lead\">{} less frequent.</p>", plural(rest as u64, "further pair"))?;
    }
    out.write_all(b"</section>\n")
}

/// Both models against the labels.
pub(super) fn annotations(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(report) = &page.reports.annotations else { return Ok(()) };
    let s = &report.summary;
    let row = |name: &str, parent: f64, optimized: f64, rest: String| {
        format!(
            "<tr><th scope=\"row\">{name}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td>{rest}</td></tr>\n",
            percent(parent),
            percent(optimized),
            points(optimized - parent)
        )
    };
    write!(
        out,
        "<section><h2>Accuracy against annotations</h2><p class=\"lead\">On {}.</p>\n<div class=\"scroll\">\
         <table>\n<thead><tr><th></th><th class=\"n\">Parent</th><th class=\"n\">Optimized</th>\
         <th class=\"n\">Change, points</th><th>95 % interval of the change</th></tr></thead>\n<tbody>\n{}{}\
         </tbody></table></div>\n<p class=\"lead\">{} that the parent gets right {} lost, {} gained.{}</p>\
         </section>\n",
        plural(s.images, "labelled image"),
        row(
            "Top-1",
            s.parent.top1,
            s.optimized.top1,
            format!("{} to {} points", points(-s.drop_high), points(-s.drop_low))
        ),
        row("Top-5", s.parent.top5, s.optimized.top5, String::new()),
        plural(s.lost, "image"),
        if s.lost == 1 { "is" } else { "are" },
        count(s.gained),
        match s.unlabelled {
            0 => String::new(),
            n => format!(" {} without a label left out.", plural(n, "image")),
        }
    )
}

/// Tensor distance, one row for each output.
pub(super) fn distances(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let Some(report) = &page.reports.tensor_distance else { return Ok(()) };
    out.write_all(
        b"<section><h2>Tensor distance to the parent</h2><p class=\"lead\">On raw outputs, all elements of all \
          images taken together.</p>\n<div class=\"scroll\"><table class=\"sortable\">\n<thead><tr><th>Output</th>\
          <th class=\"n\">SQNR, dB</th><th class=\"n\">Cosine</th><th class=\"n\">NMSE</th><th class=\"n\">MSE</th>\
          <th class=\"n\">Max abs</th><th class=\"n\">Images</th></tr></thead>\n<tbody>\n",
    )?;
    for row in &report.per_output {
        let d = &row.distance;
        let sqnr = if d.mse == 0.0 { "identical".to_string() } else { number_or_dash(d.sqnr_db) };
        let images = match row.failed {
            0 => count(row.images),
            failed => format!("{}, <b class=\"bad\">{} failed</b>", count(row.images), count(failed)),
        };
        let cosine = d.cosine.map_or_else(|| "–".to_string(), |cosine| format!("{cosine:.5}"));
        write!(out, "<tr><td class=\"name\">{}</td>", esc(&row.output))?;
        for (value, shown) in [
            (d.sqnr_db, sqnr),
            (d.cosine, cosine),
            (d.nmse, number_or_dash(d.nmse)),
            (Some(d.mse), number(d.mse)),
            (Some(d.max_abs), number(d.max_abs)),
            (Some(row.images as f64), images),
        ] {
            out.write_all(number_cell(value, &shown).as_bytes())?;
        }
        out.write_all(b"</tr>\n")?;
    }
    out.write_all(b"</tbody></table></div></section>\n")
}
