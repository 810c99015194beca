//! FP32: every tier gives the bits of the scalar tier, and that is close to double precision.

use super::*;
use crate::kernels::{Binary, FloatDepthwise, FloatGemm, FloatRows, Term, Unary, survey, survey_bytes};

const SLACK_FLOATS: usize = SLACK / 4;

impl Random {
    fn floats(&mut self, len: usize) -> Guarded<f32> {
        (0..len).map(|_| (self.next() >> 40) as f32 / 8_388_608.0 - 1.0).collect()
    }
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|x| x.to_bits()).collect()
}

fn near(got: &[f32], want: &[f64], scale: f64) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() <= 1e-6 * scale, "element {i}: {got} is not {want}");
    }
}

#[derive(Debug, Clone)]
struct Product {
    m: usize,
    n: usize,
    taps: usize,
    k: usize,
    pad: (usize, usize),
    residual: bool,
    range: (f32, f32),
    seed: u64,
}

fn product() -> impl Strategy<Value = Product> {
    let range = prop_oneof![
        Just((f32::NEG_INFINITY, f32::INFINITY)),
        Just((0.0, f32::INFINITY)),
        Just((0.0, 0.5)),
        Just((-0.25, 0.25))
    ];
    let sizes = (1usize..40, 1usize..150, prop_oneof![Just(1usize), 1usize..10], 1usize..70);
    (sizes, (0usize..5, 0usize..5), any::<bool>(), range, any::<u64>()).prop_map(
        |((m, n, taps, k), pad, residual, range, seed)| Product { m, n, taps, k, pad, residual, range, seed },
    )
}

