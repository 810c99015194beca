//! Reads `fixtures/golden/`: a `.json` says what stands where in the `.bin` beside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// One of the golden files.
pub struct Stored {
    index: Value,
    bytes: Vec<u8>,
}

impl Stored {
    pub fn open(name: &str) -> Stored {
        let folder = fixture("golden");
        let index: Value =
            serde_json::from_slice(&fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap();
        let bytes = fs::read(folder.join(index["file"].as_str().unwrap())).unwrap();
        Stored { index, bytes }
    }

    /// What it holds; never nothing, so that no test passes for want of numbers.
    pub fn items(&self) -> &[Value] {
        let items = self.index["items"].as_array().unwrap();
        assert!(!items.is_empty());
        items
    }

    /// Shape and bytes of an array, one `chunks(item)` for each item of its first dimension.
    fn array(&self, place: &Value, dtype: &str) -> (Vec<usize>, &[u8]) {
        assert_eq!(place["dtype"], dtype);
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let shape = place["shape"].as_array().unwrap().iter().map(number).collect();
        let offset = number(&place["offset"]);
        (shape, &self.bytes[offset..offset + number(&place["bytes"])])
    }

    pub fn bytes(&self, place: &Value) -> (Vec<usize>, &[u8]) {
        self.array(place, "uint8")
    }

    pub fn floats(&self, place: &Value) -> (Vec<usize>, Vec<f32>) {
        let (shape, bytes) = self.array(place, "float32");
        let floats = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (shape, floats)
    }
}
