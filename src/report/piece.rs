//! What both models said on a part of the images, to be put together with other parts elsewhere.

use serde::{Deserialize, Serialize};

use super::metrics::DistanceSums;
use super::{AnnotationRow, Outcome, Prediction, Unreadable};

/// A part of what a [`Collector`](super::Collector) holds: some hundred bytes for each image, with nothing
/// summed up over images, so that it does not matter which images a part has and in which order parts come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    pub(super) entries: Vec<Entry>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// One image that both models ran on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub(super) image: String,
    pub(super) label: Option<u32>,
    pub(super) prediction: Option<Outcome<Prediction>>,
    pub(super) annotation: Option<AnnotationRow>,
    pub(super) distances: Vec<Outcome<DistanceSums>>,
}

/// One image of the dataset, as both models saw it.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// Both models ran on it.
    Read(Box<Entry>),
    /// It could not be read.
    Unreadable(Unreadable),
}

impl Seen {
    /// Its path relative to the dataset.
    pub fn image(&self) -> &str {
        match self {
            Seen::Read(entry) => &entry.image,
            Seen::Unreadable(bad) => &bad.image,
        }
    }
}

impl Piece {
    /// The images that are in it, those that can't be read too, by their path relative to the dataset.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let read = self.entries.iter().map(|entry| entry.image.as_str());
        read.chain(self.unreadable.iter().map(|bad| bad.image.as_str()))
    }

    /// Those of its images that can't be read.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    pub(super) fn add(&mut self, seen: Seen) {
        match seen {
            Seen::Read(entry) => self.entries.push(*entry),
            Seen::Unreadable(bad) => self.unreadable.push(bad),
        }
    }

    /// Its images by name.
    pub(super) fn in_order(mut self) -> impl Iterator<Item = Seen> {
        self.sort();
        let mut read = self.entries.into_iter().map(|entry| Seen::Read(Box::new(entry))).peekable();
        let mut unreadable = self.unreadable.into_iter().map(Seen::Unreadable).peekable();
        std::iter::from_fn(move || match (read.peek(), unreadable.peek()) {
            (Some(a), Some(b)) if b.image() < a.image() => unreadable.next(),
            (Some(_), _) => read.next(),
            (None, _) => unreadable.next(),
        })
    }

    /// Orders the images by name.
    pub(super) fn sort(&mut self) {
        self.entries.sort_by(|a, b| a.image.cmp(&b.image));
        self.unreadable.sort_by(|a, b| a.image.cmp(&b.image));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Collector, Compare, Head, Kind};

    const ALL: [Kind; 3] = [Kind::Predictions, Kind::Annotations, Kind::TensorDistance];

    fn collector() -> Collector {
        Collector::new(Compare::new(&ALL, vec!["prob".to_string()], Head::Logits, true))
    }

    /// Label, the two outputs; an image without outputs can't be read.
    type Image = (Option<u32>, Option<[[f32; 4]; 2]>);

    fn push(collector: &mut Collector, at: usize, image: &Image) {
        let name = format!("{at:03}.png");
        match &image.1 {
            Some([parent, optimized]) => collector.push(&name, image.0, &[parent], &[optimized]).unwrap(),
            None => collector.push_failed(&name, image.0, "not an image"),
        }
    }

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![8 => -30f32..30.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY), 1 => Just(-0.0), 1 => Just(3e30)]
    }

    fn images() -> impl Strategy<Value = Vec<Image>> {
        let row = || [value(), value(), value(), value()];
        let outputs = prop_oneof![5 => [row(), row()].prop_map(Some), 1 => Just(None)];
        prop::collection::vec((prop::option::of(0u32..4), outputs), 1..14)
    }

    proptest! {
        #[test]
        fn any_partition_in_any_order_gives_the_reports_of_the_whole(
            images in images(),
            parts in prop::collection::vec(0usize..5, 14),
            order in Just([0usize, 1, 2, 3, 4]).prop_shuffle(),
        ) {
            let mut whole = collector();
            images.iter().enumerate().for_each(|(at, image)| push(&mut whole, at, image));
            let mut merged = collector();
            for part in order {
                let mut own = collector();
                let of_part = images.iter().enumerate().filter(|(at, _)| parts[*at] == part);
                of_part.for_each(|(at, image)| push(&mut own, at, image));
                let json = serde_json::to_string(&own.into_piece()).unwrap();
                merged.absorb(serde_json::from_str(&json).unwrap());
            }
            let (merged, rows) = merged.all();
            let (whole, whole_rows) = whole.all();
            prop_assert_eq!(serde_json::to_string(&merged).unwrap(), serde_json::to_string(&whole).unwrap());
            // NaN is not equal to itself; its text is.
            prop_assert_eq!(format!("{rows:?}"), format!("{whole_rows:?}"));
        }
    }
}