impl Product {
    /// The result of `isa`, and that of the formula in double precision.
    fn run(&self, isa: Isa) -> (Vec<f32>, Vec<f64>) {
        let &Product { m, n, taps, k, pad, residual, range: (lo, hi), seed } = self;
        let mut random = Random(seed);
        let (weights, bias) = (random.floats(n * taps * k), random.floats(n));
        let (lda, ldo) = (k + pad.0, n + pad.1);
        let a = random.floats((m - 1) * lda + k + SLACK_FLOATS);
        let residual = residual.then(|| random.floats((m - 1) * ldo + n));
        let last = a.len() - k - SLACK_FLOATS;
        let offsets: Vec<i32> = (0..m * taps)
            .map(|_| {
                if random.next().is_multiple_of(5) {
                    PAD
                } else {
                    (random.next() as usize % (last + 1)) as i32
                }
            })
            .collect();
        let pad_row = Guarded::new(k + SLACK_FLOATS, 0.0);
        let strided = taps == 1 && seed.is_multiple_of(2);
        let rows = match strided {
            true => FloatRows::Strided(lda),
            false => FloatRows::Indirect { offsets: &offsets, pad_row: &pad_row },
        };
        let mut out = Guarded::new((m - 1) * ldo + n, 7.0);
        FloatGemm::pack(isa, n, taps, k, &weights, &bias, lo, hi).run(
            None,
            &a,
            rows,
            m,
            &mut out,
            ldo,
            residual.as_deref(),
        );
        let mut want = vec![7.0; out.len()];
        for row in 0..m {
            for c in 0..n {
                let mut sum = f64::from(bias[c]);
                for tap in 0..taps {
                    let x = match offsets[row * taps + tap] {
                        _ if strided => &a[row * lda..],
                        PAD => &pad_row,
                        offset => &a[offset as usize..],
                    };
                    let w = &weights[(c * taps + tap) * k..][..k];
                    sum += x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
                }
                sum += residual.as_ref().map_or(0.0, |r| f64::from(r[row * ldo + c]));
                want[row * ldo + c] = sum.clamp(f64::from(lo), f64::from(hi));
            }
        }
        (out.to_vec(), want)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn float_products_agree(case in product()) {
        let (scalar, want) = case.run(Isa::Scalar);
        near(&scalar, &want, (case.taps * case.k) as f64);
        for isa in Isa::available() {
            assert_same(isa, &bits(&case.run(isa).0), &bits(&scalar));
        }
    }

    #[test]
    fn float_windows_agree(
        side in (1usize..14, 1usize..14), kernel in prop_oneof![Just([3, 3]), (1usize..6, 1usize..6).prop_map(|k| [k.0, k.1])],
        stride in prop_oneof![Just([1, 1]), Just([2, 2]), Just([1, 2]), Just([3, 3])],
        dilation in prop_oneof![Just([1, 1]), Just([2, 2])],
        pad in (0usize..4, 0usize..4), channels in 1usize..50, more in 0usize..2, seed in any::<u64>(),
    ) {
        let reach = |axis: usize| (kernel[axis] - 1) * dilation[axis] + 1;
        let out_side = |axis: usize, size: usize, pad: usize| {
            (size + 2 * pad).checked_sub(reach(axis)).map_or(1, |left| left / stride[axis] + 1 + more)
        };
        let geometry = Geometry {
            height: side.0, width: side.1,
            out_height: out_side(0, side.0, pad.0), out_width: out_side(1, side.1, pad.1),
            kernel, stride, dilation, pad_top: pad.0, pad_left: pad.1,
        };
        let mut random = Random(seed);
        let taps = kernel[0] * kernel[1];
        let (weights, bias) = (random.floats(channels * taps), random.floats(channels));
        let x = random.floats(geometry.pixels() * channels + SLACK_FLOATS);
        let len = geometry.out_pixels() * channels;
        let run = |isa: Isa| {
            let mut out = Guarded::new(len, 7.0);
            FloatDepthwise::pack(isa, channels, kernel, &weights, &bias, -0.5, 0.75).run(&x, &geometry, &mut out);
            let mut pooled = vec![7.0; 3 * len];
            let (most, means) = pooled.split_at_mut(len);
            let (with, without) = means.split_at_mut(len);
            kernels_max_pool(isa, &x, channels, &geometry, most);
            crate::kernels::average_pool_f32(isa, &x, channels, &geometry, true, with);
            crate::kernels::average_pool_f32(isa, &x, channels, &geometry, false, without);
            (out, pooled)
        };
        let (scalar, pooled) = run(Isa::Scalar);
        let mut want = vec![7.0; len];
        for pixel in 0..geometry.out_pixels() {
            for c in 0..channels {
                let mut sum = f64::from(bias[c]);
                geometry.taps(pixel / geometry.out_width, pixel % geometry.out_width, |tap, at| {
                    let x = at.map_or(0.0, |at| f64::from(x[at * channels + c]));
                    sum += x * f64::from(weights[c * taps + tap]);
                });
                want[pixel * channels + c] = sum.clamp(-0.5, 0.75);
            }
        }
        near(&scalar, &want, taps as f64);
        for isa in Isa::available() {
            let (got, got_pooled) = run(isa);
            assert_same(isa, &bits(&got), &bits(&scalar));
            assert_same(isa, &bits(&got_pooled), &bits(&pooled));
        }
    }

    #[test]
    fn float_layouts_and_functions_agree(
        (channels, height, width) in (1usize..40, 1usize..20, 1usize..20),
        pad in prop_oneof![Just([0; 4]), Just([1, 2, 0, 3])], seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let (pixels, row) = (height * width, pad[1] + width + pad[3]);
        let x = random.floats(channels * pixels);
        let each = random.floats(channels);
        let mut padded = vec![0.0; (pad[0] + height + pad[2]) * row * channels];
        for (c, y, column) in (0..channels).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x)))) {
            padded[((pad[0] + y) * row + pad[1] + column) * channels + c] = x[(c * height + y) * width + column];
        }
        let run = |isa: Isa| {
            let mut nhwc = vec![7.0; padded.len()];
            crate::kernels::nchw_to_nhwc(isa, &x, channels, height, width, pad, &mut nhwc);
            assert_eq!(nhwc, padded);
            let (mut plain, mut back) = (vec![7.0; x.len()], vec![7.0; x.len()]);
            crate::kernels::nchw_to_nhwc(isa, &x, channels, height, width, [0; 4], &mut plain);
            crate::kernels::nhwc_to_nchw(isa, &plain, channels, pixels, &mut back);
            assert_eq!(&back[..], &x[..]);
            let mut all = vec![];
            let mut push = |f: &mut dyn FnMut(&mut [f32])| {
                let mut y = vec![7.0; x.len()];
                f(&mut y);
                all.extend(bits(&y));
            };
            for f in [
                Unary::Clamp { lo: -0.25, hi: 0.5 }, Unary::LeakyRelu { alpha: 0.1 }, Unary::HardSwish, Unary::Sigmoid,
                Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, Unary::Tanh, Unary::Exp,
            ] {
                push(&mut |y| crate::kernels::unary(isa, f, &plain, y));
            }
            for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
                push(&mut |y| crate::kernels::binary(isa, op, &plain, &back, (-0.5, 2.0), y));
                push(&mut |y| crate::kernels::binary_channels(isa, op, &plain, &each, true, (-0.5, 2.0), y));
            }
            push(&mut |y| crate::kernels::global_average_pool_f32(isa, &plain, pixels, &mut y[..channels]));
            let mut q = vec![0; x.len()];
            crate::kernels::quantize(isa, &plain, 0.013, 77, &mut q);
            push(&mut |y| crate::kernels::dequantize(isa, &q, 0.013, 77, y));
            all
        };
        let scalar = run(Isa::Scalar);
        for isa in Isa::available() {
            assert_same(isa, &run(isa), &scalar);
        }
    }
}

