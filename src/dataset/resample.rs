//! Antialiased bilinear resizing that gives the same bytes as Pillow's `Image.resize(BILINEAR)`.
//!
//! Models are trained and evaluated on images that Pillow resized; a different filter costs them
//! up to a point of accuracy, which would then be blamed on quantization. The arithmetic is that of
//! Pillow's `Resample.c`: a triangle filter that widens with the shrinking factor, its weights in
//! fixed point with 22 fractional bits, rows first, then columns, each pass rounded to 8 bits.
//!
//! Pillow 13 changed one thing: it does the columns first where the height shrinks by more than twice
//! as many pixels as the width. Here rows always come first, as in all Pillow releases before,
//! with which nearly all models were made; the two orders differ by at most 1 (of 255) in a value.
//!
//! Each output pixel depends on nothing but its own window of the input, so a crop of the result
//! is computed without the rest.

use image::RgbImage;
use std::ops::Range;

/// Fractional bits of a weight: 32 minus 8 of the pixel minus 2 of headroom.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// One half in fixed point, which turns truncation into rounding.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Channels of an RGB pixel.
const RGB: usize = 3;

/// Scales `image` to `width` x `height` and returns the part of it at `columns`, `rows`.
///
/// The ranges lie within the scaled size; the image and the ranges aren't empty.
pub(super) fn resize(
    image: &RgbImage,
    width: u32,
    height: u32,
    columns: Range<u32>,
    rows: Range<u32>,
) -> RgbImage {
    // An axis whose length stays needs no pass.
    let across = (width != image.width()).then(|| Weights::new(image.width(), width, columns.clone()));
    let down = (height != image.height()).then(|| Weights::new(image.height(), height, rows.clone()));

    // Only the input rows that reach an output row.
    let needed = down.as_ref().map_or(rows.start as usize..rows.end as usize, Weights::inputs);
    let row_bytes = image.width() as usize * RGB;
    let narrow_row_bytes = columns.len() * RGB;
    let mut narrow = vec![0; needed.len() * narrow_row_bytes];
    let input_rows = image.as_raw().chunks_exact(row_bytes).skip(needed.start);
    for (source, target) in input_rows.zip(narrow.chunks_exact_mut(narrow_row_bytes)) {
        match &across {
            Some(across) => resize_row(source, across, target),
            None => target.copy_from_slice(&source[columns.start as usize * RGB..][..narrow_row_bytes]),
        }
    }

    let mut output = RgbImage::new(columns.len() as u32, rows.len() as u32);
    let Some(down) = down else {
        output.copy_from_slice(&narrow);
        return output;
    };
    let mut sums = vec![0; narrow_row_bytes];
    for (window, target) in down.windows.iter().zip(output.chunks_exact_mut(narrow_row_bytes)) {
        let source = &narrow[(window.start - needed.start) * narrow_row_bytes..];
        mix_rows(source, down.of(window), &mut sums, target);
    }
    output
}

/// The horizontal pass over one row.
fn resize_row(source: &[u8], across: &Weights, target: &mut [u8]) {
    for (window, target) in across.windows.iter().zip(target.chunks_exact_mut(RGB)) {
        let weights = across.of(window);
        let pixels = source[window.start * RGB..][..weights.len() * RGB].chunks_exact(RGB);
        let mut sums = [HALF; RGB];
        for (pixel, weight) in pixels.zip(weights) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (value, sum) in target.iter_mut().zip(sums) {
            *value = to_u8(sum);
        }
    }
}

/// The vertical pass for one output row: the weighted mean of as many rows of `source` as there are
/// weights. `sums` is scratch of a row's length.
fn mix_rows(source: &[u8], weights: &[i32], sums: &mut [i32], target: &mut [u8]) {
    sums.fill(HALF);
    for (row, weight) in source.chunks_exact(target.len()).zip(weights) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += i32::from(*value) * weight;
        }
    }
    for (value, sum) in target.iter_mut().zip(sums) {
        *value = to_u8(*sum);
    }
}

fn to_u8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The filter of each output position along one axis.
struct Weights {
    windows: Vec<Window>,
    /// All weights, one window after the other.
    weights: Vec<i32>,
}

/// The input positions that one output position is made of.
struct Window {
    /// First input position.
    start: usize,
    /// Where its weights lie.
    weights: Range<usize>,
}

