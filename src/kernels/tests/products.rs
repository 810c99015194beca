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
        if self.is_pointwise() {
            product.pointwise(&a, lda, m, &mut out, ldo);
            head.pointwise_f32(&a, lda, m, &mut floats, ldo);
        } else {
            let (offsets, pad_row) = self.offsets(&mut random, a.len(), zx);
            let offsets = Offsets::new(taps, k, offsets);
            product.indirect(&a, &pad_row, offsets.all(), &mut out, ldo);
            head.indirect_f32(&a, &pad_row, offsets.all(), &mut floats, ldo);
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
        (out, floats.into_iter().map(f32::to_bits).collect())
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
    let offsets = Offsets::new(1, 5, vec![3, 4]);
    product(Isa::Scalar).indirect(&a, &pad_row, offsets.all(), &mut [0; 4], 2);
}
