//! The elements of a tensor in one walk: extremes and sums of its channels, in whichever order an engine has them.
//!
//! Sums are of f32 within a block and of f64 over all, always in the order of the elements, so that they are the same
//! on every machine.

use crate::engine::Shown;
use crate::kernels::{self, Isa, Term};

/// Elements that are looked at together: they stay in the first-level cache.
const BLOCK: usize = 4096;
/// Partial results of a row of neighbours, so that the compiler can use vector instructions.
const LANES: usize = 16;
/// Fewer partial results than this wait for each other from one row to the next.
const LEAST_LANES: usize = 64;

/// What the elements of each channel come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Survey {
    /// Smallest element of each channel; NaN counts in sums alone.
    pub low: Vec<f32>,
    /// Largest element of each channel.
    pub high: Vec<f32>,
    /// Sum over each channel.
    pub sums: Vec<f64>,
    /// Elements of a channel.
    pub each: usize,
}

impl Survey {
    /// Of the channels of `tensor` along `axis`, or of the whole as one channel if it has no such axis. `also` is given
    /// all elements, part after part.
    pub fn of(tensor: &Shown, axis: Option<usize>, term: Term, mut also: impl FnMut(&[f32])) -> Survey {
        let values = tensor.values();
        let whole = (1, values.len().max(1));
        let (count, inner) = axis.and_then(|axis| tensor.runs(axis)).unwrap_or(whole);
        let (count, inner) = if count * inner == 0 { whole } else { (count, inner) };
        let mut lanes = Lanes::new(term, if inner == 1 { width(count) } else { LANES });
        let mut survey = Survey {
            low: vec![f32::MAX; count],
            high: vec![f32::MIN; count],
            sums: vec![0.0; count],
            each: values.len() / count,
        };
        if inner == 1 {
            let width = lanes.sums.len();
            for block in values.chunks(width * (BLOCK / width).max(1)) {
                also(block);
                lanes.take(block);
                survey.add(&mut lanes, |lane| lane % count);
            }
            survey.end(&mut lanes, |lane| lane % count);
        } else {
            for (run, values) in values.chunks(inner).enumerate() {
                for block in values.chunks(BLOCK) {
                    also(block);
                    lanes.take(block);
                    survey.add(&mut lanes, |_| run % count);
                }
                survey.end(&mut lanes, |_| run % count);
            }
        }
        survey
    }

    fn add(&mut self, lanes: &mut Lanes, channel: impl Fn(usize) -> usize) {
        for (lane, sum) in lanes.sums.iter_mut().enumerate() {
            self.sums[channel(lane)] += f64::from(*sum);
            *sum = 0.0;
        }
    }

    fn end(&mut self, lanes: &mut Lanes, channel: impl Fn(usize) -> usize) {
        for (lane, (low, high)) in lanes.low.iter_mut().zip(&mut lanes.high).enumerate() {
            let at = channel(lane);
            self.low[at] = self.low[at].min(*low);
            self.high[at] = self.high[at].max(*high);
            (*low, *high) = (f32::MAX, f32::MIN);
        }
    }

    /// Sums divided by the number of elements.
    pub fn means(self) -> Vec<f64> {
        let each = self.each.max(1) as f64;
        self.sums.into_iter().map(|sum| sum / each).collect()
    }
}

/// Elements of a row that holds pixels of `count` channels: a few pixels where channels are few.
pub(super) fn width(count: usize) -> usize {
    let mut pixels = 1;
    while pixels < LANES && (!(count * pixels).is_multiple_of(LANES) || count * pixels < LEAST_LANES) {
        pixels += 1;
    }
    count * pixels
}

/// Partial results.
struct Lanes {
    isa: Isa,
    term: Term,
    low: Vec<f32>,
    high: Vec<f32>,
    sums: Vec<f32>,
}

impl Lanes {
    fn new(term: Term, width: usize) -> Lanes {
        // What the variable asks for wrongly is an error where a model is loaded; results are the same on every tier.
        let isa = Isa::from_env().unwrap_or(Isa::Scalar);
        Lanes { isa, term, low: vec![f32::MAX; width], high: vec![f32::MIN; width], sums: vec![0.0; width] }
    }

    fn take(&mut self, values: &[f32]) {
        kernels::survey(self.isa, values, self.term, &mut self.low, &mut self.high, &mut self.sums);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Elements;

    proptest! {
        #[test]
        fn channels_are_those_of_their_elements_in_either_order(
            batch in 1usize..3, channels in 1usize..90, pixels in 1usize..150, seed: u32, square: bool,
        ) {
            let number = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) ^ seed) % 1000;
            let values: Vec<f32> = (0..batch * channels * pixels).map(|at| number(at) as f32 - 400.0).collect();
            let mut last = vec![0f32; values.len()];
            for (at, value) in values.iter().enumerate() {
                let (pixel, channel, image) = (at % pixels, at / pixels % channels, at / pixels / channels);
                last[(image * pixels + pixel) * channels + channel] = *value;
            }
            let shape = [batch, channels, pixels, 1];
            let term = if square { Term::Square } else { Term::AtLeast(-100.0) };
            for (values, channels_last) in [(&values, false), (&last, true)] {
                let tensor = Shown { elements: Elements::F32(values), shape: &shape, channels_last };
                let mut seen = 0;
                let found = Survey::of(&tensor, Some(1), term, |part| seen += part.len());
                prop_assert_eq!(seen, values.len());
                prop_assert_eq!(found.each, batch * pixels);
                for channel in 0..channels {
                    let of: Vec<f32> = values.iter().enumerate().filter(|(at, _)| {
                        let channel_at = if channels_last { at % channels } else { at / pixels % channels };
                        channel_at == channel
                    }).map(|(_, v)| *v).collect();
                    let sum: f64 = of.iter().map(|v| f64::from(if square { v * v } else { v.max(-100.0) })).sum();
                    // Whole numbers below 2^24 add up without rounding; squares may not.
                    prop_assert!((found.sums[channel] - sum).abs() <= sum.abs() * 1e-6);
                    prop_assert_eq!(found.low[channel], of.iter().copied().fold(f32::MAX, f32::min));
                    prop_assert_eq!(found.high[channel], of.iter().copied().fold(f32::MIN, f32::max));
                }
            }
        }
    }

    #[test]
    fn without_an_axis_all_is_one_channel() {
        let survey = Survey::of(&Shown::in_order(&[1.0, f32::NAN, -3.0], &[3]), None, Term::Square, |_| {});
        assert_eq!((survey.low, survey.high, survey.each), (vec![-3.0], vec![1.0], 3));
        let nothing = Survey::of(&Shown::in_order(&[], &[0]), Some(0), Term::AtLeast(0.0), |_| {});
        assert_eq!(nothing.low, [f32::MAX]);
        assert_eq!(nothing.means(), [0.0]);
    }
}
