//! Deterministic pseudo-random numbers, so that the same timings give the same interval.

use ndarray::{ArrayD, IxDyn};

use super::MeasureError;
use crate::engine::{Session, Value};

/// The generator SplitMix64: Steele, Lea, Flood, *Fast splittable pseudorandom number generators*,
/// OOPSLA 2014, with the constants of Vigna's `splitmix64.c`.
///
/// Its period of 2⁶⁴ and its quality are far beyond what resampling needs, its state is one word.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0..`bound`, by multiplication (Lemire, *Fast random integer generation in an
    /// interval*, 2019, without its rejection: the bias is below `bound` ÷ 2⁶⁴). 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A number in [0, 1), with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One tensor per input of `session`, uniform in [−2, 2), which is about where normalized pixels
/// lie. The same shapes and seed give the same tensors.
///
/// # Errors
/// A shape has more elements than memory can hold.
pub fn random_inputs(session: &dyn Session, seed: u64) -> Result<Vec<Value>, MeasureError> {
    let mut random = SplitMix64::new(seed);
    let make = |info: &crate::engine::TensorInfo| {
        let refused =
            |what: String| MeasureError::Input { name: info.name.clone(), shape: info.shape.clone(), what };
        let count = info
            .shape
            .iter()
            .try_fold(1usize, |n, d| n.checked_mul(*d))
            .ok_or_else(|| refused("too many elements".into()))?;
        let values: Vec<f32> = (0..count).map(|_| (random.unit() * 4.0 - 2.0) as f32).collect();
        let array = ArrayD::from_shape_vec(IxDyn(&info.shape), values).map_err(|e| refused(e.to_string()))?;
        Ok(Value::from(array))
    };
    session.inputs().iter().map(make).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of `splitmix64.c` for the seed 1234567, as published with the
    /// algorithm's Rosetta Code task.
    #[test]
    fn agrees_with_the_reference() {
        let mut random = SplitMix64::new(1_234_567);
        let expected = [6_457_827_717_110_365_317u64, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(expected.map(|_| random.next_u64()), expected);
    }

    #[test]
    fn numbers_stay_in_their_range_and_fill_it() {
        let mut random = SplitMix64::new(0);
        let mut seen = [0usize; 7];
        for _ in 0..7_000 {
            seen[random.below(7)] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert!(seen.iter().all(|n| (800..1_200).contains(n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
