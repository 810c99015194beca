//! Decoding, resizing and cropping against Pillow.

use calib8::dataset::{Preprocess, Resize, decode};
use serde_json::Value;

use super::stored::{Stored, fixture};

/// Decoders of JPEG may round differently: by this many levels at most, after resizing.
const JPEG_LEVELS: i16 = 3;

fn steps(item: &Value, width: u32, height: u32) -> Preprocess {
    let number = |value: &Value| value.as_u64().map(|n| n as u32);
    let resize = match (&item["resize_exact_hw"], number(&item["resize_short"])) {
        (Value::Array(hw), _) => {
            Resize::Exact { width: number(&hw[1]).unwrap(), height: number(&hw[0]).unwrap() }
        }
        (_, short) => short_side(short.unwrap(), width, height),
    };
    Preprocess { resize, crop: number(&item["crop"]), ..Preprocess::default() }
}

/// The pixels were stored with torchvision's size of the longer side, which is rounded down. Ours is rounded
/// to the nearest; where the two differ, torchvision's size is asked for.
fn short_side(short: u32, width: u32, height: u32) -> Resize {
    let shorter = width.min(height);
    let down = |side: u32| side * short / shorter;
    let nearest = |side: u32| (f64::from(side * short) / f64::from(shorter)).round_ties_even() as u32;
    if down(width) == nearest(width) && down(height) == nearest(height) {
        return Resize::Short(short);
    }
    Resize::Exact { width: down(width), height: down(height) }
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
        let found = steps(item, image.width(), image.height()).apply(&image).unwrap();
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