use crate::kernels::max_pool_f32 as kernels_max_pool;

/// Sums that are cut into parts, many blocks of channels, several chunks of rows.
#[test]
fn large_float_products_agree() {
    for (m, n, taps, k) in
        [(131, 336, 1, 64), (1, 1000, 1, 1280), (700, 24, 1, 96), (97, 70, 9, 300), (49, 64, 9, 512)]
    {
        let range = (f32::NEG_INFINITY, f32::INFINITY);
        let case = Product { m, n, taps, k, pad: (0, 0), residual: true, range, seed: 6 };
        let (scalar, want) = case.run(Isa::Scalar);
        near(&scalar, &want, (taps * k) as f64);
        for isa in Isa::available() {
            assert_same(isa, &bits(&case.run(isa).0), &bits(&scalar));
        }
    }
}

#[test]
#[should_panic(expected = "slack")]
fn float_rows_without_slack_are_refused() {
    let gemm = FloatGemm::pack(Isa::Scalar, 2, 1, 5, &[1.0; 10], &[0.0; 2], 0.0, 1.0);
    gemm.run(None, &[0.0; 10 + SLACK_FLOATS - 1], FloatRows::Strided(5), 2, &mut [0.0; 4], 2, None);
}

#[test]
#[should_panic(expected = "an offset is outside")]
fn float_offsets_beyond_the_input_are_refused() {
    let gemm = FloatGemm::pack(Isa::Scalar, 2, 1, 5, &[1.0; 10], &[0.0; 2], 0.0, 1.0);
    let rows = FloatRows::Indirect { offsets: &[4], pad_row: &[0.0; 5 + SLACK_FLOATS] };
    gemm.run(None, &[0.0; 8 + SLACK_FLOATS], rows, 1, &mut [0.0; 2], 2, None);
}

