//! What turns an image into a model input: resize, crop, normalise.
//!
//! The steps and their rounding are those of torchvision on Pillow images, and of
//! `x = (pixel * scale - mean) / std` for the values.

use super::resample::resize;
use super::{DatasetError, MAX_PIXELS, PreprocessError};
use image::RgbImage;
use ndarray::Array3;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The largest side of a model input that is taken seriously, in pixels.
const MAX_SIDE: u32 = 16_384;

/// The steps from a decoded image to a model input, in the order of the fields.
///
/// Serialises to the keys of a run file, so that a manifest can be pasted into one.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Scaling, bilinear and antialiased.
    pub resize: Resize,
    /// Side of the square that is cut out of the centre, in pixels.
    pub crop: Option<u32>,
    /// The model's channels and their order.
    pub color: Color,
    /// What a pixel value of 0 to 255 is multiplied by.
    pub scale: f32,
    /// Subtracted from the scaled pixel, one per channel in the model's order.
    pub mean: Vec<f32>,
    /// Divides the result, one per channel in the model's order.
    pub std: Vec<f32>,
}

/// How an image is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Not at all.
    Keep,
    /// Stretched to exactly this size, in pixels.
    Exact {
        /// Of the result.
        width: u32,
        /// Of the result.
        height: u32,
    },
    /// The shorter side becomes so many pixels, the other follows in proportion, rounded half to
    /// even.
    Short(u32),
}

/// The channels of a model input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red: the order of OpenCV and Caffe.
    Bgr,
    /// Luma of full-range (JPEG) YCbCr: one channel.
    Y,
}

/// The presets by name, most common first.
const PRESETS: [&str; 6] =
    ["imagenet-torchvision", "imagenet-caffe", "tf-mobilenet", "vit-half", "unit", "none"];

/// Where the scaled image lies: its size, and what is cut out of it.
struct Plan {
    width: u32,
    height: u32,
    left: u32,
    top: u32,
    crop_width: u32,
    crop_height: u32,
}

impl Default for Preprocess {
    /// Pixels as they are: RGB, 0 to 255.
    fn default() -> Preprocess {
        Preprocess {
            resize: Resize::Keep,
            crop: None,
            color: Color::Rgb,
            scale: 1.0,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
        }
    }
}

impl Preprocess {
    /// The preset of this name:
    ///
    /// | name | resize, crop | values |
    /// |---|---|---|
    /// | `imagenet-torchvision` | short side 256, crop 224 | RGB, x/255, mean .485 .456 .406, std .229 .224 .225 |
    /// | `imagenet-caffe` | short side 256, crop 224 | BGR, mean 104 117 123 |
    /// | `tf-mobilenet` | short side 256, crop 224 | RGB, (x - 127.5) / 127.5 |
    /// | `vit-half` | short side 248, crop 224 (timm's crop ratio 0.9) | RGB, x/255, mean and std .5 |
    /// | `unit` | none | RGB, x/255 |
    /// | `none` | none | RGB, x |
    pub fn preset(name: &str) -> Option<Preprocess> {
        const UNIT: f32 = 1.0 / 255.0;
        let none = Preprocess::default();
        let imagenet = Preprocess { resize: Resize::Short(256), crop: Some(224), ..none.clone() };
        match name {
            "imagenet-torchvision" => Some(Preprocess {
                scale: UNIT,
                mean: vec![0.485, 0.456, 0.406],
                std: vec![0.229, 0.224, 0.225],
                ..imagenet
            }),
            "imagenet-caffe" => {
                Some(Preprocess { color: Color::Bgr, mean: vec![104.0, 117.0, 123.0], ..imagenet })
            }
            "tf-mobilenet" => Some(Preprocess { mean: vec![127.5; 3], std: vec![127.5; 3], ..imagenet }),
            "vit-half" => Some(Preprocess {
                resize: Resize::Short(248),
                scale: UNIT,
                mean: vec![0.5; 3],
                std: vec![0.5; 3],
                ..imagenet
            }),
            "unit" => Some(Preprocess { scale: UNIT, ..none }),
            "none" => Some(none),
            _ => None,
        }
    }

