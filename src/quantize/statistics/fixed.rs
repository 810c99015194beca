//! A sum of numbers whose result does not depend on the order of the additions.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bits behind the binary point.
const FRACTION_BITS: i32 = 48;
/// Larger magnitudes count as this: 2^55, far above any activation of a working network, leaves room
/// for 2^24 terms.
const LIMIT: f64 = 36_028_797_018_963_968.0;

/// A fixed-point sum. Floating-point addition is not associative, integer addition is: this is what
/// makes statistics bit-identical for any split of the images over threads, chunks or machines.
///
/// Each term is rounded to a multiple of 2^-48, limited to ±2^55; NaN counts as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FixedSum(i128);

impl FixedSum {
    /// Adds one term.
    pub fn add(&mut self, term: f64) {
        let scale = 2f64.powi(FRACTION_BITS);
        self.0 += (term.clamp(-LIMIT, LIMIT) * scale).round_ties_even() as i128;
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: FixedSum) {
        self.0 += other.0;
    }

    /// The sum divided by `count`; 0 for a count of 0.
    pub fn mean(self, count: u64) -> f64 {
        if count == 0 { 0.0 } else { self.0 as f64 / 2f64.powi(FRACTION_BITS) / count as f64 }
    }
}

/// As a decimal string, because few readers of JSON hold 128-bit integers.
impl Serialize for FixedSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FixedSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FixedSum, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = FixedSum;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 128-bit integer as a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<FixedSum, E> {
                text.parse().map(FixedSum).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_exact_for_numbers_that_f32_addition_would_lose() {
        let mut sum = FixedSum::default();
        for term in [1e9, 0.25, -1e9, 0.25] {
            sum.add(term);
        }
        assert_eq!(sum.mean(2), 0.25);
    }

    #[test]
    fn extremes_neither_overflow_nor_spread() {
        let mut sum = FixedSum::default();
        for term in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 3.0] {
            sum.add(term);
        }
        assert_eq!(sum.mean(1), 3.0);
    }

    #[test]
    fn serde_keeps_every_bit() {
        let mut sum = FixedSum::default();
        sum.add(1e15);
        sum.add(-0.1);
        let text = serde_json::to_string(&sum).unwrap();
        assert_eq!(serde_json::from_str::<FixedSum>(&text).unwrap(), sum);
    }
}