/// A few sizes of `[outer][len][inner]`, with lanes that are full, shared and odd.
#[test]
fn softmax_gives_shares_of_one_in_every_tier() {
    for (outer, len, inner) in
        [(3, 1, 1), (2, 80, 1), (5, 33, 1), (2, 17, 2), (1, 20, 3), (2, 9, 5), (1, 4, 70)]
    {
        let mut random = Random(len as u64);
        let x: Vec<f32> =
            (0..outer * len * inner).map(|_| (random.next() % 4001) as f32 / 100.0 - 20.0).collect();
        let mut spec = vec![0.0; x.len()];
        softmax(Isa::Scalar, &x, len, inner, &mut spec);
        for o in 0..outer {
            for i in 0..inner {
                let at = |l: usize| (o * len + l) * inner + i;
                let max = (0..len).map(|l| x[at(l)]).fold(f32::NEG_INFINITY, f32::max);
                let total: f64 = (0..len).map(|l| f64::from(x[at(l)] - max).exp()).sum();
                for l in 0..len {
                    let want = f64::from(x[at(l)] - max).exp() / total;
                    assert!((f64::from(spec[at(l)]) - want).abs() <= 2e-6 * want + 1e-12, "{len} {inner}");
                }
            }
        }
        for isa in Isa::available() {
            let mut out = vec![0.0; x.len()];
            softmax(isa, &x, len, inner, &mut out);
            assert_eq!(out, spec, "{isa:?}, [{outer}][{len}][{inner}]");
        }
    }
}

