//! Decoding, resizing and cropping against Pillow.

use std::collections::BTreeSet;

use calib8::dataset::{Preprocess, Resize, decode};
use serde_json::Value;

use super::stored::{Stored, fixture};

fn steps(item: &Value) -> Preprocess {
    let number = |value: &Value| value.as_u64().map(|n| n as u32);
    let resize = match &item["resize_exact_hw"] {
        Value::Array(hw) => Resize::Exact { width: number(&hw[1]).unwrap(), height: number(&hw[0]).unwrap() },
        _ => Resize::Short(number(&item["resize_short"]).unwrap()),
    };
    Preprocess { resize, crop: number(&item["crop"]), ..Preprocess::default() }
}

/// Bit for bit, JPEG included: it is decoded by a libjpeg here as there.
#[test]
fn pixels_equal_pillows() {
    let stored = Stored::open("preprocess");
    let mut kinds = BTreeSet::new();
    for item in stored.items() {
        let source = item["source"].as_str().unwrap();
        kinds.insert(source.rsplit('.').next().unwrap());
        let image = decode(&fixture(source)).unwrap();
        let size = [image.width(), image.height()];
        assert_eq!(serde_json::json!(size), item["source_size_wh"], "{source}");
        // Channels first, as models take them; a scale of 1 leaves the pixels as they are.
        let found = steps(item).apply(&image).unwrap();
        let (shape, expected) = stored.bytes(&item["pixels"]);
        assert_eq!(found.shape(), [shape[2], shape[0], shape[1]], "{source}");
        for ((channel, y, x), value) in found.indexed_iter() {
            let pixel = expected[(y * shape[1] + x) * shape[2] + channel];
            assert_eq!(*value, f32::from(pixel), "{source} at {x},{y} channel {channel}");
        }
    }
    assert_eq!(Vec::from_iter(kinds), ["bmp", "jpg", "png", "webp"]);
}