    /// The names that [`Preprocess::preset`] knows.
    pub fn preset_names() -> &'static [&'static str] {
        &PRESETS
    }

    /// Checks that the steps fit together.
    ///
    /// # Errors
    /// One sentence that names the key, what it holds and what it must hold.
    pub fn validate(&self) -> Result<(), String> {
        let side = |key: &str, value: u32| match value {
            1..=MAX_SIDE => Ok(()),
            _ => Err(format!("{key} is {value}, expected 1 to {MAX_SIDE} pixels")),
        };
        let shorter = match self.resize {
            Resize::Keep => MAX_SIDE,
            Resize::Short(short) => {
                side("resize_short", short)?;
                short
            }
            Resize::Exact { width, height } => {
                side("the width of resize", width)?;
                side("the height of resize", height)?;
                width.min(height)
            }
        };
        if let Some(crop) = self.crop {
            side("crop", crop)?;
            if crop > shorter {
                return Err(format!(
                    "crop is {crop}, larger than the resized image's shorter side of {shorter}"
                ));
            }
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            return Err(format!("scale is {}, expected a finite number other than 0", self.scale));
        }
        let channels = self.channels();
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != channels {
                let color = match self.color {
                    Color::Rgb => "rgb",
                    Color::Bgr => "bgr",
                    Color::Y => "y",
                };
                return Err(format!(
                    "{key} has {} values, color {color} needs {channels}: one per channel",
                    values.len()
                ));
            }
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(format!("mean holds {mean}, expected finite numbers"));
        }
        if let Some(std) = self.std.iter().find(|std| !std.is_finite() || **std <= 0.0) {
            return Err(format!("std holds {std}, expected finite numbers above 0"));
        }
        Ok(())
    }

    /// Channels of the result: 3, or 1 for [`Color::Y`].
    pub fn channels(&self) -> usize {
        match self.color {
            Color::Rgb | Color::Bgr => 3,
            Color::Y => 1,
        }
    }

    /// What the network sees of `image`, to show to people: after resize and crop, in RGB. An image
    /// that [`Preprocess::apply`] refuses comes back as it is.
    pub fn pixels(&self, image: &RgbImage) -> RgbImage {
        self.plan(image).map_or_else(|_| image.clone(), |plan| plan.apply(image))
    }

    /// The model input for `image`: channels, height, width; `x = (pixel * scale - mean) / std`,
    /// computed in `f32` in this order.
    ///
    /// # Errors
    /// [`DatasetError::Preprocess`] when the steps are not valid, or the image is empty, smaller
    /// than the crop, or would become larger than [`MAX_PIXELS`].
    pub fn apply(&self, image: &RgbImage) -> Result<Array3<f32>, DatasetError> {
        Ok(self.tensor(image)?)
    }

    /// [`Preprocess::apply`] with the error that an image can carry.
    pub(super) fn tensor(&self, image: &RgbImage) -> Result<Array3<f32>, PreprocessError> {
        self.validate().map_err(PreprocessError::Invalid)?;
        let pixels = self.plan(image)?.apply(image);
        let shape = (self.channels(), pixels.height() as usize, pixels.width() as usize);
        let mut tensor = Array3::zeros(shape);
        for (channel, mut plane) in tensor.outer_iter_mut().enumerate() {
            let table = self.table(channel);
            let value = |pixel: &[u8]| match self.color {
                Color::Rgb => pixel[channel],
                Color::Bgr => pixel[2 - channel],
                Color::Y => luma(pixel[0], pixel[1], pixel[2]),
            };
            for (x, pixel) in plane.iter_mut().zip(pixels.chunks_exact(3)) {
                *x = table[usize::from(value(pixel))];
            }
        }
        Ok(tensor)
    }

    /// The normalised value of each pixel value: a table, because a pixel has only 256.
    fn table(&self, channel: usize) -> [f32; 256] {
        let (mean, std) = (self.mean[channel], self.std[channel]);
        std::array::from_fn(|pixel| (pixel as f32 * self.scale - mean) / std)
    }

    /// Sizes and offsets for this image.
    fn plan(&self, image: &RgbImage) -> Result<Plan, PreprocessError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(PreprocessError::NoPixels { width, height });
        }
        let resized = match self.resize {
            Resize::Keep => (u64::from(width), u64::from(height)),
            Resize::Exact { width, height } => (u64::from(width), u64::from(height)),
            Resize::Short(short) => {
                (scaled_side(width, short, width.min(height)), scaled_side(height, short, width.min(height)))
            }
        };
        // A crop is computed without the rest of the scaled image, which may then be of any size.
        let is_too_large = self.crop.is_none() && resized.0 * resized.1 > MAX_PIXELS;
        let (Ok(to_width), Ok(to_height), false) =
            (u32::try_from(resized.0), u32::try_from(resized.1), is_too_large)
        else {
            return Err(PreprocessError::TooLarge { width, height, resized });
        };
        let (crop_width, crop_height) = match self.crop {
            None => (to_width, to_height),
            Some(crop) if crop > to_width || crop > to_height => {
                return Err(PreprocessError::SmallerThanCrop {
                    width,
                    height,
                    resized: (to_width, to_height),
                    crop,
                });
            }
            Some(crop) => (crop, crop),
        };
        Ok(Plan {
            width: to_width,
            height: to_height,
            left: centred(to_width - crop_width),
            top: centred(to_height - crop_height),
            crop_width,
            crop_height,
        })
    }
}

