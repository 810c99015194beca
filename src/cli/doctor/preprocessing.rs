//! `calib8 doctor --model M --dataset D`: which preprocessing fits.

use std::path::Path;

use crate::dataset::DatasetSpec;
use crate::model::printable;
use crate::run::fit::{Fit, Fits, fit};

/// So many images more must be right before one preprocessing is called better than another.
const TELLING: f64 = 3.0;
/// The same without labels, in nats.
const TELLING_SCORE: f64 = 0.2;

/// Tries the usual preprocessings and prints what fits; gives 0.
///
/// # Errors
/// Model or dataset can't be used, or standard output can't be written.
pub(super) fn run(model: &Path, dataset: &DatasetSpec, json: bool) -> anyhow::Result<u8> {
    let fits = fit(model, dataset)?;
    let text = if json { serde_json::to_string_pretty(&fits)? + "\n" } else { page(&fits)? };
    crate::cli::print(&text)?;
    Ok(0)
}

fn page(fits: &Fits) -> Result<String, serde_yaml::Error> {
    let mut text = format!("Preprocessing, tried on {} images", fits.images);
    text += &match fits.labelled {
        0 => ", without labels\n\n".to_string(),
        n => format!(", {n} of them labelled\n\n"),
    };
    text += "   top-1  confidence  varied  classes  preprocessing\n";
    for fit in &fits.fits {
        let top1 = fit.top1.map_or_else(|| "–".to_string(), |top1| format!("{:.1} %", 100.0 * top1));
        let offset = if fit.label_offset == 1 { " (class 0 is the background)" } else { "" };
        text += &format!(
            "{top1:>8}  {:>10.2}  {:>6.2}  {:>7}  {}{offset}\n",
            fit.confidence,
            fit.score,
            fit.classes_predicted,
            printable(&fit.name)
        );
    }
    text += "\nconfidence: mean of the largest probability. varied: how sure and how different the predictions are, \
             in nats;\na model that is sure of one class whatever it sees has 0. classes: different ones predicted.\n";
    if let Some(best) = fits.fits.first() {
        text += &verdict(best, fits)?;
    }
    Ok(text)
}

fn verdict(best: &Fit, fits: &Fits) -> Result<String, serde_yaml::Error> {
    let sure = match fits.labelled {
        0 => "The likeliest by its predictions; labels (--labels) would make it sure",
        _ => "The best by top-1",
    };
    let mut text = format!("\n{sure}: {}\n\npreprocess:\n", best.name);
    for line in serde_yaml::to_string(&best.preprocess)?.lines() {
        text += &format!("  {line}\n");
    }
    let is_near = |fit: &&Fit| match (best.top1, fit.top1) {
        (Some(a), Some(b)) => (a - b) * fits.labelled as f64 <= TELLING,
        _ => best.score - fit.score <= TELLING_SCORE,
    };
    let near: Vec<&str> = fits.fits.iter().skip(1).filter(is_near).map(|f| f.name.as_str()).collect();
    if !near.is_empty() {
        text += &format!("\nToo near to it to be told apart on so few images: {}\n", near.join("; "));
    }
    if !best.said.is_empty() {
        text += "\nWhat the model says then:\n";
    }
    for said in &best.said {
        let label = said.label.as_ref().map_or(String::new(), |label| format!(", labelled {label}"));
        let line = format!("{}: {} {:.2}{label}", said.image, said.class, said.probability);
        text += &format!("  {}\n", printable(&line));
    }
    if best.label_offset == 1 {
        text += "\nThe model has a class more than the labels, before the others: add 1 to each label.\n";
    }
    Ok(text)
}
