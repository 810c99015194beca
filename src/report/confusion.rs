//! Which class became which: the pairs behind the changed predictions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PredictionRow;

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

/// All pairs of different classes, the most frequent first, then by class.
pub fn confusion(rows: &[PredictionRow]) -> Vec<ConfusionPair> {
    let mut counts = BTreeMap::new();
    for prediction in rows.iter().filter_map(PredictionRow::prediction).filter(|p| p.erroneous) {
        *counts.entry((prediction.class_parent, prediction.class_optimized)).or_default() += 1;
    }
    let mut pairs: Vec<_> = counts
        .into_iter()
        .map(|((parent, optimized), count)| ConfusionPair { parent, optimized, count })
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count));
    pairs
}
