//! Statistics on disk, so that an interrupted calibration goes on where it stopped, with the same
//! result to the bit.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::quantize::Statistics;

/// Version of the format; another one is not read.
const VERSION: u32 = 2;

/// Statistics of the first images, and what they belong to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::run) struct Checkpoint {
    version: u32,
    /// Hash over model, images, preprocessing and observed tensors.
    key: String,
    /// Images of the list that were taken, the unreadable ones included.
    pub position: usize,
    /// Unreadable images and why.
    pub unreadable: Vec<(String, String)>,
    pub statistics: Statistics,
}

impl Checkpoint {
    pub fn new(
        key: &str,
        position: usize,
        unreadable: Vec<(String, String)>,
        statistics: Statistics,
    ) -> Checkpoint {
        Checkpoint { version: VERSION, key: key.into(), position, unreadable, statistics }
    }

    /// Reads `path`. `Ok(None)` if there is none; an error says why one that is there can't be used.
    pub fn read(path: &Path, key: &str) -> Result<Option<Checkpoint>, String> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let checkpoint: Checkpoint = serde_json::from_slice(&bytes)
            .map_err(|e| format!("it is cut short or of another version ({e})"))?;
        if checkpoint.version != VERSION {
            return Err(format!("it is of version {}, expected {VERSION}", checkpoint.version));
        }
        if checkpoint.key != key {
            return Err("it belongs to another model, dataset or preprocessing".into());
        }
        Ok(Some(checkpoint))
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}
