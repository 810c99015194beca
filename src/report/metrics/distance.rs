//! The distance between two tensors, streaming.

use serde::{Deserialize, Serialize};

/// Sums over pairs of elements, in f64, from which every distance follows. Sums of parts merge into the
/// sums of the whole, so one image and all images together are measured by the same formulae.
///
/// y is the parent's output, ŷ the optimized model's.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DistanceSums {
    /// Number of elements.
    pub count: u64,
    /// Σ (ŷ − y)².
    pub noise: f64,
    /// Σ y².
    pub signal: f64,
    /// Σ ŷ².
    pub power: f64,
    /// Σ y ŷ.
    pub dot: f64,
    /// max |ŷ − y|.
    pub max_abs: f64,
}

impl DistanceSums {
    /// Adds the elements of two outputs of the same length, all finite.
    pub fn add(&mut self, parent: &[f32], optimized: &[f32]) {
        for (&y, &other) in parent.iter().zip(optimized) {
            let (y, other) = (f64::from(y), f64::from(other));
            let difference = other - y;
            self.noise += difference * difference;
            self.signal += y * y;
            self.power += other * other;
            self.dot += y * other;
            self.max_abs = self.max_abs.max(difference.abs());
        }
        self.count += parent.len().min(optimized.len()) as u64;
    }

    /// Adds the sums of another part.
    pub fn merge(&mut self, part: &DistanceSums) {
        self.count += part.count;
        self.noise += part.noise;
        self.signal += part.signal;
        self.power += part.power;
        self.dot += part.dot;
        self.max_abs = self.max_abs.max(part.max_abs);
    }

    /// Mean squared error, `Σ (ŷ − y)² / count`; 0 without elements.
    pub fn mse(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.noise / self.count as f64 }
    }

    /// Normalized mean squared error, `Σ (ŷ − y)² / Σ y²`; `None` where the parent's output is all zeros.
    pub fn nmse(&self) -> Option<f64> {
        (self.signal > 0.0).then(|| self.noise / self.signal)
    }

    /// Signal to quantization noise ratio in decibels, `10 log10(Σ y² / Σ (ŷ − y)²)`; `None` where it is
    /// infinite (equal outputs: the [`mse`](Self::mse) is 0) or the parent's output is all zeros.
    pub fn sqnr_db(&self) -> Option<f64> {
        (self.signal > 0.0 && self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }

    /// Cosine similarity, `Σ y ŷ / √(Σ y² · Σ ŷ²)`; `None` where one of the outputs is all zeros.
    pub fn cosine(&self) -> Option<f64> {
        let norms = (self.signal * self.power).sqrt();
        (norms > 0.0).then(|| (self.dot / norms).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sums(parent: &[f32], optimized: &[f32]) -> DistanceSums {
        let mut sums = DistanceSums::default();
        sums.add(parent, optimized);
        sums
    }

    #[test]
    fn distances_by_hand() {
        let d = sums(&[3.0, 4.0], &[3.0, 3.5]);
        assert_eq!(d.mse(), 0.125);
        assert_eq!(d.nmse(), Some(0.01));
        assert!((d.sqnr_db().unwrap() - 20.0).abs() < 1e-12);
        assert!((d.cosine().unwrap() - 23.0 / (5.0 * 21.25f64.sqrt())).abs() < 1e-15);
        assert_eq!(d.max_abs, 0.5);
    }

    #[test]
    fn what_is_undefined_is_none() {
        let equal = sums(&[1.0, 2.0], &[1.0, 2.0]);
        assert_eq!((equal.mse(), equal.nmse(), equal.sqnr_db()), (0.0, Some(0.0), None));
        assert_eq!(equal.cosine(), Some(1.0));
        let silent = sums(&[0.0, 0.0], &[1.0, 0.0]);
        assert_eq!((silent.nmse(), silent.sqnr_db(), silent.cosine()), (None, None, None));
    }

    #[test]
    fn parts_merge_into_the_whole() {
        let (parent, optimized) = ([1.0, -2.0, 4.0, 8.0], [1.5, -2.0, 4.25, 7.0]);
        let whole = sums(&parent, &optimized);
        let mut parts = sums(&parent[..1], &optimized[..1]);
        parts.merge(&sums(&parent[1..], &optimized[1..]));
        assert_eq!(parts, whole);
    }

    #[test]
    fn small_noise_on_a_large_offset_is_kept() {
        let parent = vec![1e4f32; 100_000];
        let optimized = vec![1e4f32 + 0.0078125; 100_000];
        assert!((sums(&parent, &optimized).mse() - 0.0078125f64.powi(2)).abs() < 1e-15);
    }
}