impl Plan {
    fn apply(&self, image: &RgbImage) -> RgbImage {
        let columns = self.left..self.left + self.crop_width;
        let rows = self.top..self.top + self.crop_height;
        resize(image, self.width, self.height, columns, rows)
    }
}

/// `side * short / shorter`, rounded half to even.
fn scaled_side(side: u32, short: u32, shorter: u32) -> u64 {
    let (product, shorter) = (u64::from(side) * u64::from(short), u64::from(shorter));
    let (floor, rest) = (product / shorter, product % shorter);
    match (2 * rest).cmp(&shorter) {
        std::cmp::Ordering::Less => floor,
        std::cmp::Ordering::Equal => floor + floor % 2,
        std::cmp::Ordering::Greater => floor + 1,
    }
    .max(1)
}

/// Half of what a crop leaves over, rounded half to even.
fn centred(left_over: u32) -> u32 {
    let half = left_over / 2;
    half + left_over % 2 * (half % 2)
}

/// Luma of full-range YCbCr with the integers of Pillow's `convert("YCbCr")`: each product
/// (0.299, 0.587, 0.114 times the value) rounded to 6 fractional bits, their sum truncated.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let product = |thousandths: u32, value: u8| (thousandths * 64 * u32::from(value) + 500) / 1000;
    ((product(299, red) + product(587, green) + product(114, blue)) >> 6) as u8
}

impl Serialize for Preprocess {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.resize {
            Resize::Keep => {}
            Resize::Exact { width, height } => map.serialize_entry("resize", &[width, height])?,
            Resize::Short(short) => map.serialize_entry("resize_short", &short)?,
        }
        if let Some(crop) = self.crop {
            map.serialize_entry("crop", &crop)?;
        }
        map.serialize_entry("color", &self.color)?;
        map.serialize_entry("scale", &self.scale)?;
        map.serialize_entry("mean", &self.mean)?;
        map.serialize_entry("std", &self.std)?;
        map.end()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::resample::tests::{digest, synthetic};
    use super::*;
    use image::Rgb;

    /// Hashes of the centre crop of `Image.resize(BILINEAR)`, Pillow 13.0, with the sizes computed by
    /// Python's `round`.
    #[test]
    fn short_side_and_crop_are_bit_exact_with_pillow() {
        let golden = [
            ((500, 375, 256, 224), "7a77f630a90b85de"),
            ((375, 500, 256, 224), "184975868b4123ec"),
            ((127, 64, 33, 32), "4284f9a284f0e2d9"),
            ((33, 33, 33, 30), "f11e634f2b0cba27"),
            ((35, 20, 20, 15), "ad1e19157d52cce8"),
            ((50, 4, 2, 1), "dbdcee43abe16c37"),
        ];
        for ((width, height, short, crop), expected) in golden {
            let preprocess =
                Preprocess { resize: Resize::Short(short), crop: Some(crop), ..Preprocess::default() };
            let pixels = preprocess.pixels(&synthetic(width, height));
            assert_eq!(digest(&pixels), expected, "{width}x{height}, short {short}, crop {crop}");
        }
    }

    /// Hash of channel Y of `convert("YCbCr")`, Pillow 13.0, of each fifth value of each channel.
    #[test]
    fn luma_is_bit_exact_with_pillow() {
        let values = || (0..=255u8).step_by(5);
        let y: Vec<u8> =
            values().flat_map(|r| values().flat_map(move |g| values().map(move |b| luma(r, g, b)))).collect();
        assert_eq!(digest(&y), "4b6620f2ec3a42fe");
    }

    #[test]
    fn sides_round_half_to_even() {
        // 4.5, 2.5, 3.5, 341.33, and never to nothing.
        assert_eq!(
            [(3, 3, 2), (5, 1, 2), (7, 1, 2), (500, 256, 375)].map(|(a, b, c)| scaled_side(a, b, c)),
            [4, 2, 4, 341]
        );
        assert_eq!([0, 1, 2, 3, 5, 7].map(centred), [0, 0, 1, 2, 2, 4]);
    }

