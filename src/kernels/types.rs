//! What the primitives are told: how accumulators leave, and where windows lie.

/// How the i32 accumulators of a convolution or matrix product leave the kernel, per output channel `n`.
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// `y = clamp(rne(f32(acc) · mult[n]) + zero_point, lo, hi)`, where rne rounds half to even: ONNX
    /// `QuantizeLinear` fused behind the product, with an activation that clamps folded into `lo` and `hi`.
    U8 {
        /// `input scale · weight scale[n] / output scale`; finite and not negative.
        mult: &'a [f32],
        /// Zero point of the output.
        zero_point: u8,
        /// Smallest output: `zero_point` for a Relu, 0 for none.
        lo: u8,
        /// Largest output: the quantized 6 for a Relu6, 255 for none.
        hi: u8,
    },
    /// `y = f32(acc) · scale[n]`: the head of a network.
    F32 {
        /// `input scale · weight scale[n]`; finite.
        scale: &'a [f32],
    },
}

impl Output<'_> {
    /// The factor of each channel.
    pub(super) fn factors(&self) -> &[f32] {
        match self {
            Output::U8 { mult, .. } => mult,
            Output::F32 { scale } => scale,
        }
    }

    /// Asserts what the vector stores rely on.
    #[track_caller]
    pub(super) fn assert_valid(&self, channels: usize) {
        let factors = self.factors();
        assert_eq!(factors.len(), channels, "one output factor per channel");
        assert!(factors.iter().all(|factor| factor.is_finite()), "output factors must be finite");
        if let Output::U8 { mult, lo, hi, .. } = self {
            assert!(mult.iter().all(|mult| *mult >= 0.0), "requantization factors must not be negative");
            assert!(lo <= hi, "the output range {lo}..={hi} is empty");
        }
    }
}

/// Where the windows of a convolution or pooling lie in one NHWC image.
///
/// Window `(oy, ox)` covers the rows `oy · stride[0] − pad_top + ky · dilation[0]` and the columns
/// `ox · stride[1] − pad_left + kx · dilation[1]`. What lies outside the image is padding; how much there is
/// at the bottom and right follows from the output size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Rows of the output.
    pub out_height: usize,
    /// Columns of the output.
    pub out_width: usize,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Input rows and columns between neighbouring windows.
    pub stride: [usize; 2],
    /// Input rows and columns between neighbouring taps of a window.
    pub dilation: [usize; 2],
    /// Rows of padding above the image.
    pub pad_top: usize,
    /// Columns of padding left of the image.
    pub pad_left: usize,
}

/// No side of an image, kernel, stride, dilation or padding may exceed this, so that positions never overflow.
const MAX_SIDE: usize = 1 << 24;

impl Geometry {
    /// Pixels of the input.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Pixels of the output.
    pub fn out_pixels(&self) -> usize {
        self.out_height * self.out_width
    }

    /// The input row under tap row `ky` of output row `oy`, unless it is padding.
    pub(super) fn row(&self, oy: usize, ky: usize) -> Option<usize> {
        let y = (oy * self.stride[0] + ky * self.dilation[0]).checked_sub(self.pad_top)?;
        (y < self.height).then_some(y)
    }

    /// The input column under tap column `kx` of output column `ox`, unless it is padding.
    pub(super) fn column(&self, ox: usize, kx: usize) -> Option<usize> {
        let x = (ox * self.stride[1] + kx * self.dilation[1]).checked_sub(self.pad_left)?;
        (x < self.width).then_some(x)
    }

    /// The output columns whose windows lie within the columns of the image.
    pub(super) fn inside_columns(&self) -> std::ops::Range<usize> {
        let stride = self.stride[1];
        let start = self.pad_left.div_ceil(stride);
        let last_tap = (self.kernel[1] - 1) * self.dilation[1];
        let end = match (self.width + self.pad_left).checked_sub(last_tap + 1) {
            Some(last) => last / stride + 1,
            None => 0,
        };
        start..end.min(self.out_width)
    }

    /// Calls `each(tap, pixel)` for the taps of window `(oy, ox)`, row by row, with the index of the input pixel
    /// under it unless it is padding.
    pub(super) fn taps(&self, oy: usize, ox: usize, mut each: impl FnMut(usize, Option<usize>)) {
        let [rows, columns] = self.kernel;
        for ky in 0..rows {
            let row = self.row(oy, ky);
            for kx in 0..columns {
                let pixel = row.zip(self.column(ox, kx)).map(|(y, column)| y * self.width + column);
                each(ky * columns + kx, pixel);
            }
        }
    }

