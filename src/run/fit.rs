//! Which preprocessing a model was trained with: the parent runs under the usual ones, and what it says tells.
//!
//! A wrong preprocessing is the commonest cause of a bad accuracy, and nothing in an ONNX file names the right
//! one. With labels the right one has the best top-1. Without, the right one makes predictions that are
//! confident for each image and vary between images: ln of the inception score (Salimans et al. 2016,
//! arXiv:1606.03498), H(mean p) − mean H(p). Confidence alone would not do: pixels of the wrong scale
//! saturate a network, which is then sure of one class whatever it sees.

use image::RgbImage;
use ndarray::Axis;
use serde::{Deserialize, Serialize};

use super::RunError;
use super::events::Stage;
use super::plan::{ColorOrder, Preprocessing, Steps};
use super::stages::prepare::load;
use super::stages::verify::head_of;
use super::worker::StageError;
use crate::dataset::{Dataset, DatasetSpec, Item, Preprocess, Resize, decode};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions, Session, Value};
use crate::model::{Dim, Model};
use crate::report::{Head, metrics};

/// Images to look at.
const IMAGES: usize = 48;
/// Images that a run looks at before it goes on.
const IMAGES_OF_A_RUN: usize = 24;
/// Above this share of top-1, or of the largest score that there can be, a preprocessing is not doubted.
const SURE: f64 = 0.5;
/// The shorter side before the crop, as a multiple of the crop: 256 for 224.
const RESIZE_PER_CROP: f64 = 256.0 / 224.0;
/// Smaller inputs come from datasets of such images, which are not cropped.
const SMALLEST_CROP: usize = 96;
/// By so many points of top-1 another preprocessing must be better before the chosen one looks wrong.
const SUSPICIOUS_TOP1: f64 = 0.1;
/// The same for ln of the inception score, in nats.
const SUSPICIOUS_SCORE: f64 = 0.7;

/// Images whose predictions are shown.
const SHOWN: usize = 4;

/// How well one preprocessing fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// What it is, such as `rgb, -1 to 1`.
    pub name: String,
    /// As `preprocess` in a run file.
    pub preprocess: Preprocessing,
    /// Share of the labelled images whose class is predicted; absent without labels.
    pub top1: Option<f64>,
    /// What has to be added to labels to give the model's classes: 1 if its class 0 is the background.
    pub label_offset: usize,
    /// Mean of the largest probability.
    pub confidence: f64,
    /// ln of the inception score, in nats.
    pub score: f64,
    /// Different classes that were predicted.
    pub classes_predicted: usize,
    /// What the model says of the first images.
    pub said: Vec<Said>,
}

/// What the model says of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Path relative to the dataset.
    pub image: String,
    /// Name of the class that it should be.
    pub label: Option<String>,
    /// Name of the class with the highest probability.
    pub class: String,
    /// Its probability.
    pub probability: f64,
}

/// All that was tried, the best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fits {
    /// Images that were looked at.
    pub images: usize,
    /// Images of these that have a label.
    pub labelled: usize,
    /// Classes of the model.
    pub classes: usize,
    /// The candidates.
    pub fits: Vec<Fit>,
}

/// Runs the model under the usual preprocessings on a few images of a dataset.
///
/// # Errors
/// Model or dataset can't be used, or the model is no classifier.
pub fn fit(model: &std::path::Path, dataset: &DatasetSpec) -> Result<Fits, RunError> {
    let work = || -> Result<Fits, StageError> {
        let model = load(model)?;
        let dataset = Dataset::open(dataset)?;
        let candidates = with_presets(candidates(&model)?, &model, &dataset)?;
        let session = Builtin.load(&model, &LoadOptions::default())?;
        try_all(session.as_ref(), &dataset, IMAGES, &candidates)
    };
    work().map_err(|source| RunError::Stage { stage: Stage::Prepare, source })
}