impl Weights {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow for the outputs in `wanted`.
    fn new(input: u32, output: u32, wanted: Range<u32>) -> Weights {
        let scale = f64::from(input) / f64::from(output);
        // Enlarging interpolates between neighbours, it doesn't sharpen the filter.
        let filter_scale = scale.max(1.0);
        let support = filter_scale;
        let mut windows = Vec::with_capacity(wanted.len());
        let mut weights = Vec::new();
        let mut exact = Vec::new();
        for position in wanted {
            let center = (f64::from(position) + 0.5) * scale;
            // Conversion to an integer truncates, as in C; negative values saturate to 0.
            let start = (center - support + 0.5) as u32;
            let end = ((center + support + 0.5) as u32).min(input);
            exact.clear();
            exact
                .extend((start..end).map(|x| triangle((f64::from(x) - center + 0.5) * (1.0 / filter_scale))));
            let total: f64 = exact.iter().sum();
            let first = weights.len();
            weights.extend(
                exact.iter().map(|weight| (0.5 + weight / total * f64::from(1u32 << PRECISION_BITS)) as i32),
            );
            windows.push(Window { start: start as usize, weights: first..weights.len() });
        }
        Weights { windows, weights }
    }

    fn of(&self, window: &Window) -> &[i32] {
        &self.weights[window.weights.clone()]
    }

    /// All input positions that any output needs.
    fn inputs(&self) -> Range<usize> {
        let start = self.windows.first().map_or(0, |window| window.start);
        let end = self.windows.last().map_or(0, |window| window.start + window.weights.len());
        start..end
    }
}

/// Pillow's `bilinear_filter`.
fn triangle(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 { 1.0 - x } else { 0.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use image::Rgb;
    use sha2::{Digest, Sha256};

    /// An image with detail at every scale, from a formula: `(3*x*x + 7*y + x*y + 85*c) & 255`.
    pub(in crate::dataset) fn synthetic(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([0, 1, 2].map(|c| ((3 * x * x + 7 * y + x * y + 85 * c) & 255) as u8))
        })
    }

    /// The first 16 hex digits of the SHA-256.
    pub(in crate::dataset) fn digest(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Hashes of `Image.fromarray(synthetic).resize((W, h), BILINEAR).resize((W, H), BILINEAR)`, where h
    /// is the height before: one pass a call, so that any release of Pillow does the rows first.
    #[test]
    fn resizing_is_bit_exact_with_pillow() {
        let golden = [
            (((500, 375), (341, 256)), "4fcc3373b8192f19"),
            (((375, 500), (256, 341)), "b6f63860e86b1372"),
            (((333, 500), (224, 224)), "dc780b87da0c3f92"),
            (((32, 32), (96, 96)), "92f8262ecfd59dd0"),
            (((20, 10), (7, 31)), "3850a460c3a0e1dc"),
            (((640, 2), (80, 5)), "c19a8f5fe1cdeafe"),
            (((1, 1), (3, 2)), "39e548e004c6be30"),
            (((2000, 3), (5, 3)), "2922668088f46e94"),
            (((64, 48), (64, 20)), "6631cda05934e207"),
            (((64, 48), (20, 48)), "3eb5175216173019"),
            (((1, 300), (2, 7)), "039571cd178c39d0"),
        ];
        for ((from, (width, height)), expected) in golden {
            let resized = resize(&synthetic(from.0, from.1), width, height, 0..width, 0..height);
            assert_eq!(digest(&resized), expected, "{from:?} to {width}x{height}");
        }
    }

    #[test]
    fn a_part_of_the_result_is_the_same_as_in_the_whole() {
        let image = synthetic(60, 50);
        for (width, height) in [(31, 23), (60, 23), (31, 50), (60, 50), (90, 70)] {
            let whole = resize(&image, width, height, 0..width, 0..height);
            let part = resize(&image, width, height, 5..20, 3..22);
            for (x, y, pixel) in part.enumerate_pixels() {
                assert_eq!(pixel, whole.get_pixel(x + 5, y + 3), "{width}x{height} at {x},{y}");
            }
        }
    }

    #[test]
    fn flat_colour_stays_flat() {
        for value in [0, 1, 128, 254, 255] {
            let image = RgbImage::from_pixel(97, 61, Rgb([value; 3]));
            assert!(resize(&image, 13, 45, 0..13, 0..45).iter().all(|v| *v == value));
        }
    }
}
