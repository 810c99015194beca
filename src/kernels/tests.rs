//! Every tier gives the bytes of the scalar tier, and the scalar tier those of the formula, for random shapes.

use proptest::prelude::*;

use super::*;

/// What outputs hold before an operation: what it must not touch is still there afterwards.
const UNTOUCHED: u8 = 0xA5;

fn zero_point() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(1), Just(127), Just(128), Just(255), any::<u8>()]
}

fn range() -> impl Strategy<Value = (u8, u8)> {
    prop_oneof![Just((0, 255)), (any::<u8>(), any::<u8>()).prop_map(|(a, b)| (a.min(b), a.max(b)))]
}

/// Bytes of a kind: evenly spread, only the extremes, or small.
#[derive(Debug, Clone, Copy)]
enum Spread {
    Even,
    Extreme,
    Small,
}

fn spread() -> impl Strategy<Value = Spread> {
    prop_oneof![Just(Spread::Even), Just(Spread::Extreme), Just(Spread::Small)]
}

/// A reproducible source of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn weights(&mut self, len: usize, spread: Spread) -> Vec<i8> {
        let weight = |random: u64| match spread {
            Spread::Even => random as i8,
            Spread::Extreme => [-128, 127][(random & 1) as usize],
            Spread::Small => (random % 65) as i8 - 32,
        };
        (0..len).map(|_| weight(self.next())).collect()
    }

    fn bias(&mut self, len: usize) -> Vec<i32> {
        (0..len).map(|_| (self.next() as i32) >> (self.next() % 32)).collect()
    }

    /// Factors from far too small to saturating, most of them such that sums of `terms` products fit.
    fn factors(&mut self, len: usize, terms: usize, extreme: bool) -> Vec<f32> {
        let usual = 1.0 / (64.0 * (terms as f32).sqrt());
        let factor = |random: u64| match random % 16 {
            _ if !extreme => usual * (1.0 + (random >> 8 & 0xFF) as f32 / 64.0),
            0 => 0.0,
            1 => f32::MAX,
            2 => f32::MIN_POSITIVE,
            3 => 0.5,
            4 => 1e6,
            _ => usual,
        };
        (0..len).map(|_| factor(self.next())).collect()
    }
}

/// The definition, apart from the code under test: exact sums, one rounding per float operation.
fn formula(acc: i64, mult: f32, zero_point: u8, lo: u8, hi: u8) -> u8 {
    let rounded = f64::from((acc as i32 as f32 * mult).round_ties_even());
    (rounded + f64::from(zero_point)).clamp(f64::from(lo), f64::from(hi)) as u8
}

#[derive(Debug, Clone)]
struct GemmCase {
    m: usize,
    n: usize,
    taps: usize,
    k: usize,
    lda: usize,
    ldo: usize,
    zero_points: (u8, u8),
    range: (u8, u8),
    spread: Spread,
    extreme: bool,
    seed: u64,
}

fn gemm_case() -> impl Strategy<Value = GemmCase> {
    let sizes = (1usize..40, 1usize..130, prop_oneof![Just(1usize), 1usize..10], 1usize..70);
    let more =
        (0usize..9, 0usize..9, zero_point(), zero_point(), range(), spread(), any::<bool>(), any::<u64>());
    (sizes, more).prop_map(|((m, n, taps, k), (pad_a, pad_o, zx, zy, range, spread, extreme, seed))| {
        GemmCase {
            m,
            n,
            taps,
            k,
            lda: k + pad_a,
            ldo: n + pad_o,
            zero_points: (zx, zy),
            range,
            spread,
            extreme,
            seed,
        }
    })
}

impl GemmCase {
    /// Runs `isa` on this case: bytes, then floats, as bits.
    fn run(&self, isa: Isa) -> (Vec<u8>, Vec<u32>) {
        let &GemmCase { m, n, taps, k, lda, ldo, zero_points: (zx, zy), range: (lo, hi), .. } = self;
        let mut random = Random(self.seed);
        let weights = random.weights(n * taps * k, self.spread);
        let (bias, factors) = (random.bias(n), random.factors(n, taps * k, self.extreme));
        let u8_output = Output::U8 { mult: &factors, zero_point: zy, lo, hi };
        let f32_output = Output::F32 { scale: &factors };
        let product = GemmWeights::pack(isa, n, taps, k, &weights, &bias, u8_output);
        let head = GemmWeights::pack(isa, n, taps, k, &weights, &bias, f32_output);
        let a = random.bytes((m - 1) * lda + k + SLACK);
        // A row of garbage slack: what is beyond `k` must not count.
        let mut out = vec![UNTOUCHED; (m - 1) * ldo + n + SLACK];
        let mut floats = vec![7.0; (m - 1) * ldo + n + SLACK];
        if taps == 1 && self.seed % 4 > 0 {
            product.pointwise(&a, lda, m, &mut out, ldo);
            head.pointwise_f32(&a, lda, m, &mut floats, ldo);
        } else {
            let (offsets, pad_row) = self.offsets(&mut random, a.len(), zx);
            product.indirect(&a, &pad_row, &offsets, m, &mut out, ldo);
            head.indirect_f32(&a, &pad_row, &offsets, m, &mut floats, ldo);
        }
        (out, floats.into_iter().map(f32::to_bits).collect())
    }