/// Why `given` looks wrong for this model and dataset, if it does; `None` too where nothing can be said. Others
/// are tried only if the parent is unsure of the images as they are given to it.
pub(super) fn doubt(
    session: &dyn Session,
    model: &Model,
    dataset: &Dataset,
    given: &Preprocess,
) -> Result<Option<String>, StageError> {
    const GIVEN: &str = "the given one";
    let own = [(GIVEN.to_string(), None, given.clone())];
    let Fits { images, fits: first, classes, .. } = try_all(session, dataset, IMAGES_OF_A_RUN, &own)?;
    let Some(own) = first.into_iter().next() else { return Ok(None) };
    let most = (images.min(classes).max(1) as f64).ln();
    if own.top1.unwrap_or(0.0) > SURE && own.top1.is_some() || own.top1.is_none() && own.score > SURE * most {
        return Ok(None);
    }
    let others = try_all(session, dataset, IMAGES_OF_A_RUN, &candidates(model)?)?;
    let Some(best) = others.fits.first() else { return Ok(None) };
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let evidence = match (best.top1, own.top1) {
        (Some(other), Some(own)) if other > own + SUSPICIOUS_TOP1 => {
            format!("top-1 {} instead of {}", percent(other), percent(own))
        }
        (None, None) if best.score > own.score + SUSPICIOUS_SCORE => {
            format!(
                "predictions that are surer and more varied, {:.1} instead of {:.1} nats",
                best.score, own.score
            )
        }
        _ => return Ok(None),
    };
    Ok(Some(format!(
        "the preprocessing looks wrong: with '{}' the parent does better on {images} images ({evidence}); \
         `calib8 doctor --model MODEL --dataset DIR` tries the usual ones",
        best.name
    )))
}

type Candidate = (String, Option<Preprocessing>, Preprocess);

