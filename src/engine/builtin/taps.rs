//! How a convolution's window is cut into runs of consecutive elements of an NHWC image.

use super::program::{Stem, Window};
use crate::kernels::PAD;

/// One tap for each element of the kernel, or for a stem one for each row of it; offsets and lengths in elements.
pub(super) struct Taps {
    pub taps: usize,
    /// Elements of a run.
    pub k: usize,
    /// Elements of the image.
    pub in_len: usize,
    window: Window,
    in_channels: usize,
    group_in: usize,
    stem: Option<Stem>,
    /// Elements from one pixel of a stem's image to the next.
    stem_pixel: usize,
}

impl Taps {
    pub(super) fn new(
        window: Window,
        in_channels: usize,
        group: usize,
        stem: Option<Stem>,
        stem_pixel: usize,
    ) -> Taps {
        let [rows, columns] = window.kernel;
        let group_in = in_channels / group;
        let (taps, k, in_len) = match stem {
            Some(Stem { pad: [top, left, bottom, right] }) => {
                let pixels = (window.in_height + top + bottom) * (window.in_width + left + right);
                (rows, columns * stem_pixel, pixels * stem_pixel)
            }
            None => (rows * columns, group_in, window.in_pixels() * in_channels),
        };
        Taps { taps, k, in_len, window, in_channels, group_in, stem, stem_pixel }
    }

    /// From `[o][i][row][column]` to `[o][tap][k]`.
    pub(super) fn reorder<T: Copy + Default>(&self, weights: &[T]) -> Vec<T> {
        let [rows, columns] = self.window.kernel;
        let outputs = weights.len() / (self.group_in * rows * columns);
        let mut packed = vec![T::default(); outputs * self.taps * self.k];
        for (at, weight) in weights.iter().enumerate() {
            let (column, rest) = (at % columns, at / columns);
            let (row, rest) = (rest % rows, rest / rows);
            let (channel, o) = (rest % self.group_in, rest / self.group_in);
            let to = match self.stem {
                Some(_) => (o * rows + row) * self.k + column * self.stem_pixel + channel,
                None => (o * self.taps + row * columns + column) * self.k + channel,
            };
            packed[to] = *weight;
        }
        packed
    }

    /// `[out pixel][tap]`, from the image's start.
    pub(super) fn offsets(&self) -> Result<Vec<i32>, String> {
        let window = self.window;
        let too_large = |_| "an image of more than 2 GiB".to_string();
        let mut offsets = Vec::with_capacity(window.out_pixels() * self.taps);
        for y in 0..window.out_height {
            for x in 0..window.out_width {
                for row in 0..window.kernel[0] {
                    let iy = y * window.stride[0] + row * window.dilation[0];
                    if let Some(stem) = self.stem {
                        let width = window.in_width + stem.pad[1] + stem.pad[3];
                        let at = (iy * width + x * window.stride[1]) * self.stem_pixel;
                        offsets.push(i32::try_from(at).map_err(too_large)?);
                        continue;
                    }
                    for column in 0..window.kernel[1] {
                        let ix = x * window.stride[1] + column * window.dilation[1];
                        let inside = iy.checked_sub(window.pad_top).zip(ix.checked_sub(window.pad_left));
                        offsets.push(
                            match inside.filter(|(y, x)| *y < window.in_height && *x < window.in_width) {
                                Some((y, x)) => i32::try_from((y * window.in_width + x) * self.in_channels)
                                    .map_err(too_large)?,
                                None => PAD,
                            },
                        );
                    }
                }
            }
        }
        Ok(offsets)
    }
}