    fn offsets(&self, random: &mut Random, len: usize, zx: u8) -> (Vec<i32>, Vec<u8>) {
        let last = len - self.k - SLACK;
        let offset = |random: u64| match random % 4 {
            0 => PAD,
            1 => last as i32,
            _ => (random >> 2) as i32 as usize as i32 & i32::MAX,
        };
        let wrap = |offset: i32| if offset == PAD { PAD } else { (offset as usize % (last + 1)) as i32 };
        let offsets = (0..self.m * self.taps).map(|_| wrap(offset(random.next()))).collect();
        let mut pad_row = random.bytes(self.k + SLACK);
        pad_row[..self.k].fill(zx);
        (offsets, pad_row)
    }

    /// The formula, for rows given by tap.
    fn expected(&self) -> (Vec<u8>, Vec<u32>) {
        let &GemmCase { m, n, taps, k, lda, ldo, zero_points: (zx, zy), range: (lo, hi), .. } = self;
        let mut random = Random(self.seed);
        let weights = random.weights(n * taps * k, self.spread);
        let (bias, factors) = (random.bias(n), random.factors(n, taps * k, self.extreme));
        let a = random.bytes((m - 1) * lda + k + SLACK);
        let mut out = vec![UNTOUCHED; (m - 1) * ldo + n + SLACK];
        let mut floats = vec![7.0f32; (m - 1) * ldo + n + SLACK];
        let pointwise = taps == 1 && self.seed % 4 > 0;
        let (offsets, pad_row) = self.offsets(&mut random, a.len(), zx);
        for row in 0..m {
            for c in 0..n {
                let mut acc = i64::from(bias[c]);
                for tap in 0..taps {
                    let x = match offsets[row * taps + tap] {
                        _ if pointwise => &a[row * lda..],
                        PAD => &pad_row,
                        offset => &a[offset as usize..],
                    };
                    let w = &weights[(c * taps + tap) * k..][..k];
                    acc += x.iter().zip(w).map(|(&x, &w)| i64::from(x) * i64::from(w)).sum::<i64>();
                }
                out[row * ldo + c] = formula(acc, factors[c], zy, lo, hi);
                floats[row * ldo + c] = acc as i32 as f32 * factors[c];
            }
        }
        (out, floats.into_iter().map(f32::to_bits).collect())
    }
}

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
    fn depthwise(&self, isa: Isa) -> Vec<u8> {
        let (mut random, channels) = (Random(self.seed), self.channels);
        let (taps, (lo, hi)) = (self.geometry.kernel.iter().product::<usize>(), self.range);
        let weights = random.weights(channels * taps, self.spread);
        let bias: Vec<i32> = random.bias(channels);
        let mult = random.factors(channels, taps, self.extreme);
        let output = Output::U8 { mult: &mult, zero_point: self.zero_points.1, lo, hi };
        let (zx, kernel) = (self.zero_points.0, self.geometry.kernel);
        let packed = DepthwiseWeights::pack(isa, channels, kernel, &weights, &bias, zx, output);
        let x = random.bytes(self.geometry.pixels() * channels + SLACK);
        let mut out = vec![UNTOUCHED; self.geometry.out_pixels() * channels + SLACK];
        packed.run(&x, &self.geometry, &mut out);
        out
    }

    fn expected_depthwise(&self) -> Vec<u8> {
        let (mut random, channels) = (Random(self.seed), self.channels);
        let (taps, (lo, hi)) = (self.geometry.kernel.iter().product::<usize>(), self.range);
        let weights = random.weights(channels * taps, self.spread);
        let bias = random.bias(channels);
        let mult = random.factors(channels, taps, self.extreme);
        let x = random.bytes(self.geometry.pixels() * channels + SLACK);
        let mut out = vec![UNTOUCHED; self.geometry.out_pixels() * channels + SLACK];
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
    fn pools(&self, isa: Isa) -> [Vec<u8>; 3] {
        let (mut random, channels, g) = (Random(self.seed), self.channels, &self.geometry);
        let x = random.bytes(g.pixels() * channels);
        let mut pools = [(); 3].map(|()| vec![UNTOUCHED; g.out_pixels() * channels + 3]);
        let (zx, zy) = self.zero_points;
        let [max, with, without] = &mut pools;
        max_pool(isa, &x, channels, g, max);
        average_pool(isa, &x, channels, g, true, zx, 1.7, zy, with);
        average_pool(isa, &x, channels, g, false, zx, 1.7, zy, without);
        pools
    }

    fn expected_pools(&self) -> [Vec<u8>; 3] {
        let (mut random, channels, g) = (Random(self.seed), self.channels, &self.geometry);
        let x = random.bytes(g.pixels() * channels);
        let mut pools = [(); 3].map(|()| vec![UNTOUCHED; g.out_pixels() * channels + 3]);
        let (zx, zy) = self.zero_points;
        for i in 0..g.out_pixels() * channels {
            let inside: Vec<u8> = self.window(&x, i / channels, i % channels).flatten().collect();
            let sum: i64 = inside.iter().map(|&x| i64::from(x) - i64::from(zx)).sum();
            let size = g.kernel[0] * g.kernel[1];
            pools[0][i] = inside.iter().copied().max().unwrap_or(0);
            pools[1][i] = formula(sum, 1.7 / size as f32, zy, 0, 255);
            pools[2][i] = formula(sum, 1.7 / inside.len().max(1) as f32, zy, 0, 255);
        }
        pools
    }
}