    #[test]
    fn values_are_scaled_shifted_and_divided_in_the_models_channel_order() {
        let image = RgbImage::from_raw(2, 1, vec![10, 20, 30, 40, 50, 60]).unwrap();
        let preprocess = Preprocess {
            color: Color::Bgr,
            scale: 2.0,
            mean: vec![1.0, 2.0, 3.0],
            std: vec![1.0, 2.0, 4.0],
            ..Preprocess::default()
        };
        let tensor = preprocess.apply(&image).unwrap();
        assert_eq!(tensor.shape(), [3, 1, 2]);
        assert_eq!(tensor.iter().copied().collect::<Vec<_>>(), [59.0, 119.0, 19.0, 49.0, 4.25, 19.25]);

        let y = Preprocess { color: Color::Y, mean: vec![0.0], std: vec![255.0], ..Preprocess::default() };
        let white = RgbImage::from_pixel(1, 1, Rgb([255; 3]));
        let tensor = y.apply(&white).unwrap();
        assert_eq!((tensor.shape(), tensor[[0, 0, 0]]), (&[1, 1, 1][..], 1.0));
    }

    #[test]
    fn presets_are_valid_and_known_by_name() {
        for name in Preprocess::preset_names() {
            let preset = Preprocess::preset(name).unwrap();
            assert_eq!(preset.validate(), Ok(()), "{name}");
        }
        assert!(Preprocess::preset("imagenet").is_none());
        let torchvision = Preprocess::preset("imagenet-torchvision").unwrap();
        let gray = RgbImage::from_pixel(300, 400, Rgb([128; 3]));
        let tensor = torchvision.apply(&gray).unwrap();
        assert_eq!(tensor.shape(), [3, 224, 224]);
        assert!((tensor[[0, 0, 0]] - 0.074_065_6).abs() < 1e-6, "{}", tensor[[0, 0, 0]]);
    }

    #[test]
    fn steps_that_contradict_themselves_are_refused() {
        let none = Preprocess::default();
        let cases = [
            (
                Preprocess { resize: Resize::Short(0), ..none.clone() },
                "resize_short is 0, expected 1 to 16384 pixels",
            ),
            (
                Preprocess { resize: Resize::Exact { width: 9, height: 99_999 }, ..none.clone() },
                "the height of resize is 99999, expected 1 to 16384 pixels",
            ),
            (
                Preprocess { resize: Resize::Short(200), crop: Some(224), ..none.clone() },
                "crop is 224, larger than the resized image's shorter side of 200",
            ),
            (Preprocess { crop: Some(0), ..none.clone() }, "crop is 0, expected 1 to 16384 pixels"),
            (Preprocess { scale: 0.0, ..none.clone() }, "scale is 0, expected a finite number other than 0"),
            (
                Preprocess { mean: vec![0.0], ..none.clone() },
                "mean has 1 values, color rgb needs 3: one per channel",
            ),
            (
                Preprocess { color: Color::Y, ..none.clone() },
                "mean has 3 values, color y needs 1: one per channel",
            ),
            (
                Preprocess { mean: vec![f32::NAN; 3], ..none.clone() },
                "mean holds NaN, expected finite numbers",
            ),
            (Preprocess { std: vec![1.0, 0.0, 1.0], ..none }, "std holds 0, expected finite numbers above 0"),
        ];
        for (preprocess, message) in cases {
            assert_eq!(preprocess.validate().unwrap_err(), message);
            let error = preprocess.apply(&RgbImage::new(300, 300)).unwrap_err();
            assert_eq!(error.to_string(), format!("preprocess: {message}"));
        }
    }

    #[test]
    fn images_that_do_not_fit_are_refused_and_shown_as_they_are() {
        let crop = Preprocess { crop: Some(10), ..Preprocess::default() };
        let small = synthetic(9, 12);
        assert_eq!(
            crop.apply(&small).unwrap_err().to_string(),
            "the image is 9x12 pixels, smaller than the crop of 10x10; resize it first (`resize_short: 10`) or \
             choose a smaller crop"
        );
        assert_eq!(crop.pixels(&small), small);
        assert!(crop.apply(&RgbImage::new(0, 5)).unwrap_err().to_string().contains("0x5"));

        let ribbon = synthetic(60_000, 1);
        let short = Preprocess { resize: Resize::Short(256), ..Preprocess::default() };
        let message = short.apply(&ribbon).unwrap_err().to_string();
        assert!(message.contains("would be resized to 15360000x256"), "{message}");
        let cropped = Preprocess { crop: Some(224), ..short };
        assert_eq!(cropped.apply(&ribbon).unwrap().shape(), [3, 224, 224]);
    }

    #[test]
    fn it_serialises_to_the_keys_of_a_run_file() {
        let preset = Preprocess::preset("imagenet-caffe").unwrap();
        assert_eq!(
            serde_json::to_string(&preset).unwrap(),
            r#"{"resize_short":256,"crop":224,"color":"bgr","scale":1.0,"mean":[104.0,117.0,123.0],"std":[1.0,1.0,1.0]}"#
        );
    }
}
