//! What is remembered of activations: mergeable, of fixed size, independent of how the images were
//! split.

mod fixed;
mod histogram;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use fixed::FixedSum;
pub use histogram::{Histogram, Tally};

use super::QuantizeError;
use super::survey::Survey;
use crate::engine::Shown;
use crate::kernels::Term;

/// Statistics of one tensor over the images seen so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TensorStatistics {
    images: u64,
    minimum: f32,
    maximum: f32,
    sum_of_minima: FixedSum,
    sum_of_maxima: FixedSum,
    images_not_finite: u64,
    channel_means: Vec<FixedSum>,
    histogram: Histogram,
}

impl TensorStatistics {
    /// Takes in the tensor of one image. Means are kept for each index of `channel_axis`, over all other axes.
    ///
    /// NaN and infinite values are counted and otherwise left out.
    pub fn observe(&mut self, tensor: &Shown, channel_axis: Option<usize>) {
        let not_finite = self.histogram.not_finite();
        let elements: usize = tensor.shape.iter().product();
        let mut tally = (elements >= Tally::WORTH).then(Tally::new);
        let survey =
            Survey::of(tensor, channel_axis, Term::AtLeast(f32::NEG_INFINITY), |part| match &mut tally {
                Some(tally) => tally.extend(part),
                None => self.histogram.extend(part),
            });
        if let Some(tally) = tally {
            self.histogram.take(&tally);
        }
        let (low, high) = extremes(&survey);
        let channels = channel_axis.and_then(|axis| tensor.shape.get(axis)).copied().unwrap_or(0);
        self.channel_means.resize(channels, FixedSum::default());
        for (sum, mean) in self.channel_means.iter_mut().zip(survey.means()) {
            sum.add(mean);
        }
        if self.images == 0 {
            (self.minimum, self.maximum) = (low, high);
        }
        self.minimum = self.minimum.min(low);
        self.maximum = self.maximum.max(high);
        self.sum_of_minima.add(f64::from(low));
        self.sum_of_maxima.add(f64::from(high));
        self.images += 1;
        self.images_not_finite += u64::from(self.histogram.not_finite() > not_finite);
    }

    /// Takes in what another part of the images gave. Associative and commutative, to the last bit.
    pub fn merge(&mut self, other: &TensorStatistics) {
        if other.images == 0 {
            return;
        }
        if self.images == 0 {
            self.clone_from(other);
            return;
        }
        self.images += other.images;
        self.minimum = self.minimum.min(other.minimum);
        self.maximum = self.maximum.max(other.maximum);
        self.sum_of_minima.merge(other.sum_of_minima);
        self.sum_of_maxima.merge(other.sum_of_maxima);
        self.images_not_finite += other.images_not_finite;
        for (mine, theirs) in self.channel_means.iter_mut().zip(&other.channel_means) {
            mine.merge(*theirs);
        }
        self.histogram.merge(&other.histogram);
    }

    /// Images seen.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Smallest and largest finite value of all images.
    pub fn extremes(&self) -> (f32, f32) {
        (self.minimum, self.maximum)
    }

    /// Means over the images of each image's smallest and largest value.
    pub fn mean_extremes(&self) -> (f32, f32) {
        (self.sum_of_minima.mean(self.images) as f32, self.sum_of_maxima.mean(self.images) as f32)
    }

    /// Mean of each channel; empty if the tensor was observed without a channel axis.
    pub fn channel_means(&self) -> Vec<f64> {
        self.channel_means.iter().map(|sum| sum.mean(self.images)).collect()
    }

    /// Images in which a value was NaN or infinite.
    pub fn images_not_finite(&self) -> u64 {
        self.images_not_finite
    }

    /// Distribution of all values.
    pub fn histogram(&self) -> &Histogram {
        &self.histogram
    }
}

/// The finite extremes; zeros if there was no value. Adding 0 turns -0 into 0, whose order among equals would
/// otherwise depend on the split.
fn extremes(survey: &Survey) -> (f32, f32) {
    let low = survey.low.iter().copied().fold(f32::MAX, f32::min).max(f32::MIN);
    let high = survey.high.iter().copied().fold(f32::MIN, f32::max).min(f32::MAX);
    if low > high { (0.0, 0.0) } else { (low + 0.0, high + 0.0) }
}

/// Statistics of all observed tensors of a model over the same images. Serializable, so that a run
/// can stop and go on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Statistics {
    images: u64,
    tensors: BTreeMap<String, TensorStatistics>,
}

