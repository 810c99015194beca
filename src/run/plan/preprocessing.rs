//! The `preprocess` key: a preset or steps.

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use crate::dataset::{Color, Preprocess, Resize};

/// How an image becomes the model's input: the name of a preset, or the steps.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Preprocessing {
    /// A preset.
    Preset(String),
    /// The steps one by one.
    Steps(Steps),
}

impl<'de> Deserialize<'de> for Preprocessing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PreprocessingVisitor;
        impl<'de> Visitor<'de> for PreprocessingVisitor {
            type Value = Preprocessing;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(
                    "the name of a preset, or the steps as a mapping, such as {resize_short: 256, crop: 224}",
                )
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Preprocessing, E> {
                Ok(Preprocessing::Preset(value.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Preprocessing, A::Error> {
                Steps::deserialize(MapAccessDeserializer::new(access)).map(Preprocessing::Steps)
            }
        }
        deserializer.deserialize_any(PreprocessingVisitor)
    }
}

impl Preprocessing {
    /// The steps in the words of the dataset room.
    ///
    /// # Errors
    /// They contradict each other; one sentence that names the key.
    pub fn to_preprocess(&self) -> Result<Preprocess, String> {
        let steps = match self {
            Preprocessing::Preset(name) => {
                return Preprocess::preset(name)
                    .ok_or_else(|| format!("there is no preprocessing preset '{name}'"));
            }
            Preprocessing::Steps(steps) => steps,
        };
        let channels = steps.color.channels();
        let filled = |values: &[f32], default| match values {
            [] => vec![default; channels],
            given => given.to_vec(),
        };
        let preprocess = Preprocess {
            resize: match (steps.resize, steps.resize_short) {
                (Some([width, height]), _) => Resize::Exact { width, height },
                (None, Some(short)) => Resize::Short(short),
                (None, None) => Resize::Keep,
            },
            crop: steps.crop,
            color: match steps.color {
                ColorOrder::Rgb => Color::Rgb,
                ColorOrder::Bgr => Color::Bgr,
                ColorOrder::Y => Color::Y,
            },
            scale: steps.scale,
            mean: filled(&steps.mean, 0.0),
            std: filled(&steps.std, 1.0),
        };
        preprocess.validate()?;
        Ok(preprocess)
    }
}

/// Steps from an image to the model's input, done in this order. A step that is left out is not
/// done. `x = (pixel * scale - mean) / std` for each channel, pixels from 0 to 255.
#[derive(Debug, Clone, PartialEq, DeriveDeserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Steps {
    /// Stretch to exactly [width, height] pixels.
    #[schemars(inner(range(min = 1, max = 16_384)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<[u32; 2]>,
    /// Make the shorter side this many pixels long.
    #[schemars(range(min = 1, max = 16_384))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize_short: Option<u32>,
    /// Cut a square of this many pixels out of the centre.
    #[schemars(range(min = 1, max = 16_384))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<u32>,
    /// Order of the model's channels; y is luma alone.
    pub color: ColorOrder,
    /// Factor on each pixel.
    pub scale: f32,
    /// Mean of each channel, after scaling; 0 if left out.
    pub mean: Vec<f32>,
    /// Divisor of each channel, after scaling; 1 if left out.
    pub std: Vec<f32>,
}

impl Default for Steps {
    fn default() -> Self {
        Steps {
            resize: None,
            resize_short: None,
            crop: None,
            color: ColorOrder::Rgb,
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
        }
    }
}

/// Order of the model's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeriveDeserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColorOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma of full-range YCbCr, one channel.
    Y,
}

impl ColorOrder {
    /// How many channels the model's input has.
    pub fn channels(self) -> usize {
        match self {
            ColorOrder::Rgb | ColorOrder::Bgr => 3,
            ColorOrder::Y => 1,
        }
    }
}
