//! The end of the page: what is missing, how it was made and measured, and where the files are.

use std::io::{self, Write};

use super::page::{Fact, ModelFacts, Page};
use super::text::{bytes, esc, plural, precision};
use crate::report::{Kind, MOST_FAILED};

/// Reports that could not be made.
pub(super) fn left_out(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    if page.reports.left_out.is_empty() {
        return Ok(());
    }
    out.write_all(b"<section><h2>Left out</h2><dl class=\"sheet\">\n")?;
    for left in &page.reports.left_out {
        let name = match left.kind {
            Kind::Predictions => "Comparison with the parent's predictions",
            Kind::Annotations => "Evaluation against annotations",
            Kind::TensorDistance => "Tensor distance",
        };
        writeln!(out, "<dt>{name}</dt><dd>{}</dd>", esc(&left.reason))?;
    }
    out.write_all(b"</dl></section>\n")
}

/// Images without a result, and why.
pub(super) fn unusable(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    let reports = page.reports;
    let unreadable = reports.unreadable.iter().map(|bad| (bad.image.as_str(), bad.reason.as_str()));
    list(out, "Images that could not be read", reports.unreadable.len() as u64, unreadable)?;
    let failed = reports.failed.first.iter().map(|(image, reason)| (image.as_str(), reason.as_str()));
    list(out, "Images on which an output is not finite", reports.failed.count, failed)
}

/// Lists the first of `count` images by name; the CSV files hold the rest.
fn list<'a>(
    out: &mut impl Write,
    title: &str,
    count: u64,
    images: impl Iterator<Item = (&'a str, &'a str)>,
) -> io::Result<()> {
    if count == 0 {
        return Ok(());
    }
    writeln!(out, "<section><h2>{title} <span class=\"count\">{count}</span></h2><dl class=\"sheet\">")?;
    for (image, reason) in images.take(MOST_FAILED) {
        writeln!(out, "<dt>{}</dt><dd>{}</dd>", esc(image), esc(reason))?;
    }
    out.write_all(b"</dl>")?;
    if count > MOST_FAILED as u64 {
        let rest = plural(count - MOST_FAILED as u64, "more image");
        write!(out, "<p class=\"lead\">{rest}: see the CSV files.</p>")?;
    }
    out.write_all(b"</section>\n")
}

/// Models, calibration, measurement, definitions.
pub(super) fn sheets(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"<section class=\"sheets\">\n")?;
    let mut models = model("Parent", &page.parent);
    models.extend(model("Optimized", &page.optimized));
    sheet(out, "Models", &models)?;
    sheet(out, "Calibration", &page.calibration)?;
    sheet(out, "How it was measured", &page.measured)?;
    sheet(out, "How to read it", &notes(page))?;
    out.write_all(b"</section>\n")
}

fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact { name: name.to_string(), value: value.into() }
}

fn model(who: &str, model: &ModelFacts) -> Vec<Fact> {
    vec![
        fact(who, format!("{}, {}, {}", model.path, precision(&model.precision), bytes(model.bytes))),
        fact(&format!("{who} SHA-256"), &model.sha256),
    ]
}

fn notes(page: &Page<'_>) -> Vec<Fact> {
    let mut notes = Vec::new();
    let reports = page.reports;
    if reports.predictions.is_some() || reports.annotations.is_some() {
        notes.push(fact(
            "Probabilities",
            if reports.softmax_applied {
                "The model ends in logits; softmax was applied to both models' outputs."
            } else {
                "The model ends in probabilities; no softmax was applied."
            },
        ));
        notes.push(fact("Class", "The most probable one; ties go to the lowest index."));
    }
    if reports.predictions.is_some() {
        notes.push(fact(
            "Agreement",
            "Share of images with the same class in both models, with a Wilson interval. An image on which an output \
             is not finite does not agree.",
        ));
        notes.push(fact(
            "Rank",
            "How many classes the optimized model prefers to its parent's class; 0 is none.",
        ));
        notes.push(fact("KL", "Kullback-Leibler divergence KL(p‖s) in nats, p the parent's probabilities."));
    }
    if reports.annotations.is_some() {
        notes.push(fact(
            "Change in accuracy",
            "Paired on the same images; interval for matched proportions after Agresti and Min (2005).",
        ));
    }
    if reports.tensor_distance.is_some() {
        notes.push(fact("SQNR", "Signal to quantization noise ratio, 10 log₁₀(Σ y² / Σ (ŷ − y)²)."));
    }
    notes
}

fn sheet(out: &mut impl Write, title: &str, facts: &[Fact]) -> io::Result<()> {
    if facts.is_empty() {
        return Ok(());
    }
    writeln!(out, "<div><h2>{}</h2><dl class=\"sheet\">", esc(title))?;
    for fact in facts {
        writeln!(out, "<dt>{}</dt><dd>{}</dd>", esc(&fact.name), esc(&fact.value))?;
    }
    out.write_all(b"</dl></div>\n")
}

/// Where the files are, and who made the page.
pub(super) fn footer(page: &Page<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"<footer>\n")?;
    if !page.files.is_empty() {
        out.write_all(b"<p>Files beside this page:")?;
        for file in page.files {
            write!(out, " <a href=\"./{}\">{}</a>", href(file), esc(file))?;
        }
        out.write_all(b"</p>\n")?;
    }
    write!(out, "<p>Made by calib8 {} on {}</p>\n</footer>\n", env!("CARGO_PKG_VERSION"), esc(page.made))
}

/// A relative path as an address: everything but unreserved characters and `/` as per-cent codes.
fn href(path: &str) -> String {
    let mut address = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    address
}
