//! Decoding, resizing and cropping against Pillow.

use calib8::dataset::{Preprocess, Resize, decode};
use serde_json::Value;

use super::stored::{Stored, fixture};

/// Decoders of JPEG may round differently: by this many levels at most, after resizing.
const JPEG_LEVELS: i16 = 0;

fn steps(item: &Value) -> Preprocess {
    let number = |value: &Value| value.as_u64().map(|n| n as u32);
    let resize = match &item["resize_exact_hw"] {
        Value::Array(hw) => Resize::Exact { width: number(&hw[1]).unwrap(), height: number(&hw[0]).unwrap() },
        _ => Resize::Short(number(&item["resize_short"]).unwrap()),
    };
    Preprocess { resize, crop: number(&item["crop"]), ..Preprocess::default() }
}

#[test]
fn pixels_equal_pillows() {
    let stored = Stored::open("preprocess");
    let (mut exact, mut near) = (0, 0);
    for item in stored.items() {
        let source = item["source"].as_str().unwrap();
        let image = decode(&fixture(source)).unwrap();
        let size = [image.width(), image.height()];
        assert_eq!(serde_json::json!(size), item["source_size_wh"], "{source}");
        // Channels first, as models take them; a scale of 1 leaves the pixels whole numbers.
        let found = steps(item).apply(&image).unwrap();
        let (shape, expected) = stored.bytes(&item["pixels"]);
        assert_eq!(found.shape(), [shape[2], shape[0], shape[1]], "{source}");
        let allowed = if item["exact"] == true { 0 } else { JPEG_LEVELS };
        *if allowed == 0 { &mut exact } else { &mut near } += 1;
        for ((channel, y, x), value) in found.indexed_iter() {
            let pixel = expected[(y * shape[1] + x) * shape[2] + channel];
            let difference = (*value as i16 - i16::from(pixel)).abs();
            assert!(
                difference <= allowed,
                "{source} at {x},{y} channel {channel}: {value}, expected {pixel}"
            );
            assert_eq!(value.fract(), 0.0);
        }
    }
    assert!(exact > 0 && near > 0, "both kinds of source are stored");
}
