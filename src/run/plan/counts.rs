//! Numbers of streams and threads.

use std::ops::Deref;

use serde::{Serialize, Serializer};

use super::file::Count;

/// Numbers, in which `auto` has become that of this machine's cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    numbers: Vec<usize>,
    /// What is written in their place, where `auto` means other machines.
    written: Option<Vec<Count>>,
}

impl Counts {
    /// `numbers` here, and `written` in `run.yaml`, which other machines read.
    pub(super) fn elsewhere(numbers: Vec<usize>, written: Vec<Count>) -> Counts {
        Counts { numbers, written: Some(written) }
    }
}

impl From<Vec<usize>> for Counts {
    fn from(numbers: Vec<usize>) -> Counts {
        Counts { numbers, written: None }
    }
}

impl Deref for Counts {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.numbers
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.written {
            Some(written) => written.serialize(serializer),
            None => self.numbers.serialize(serializer),
        }
    }
}