/// The usual preprocessings for the input of `model`.
fn candidates(model: &Model) -> Result<Vec<Candidate>, StageError> {
    let port = model.image_input()?;
    let sides: Vec<usize> =
        port.dims.iter().skip(1).map(|d| if let Dim::Fixed(n) = d { *n } else { 0 }).collect();
    let [channels, height, width] = sides[..] else { return Err("the model's input is not an image".into()) };
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let sized = if height == width && height >= SMALLEST_CROP {
        let short = (height as f64 * RESIZE_PER_CROP).round() as usize;
        Steps { resize_short: Some(side(short)), crop: Some(side(height)), ..Steps::default() }
    } else {
        Steps { resize: Some([side(width), side(height)]), ..Steps::default() }
    };
    let unit = 1.0 / 255.0;
    let values: [(&str, f32, [f32; 3], [f32; 3]); 6] = [
        ("0 to 255", 1.0, [0.0; 3], [1.0; 3]),
        ("0 to 1", unit, [0.0; 3], [1.0; 3]),
        ("-1 to 1", 1.0, [127.5; 3], [127.5; 3]),
        ("ImageNet mean and std", unit, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("Caffe mean", 1.0, [123.0, 117.0, 104.0], [1.0; 3]),
        ("Caffe mean, scale 0.017", 1.0, [123.68, 116.78, 103.94], [58.8235; 3]),
    ];
    let colors: &[ColorOrder] = match channels {
        1 => &[ColorOrder::Y],
        3 => &[ColorOrder::Rgb, ColorOrder::Bgr],
        other => return Err(format!("the model's input has {other} channels, expected 1 or 3").into()),
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    for color in colors {
        for (name, scale, mean, std) in values {
            // Without colours only the ranges differ.
            let of_color = |mut values: [f32; 3]| match color {
                ColorOrder::Rgb => values.to_vec(),
                ColorOrder::Bgr => {
                    values.reverse();
                    values.to_vec()
                }
                ColorOrder::Y => vec![values[0]],
            };
            if *color == ColorOrder::Y && mean[0] != mean[1] {
                continue;
            }
            let steps =
                Steps { color: *color, scale, mean: of_color(mean), std: of_color(std), ..sized.clone() };
            let word = match color {
                ColorOrder::Rgb => "rgb",
                ColorOrder::Bgr => "bgr",
                ColorOrder::Y => "y",
            };
            let steps = Preprocessing::Steps(steps);
            let preprocess = steps.to_preprocess()?;
            candidates.push((format!("{word}, {name}"), Some(steps), preprocess));
        }
    }
    Ok(candidates)
}

/// The presets beside the candidates, where they give the model's input; one that is a candidate gives it its name.
fn with_presets(
    mut candidates: Vec<Candidate>,
    model: &Model,
    dataset: &Dataset,
) -> Result<Vec<Candidate>, StageError> {
    let port = model.image_input()?;
    let Some(image) = dataset.items.iter().find_map(|item| decode(&item.path).ok()) else {
        return Ok(candidates);
    };
    for name in Preprocess::preset_names() {
        // Without resizing, what comes out depends on the image.
        let preset = Preprocess::preset(name).filter(|preset| preset.resize != Resize::Keep);
        let Some(preset) = preset else { continue };
        let shape = preset.apply(&image)?.shape().to_vec();
        if !shape.iter().zip(port.dims.iter().skip(1)).all(|(side, dim)| *dim == Dim::Fixed(*side)) {
            continue;
        }
        let named = Some(Preprocessing::Preset((*name).into()));
        match candidates.iter_mut().find(|(_, _, candidate)| *candidate == preset) {
            Some((known, steps, _)) => (*known, *steps) = ((*name).into(), named),
            None => candidates.push(((*name).into(), named, preset)),
        }
    }
    Ok(candidates)
}

fn try_all(
    session: &dyn Session,
    dataset: &Dataset,
    images: usize,
    candidates: &[Candidate],
) -> Result<Fits, StageError> {
    let part = dataset.subset(images);
    let readable: Vec<(&Item, RgbImage)> =
        part.items.iter().filter_map(|item| Some((item, decode(&item.path).ok()?))).collect();
    let decoded: Vec<(&RgbImage, Option<u32>)> =
        readable.iter().map(|(item, image)| (image, item.label)).collect();
    if decoded.is_empty() {
        return Err(format!("{}: none of its images can be read", dataset.root.display()).into());
    }
    let mut runner = session.spawn()?;
    let (mut fits, mut classes) = (Vec::new(), 0);
    for (name, steps, preprocess) in candidates {
        let mut outputs: Vec<(Vec<f32>, Option<u32>)> = Vec::new();
        for (image, label) in &decoded {
            let tensor = preprocess.apply(image)?;
            let first =
                runner.run(&[Value::from(tensor.insert_axis(Axis(0)).into_dyn())])?.into_iter().next();
            outputs.extend(first.map(|v| (v.as_slice().to_vec(), *label)));
        }
        let samples: Vec<Vec<f32>> = outputs.iter().map(|(o, _)| o.clone()).collect();
        classes = samples.first().map_or(0, Vec::len);
        let head = head_of(session, &samples);
        if head == Head::NotAClassifier {
            return Err("the model's first output is not a vector of class scores, so nothing tells which \
                        preprocessing fits"
                .into());
        }
        let mut fit = judge(name, steps.as_ref(), &outputs, head);
        let names = dataset.classes.as_deref().unwrap_or_default();
        let shown = readable.iter().zip(&outputs).take(SHOWN);
        fit.said =
            shown.map(|((item, _), (output, _))| said(item, output, head, names, fit.label_offset)).collect();
        fits.push(fit);
    }
    // The first of equals wins: the order is fixed, so is the result.
    fits.sort_by(|a, b| {
        let key = |f: &Fit| (f.top1.unwrap_or(0.0), f.score);
        let ((top_a, score_a), (top_b, score_b)) = (key(a), key(b));
        top_b.total_cmp(&top_a).then(score_b.total_cmp(&score_a))
    });
    let labelled = decoded.iter().filter(|(_, label)| label.is_some()).count();
    Ok(Fits { images: decoded.len(), labelled, classes, fits })
}

/// What an output means. `names` are those of the model's classes, or, where it has one more, of the labels'.
fn said(item: &Item, output: &[f32], head: Head, names: &[String], label_offset: usize) -> Said {
    let class = metrics::argmax(output);
    let logs = match head {
        Head::Probabilities => metrics::log_probabilities(output),
        _ => metrics::log_softmax(output),
    };
    let shift = if names.len() < output.len() { label_offset } else { 0 };
    let name = |class: usize| {
        let name = class.checked_sub(shift).and_then(|at| names.get(at));
        name.cloned().unwrap_or_else(|| format!("class {class}"))
    };
    Said {
        image: item.name.clone(),
        label: item.label.map(|label| name(label as usize + label_offset)),
        class: class.map_or_else(|| "not a number".into(), name),
        probability: class.map_or(0.0, |class| logs[class].exp()),
    }
}

fn judge(name: &str, steps: Option<&Preprocessing>, outputs: &[(Vec<f32>, Option<u32>)], head: Head) -> Fit {
    let logs = |values: &[f32]| match head {
        Head::Probabilities => metrics::log_probabilities(values),
        _ => metrics::log_softmax(values),
    };
    let finite: Vec<&(Vec<f32>, Option<u32>)> =
        outputs.iter().filter(|(o, _)| metrics::count_non_finite(o) == 0).collect();
    let classes = outputs.first().map_or(0, |(o, _)| o.len());
    let mut mean = vec![0f64; classes];
    let (mut entropy, mut confidence) = (0.0, 0.0);
    let entropy_of = |p: f64, ln: f64| if p > 0.0 { -p * ln } else { 0.0 };
    for (output, _) in &finite {
        let logs = logs(output);
        confidence += logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).exp();
        entropy += logs.iter().map(|ln| entropy_of(ln.exp(), *ln)).sum::<f64>();
        mean.iter_mut().zip(&logs).for_each(|(m, ln)| *m += ln.exp());
    }
    let count = finite.len().max(1) as f64;
    let of_mean: f64 = mean.iter().map(|m| m / count).map(|p| entropy_of(p, p.ln())).sum();
    let hits = |offset: usize| {
        let hit = |(o, label): &(Vec<f32>, Option<u32>)| {
            label.is_some_and(|l| metrics::argmax(o) == Some(l as usize + offset))
        };
        outputs.iter().filter(|o| hit(o)).count()
    };
    let labelled = outputs.iter().filter(|(_, label)| label.is_some()).count();
    let largest = outputs.iter().filter_map(|(_, label)| *label).max().unwrap_or(0) as usize;
    // A model may have a background class before those of the labels.
    let label_offset = usize::from(labelled > 0 && largest + 1 < classes && hits(1) > hits(0));
    let predicted: std::collections::BTreeSet<Option<usize>> =
        outputs.iter().map(|(o, _)| metrics::argmax(o)).collect();
    Fit {
        name: name.into(),
        preprocess: steps.cloned().unwrap_or(Preprocessing::Preset("given".into())),
        top1: (labelled > 0).then(|| hits(label_offset) as f64 / labelled as f64),
        label_offset,
        confidence: confidence / count,
        score: (of_mean - entropy / count).max(0.0),
        classes_predicted: predicted.len(),
        said: Vec::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn outputs(of: &[(usize, f32)], labels: bool) -> Vec<(Vec<f32>, Option<u32>)> {
        let one = |(class, height): &(usize, f32)| {
            let mut logits = vec![0f32; 4];
            logits[*class] = *height;
            (logits, labels.then_some(*class as u32))
        };
        of.iter().map(one).collect()
    }

    #[test]
    fn sure_of_one_class_is_worth_nothing_and_sure_of_many_is_worth_most() {
        let score = |of: &[(usize, f32)]| judge("x", None, &outputs(of, false), Head::Logits);
        let stuck = score(&[(2, 50.0), (2, 50.0), (2, 50.0), (2, 50.0)]);
        let unsure = score(&[(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)]);
        let right = score(&[(0, 9.0), (1, 9.0), (2, 9.0), (3, 9.0)]);
        assert!(stuck.confidence > right.confidence);
        assert!(stuck.score < 1e-9 && stuck.score < unsure.score && unsure.score < right.score);
        assert_eq!((stuck.classes_predicted, right.classes_predicted), (1, 4));
        assert_eq!(right.top1, None);
    }

    #[test]
    fn a_background_class_before_the_others_is_recognized() {
        let shifted: Vec<_> = outputs(&[(1, 9.0), (2, 9.0), (3, 9.0)], true)
            .into_iter()
            .map(|(o, label)| (o, label.map(|l| l - 1)))
            .collect();
        let fit = judge("x", None, &shifted, Head::Logits);
        assert_eq!((fit.top1, fit.label_offset), (Some(1.0), 1));
        let plain = judge("x", None, &outputs(&[(0, 9.0), (1, 9.0)], true), Head::Logits);
        assert_eq!((plain.top1, plain.label_offset), (Some(1.0), 0));
    }
}
