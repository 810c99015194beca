//! What one shard found, on disk: a line of JSON that says what it is, and JSON behind it.

use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ShardError, Step};
use crate::project::{ProjectError, atomic, hash};
use crate::run::summary::HostSummary;

/// Name and version of the format.
const SCHEMA: &str = "calib8/shard/1";

/// What a piece belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub step: Step,
    pub shard: usize,
    pub shards: usize,
    /// Hash over models, images, and all else that its content depends on.
    pub key: String,
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    schema: String,
    version: String,
    step: Step,
    shard: usize,
    shards: usize,
    key: String,
    /// Where it was computed.
    host: HostSummary,
    /// Of what stands behind the line.
    bytes: u64,
    sha256: String,
}

/// Writes a piece in one step.
///
/// # Errors
/// The file can't be written.
pub(super) fn write(
    path: &Path,
    place: &Place,
    host: &HostSummary,
    content: &impl Serialize,
) -> Result<(), ProjectError> {
    let failed = |e: serde_json::Error| ProjectError::write(path, e.into());
    let content = serde_json::to_vec(content).map_err(failed)?;
    let header = Header {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        step: place.step,
        shard: place.shard,
        shards: place.shards,
        key: place.key.clone(),
        host: host.clone(),
        bytes: content.len() as u64,
        sha256: hash::sha256_bytes(&content),
    };
    let mut line = serde_json::to_vec(&header).map_err(failed)?;
    line.push(b'\n');
    let mut writer = atomic::Writer::create(path)?;
    writer
        .write_all(&line)
        .and_then(|()| writer.write_all(&content))
        .map_err(|e| ProjectError::write(path, e))?;
    writer.commit()
}

/// Reads a piece and where it was computed. `Ok(None)` if there is none.
///
/// # Errors
/// It is damaged, of another version, or of other inputs; `again` is the command that makes it anew.
pub(super) fn read<T: DeserializeOwned>(
    path: &Path,
    place: &Place,
    again: &str,
) -> Result<Option<(T, HostSummary)>, ShardError> {
    let damaged = |why: String| ShardError::Damaged { path: path.to_path_buf(), why };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(damaged(format!("can't be read: {e}"))),
    };
    let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("has no header".into()))?;
    let (line, content) = (&bytes[..end], &bytes[end + 1..]);
    let header: Header = serde_json::from_slice(line).map_err(|e| damaged(format!("its header: {e}")))?;
    if header.schema != SCHEMA || header.version != env!("CARGO_PKG_VERSION") {
        return Err(ShardError::OtherVersion { path: path.to_path_buf(), found: header.version });
    }
    if content.len() as u64 != header.bytes {
        let why = format!("is cut short, {} of {} bytes are there", content.len(), header.bytes);
        return Err(damaged(why));
    }
    if hash::sha256_bytes(content) != header.sha256 {
        return Err(damaged("its bytes are not those that were written".into()));
    }
    let found = Place { step: header.step, shard: header.shard, shards: header.shards, key: header.key };
    if found != *place {
        return Err(ShardError::OtherInputs { path: path.to_path_buf(), again: again.to_string() });
    }
    let content = serde_json::from_slice(content).map_err(|e| damaged(e.to_string()))?;
    Ok(Some((content, header.host)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn place(key: &str) -> Place {
        Place { step: Step::Report, shard: 1, shards: 3, key: key.into() }
    }

    #[test]
    fn a_piece_comes_back_whole_or_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0001.piece");
        let host = HostSummary { cpu: "x".into(), isa: vec!["avx2".into()], cores: 2 };
        let read = |place: &Place| read::<Vec<u32>>(&path, place, "calib8 shard run");
        assert!(read(&place("a")).unwrap().is_none());
        write(&path, &place("a"), &host, &vec![1u32, 2, 3]).unwrap();
        assert_eq!(read(&place("a")).unwrap(), Some((vec![1, 2, 3], host)));
        let message = |place: &Place| read(place).unwrap_err().to_string();
        assert!(message(&place("b")).contains("belongs to another model"), "{}", message(&place("b")));
        let whole = std::fs::read_to_string(&path).unwrap();
        for (text, expected) in [
            (whole[..whole.len() - 2].to_string(), "is cut short, 5 of 7 bytes are there"),
            (whole.replace("[1,2,3]", "[1,2,4]"), "its bytes are not those that were written"),
            (whole.replace("\"version\":\"0", "\"version\":\"9"), "was made by calib8 9"),
            (String::new(), "has no header"),
            ("{\n".into(), "its header"),
        ] {
            std::fs::write(&path, text).unwrap();
            let found = message(&place("a"));
            assert!(found.contains(expected), "{found}");
        }
    }
}
