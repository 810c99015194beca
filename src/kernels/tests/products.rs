//! Matrix products and convolutions by indirection.

use super::*;

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
    /// A product with one tap can go either way.
    fn is_pointwise(&self) -> bool {
        self.taps == 1 && !self.seed.is_multiple_of(4)
    }

    /// Runs `isa` on this case: bytes, then floats, as bits.
    fn run(&self, isa: Isa) -> (Guarded<u8>, Vec<u32>) {
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
        let mut out = Guarded::new((m - 1) * ldo + n, UNTOUCHED);
        let mut floats = Guarded::new((m - 1) * ldo + n, 7.0f32);
        if self.is_pointwise() {
            product.pointwise(None, &a, lda, m, &mut out, ldo, None);
            head.pointwise_f32(None, &a, lda, m, &mut floats, ldo);
        } else {
            let (offsets, pad_row) = self.offsets(&mut random, a.len(), zx);
            let offsets = Offsets::new(taps, k, offsets);
            product.indirect(None, &a, &pad_row, offsets.all(), &mut out, ldo, None);
            head.indirect_f32(None, &a, &pad_row, offsets.all(), &mut floats, ldo);
        }
        (out, floats.iter().map(|x| x.to_bits()).collect())
    }

    fn offsets(&self, random: &mut Random, len: usize, zx: u8) -> (Vec<i32>, Guarded<u8>) {
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
    fn expected(&self) -> (Guarded<u8>, Vec<u32>) {
        let &GemmCase { m, n, taps, k, lda, ldo, zero_points: (zx, zy), range: (lo, hi), .. } = self;
        let mut random = Random(self.seed);
        let weights = random.weights(n * taps * k, self.spread);
        let (bias, factors) = (random.bias(n), random.factors(n, taps * k, self.extreme));
        let a = random.bytes((m - 1) * lda + k + SLACK);
        let mut out = Guarded::new((m - 1) * ldo + n, UNTOUCHED);
        let mut floats = Guarded::new((m - 1) * ldo + n, 7.0f32);
        let pointwise = self.is_pointwise();
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
        (out, floats.iter().map(|x| x.to_bits()).collect())
    }
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

/// A convolution over an image, whose taps lie side by side as those of networks do.
#[derive(Debug, Clone)]
struct WindowCase {
    size: [usize; 2],
    channels: usize,
    n: usize,
    kernel: [usize; 2],
    stride: usize,
    dilation: usize,
    pad: usize,
    seed: u64,
}

fn window_case() -> impl Strategy<Value = WindowCase> {
    let sizes = ([1usize..24, 1usize..40], prop_oneof![1usize..70, Just(16), Just(32), Just(64)], 8usize..80);
    let windows = ([1usize..6, 1usize..6], 1usize..3, 1usize..3, 0usize..3, any::<u64>());
    (sizes, windows).prop_map(|((size, channels, n), (kernel, stride, dilation, pad, seed))| WindowCase {
        size,
        channels,
        n,
        kernel,
        stride,
        dilation,
        pad,
        seed,
    })
}

impl WindowCase {
    fn offsets(&self) -> Vec<i32> {
        let &WindowCase { size, channels, kernel, stride, dilation, pad, .. } = self;
        let outputs = |axis: usize| {
            (size[axis] + 2 * pad).saturating_sub((kernel[axis] - 1) * dilation).div_ceil(stride)
        };
        let inside = |at: usize, axis: usize| at.checked_sub(pad).filter(|at| *at < size[axis]);
        let mut offsets = vec![];
        for (y, x) in (0..outputs(0)).flat_map(|y| (0..outputs(1)).map(move |x| (y, x))) {
            for (row, column) in (0..kernel[0]).flat_map(|row| (0..kernel[1]).map(move |c| (row, c))) {
                let at =
                    inside(y * stride + row * dilation, 0).zip(inside(x * stride + column * dilation, 1));
                offsets.push(at.map_or(PAD, |(y, x)| ((y * size[1] + x) * channels) as i32));
            }
        }
        offsets
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn convolutions_agree(case in window_case()) {
        let &WindowCase { size, channels, n, kernel, seed, .. } = &case;
        let mut random = Random(seed);
        let taps = kernel[0] * kernel[1];
        let offsets = Offsets::new(taps, channels, case.offsets());
        let weights = random.weights(n * taps * channels, Spread::Even);
        let (bias, factors) = (random.bias(n), random.factors(n, taps * channels, false));
        let x = random.bytes(size[0] * size[1] * channels + SLACK);
        let mut pad_row = random.bytes(channels + SLACK);
        pad_row[..channels].fill(77);
        let residual = random.bytes(offsets.rows() * n + SLACK);
        let params = AddParams::new((0.02, 100), (0.03, 7), (0.04, 11), 2, 251);
        let team = Team::new(2, |_| {}).unwrap();
        let run = |isa: Isa, team: Option<&Team>, is_first: Option<bool>| {
            let output = Output::U8 { mult: &factors, zero_point: 100, lo: 3, hi: 250 };
            let product = GemmWeights::pack(isa, n, taps, channels, &weights, &bias, output);
            let mut out = Guarded::new(offsets.rows() * n, UNTOUCHED);
            let residual = is_first.map(|is_first| Residual { values: &residual, params: &params, is_first });
            product.indirect(team, &x, &pad_row, offsets.all(), &mut out, n, residual);
            out
        };
        let plain = run(Isa::Scalar, None, None);
        for is_first in [None, Some(false), Some(true)] {
            let mut want = plain.to_vec();
            let len = want.len();
            match is_first {
                None => {}
                Some(false) => add(Isa::Scalar, &plain, &residual, len, &params, &mut want),
                Some(true) => add(Isa::Scalar, &residual, &plain, len, &params, &mut want),
            }
            for isa in Isa::available() {
                assert_same(isa, &run(isa, None, is_first), &want);
                assert_same(isa, &run(isa, Some(&team), is_first), &want);
            }
        }
    }
}

fn product(isa: Isa) -> GemmWeights {
    let output = Output::U8 { mult: &[1.0; 2], zero_point: 0, lo: 0, hi: 255 };
    GemmWeights::pack(isa, 2, 1, 5, &[1; 10], &[0; 2], output)
}

#[test]
fn no_rows_are_no_work_whatever_is_added() {
    let (n, k) = (600, 600);
    let (weights, factors) = (vec![1; n * k], vec![0.001; n]);
    let params = AddParams::new((0.02, 100), (0.03, 7), (0.04, 11), 2, 251);
    for isa in Isa::available() {
        let output = Output::U8 { mult: &factors, zero_point: 0, lo: 0, hi: 255 };
        let product = GemmWeights::pack(isa, n, 1, k, &weights, &vec![0; n], output);
        let residual = Residual { values: &[0; SLACK], params: &params, is_first: false };
        product.pointwise(None, &[0; SLACK], k, 0, &mut [], n, Some(residual));
    }
}

#[test]
#[should_panic(expected = "slack")]
fn rows_without_slack_are_refused() {
    product(Isa::Scalar).pointwise(None, &[0; 2 * 5 + SLACK - 1], 5, 2, &mut [0; 4], 2, None);
}

#[test]
#[should_panic(expected = "need 4 outputs")]
fn short_outputs_are_refused() {
    product(Isa::Scalar).pointwise(None, &[0; 2 * 5 + SLACK], 5, 2, &mut [0; 3], 2, None);
}

#[test]
#[should_panic(expected = "an offset is outside 0..=3")]
fn offsets_beyond_the_input_are_refused() {
    let (a, pad_row) = ([0; 8 + SLACK], [0; 5 + SLACK]);
    let offsets = Offsets::new(1, 5, vec![3, 4]);
    product(Isa::Scalar).indirect(None, &a, &pad_row, offsets.all(), &mut [0; 4], 2, None);
}
