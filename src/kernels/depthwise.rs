//! Depthwise convolution: each channel with its own small kernel.

use super::layout::Product;
use super::types::{Geometry, Output};
use super::{Isa, SLACK, scalar};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512_vnni};

/// The kernels, biases and output factors of a depthwise convolution (channel multiplier 1), packed for one
/// tier.
#[derive(Debug)]
pub struct DepthwiseWeights {
    isa: Isa,
    channels: usize,
    kernel: [usize; 2],
    packed: Packed,
}

#[derive(Debug)]
enum Packed {
    Scalar(scalar::Depthwise),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Depthwise),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Box<avx512_vnni::Depthwise>),
}

impl Packed {
    fn new(
        isa: Isa,
        kernel: [usize; 2],
        product: &Product<'_>,
        zero_point: u8,
        output: Output<'_>,
    ) -> Packed {
        let Product { weights, bias, .. } = *product;
        #[cfg(target_arch = "x86_64")]
        match isa.base() {
            _ if !product.results_fit_i32() => {}
            Isa::Avx512Vnni => {
                let packed = avx512_vnni::Depthwise::new(kernel, weights, bias, zero_point, output);
                return Packed::Avx512Vnni(Box::new(packed));
            }
            Isa::Avx2 => {
                return Packed::Avx2(avx2::Depthwise::new(kernel, weights, bias, zero_point, output));
            }
            _ => {}
        }
        Packed::Scalar(scalar::Depthwise::new(weights, bias, zero_point, output))
    }
}

impl DepthwiseWeights {
    /// Packs the weights `[channels][kernel rows · kernel columns]` for `isa`.
    ///
    /// `bias[c]` is `b/(sx·sw[c]) − zx·Σw[c]`; padding has the value `input_zero_point`, so that it stands
    /// for zero.
    ///
    /// # Panics
    /// A size is 0, a slice has another length than these sizes ask for, `output` is not a valid
    /// [`Output::U8`], or this machine lacks `isa`.
    pub fn pack(
        isa: Isa,
        channels: usize,
        kernel: [usize; 2],
        weights: &[i8],
        bias: &[i32],
        input_zero_point: u8,
        output: Output<'_>,
    ) -> DepthwiseWeights {
        isa.assert_supported();
        assert!(channels > 0 && kernel[0] > 0 && kernel[1] > 0, "empty: {channels} channels of {kernel:?}");
        let count = kernel[0].checked_mul(kernel[1]).and_then(|taps| taps.checked_mul(channels));
        assert_eq!(Some(weights.len()), count, "weights must be [{channels}][{kernel:?}]");
        assert_eq!(bias.len(), channels, "one bias per channel");
        output.assert_valid(channels);
        assert!(matches!(output, Output::U8 { .. }), "a depthwise convolution has u8 outputs");
        let taps = kernel[0] * kernel[1];
        let product = Product { n: channels, taps, k: 1, weights, bias, factors: output.factors() };
        let packed = Packed::new(isa, kernel, &product, input_zero_point, output);
        DepthwiseWeights { isa, channels, kernel, packed }
    }

    /// The tier that these weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Convolves one image: `x` is `[height][width][channels]` and [`SLACK`] more bytes, `out` is
    /// `[out_height][out_width][channels]`.
    ///
    /// # Panics
    /// `geometry` has another kernel than the weights, or a slice is too short for it.
    pub fn run(&self, x: &[u8], geometry: &Geometry, out: &mut [u8]) {
        assert_eq!(geometry.kernel, self.kernel, "the weights were packed for another kernel");
        geometry.assert_holds(self.channels, x.len(), SLACK, out.len());
        match &self.packed {
            Packed::Scalar(depthwise) => depthwise.run(x, geometry, out),
            #[cfg(target_arch = "x86_64")]
            Packed::Avx2(depthwise) => {
                // SAFETY: as below.
                #[allow(unsafe_code)]
                unsafe {
                    depthwise.run(x, geometry, out)
                }
            }
            #[cfg(target_arch = "x86_64")]
            Packed::Avx512Vnni(depthwise) => {
                // SAFETY: `pack` checked the machine, `assert_holds` the slices.
                #[allow(unsafe_code)]
                unsafe {
                    depthwise.run(x, geometry, out)
                }
            }
        }
    }
}