fn assert_same<T: PartialEq + std::fmt::Debug>(isa: Isa, got: &[T], want: &[T]) {
    let differs = got.iter().zip(want).position(|(got, want)| got != want);
    if let Some(i) = differs {
        panic!("{}: element {i} is {:?}, must be {:?}", isa.name(), got[i], want[i]);
    }
    assert_eq!(got.len(), want.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn products_agree(case in gemm_case()) {
        let (bytes, floats) = case.expected();
        for isa in Isa::available() {
            let got = case.run(isa);
            assert_same(isa, &got.0, &bytes);
            assert_same(isa, &got.1, &floats);
        }
    }

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

    #[test]
    fn global_means_agree(
        pixels in 1usize..60, channels in 1usize..200, zx in zero_point(), zy in zero_point(), seed: u64,
    ) {
        let x = Random(seed).bytes(pixels * channels);
        let mult = 1.3 / pixels as f32;
        let mean = |c: usize| {
            let sum = x.iter().skip(c).step_by(channels).map(|&x| i64::from(x) - i64::from(zx)).sum();
            formula(sum, mult, zy, 0, 255)
        };
        let mut want: Vec<u8> = (0..channels).map(mean).collect();
        want.push(UNTOUCHED);
        for isa in Isa::available() {
            let mut got = vec![UNTOUCHED; channels + 1];
            global_average_pool(isa, &x, pixels, channels, zx, mult, zy, &mut got);
            assert_same(isa, &got, &want);
        }
    }

    #[test]
    fn sums_agree(
        len in 0usize..300, scales in [0.001f32..2.0, 0.001f32..2.0, 0.001f32..2.0],
        zero_points in [zero_point(), zero_point(), zero_point()], (lo, hi) in range(), seed: u64,
    ) {
        let [a, b, sum] = [0, 1, 2].map(|i| (scales[i], zero_points[i]));
        let params = AddParams::new(a, b, sum, lo, hi);
        let mut random = Random(seed);
        let (x, y) = (random.bytes(len), random.bytes(len));
        let (ra, rb) = (a.0 / sum.0, b.0 / sum.0);
        let constant = f32::from(sum.1) - ra.mul_add(f32::from(a.1), rb * f32::from(b.1));
        let mut want: Vec<u8> = x.iter().zip(&y).map(|(&x, &y)| {
            let sum = f32::from(x).mul_add(ra, f32::from(y).mul_add(rb, constant));
            f64::from(sum.round_ties_even()).clamp(f64::from(lo), f64::from(hi)) as u8
        }).collect();
        want.push(UNTOUCHED);
        for isa in Isa::available() {
            let mut got = vec![UNTOUCHED; len + 1];
            add(isa, &x, &y, len, &params, &mut got);
            assert_same(isa, &got, &want);
        }
    }

    #[test]
    fn quantized_images_agree(
        (channels, more) in (1usize..6, 0usize..3), (height, width) in (1usize..5, 1usize..40),
        pad in [0usize..3, 0usize..3, 0usize..3, 0usize..3], zx in zero_point(), scale in 0.01f32..2.0, seed: u64,
    ) {
        let mut random = Random(seed);
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, scale * 0.5, scale * 1.5, -0.0];
        let x: Vec<f32> = (0..channels * height * width).map(|_| match random.next() {
            r if r % 8 == 0 => special[(r >> 8) as usize % special.len()],
            r => ((r >> 40) as f32 / 16_777_216.0 - 0.5) * 300.0 * scale,
        }).collect();
        let (c_stride, [top, left, bottom, right]) = (channels + more, pad);
        let row = (left + width + right) * c_stride;
        let mut want = vec![zx; (top + height + bottom) * row];
        for (i, &x) in x.iter().enumerate() {
            let (c, y, column) = (i / (height * width), i / width % height, i % width);
            let steps = f64::from((x / scale).round_ties_even()) + f64::from(zx);
            let q = if x.is_nan() { zx } else { steps.clamp(0.0, 255.0) as u8 };
            want[(top + y) * row + (left + column) * c_stride + c] = q;
        }
        want.push(UNTOUCHED);
        for isa in Isa::available() {
            let mut got = vec![UNTOUCHED; want.len()];
            quantize_nchw(isa, &x, channels, height, width, scale, zx, c_stride, pad, &mut got);
            assert_same(isa, &got, &want);
        }
    }

    #[test]
    fn dequantized_images_agree(
        channels in 1usize..70, pixels in 1usize..70, zx in zero_point(), scale in 0.01f32..2.0, seed: u64,
    ) {
        let x = Random(seed).bytes(pixels * channels);
        let value = |i: usize| f32::from(i16::from(x[i % pixels * channels + i / pixels]) - i16::from(zx)) * scale;
        let want: Vec<u32> = (0..channels * pixels).map(|i| value(i).to_bits()).collect();
        for isa in Isa::available() {
            let mut got = vec![f32::NAN; channels * pixels];
            dequantize_to_nchw(isa, &x, channels, pixels, scale, zx, &mut got);
            assert_same(isa, &got.iter().map(|got| got.to_bits()).collect::<Vec<_>>(), &want);
        }
    }

    #[test]
    fn concatenated_channels_agree(
        pixels in 0usize..9, channels in 1usize..140, before in 0usize..9, after in 0usize..9,
        through_table: bool, seed: u64,
    ) {
        let mut random = Random(seed);
        let x = random.bytes(pixels * channels);
        let table: [u8; 256] = std::array::from_fn(|_| random.next() as u8);
        let stride = before + channels + after;
        let mut want = vec![UNTOUCHED; pixels * stride];
        for (i, &x) in x.iter().enumerate() {
            let y = if through_table { table[usize::from(x)] } else { x };
            want[i / channels * stride + before + i % channels] = y;
        }
        for isa in Isa::available() {
            let mut got = vec![UNTOUCHED; pixels * stride];
            let table = through_table.then_some(&table);
            copy_channels(isa, &x, pixels, channels, table, &mut got, stride, before);
            assert_same(isa, &got, &want);
        }
    }
}

