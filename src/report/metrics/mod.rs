//! The definitions behind every number of a report, each a pure function.
//!
//! s is the optimized model's vector over classes, p the parent's.

mod distance;
mod interval;

use std::cmp::Ordering;

pub use distance::DistanceSums;
pub use interval::{Interval, Z95, paired_drop, wilson};

/// Zero probabilities count as this in [`kl`]: INT8 outputs hold true zeros, and one of them
/// must not turn the mean over all images into infinity.
pub const PROBABILITY_FLOOR: f64 = 1e-12;

/// How many values are NaN or infinite.
pub fn count_non_finite(values: &[f32]) -> usize {
    values.iter().filter(|v| !v.is_finite()).count()
}

/// Natural logarithms of the softmax of finite `logits`: `x − max − ln Σ exp(x − max)`, in f64.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().map(f64::from).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    logits.iter().map(|&x| f64::from(x) - max - sum.ln()).collect()
}

/// Softmax of finite `logits`, in f64; subtracting the maximum first keeps it from overflowing.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    log_softmax(logits).into_iter().map(f64::exp).collect()
}

/// Index of the largest value, the lowest one on ties; `None` if there are no values or one is NaN.
pub fn argmax(values: &[f32]) -> Option<usize> {
    let (mut best, mut largest) = (0, *values.first()?);
    for (index, &value) in values.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if value > largest {
            (best, largest) = (index, value);
        }
    }
    Some(best)
}

/// Rank of class `reference`: `#{j : s[j] > s[reference]}`, so 0 is first and ties get the best rank.
/// `None` if `s` has no such class.
pub fn rank(s: &[f32], reference: usize) -> Option<usize> {
    let score = *s.get(reference)?;
    Some(s.iter().filter(|&&other| other > score).count())
}

/// Place of class `reference` in the order by falling score where ties go to the lowest index:
/// 0 exactly if it is the [`argmax`]. Unlike [`rank`] it gives a model that ties all classes no credit,
/// so top-k accuracies count with it. `None` if `s` has no such class.
pub fn place(s: &[f32], reference: usize) -> Option<usize> {
    let score = *s.get(reference)?;
    let better = s.iter().filter(|&&other| other > score).count();
    let tied_before = s[..reference].iter().filter(|&&other| other == score).count();
    Some(better + tied_before)
}

/// Indices of the `k` largest of finite `values`, the largest first, ties (0 and −0 too) to the lowest index.
pub fn top_k(values: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let by_value =
        |&a: &usize, &b: &usize| values[b].partial_cmp(&values[a]).unwrap_or(Ordering::Equal).then(a.cmp(&b));
    if k > 0 && k < order.len() {
        order.select_nth_unstable_by(k - 1, by_value);
    }
    order.truncate(k);
    order.sort_unstable_by(by_value);
    order
}

/// Margin: `s[argmax s] − s[argmax p]`, by how much the optimized model prefers its own class to its
/// parent's. 0 where they agree.
pub fn margin(s: &[f64], class_optimized: usize, class_parent: usize) -> f64 {
    s[class_optimized] - s[class_parent]
}

/// Kullback-Leibler divergence in nats from natural log-probabilities: `Σ p (ln p − ln s)`.
///
/// The slices have the same length.
pub fn kl_of_logs(ln_p: &[f64], ln_s: &[f64]) -> f64 {
    ln_p.iter().zip(ln_s).map(|(p, s)| p.exp() * (p - s)).sum()
}

/// Natural logarithms of `probabilities` after the [`PROBABILITY_FLOOR`] and division by their
/// sum, which quantization may have moved away from 1.
pub fn log_probabilities(probabilities: &[f32]) -> Vec<f64> {
    let floored: Vec<f64> = probabilities.iter().map(|&x| f64::from(x).max(PROBABILITY_FLOOR)).collect();
    let sum: f64 = floored.iter().sum();
    floored.into_iter().map(|x| (x / sum).ln()).collect()
}

/// KL(p‖s) of two vectors of probabilities, in nats: see [`log_probabilities`] and [`kl_of_logs`].
pub fn kl(p: &[f32], s: &[f32]) -> f64 {
    kl_of_logs(&log_probabilities(p), &log_probabilities(s))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rank_counts_the_classes_ahead() {
        let s = [0.1, 0.48, 0.19, 0.05];
        assert_eq!(argmax(&s), Some(1));
        assert_eq!(rank(&s, 2), Some(1));
        assert_eq!(rank(&s, 1), Some(0));
        assert_eq!(rank(&s, 3), Some(3));
        assert_eq!(rank(&s, 4), None);
    }

    #[test]
    fn ties_go_to_the_lowest_index_and_share_the_best_rank() {
        let s = [0.4, 0.4, 0.2];
        assert_eq!(argmax(&s), Some(0));
        assert_eq!(rank(&s, 1), Some(0));
        assert_eq!(place(&s, 1), Some(1));
        assert_eq!(place(&s, 0), Some(0));
        assert_eq!(top_k(&s, 2), [0, 1]);
        assert_eq!((argmax(&[-0.0, 0.0]), top_k(&[-0.0, 0.0], 1)), (Some(0), vec![0]));
    }

    #[test]
    fn nan_has_no_argmax() {
        assert_eq!(argmax(&[f32::NAN, 1.0]), None);
        assert_eq!(argmax(&[1.0, f32::NAN]), None);
        assert_eq!(argmax(&[]), None);
        assert_eq!(count_non_finite(&[1.0, f32::NAN, f32::INFINITY]), 2);
    }

    #[test]
    fn top_k_agrees_with_a_full_sort() {
        let values: Vec<f32> = (0..97).map(|i| ((i * 37) % 23) as f32).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        for k in [0, 1, 5, 96, 97, 200] {
            assert_eq!(top_k(&values, k), order[..k.min(97)]);
        }
    }

    #[test]
    fn softmax_survives_large_logits() {
        let s = softmax(&[1000.0, 1000.0, -1000.0]);
        assert!((s[0] - 0.5).abs() < 1e-15 && s[2] == 0.0);
        let s = softmax(&[0.0, (3.0f32).ln()]);
        assert!((s[1] - 0.75).abs() < 1e-7);
    }

    #[test]
    fn kl_has_its_textbook_value_and_stays_finite() {
        let expected = 0.5 * (0.5f64 / 0.25).ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((kl(&[0.5, 0.5], &[0.25, 0.75]) - expected).abs() < 1e-12);
        assert!(kl(&[0.3, 0.7], &[0.3, 0.7]).abs() < 1e-15);
        let zero = kl(&[1.0, 0.0], &[0.0, 1.0]);
        assert!((zero - 1e12f64.ln()).abs() < 1e-9, "{zero}");
        assert!(kl(&[0.5, 0.5], &[0.51, 0.53]) >= 0.0);
        let far = kl_of_logs(&log_softmax(&[0.0, 500.0]), &log_softmax(&[500.0, 0.0]));
        assert!((far - 500.0).abs() < 1e-9);
    }
}
