//! The kernels on the layers of MobileNetV2 (224 × 224), on depthwise windows of other networks, and on attention of
//! small transformers, per tier: `cargo bench --bench kernels`.
//!
//! Criterion's throughput is in multiply-accumulates: elements per second are MAC/s.

use std::hint::black_box;

use calib8::kernels::{
    Attention, ByteAttention, DepthwiseWeights, GemmWeights, Geometry, Isa, Output, Products, SLACK, attend,
    attend_u8,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Pixels, input channels, output channels, and how often the layer occurs.
const POINTWISE: [(usize, usize, usize, u32); 19] = [
    (12544, 32, 16, 1),
    (12544, 16, 96, 1),
    (3136, 96, 24, 1),
    (3136, 24, 144, 2),
    (3136, 144, 24, 1),
    (784, 144, 32, 1),
    (784, 32, 192, 3),
    (784, 192, 32, 2),
    (196, 192, 64, 1),
    (196, 64, 384, 4),
    (196, 384, 64, 3),
    (196, 384, 96, 1),
    (196, 96, 576, 3),
    (196, 576, 96, 2),
    (49, 576, 160, 1),
    (49, 160, 960, 3),
    (49, 960, 160, 2),
    (49, 960, 320, 1),
    (49, 320, 1280, 1),
];

/// Input side, channels, stride, and how often the layer occurs; kernels are 3 × 3.
const DEPTHWISE: [(usize, usize, usize, u32); 10] = [
    (112, 32, 1, 1),
    (112, 96, 2, 1),
    (56, 144, 1, 1),
    (56, 144, 2, 1),
    (28, 192, 1, 2),
    (28, 192, 2, 1),
    (14, 384, 1, 4),
    (14, 576, 1, 2),
    (14, 576, 2, 1),
    (7, 960, 1, 3),
];

/// Input side, channels, stride and kernel side of windows in MobileNetV3, EfficientNet and ConvNeXt.
const WIDE_WINDOWS: [(usize, usize, usize, usize); 4] =
    [(28, 120, 1, 5), (28, 240, 2, 5), (14, 480, 1, 5), (14, 384, 1, 7)];

/// Heads, tokens, and elements of a token of one head, of a compact transformer (CCT) and of DeiT.
const ATTENTION: [(usize, usize, usize); 2] = [(4, 256, 32), (3, 197, 64)];

/// Bytes that look random: the same every time.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Weights that lie around 0 as those of networks do.
fn weights(len: usize) -> Vec<i8> {
    let sum = |four: &[u8]| four.iter().map(|byte| i32::from(*byte) - 128).sum::<i32>();
    bytes(4 * len).chunks_exact(4).map(|four| (sum(four) / 4).clamp(-127, 127) as i8).collect()
}

/// A layer, ready to run.
type Layer = Box<dyn FnMut()>;

fn pointwise(isa: Isa, m: usize, k: usize, n: usize) -> Layer {
    let (mult, bias) = (vec![0.01 / k as f32; n], vec![100; n]);
    let output = Output::U8 { mult: &mult, zero_point: 117, lo: 0, hi: 255 };
    let weights = GemmWeights::pack(isa, n, 1, k, &weights(n * k), &bias, output);
    let (a, mut out) = (bytes(m * k + SLACK), vec![0; m * n]);
    Box::new(move || weights.pointwise(None, black_box(&a), k, m, black_box(&mut out), n, None))
}

/// Windows of `kernel` × `kernel` whose padding keeps the size.
fn depthwise(isa: Isa, side: usize, channels: usize, stride: usize, kernel: usize) -> (Layer, usize) {
    let (mult, bias) = (vec![0.003; channels], vec![100; channels]);
    let output = Output::U8 { mult: &mult, zero_point: 99, lo: 0, hi: 255 };
    let (taps, shape) = (kernel * kernel, [kernel; 2]);
    let weights = DepthwiseWeights::pack(isa, channels, shape, &weights(channels * taps), &bias, 131, output);
    let out_side = (side - 1) / stride + 1;
    let geometry = Geometry {
        height: side,
        width: side,
        out_height: out_side,
        out_width: out_side,
        kernel: shape,
        stride: [stride; 2],
        dilation: [1, 1],
        pad_top: kernel / 2,
        pad_left: kernel / 2,
    };
    let (x, mut out) = (bytes(side * side * channels + SLACK), vec![0; out_side * out_side * channels]);
    let macs = out_side * out_side * channels * taps;
    (Box::new(move || weights.run(black_box(&x), &geometry, black_box(&mut out))), macs)
}

/// Of queries, keys and values that one product made: `[token][heads · depth]` each, in INT8 and FP32.
fn attention(isa: Isa, heads: usize, tokens: usize, depth: usize) -> ([Layer; 2], usize) {
    let row = heads * depth;
    let scores = Products {
        outer: vec![(heads, [depth, depth, tokens * tokens])],
        m: tokens,
        k: depth,
        n: tokens,
        first: [0, 0],
        a: [row, 1],
        b: [1, row],
        out: [tokens, 1],
    };
    let values = Products {
        outer: vec![(heads, [tokens * tokens, depth, depth])],
        k: tokens,
        n: depth,
        a: [tokens, 1],
        b: [row, 1],
        out: [row, 1],
        ..scores.clone()
    };
    let attention = Attention { scores, scale: (depth as f32).powf(-0.5), values };
    let of = ByteAttention {
        attention: attention.clone(),
        of: [(0.02, 128); 3],
        rounded: vec![],
        shares: (0.001, 0),
        out: Some((0.02, 128)),
    };
    let bytes = bytes(tokens * row + SLACK);
    let floats: Vec<f32> = bytes.iter().map(|byte| (f32::from(*byte) - 128.0) * 0.02).collect();
    let (mut out, mut float_out) = (vec![0; tokens * row], vec![0.0; tokens * row]);
    let int8 = move || attend_u8(isa, black_box(&bytes), &bytes, &bytes, &of, black_box(&mut out));
    let fp32 =
        move || attend(isa, black_box(&floats), &floats, &floats, &attention, black_box(&mut float_out));
    ([Box::new(int8), Box::new(fp32)], 2 * heads * tokens * tokens * depth)
}

/// Each layer on its own, and all of them one after the other as often as the network has them.
fn group(c: &mut Criterion, name: &str, layers: Vec<(String, Layer, usize, u32)>) {
    let mut group = c.benchmark_group(name);
    let total: u64 = layers.iter().map(|(_, _, macs, times)| *macs as u64 * u64::from(*times)).sum();
    let mut all = vec![];
    for (name, mut layer, macs, times) in layers {
        group.throughput(Throughput::Elements(macs as u64));
        group.bench_function(name, |b| b.iter(&mut layer));
        all.push((layer, times));
    }
    group.throughput(Throughput::Elements(total));
    group.bench_function("all", |b| {
        b.iter(|| {
            for (layer, times) in &mut all {
                (0..*times).for_each(|_| layer());
            }
        });
    });
    group.finish();
}

fn mobilenet_v2(c: &mut Criterion) {
    for isa in Isa::available() {
        let layers = POINTWISE
            .iter()
            .map(|&(m, k, n, times)| (format!("{m}x{k}x{n}"), pointwise(isa, m, k, n), m * k * n, times));
        group(c, &format!("pointwise/{}", isa.name()), layers.collect());
        let layers = DEPTHWISE.iter().map(|&(side, channels, stride, times)| {
            let (layer, macs) = depthwise(isa, side, channels, stride, 3);
            (format!("{side}x{side}x{channels}/{stride}"), layer, macs, times)
        });
        group(c, &format!("depthwise/{}", isa.name()), layers.collect());
        let layers = WIDE_WINDOWS.iter().map(|&(side, channels, stride, kernel)| {
            let (layer, macs) = depthwise(isa, side, channels, stride, kernel);
            (format!("{side}x{side}x{channels}/{stride}, {kernel}x{kernel}"), layer, macs, 1)
        });
        group(c, &format!("wide windows/{}", isa.name()), layers.collect());
        for (at, format) in ["INT8", "FP32"].into_iter().enumerate() {
            let layers = ATTENTION.map(|(heads, tokens, depth)| {
                let (layers, macs) = attention(isa, heads, tokens, depth);
                let [int8, fp32] = layers;
                (format!("{heads}x{tokens}x{depth}"), if at == 0 { int8 } else { fp32 }, macs, 1)
            });
            group(c, &format!("attention in {format}/{}", isa.name()), layers.into());
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(600));
    targets = mobilenet_v2
}
criterion_main!(benches);
