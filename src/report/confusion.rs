//! Which class became which: the pairs behind the changed predictions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often a class of the parent became another class in the optimized model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionPair {
    /// Class predicted by the parent.
    pub parent: u32,
    /// Class predicted by the optimized model.
    pub optimized: u32,
    /// Number of images.
    pub count: u64,
}

/// Counts pairs of a parent's and an optimized model's class.
#[derive(Debug, Clone, Default)]
pub(super) struct Confusions(BTreeMap<(u32, u32), u64>);

impl Confusions {
    pub(super) fn add(&mut self, parent: u32, optimized: u32) {
        *self.0.entry((parent, optimized)).or_default() += 1;
    }

    /// The pairs: the most frequent first, then by class.
    pub(super) fn pairs(self) -> Vec<ConfusionPair> {
        let pairs = self.0.into_iter();
        let mut pairs: Vec<_> =
            pairs.map(|((parent, optimized), count)| ConfusionPair { parent, optimized, count }).collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
        pairs
    }
}

/// The pairs of different classes among `classes`, as [`Predictions::confusions`](super::Predictions) has them.
pub fn confusion(classes: impl Iterator<Item = (u32, u32)>) -> Vec<ConfusionPair> {
    let mut confusions = Confusions::default();
    classes.filter(|(parent, optimized)| parent != optimized).for_each(|(p, s)| confusions.add(p, s));
    confusions.pairs()
}
