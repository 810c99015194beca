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

/// Counts pairs of a parent's and an optimized model's class, those of equal classes aside: the most
/// frequent first, then by class.
pub fn confusion(classes: impl Iterator<Item = (u32, u32)>) -> Vec<ConfusionPair> {
    let mut counts = BTreeMap::new();
    for pair in classes.filter(|(parent, optimized)| parent != optimized) {
        *counts.entry(pair).or_default() += 1;
    }
    let mut pairs: Vec<_> = counts
        .into_iter()
        .map(|((parent, optimized), count)| ConfusionPair { parent, optimized, count })
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
    pairs
}