    /// Asserts that the arithmetic of this type can't overflow, and that `input` and `output` elements hold
    /// the images (the input with `slack` after it).
    #[track_caller]
    pub(super) fn assert_holds(&self, channels: usize, input: usize, slack: usize, output: usize) {
        let Geometry { height, width, out_height, out_width, kernel, stride, dilation, pad_top, pad_left } =
            *self;
        let sides = [height, width, out_height, out_width, pad_top, pad_left, channels];
        let all = sides.into_iter().chain(kernel).chain(stride).chain(dilation);
        assert!(all.max() <= Some(MAX_SIDE), "{self:?} is beyond {MAX_SIDE}");
        assert!(kernel[0] > 0 && kernel[1] > 0, "the kernel is empty: {self:?}");
        assert!(stride[0] > 0 && stride[1] > 0, "windows don't move: {self:?}");
        let need = |pixels: usize| pixels.checked_mul(channels).and_then(|n| n.checked_add(slack));
        let has = need(self.pixels()).is_some_and(|n| n <= input);
        assert!(has, "the input has {input} bytes, too few for {channels} channels of {self:?} and slack");
        let holds = self.out_pixels().checked_mul(channels).is_some_and(|n| n <= output);
        assert!(holds, "the output has {output} bytes, too few for {channels} channels of {self:?}");
    }
}

/// The constants of a quantized addition; see [`add`](super::add).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AddParams {
    /// Scale of the first operand ÷ scale of the sum.
    pub a_ratio: f32,
    /// Scale of the second operand ÷ scale of the sum.
    pub b_ratio: f32,
    /// What the zero points add up to.
    pub constant: f32,
    /// Smallest output.
    pub lo: u8,
    /// Largest output.
    pub hi: u8,
}

impl AddParams {
    /// The constants for `sum = a + b` with `(scale, zero point)` of each, clamped to `lo..=hi`.
    ///
    /// With `ra = sa/sc` and `rb = sb/sc` the constant is `zc − fma(ra, za, rb·zb)`: ONNX Runtime's order of
    /// roundings in `QLinearAdd`, so that sums agree with it bit for bit.
    pub fn new(a: (f32, u8), b: (f32, u8), sum: (f32, u8), lo: u8, hi: u8) -> AddParams {
        let (a_ratio, b_ratio) = (a.0 / sum.0, b.0 / sum.0);
        let zero_points = a_ratio.mul_add(f32::from(a.1), b_ratio * f32::from(b.1));
        AddParams { a_ratio, b_ratio, constant: f32::from(sum.1) - zero_points, lo, hi }
    }

    /// Whether every sum before it is limited is below 2³⁰, so that conversions to i32 need no saturation.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn sums_fit_i32(&self) -> bool {
        255.0 * (self.a_ratio + self.b_ratio) + self.constant.abs() < (1 << 30) as f32
    }

    /// Asserts what sums rely on.
    #[track_caller]
    pub(super) fn assert_valid(&self) {
        let valid = |ratio: f32| ratio.is_finite() && ratio >= 0.0;
        let AddParams { a_ratio, b_ratio, constant, lo, hi } = *self;
        assert!(valid(a_ratio) && valid(b_ratio) && constant.is_finite() && lo <= hi, "{self:?}");
    }
}

/// A tensor that is added to the quantized outputs of a product: a residual connection.
#[derive(Debug, Clone, Copy)]
pub struct Residual<'a> {
    /// Laid out as the outputs, with [`SLACK`](crate::kernels::SLACK) behind.
    pub values: &'a [u8],
    /// The constants of the sum; those of the product's own output come before it.
    pub params: &'a AddParams,
    /// Whether it is the sum's first operand.
    pub is_first: bool,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry {
        height: 5,
        width: 4,
        out_height: 3,
        out_width: 2,
        kernel: [3, 3],
        stride: [2, 2],
        dilation: [1, 1],
        pad_top: 1,
        pad_left: 0,
    };

    #[test]
    fn taps_outside_the_image_are_padding() {
        assert_eq!(GEOMETRY.row(0, 0), None);
        assert_eq!(GEOMETRY.row(0, 1), Some(0));
        assert_eq!(GEOMETRY.row(2, 2), None);
        assert_eq!(GEOMETRY.column(0, 0), Some(0));
        assert_eq!(GEOMETRY.column(1, 2), None);
    }

    #[test]
    fn inside_columns_are_those_without_padding() {
        for (width, out_width, pad_left, stride, dilation) in [
            (4, 2, 0, 2, 1),
            (9, 9, 1, 1, 1),
            (9, 5, 1, 2, 1),
            (9, 9, 2, 1, 2),
            (2, 3, 2, 1, 1),
            (7, 9, 5, 3, 2),
        ] {
            let (stride, dilation) = ([1, stride], [1, dilation]);
            let geometry = Geometry { width, out_width, pad_left, stride, dilation, ..GEOMETRY };
            let inside = geometry.inside_columns();
            for ox in 0..out_width {
                let all = (0..3).all(|kx| geometry.column(ox, kx).is_some());
                assert_eq!(inside.contains(&ox), all, "column {ox} of {geometry:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "too few")]
    fn a_short_input_is_refused() {
        GEOMETRY.assert_holds(8, 5 * 4 * 8 + 127, 128, 3 * 2 * 8);
    }

    #[test]
    #[should_panic(expected = "beyond")]
    fn sides_that_could_overflow_are_refused() {
        Geometry { height: usize::MAX, ..GEOMETRY }.assert_holds(8, 1, 128, 1);
    }

    #[test]
    #[should_panic(expected = "must not be negative")]
    fn negative_factors_are_refused() {
        Output::U8 { mult: &[-1.0], zero_point: 0, lo: 0, hi: 255 }.assert_valid(1);
    }
}