impl Statistics {
    /// Images seen.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Statistics of one tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorStatistics> {
        self.tensors.get(name)
    }

    /// Names and statistics of all tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorStatistics)> {
        self.tensors.iter().map(|(name, statistics)| (name.as_str(), statistics))
    }

    /// Takes in what another part of the images gave. Associative and commutative, to the last bit.
    pub fn merge(&mut self, other: &Statistics) {
        self.images += other.images;
        for (name, statistics) in &other.tensors {
            self.tensors.entry(name.clone()).or_default().merge(statistics);
        }
    }

    /// Counts one more image, whose tensors were all observed.
    pub(super) fn count_image(&mut self) {
        self.images += 1;
    }

    /// The statistics of `name`, empty before its first observation.
    pub(super) fn entry(&mut self, name: &str) -> &mut TensorStatistics {
        if !self.tensors.contains_key(name) {
            self.tensors.insert(name.into(), TensorStatistics::default());
        }
        self.tensors.entry(name.into()).or_default()
    }

    /// Statistics of `name` that can give a range.
    ///
    /// # Errors
    /// The tensor is missing, no image was seen, or a value was not finite.
    pub fn finite(&self, name: &str) -> Result<&TensorStatistics, QuantizeError> {
        let found = self.tensors.get(name);
        let found = found.ok_or_else(|| QuantizeError::MissingStatistics { tensor: name.into() })?;
        if found.images == 0 {
            return Err(QuantizeError::NoImages);
        }
        if found.images_not_finite > 0 {
            return Err(QuantizeError::NotFinite {
                tensor: name.into(),
                images: found.images_not_finite,
                total: found.images,
            });
        }
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(images: &[Vec<f32>]) -> TensorStatistics {
        let mut statistics = TensorStatistics::default();
        for image in images {
            statistics.observe(&Shown::in_order(image, &[1, 2, image.len() / 2]), Some(1));
        }
        statistics
    }

    fn bits(statistics: &TensorStatistics) -> String {
        serde_json::to_string(statistics).unwrap()
            + &format!("{:x} {:x}", statistics.minimum.to_bits(), statistics.maximum.to_bits())
    }

    #[test]
    fn extremes_means_and_channels_are_those_of_the_values() {
        let statistics = seen(&[vec![1.0, 2.0, 3.0, -4.0], vec![0.0, 0.0, 8.0, 2.0]]);
        assert_eq!(statistics.extremes(), (-4.0, 8.0));
        assert_eq!(statistics.mean_extremes(), (-2.0, 5.5));
        assert_eq!(statistics.channel_means(), [0.75, 2.25]);
        assert_eq!(statistics.histogram().bins().map(|b| b.2).sum::<u64>(), 8);
    }

    #[test]
    fn channels_on_the_last_axis_are_means_over_rows() {
        let mut statistics = TensorStatistics::default();
        statistics.observe(&Shown::in_order(&[1.0, 10.0, 3.0, 30.0], &[1, 2, 2]), Some(2));
        assert_eq!(statistics.channel_means(), [2.0, 20.0]);
    }

    #[test]
    fn not_finite_images_are_counted_and_give_an_error_that_names_the_tensor() {
        let mut all = Statistics::default();
        for image in [[0.5, f32::NAN], [1.0, 2.0], [f32::INFINITY, 1.0]] {
            all.entry("act").observe(&Shown::in_order(&image, &[1, 2]), None);
            all.count_image();
        }
        assert_eq!(all.tensor("act").unwrap().extremes().0, 0.5);
        let message = all.finite("act").err().unwrap().to_string();
        assert!(message.contains("tensor 'act' has NaN or infinite values in 2 of 3 images"), "{message}");
    }

    proptest! {
        #[test]
        fn any_split_in_any_order_gives_the_same_bits(
            images in prop::collection::vec(
                prop::collection::vec(prop_oneof![-1e3f32..1e3, Just(0.0), Just(-0.0), Just(3e30), Just(f32::NAN), -1e-6f32..1e-6], 70), 1..9),
            cut in 0usize..9, second in 0usize..9, swap: bool,
        ) {
            let whole = seen(&images);
            let (cut, second) = (cut.min(images.len()), second.min(images.len()));
            let (a, b) = (cut.min(second), cut.max(second));
            let mut parts = [seen(&images[..a]), seen(&images[a..b]), seen(&images[b..])];
            if swap {
                parts.reverse();
            }
            let [mut left, middle, right] = parts.clone();
            left.merge(&middle);
            left.merge(&right);
            let [mut outer, mut inner, last] = parts;
            inner.merge(&last);
            outer.merge(&inner);
            prop_assert_eq!(bits(&whole), bits(&left));
            prop_assert_eq!(bits(&whole), bits(&outer));
            let read: TensorStatistics = serde_json::from_str(&serde_json::to_string(&whole).unwrap()).unwrap();
            prop_assert_eq!(bits(&read), bits(&whole));
        }
    }
}
