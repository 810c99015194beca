//! Depthwise convolutions and pools.

use super::*;

#[derive(Debug, Clone)]
struct WindowCase {
    geometry: Geometry,
    channels: usize,
    zero_points: (u8, u8),
    range: (u8, u8),
    spread: Spread,
    extreme: bool,
    seed: u64,
}

/// `usual`: 3 × 3 with equal strides and no dilation, for which there are special forms.
fn window_case(max_channels: usize, usual: bool) -> impl Strategy<Value = WindowCase> {
    let pair = |most: usize| (1..=most, 1..=most).prop_map(|(a, b)| [a, b]);
    let windows = if usual {
        (Just([3, 3]), (1usize..=2).prop_map(|stride| [stride; 2]), Just([1, 1])).boxed()
    } else {
        (pair(6), pair(3), pair(3)).boxed()
    };
    let sizes = (1usize..14, 1usize..14, 1..=max_channels, 0usize..5, 0usize..5, 0usize..5, 0usize..5);
    let more = (zero_point(), zero_point(), range(), spread(), any::<bool>(), any::<u64>());
    (windows, sizes, more).prop_map(|((kernel, stride, dilation), sizes, more)| {
        let (height, width, channels, pad_top, pad_left, bottom, right) = sizes;
        let (zx, zy, range, spread, extreme, seed) = more;
        let out = |size: usize, pads: usize, i: usize| {
            let covered = dilation[i] * (kernel[i] - 1) + 1;
            (size + pads).saturating_sub(covered) / stride[i] + 1
        };
        WindowCase {
            geometry: Geometry {
                height,
                width,
                out_height: out(height, pad_top + bottom, 0),
                out_width: out(width, pad_left + right, 1),
                kernel,
                stride,
                dilation,
                pad_top,
                pad_left,
            },
            channels,
            zero_points: (zx, zy),
            range,
            spread,
            extreme,
            seed,
        }
    })
}

impl WindowCase {
    fn depthwise(&self, isa: Isa) -> Guarded<u8> {
        let (mut random, channels) = (Random(self.seed), self.channels);
        let (taps, (lo, hi)) = (self.geometry.kernel.iter().product::<usize>(), self.range);
        let weights = random.weights(channels * taps, self.spread);
        let bias: Vec<i32> = random.bias(channels);
        let mult = random.factors(channels, taps, self.extreme);
        let output = Output::U8 { mult: &mult, zero_point: self.zero_points.1, lo, hi };
        let (zx, kernel) = (self.zero_points.0, self.geometry.kernel);
        let packed = DepthwiseWeights::pack(isa, channels, kernel, &weights, &bias, zx, output);
        let x = random.bytes(self.geometry.pixels() * channels + SLACK);
        let mut out = Guarded::new(self.geometry.out_pixels() * channels, UNTOUCHED);
        packed.run(&x, &self.geometry, &mut out);
        out
    }

    fn expected_depthwise(&self) -> Guarded<u8> {
        let (mut random, channels) = (Random(self.seed), self.channels);
        let (taps, (lo, hi)) = (self.geometry.kernel.iter().product::<usize>(), self.range);
        let weights = random.weights(channels * taps, self.spread);
        let bias = random.bias(channels);
        let mult = random.factors(channels, taps, self.extreme);
        let x = random.bytes(self.geometry.pixels() * channels + SLACK);
        let mut out = Guarded::new(self.geometry.out_pixels() * channels, UNTOUCHED);
        for (i, out) in out[..self.geometry.out_pixels() * channels].iter_mut().enumerate() {
            let (pixel, c) = (i / channels, i % channels);
            let mut acc = i64::from(bias[c]);
            for (tap, x) in self.window(&x, pixel, c).enumerate() {
                acc += i64::from(x.unwrap_or(self.zero_points.0)) * i64::from(weights[c * taps + tap]);
            }
            *out = formula(acc, mult[c], self.zero_points.1, lo, hi);
        }
        out
    }

    /// The values of one channel under each tap of a window, or nothing where it is padding.
    fn window<'a>(&'a self, x: &'a [u8], pixel: usize, c: usize) -> impl Iterator<Item = Option<u8>> + 'a {
        let g = &self.geometry;
        let at = |o: usize, k: usize, i: usize, pad: usize, size: usize| {
            let at = (o * g.stride[i] + k * g.dilation[i]) as isize - pad as isize;
            usize::try_from(at).ok().filter(|&at| at < size)
        };
        (0..g.kernel[0] * g.kernel[1]).map(move |tap| {
            let y = at(pixel / g.out_width, tap / g.kernel[1], 0, g.pad_top, g.height)?;
            let column = at(pixel % g.out_width, tap % g.kernel[1], 1, g.pad_left, g.width)?;
            Some(x[(y * g.width + column) * self.channels + c])
        })
    }

    /// Max, mean with and without padding, as computed by `isa`.
    fn pools(&self, isa: Isa) -> [Guarded<u8>; 3] {
        let (mut random, channels, g) = (Random(self.seed), self.channels, &self.geometry);
        let x = random.bytes(g.pixels() * channels);
        let mut pools = [(); 3].map(|()| Guarded::new(g.out_pixels() * channels, UNTOUCHED));
        let (zx, zy) = self.zero_points;
        let [max, with, without] = &mut pools;
        max_pool(isa, &x, channels, g, max);
        average_pool(isa, &x, channels, g, true, zx, 1.7, zy, with);
        average_pool(isa, &x, channels, g, false, zx, 1.7, zy, without);
        pools
    }

    fn expected_pools(&self) -> [Guarded<u8>; 3] {
        let (mut random, channels, g) = (Random(self.seed), self.channels, &self.geometry);
        let x = random.bytes(g.pixels() * channels);
        let mut pools = [(); 3].map(|()| Guarded::new(g.out_pixels() * channels, UNTOUCHED));
        let (zx, zy) = self.zero_points;
        let [max, with, without] = &mut pools;
        for i in 0..g.out_pixels() * channels {
            let inside: Vec<u8> = self.window(&x, i / channels, i % channels).flatten().collect();
            let sum: i64 = inside.iter().map(|&x| i64::from(x) - i64::from(zx)).sum();
            let size = g.kernel[0] * g.kernel[1];
            max[i] = inside.iter().copied().max().unwrap_or(0);
            with[i] = formula(sum, 1.7 / size as f32, zy, 0, 255);
            without[i] = formula(sum, 1.7 / inside.len().max(1) as f32, zy, 0, 255);
        }
        pools
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn depthwise_convolutions_agree(case in prop_oneof![window_case(200, true), window_case(130, false)]) {
        let want = case.expected_depthwise();
        for isa in Isa::available() {
            assert_same(isa, &case.depthwise(isa), &want);
        }
    }

    #[test]
    fn pools_agree(case in window_case(140, false)) {
        let want = case.expected_pools();
        for isa in Isa::available() {
            for (got, want) in case.pools(isa).iter().zip(&want) {
                assert_same(isa, got, want);
            }
        }
    }
}
