//! A histogram whose bins are fixed before the first value is seen, so that histograms merge.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Mantissa bits that choose the bin, beside sign and exponent: bins are 2^-4 of their power of two
/// wide, at most 6 % of their values.
const MANTISSA_BITS: u32 = 4;
const SHIFT: u32 = f32::MANTISSA_DIGITS - 1 - MANTISSA_BITS;
const BINS: usize = 1 << (1 + 8 + MANTISSA_BITS);

/// Counts of f32 values in bins that are spaced like floating-point numbers themselves: a bin is
/// the leading 13 bits of a value. It needs no range beforehand, 64 KiB hold any distribution, and
/// the relative resolution is the same at every magnitude.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BINS] }
    }
}

impl Histogram {
    /// Counts values.
    pub fn extend(&mut self, values: &[f32]) {
        let Ok(counts) = <&mut [u64; BINS]>::try_from(self.counts.as_mut_slice()) else { return };
        for value in values {
            counts[(value.to_bits() >> SHIFT) as usize] += 1;
        }
    }

    /// Adds what was tallied.
    pub fn take(&mut self, tally: &Tally) {
        for (count, side) in self.counts.iter_mut().zip(tally.counts.chunks_exact(SIDE_BY_SIDE)) {
            *count += side.iter().map(|c| u64::from(*c)).sum::<u64>();
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// Values that are NaN or infinite.
    pub fn not_finite(&self) -> u64 {
        let exponent = 0xff << MANTISSA_BITS;
        let last = BINS / 2;
        self.counts[exponent..last].iter().chain(&self.counts[last + exponent..]).sum()
    }

    /// The non-empty bins of finite values in ascending order: lower edge, upper edge, count. Edges
    /// of negative bins are negative; the bin at zero holds the zeros and the smallest magnitudes.
    pub fn bins(&self) -> impl Iterator<Item = (f32, f32, u64)> + '_ {
        let exponent = 0xff << MANTISSA_BITS;
        let edge = |bin: usize| f32::from_bits((bin as u32) << SHIFT);
        let negative = (0..exponent)
            .rev()
            .map(move |b| (-edge(b + 1).min(f32::MAX), -edge(b), self.counts[BINS / 2 + b]));
        let positive = (0..exponent).map(move |b| (edge(b), edge(b + 1).min(f32::MAX), self.counts[b]));
        negative.chain(positive).filter(|(_, _, count)| *count > 0)
    }
}

/// Counts of each bin that are kept side by side.
const SIDE_BY_SIDE: usize = 4;

/// Counts for a [`Histogram`], for many values at a time. Neighbours are often equal, such as the zeros behind a Relu,
/// and a count that was just written can't be read at once; so neighbours are counted in different places.
#[derive(Debug)]
pub struct Tally {
    counts: Vec<u32>,
}

impl Tally {
    /// Fewer values are not worth the memory that a tally takes, and goes through in the end.
    pub const WORTH: usize = BINS * 2;

    /// Nothing counted yet. No bin may get 2^32 values.
    pub fn new() -> Tally {
        Tally { counts: vec![0; BINS * SIDE_BY_SIDE] }
    }

    /// Counts values.
    pub fn extend(&mut self, values: &[f32]) {
        let Ok(counts) = <&mut [u32; BINS * SIDE_BY_SIDE]>::try_from(self.counts.as_mut_slice()) else {
            return;
        };
        let groups = values.chunks_exact(SIDE_BY_SIDE);
        for value in groups.remainder() {
            counts[(value.to_bits() >> SHIFT) as usize * SIDE_BY_SIDE] += 1;
        }
        for group in groups {
            for (side, value) in group.iter().enumerate() {
                counts[(value.to_bits() >> SHIFT) as usize * SIDE_BY_SIDE + side] += 1;
            }
        }
    }
}

/// As pairs of bin and count, since most bins are empty.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.counts.iter().enumerate().filter(|(_, count)| **count > 0))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Histogram, D::Error> {
        let mut histogram = Histogram::default();
        for (bin, count) in Vec::<(usize, u64)>::deserialize(deserializer)? {
            let slot = histogram.counts.get_mut(bin);
            *slot.ok_or_else(|| serde::de::Error::custom(format!("histogram bin {bin} of {BINS}")))? = count;
        }
        Ok(histogram)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_within_the_edges_of_their_bins_in_ascending_order() {
        let values = [-3.5f32, -1e-30, 0.0, 1e-3, 1.0, 1.03, 6.0, 1e30, f32::MAX];
        let mut histogram = Histogram::default();
        histogram.extend(&values);
        let bins: Vec<_> = histogram.bins().collect();
        assert_eq!(bins.iter().map(|b| b.2).sum::<u64>(), values.len() as u64);
        assert!(bins.windows(2).all(|w| w[0].1 <= w[1].0));
        for value in values {
            assert!(bins.iter().any(|(low, high, _)| *low <= value && value <= *high), "{value}");
        }
        assert!(
            bins.iter()
                .all(|(low, high, _)| *low == 0.0 || *high == 0.0 || high / low < 1.07 || low / high < 1.07)
        );
    }

    #[test]
    fn a_tally_counts_as_the_histogram_itself() {
        let values: Vec<f32> =
            (0..1003).map(|i| if i % 3 == 0 { 0.0 } else { (i as f32 - 500.0) / 7.0 }).collect();
        let (mut direct, mut by_tally, mut tally) =
            (Histogram::default(), Histogram::default(), Tally::new());
        direct.extend(&values);
        tally.extend(&values);
        by_tally.take(&tally);
        assert_eq!(direct, by_tally);
    }

    #[test]
    fn values_that_are_not_finite_are_counted_apart() {
        let mut histogram = Histogram::default();
        histogram.extend(&[f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0.0]);
        assert_eq!(histogram.not_finite(), 4);
        assert_eq!(histogram.bins().map(|b| b.2).sum::<u64>(), 2);
    }

    #[test]
    fn serde_keeps_every_count_and_refuses_unknown_bins() {
        let mut histogram = Histogram::default();
        histogram.extend(&[1.0, 1.0, -7.0]);
        let text = serde_json::to_string(&histogram).unwrap();
        assert!(text.len() < 60, "{text}");
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        assert!(serde_json::from_str::<Histogram>("[[8192, 1]]").is_err());
    }
}