/// Shapes that random ones rarely reach: full tiles, many blocks, several row chunks, deep sums.
#[test]
fn large_products_agree() {
    for (m, n, taps, k) in [(131, 336, 1, 64), (1, 1000, 1, 1280), (700, 24, 1, 96), (97, 40, 9, 32)] {
        for spread in [Spread::Even, Spread::Extreme, Spread::Small] {
            let case = GemmCase {
                m,
                n,
                taps,
                k,
                lda: k,
                ldo: n,
                zero_points: (128, 3),
                range: (0, 255),
                spread,
                extreme: false,
                seed: 5,
            };
            let (bytes, floats) = case.expected();
            for isa in Isa::available() {
                let got = case.run(isa);
                assert_same(isa, &got.0, &bytes);
                assert_same(isa, &got.1, &floats);
            }
        }
    }
}

fn product(isa: Isa) -> GemmWeights {
    let output = Output::U8 { mult: &[1.0; 2], zero_point: 0, lo: 0, hi: 255 };
    GemmWeights::pack(isa, 2, 1, 5, &[1; 10], &[0; 2], output)
}

#[test]
#[should_panic(expected = "slack")]
fn rows_without_slack_are_refused() {
    product(Isa::Scalar).pointwise(&[0; 2 * 5 + SLACK - 1], 5, 2, &mut [0; 4], 2);
}

#[test]
#[should_panic(expected = "need 4 outputs")]
fn short_outputs_are_refused() {
    product(Isa::Scalar).pointwise(&[0; 2 * 5 + SLACK], 5, 2, &mut [0; 3], 2);
}

#[test]
#[should_panic(expected = "an offset is outside 0..=3")]
fn offsets_beyond_the_input_are_refused() {
    let (a, pad_row) = ([0; 8 + SLACK], [0; 5 + SLACK]);
    product(Isa::Scalar).indirect(&a, &pad_row, &[3, 4], 2, &mut [0; 4], 2);
}

#[test]
#[should_panic(expected = "an offset is outside")]
fn negative_offsets_are_refused() {
    let (a, pad_row) = ([0; 8 + SLACK], [0; 5 + SLACK]);
    product(Isa::Scalar).indirect(&a, &pad_row, &[PAD, -1], 2, &mut [0; 4], 2);
}
