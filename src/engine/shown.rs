//! Tensors as the engine has them, for a look while an inference runs.

use std::borrow::Cow;

/// A tensor of an inference that is under way: whoever watches it need not have it brought into another layout.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Its elements, in the order that `channels_last` says.
    pub elements: Elements<'a>,
    /// Shape as in the ONNX file (NCHW for images).
    pub shape: &'a [usize],
    /// Whether axis 1 lies behind all others, as in NHWC; else the elements are in C order.
    pub channels_last: bool,
}

/// Elements of a tensor.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// The numbers themselves.
    F32(&'a [f32]),
    /// Each q stands for (q − `zero_point`) · `scale`.
    U8 {
        /// Stored numbers.
        values: &'a [u8],
        /// Distance of two neighbours.
        scale: f32,
        /// What stands for 0.
        zero_point: u8,
    },
}

impl<'a> Shown<'a> {
    /// A tensor in C order.
    pub fn in_order(values: &'a [f32], shape: &'a [usize]) -> Shown<'a> {
        Shown { elements: Elements::F32(values), shape, channels_last: false }
    }

    /// Length of `axis`, and how many neighbours in a row have the same index of it: a run for each index follows
    /// the other, around and around. `None` if there is no such axis.
    pub fn runs(&self, axis: usize) -> Option<(usize, usize)> {
        let count = *self.shape.get(axis)?;
        let inner = match (self.channels_last, axis) {
            (true, 1) => 1,
            // The batch is before, channels are behind all that is left.
            (true, 0) => self.shape.iter().skip(1).product(),
            (true, _) => self.shape.iter().skip(axis + 1).product::<usize>() * self.shape[1],
            (false, _) => self.shape.iter().skip(axis + 1).product(),
        };
        Some((count, inner))
    }

    /// The numbers, in the order of the elements.
    pub fn values(&self) -> Cow<'a, [f32]> {
        match self.elements {
            Elements::F32(values) => Cow::Borrowed(values),
            Elements::U8 { values, scale, zero_point } => {
                let of = |q: &u8| (i32::from(*q) - i32::from(zero_point)) as f32 * scale;
                Cow::Owned(values.iter().map(of).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_the_order_of_the_elements() {
        let shape = [2, 3, 4, 5];
        let tensor = |channels_last| Shown { channels_last, ..Shown::in_order(&[], &shape) };
        let runs = |channels_last| [0, 1, 2, 3, 4].map(|axis| tensor(channels_last).runs(axis));
        assert_eq!(runs(false), [Some((2, 60)), Some((3, 20)), Some((4, 5)), Some((5, 1)), None]);
        assert_eq!(runs(true), [Some((2, 60)), Some((3, 1)), Some((4, 15)), Some((5, 3)), None]);
    }

    #[test]
    fn stored_numbers_become_what_they_stand_for() {
        let elements = Elements::U8 { values: &[3, 5, 4], scale: 0.5, zero_point: 4 };
        let tensor = Shown { elements, shape: &[1, 3], channels_last: false };
        assert_eq!(*tensor.values(), [-0.5, 0.5, 0.0]);
    }
}