#[test]
fn rows_are_normalized_alike_in_every_tier() {
    let mut random = Random(4);
    for (rows, len) in [(1, 1), (7, 64), (5, 37), (64, 3), (9, 128)] {
        let x: Guarded<f32> = (0..rows * len).map(|_| (random.next() % 2001) as f32 / 100.0 - 10.0).collect();
        let (weights, bias) = (random.floats(len), random.floats(len));
        let mut spec = Guarded::new(x.len(), 7.0);
        normalize(Isa::Scalar, &x, 1e-5, &weights, &bias, &mut spec);
        for (x, y) in x.chunks(len).zip(spec.chunks(len)) {
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / len as f64;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / len as f64;
            let of = |i: usize| (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
            let want: Vec<f64> =
                (0..len).map(|i| of(i) * f64::from(weights[i]) + f64::from(bias[i])).collect();
            near(y, &want, 8.0);
        }
        for isa in Isa::available() {
            let mut out = Guarded::new(x.len(), 7.0);
            normalize(isa, &x, 1e-5, &weights, &bias, &mut out);
            assert_same(isa, &bits(&out), &bits(&spec));
        }
    }
}

#[test]
fn rows_have_means_and_meet_their_value_in_every_tier() {
    let mut random = Random(9);
    for (rows, len) in [(1, 1), (7, 64), (5, 37), (64, 3)] {
        let x: Vec<f32> = (0..rows * len).map(|_| (random.next() % 2001) as f32 / 100.0 - 10.0).collect();
        let mut spec = vec![0.0; rows];
        row_means(Isa::Scalar, &x, len, &mut spec);
        for (x, mean) in x.chunks(len).zip(&spec) {
            let want = x.iter().map(|x| f64::from(*x)).sum::<f64>() / len as f64;
            assert!((f64::from(*mean) - want).abs() < 1e-5);
        }
        for isa in Isa::available() {
            let (mut means, mut out) = (vec![0.0; rows], vec![0.0; x.len()]);
            row_means(isa, &x, len, &mut means);
            assert_eq!(means, spec, "{isa:?}");
            for (op, swapped) in [(Binary::Sub, false), (Binary::Div, true), (Binary::Mul, false)] {
                binary_rows(isa, op, &x, &spec, swapped, (-5.0, 5.0), &mut out);
                for (i, (&x, &y)) in x.iter().zip(&out).enumerate() {
                    let v = spec[i / len];
                    let want = match op {
                        Binary::Sub => x - v,
                        Binary::Div => v / x,
                        _ => x * v,
                    };
                    let want = if want.is_nan() { want } else { want.clamp(-5.0, 5.0) };
                    assert_eq!(y.to_bits(), want.to_bits(), "{isa:?}, {op:?}");
                }
            }
        }
    }
}

/// Two heads whose elements lie interleaved, against sums in double precision.
#[test]
fn products_of_activations_and_attention_agree_with_their_formula() {
    let (heads, m, k, n, d) = (2, 5, 7, 33, 4);
    let mut random = Random(3);
    let mut floats =
        |len: usize| -> Vec<f32> { (0..len).map(|_| (random.next() % 2001) as f32 / 1000.0 - 1.0).collect() };
    let (q, keys, v) = (floats(m * k * heads + 32), floats(n * k * heads + 32), floats(n * d * heads + 32));
    let scores = Products {
        outer: vec![(heads, [1, 1, m * n])],
        m,
        k,
        n,
        first: [0, 0],
        a: [k * heads, heads],
        b: [heads, k * heads],
        out: [n, 1],
    };
    let values = Products {
        outer: vec![(heads, [m * n, 1, 1])],
        m,
        k: n,
        n: d,
        first: [0, 0],
        a: [n, 1],
        b: [d * heads, heads],
        out: [d * heads, heads],
    };
    let attention = Attention { scores: scores.clone(), scale: 0.5, values };
    for isa in Isa::available() {
        let mut products = vec![0.0; heads * m * n];
        matmul(isa, &q, &keys, &scores, &mut products);
        let mut out = vec![0.0; m * d * heads];
        attend(isa, &q, &keys, &v, &attention, &mut out);
        for h in 0..heads {
            for row in 0..m {
                let score = |c: usize| -> f64 {
                    let term =
                        |i: usize| f64::from(q[(row * k + i) * heads + h] * keys[(c * k + i) * heads + h]);
                    (0..k).map(term).sum()
                };
                let total: f64 = (0..n).map(|c| (0.5 * score(c)).exp()).sum();
                for c in 0..n {
                    let got = f64::from(products[(h * m + row) * n + c]);
                    assert!((got - score(c)).abs() < 1e-5, "{isa:?}");
                }
                for e in 0..d {
                    let share = |c: usize| (0.5 * score(c)).exp() / total;
                    let want: f64 = (0..n).map(|c| share(c) * f64::from(v[(c * d + e) * heads + h])).sum();
                    assert!((f64::from(out[(row * d + e) * heads + h]) - want).abs() < 1e-5, "{isa:?}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn surveys_of_all_tiers_are_those_of_the_scalar_one(
        lanes in 1usize..100, len in 0usize..700, square: bool, seed: u64,
    ) {
        let mut random = Random(seed);
        let (x, bytes) = (random.floats(len), random.bytes(len));
        let term = if square { Term::Square } else { Term::AtLeast(-0.25) };
        let run = |isa: Isa| {
            let mut out = [vec![9.0; lanes], vec![-9.0; lanes], vec![0.5; lanes]];
            let [low, high, sums] = &mut out;
            survey(isa, &x, term, low, high, sums);
            let mut counts = [vec![1; lanes], vec![2; lanes]];
            let [sums, inside] = &mut counts;
            survey_bytes(isa, &bytes, sums, inside);
            (out.map(|of| bits(&of)), counts)
        };
        let scalar = run(Isa::Scalar);
        for isa in Isa::available() {
            prop_assert_eq!(&run(isa), &scalar);
        }
        for lane in 0..lanes {
            let of: Vec<f32> = x.iter().skip(lane).step_by(lanes).copied().collect();
            let term = |x: f32| if square { x * x } else { x.max(-0.25) };
            prop_assert_eq!(scalar.0[0][lane], of.iter().copied().fold(9.0, f32::min).to_bits());
            prop_assert_eq!(scalar.0[1][lane], of.iter().copied().fold(-9.0, f32::max).to_bits());
            prop_assert_eq!(scalar.0[2][lane], of.iter().fold(0.5, |sum, x| sum + term(*x)).to_bits());
            let of: Vec<u8> = bytes.iter().skip(lane).step_by(lanes).copied().collect();
            prop_assert_eq!(scalar.1[0][lane], 1 + of.iter().map(|x| u32::from(*x)).sum::<u32>());
            prop_assert_eq!(scalar.1[1][lane], 2 + of.iter().filter(|x| **x != 0 && **x != 255).count() as u32);
        }
    }
}
