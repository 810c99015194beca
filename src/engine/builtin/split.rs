//! One step on several threads: its rows or elements are cut into parts of one size, one for each thread.
//!
//! Every output is computed by the same operations as on one thread, so the results are the same to the last bit.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::kernel::Kernel;
use super::program::{Conv, Step, StepOp};
use crate::kernels::{self, Geometry, Isa, SLACK, Team};

/// Multiply-accumulates below which a step is not worth the handing over: some 10 µs of work.
const LEAST_MACS: u64 = 500_000;
/// Bytes that a step without products must write to be worth it.
const LEAST_BYTES: usize = 64 * 1024;

thread_local! {
    /// The threads that work with this one on an inference, if there are any.
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
}

/// Runs `work` with `team` at its disposal.
pub(super) fn with_team<T>(team: Option<&Arc<Team>>, work: impl FnOnce() -> T) -> T {
    TEAM.set(team.cloned());
    let result = work();
    TEAM.set(None);
    result
}

/// The team of this thread.
pub(super) fn team() -> Option<Arc<Team>> {
    TEAM.with_borrow(Clone::clone)
}

/// `0..count` in at most `parts` ranges of near-equal length, none of them empty.
pub(super) fn ranges(count: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.min(count).max(1);
    (0..parts).map(|i| count * i / parts..count * (i + 1) / parts).collect()
}

/// Cuts `out`, whose rows are `stride` elements apart, at the starts of `ranges` of rows.
pub(super) fn cut<T>(
    mut out: &mut [T],
    stride: usize,
    ranges: Vec<Range<usize>>,
) -> Vec<(Range<usize>, &mut [T])> {
    let mut parts = Vec::with_capacity(ranges.len());
    let last = ranges.len() - 1;
    for (i, range) in ranges.into_iter().enumerate() {
        let end = if i == last { out.len() } else { range.len() * stride };
        let (part, rest) = out.split_at_mut(end);
        parts.push((range, part));
        out = rest;
    }
    parts
}

/// The windows of output rows `range` as windows of their own, and the first input row that they reach.
pub(super) fn rows_of(geometry: &Geometry, range: &Range<usize>) -> (Geometry, usize) {
    let top = range.start * geometry.stride[0];
    let first = top.saturating_sub(geometry.pad_top).min(geometry.height);
    let part = Geometry {
        height: geometry.height - first,
        out_height: range.len(),
        pad_top: geometry.pad_top.saturating_sub(top),
        ..*geometry
    };
    (part, first)
}

/// Whether windows of `range` can be computed from the rows that [`rows_of`] gives: the first tap must not lie above
/// the image's end.
pub(super) fn all_within(geometry: &Geometry, ranges: &[Range<usize>]) -> bool {
    ranges.iter().all(|range| range.start * geometry.stride[0] <= geometry.pad_top + geometry.height)
}

/// Whether a step of `macs` multiply-accumulates that writes `bytes` is worth handing over.
pub(super) fn is_worth(macs: u64, bytes: usize) -> bool {
    macs >= LEAST_MACS || (macs == 0 && bytes >= LEAST_BYTES)
}

/// Runs a step between buffers on all threads of `team`, if it can be cut and is large enough; otherwise it is for the
/// caller to run.
pub(super) fn run(
    team: &Team,
    step: &Step,
    kernel: &Kernel,
    isa: Isa,
    inputs: &[&[u8]],
    out: &mut [u8],
) -> bool {
    let threads = team.threads();
    let bytes = out.len().saturating_sub(SLACK);
    if threads == 1 || !is_worth(step.macs, bytes) {
        return false;
    }
    match (kernel, &step.op) {
        (Kernel::Float(kernel), StepOp::Float(op)) => {
            return super::float::run_split(team, op, kernel, isa, inputs, out);
        }
        (Kernel::Pointwise(_) | Kernel::Indirect(_), StepOp::Gemm { store: Some(_), .. })
        | (Kernel::Pointwise(_) | Kernel::Indirect(_), StepOp::Conv(Conv { store: Some(_), .. })) => {
            super::kernel::run_product(Some(team), kernel, inputs, out);
        }
        (Kernel::Plain, StepOp::MaxPool { batch, channels, window }) => {
            let geometry = window.geometry();
            let ranges = ranges(geometry.out_height, threads);
            if !all_within(&geometry, &ranges) {
                return false;
            }
            let (from, to) = (geometry.pixels() * channels, geometry.out_pixels() * channels);
            for image in 0..*batch {
                let (x, out) = (&inputs[0][image * from..], &mut out[image * to..(image + 1) * to]);
                team.each(cut(out, geometry.out_width * channels, ranges.clone()), |(range, out)| {
                    let (part, first) = rows_of(&geometry, &range);
                    kernels::max_pool(isa, &x[first * geometry.width * channels..], *channels, &part, out);
                });
            }
        }
        (Kernel::Depthwise { weights, geometry }, StepOp::Conv(conv)) => {
            let (channels, ranges) = (conv.in_channels, ranges(geometry.out_height, threads));
            if !all_within(geometry, &ranges) {
                return false;
            }
            let (from, to) = (geometry.pixels() * channels, geometry.out_pixels() * channels);
            for image in 0..conv.batch {
                let (x, out) = (&inputs[0][image * from..], &mut out[image * to..(image + 1) * to]);
                let parts = cut(out, geometry.out_width * channels, ranges.clone());
                team.each(parts, |(range, out)| {
                    let (part, first) = rows_of(geometry, &range);
                    weights.run(&x[first * geometry.width * channels..], &part, out);
                });
            }
        }
        (Kernel::Add(params), StepOp::Add { len, .. }) => {
            let (a, b) = (inputs[0], inputs[inputs.len() - 1]);
            let parts = cut(&mut out[..*len], 1, ranges(*len, threads));
            team.each(parts, |(range, out)| {
                kernels::add(isa, &a[range.clone()], &b[range.clone()], range.len(), params, out);
            });
        }
        (Kernel::Table(table), StepOp::Lookup { len }) => {
            let parts = cut(&mut out[..*len], 1, ranges(*len, threads));
            team.each(parts, |(range, out)| kernels::lookup(isa, table, &inputs[0][range], out));
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    use super::super::float::{FloatConv, FloatOp, Pairing};
    use super::super::program::{Operand, Quant, Store, Window};
    use crate::kernels::Binary;
    use crate::model::graph::tensor;
    use crate::model::pb::TensorProto;

    /// Numbers that look random.
    fn bytes(len: usize) -> Vec<u8> {
        let mut state = 5u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(next).collect()
    }

    fn float_bytes(len: usize) -> Vec<u8> {
        bytes(len).into_iter().flat_map(|byte| (f32::from(byte) / 64.0 - 2.0).to_ne_bytes()).collect()
    }

    fn window(size: usize, kernel: usize, stride: usize) -> Window {
        let out = (size - 1) / stride + 1;
        Window {
            in_height: size,
            in_width: size,
            out_height: out,
            out_width: out,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1, 1],
            pad_top: kernel / 2,
            pad_left: kernel / 2,
        }
    }

    fn weights(conv: &Conv) -> Vec<TensorProto> {
        let (n, taps) = (conv.out_channels, conv.window.kernel[0] * conv.window.kernel[1]);
        let k = conv.in_channels / conv.group * taps;
        let weights: Vec<i8> = bytes(n * k).into_iter().map(|byte| byte as i8).collect();
        let factors = vec![0.01 / (k as f32).sqrt(); n];
        vec![tensor("w", &[n, k], &weights), tensor("b", &[n], &vec![7i32; n]), tensor("m", &[n], &factors)]
    }

    /// Runs a step on one thread and on teams.
    fn check(op: StepOp, macs: u64, constants: &[TensorProto], inputs: [&[u8]; 2], out_bytes: usize) {
        let (name, kind) = (String::from("step"), String::new());
        let second = usize::from(!inputs[1].is_empty());
        let operands = vec![Operand::Buffer(0); 1 + second];
        let step = Step { name, kind, macs, inputs: operands, output: Operand::Buffer(1), op, constants: 0 };
        for isa in Isa::available() {
            let kernel = super::super::kernel::prepare(&step, constants, isa).unwrap();
            // Buffers of islands start on cache lines; floats need at least their own alignment.
            let aligned = |bytes: &[u8]| -> Vec<f32> {
                let mut floats = vec![0f32; bytes.len().div_ceil(4) + SLACK / 4];
                let all: Vec<u8> = bytes.iter().copied().chain([0; 3]).collect();
                for (float, four) in floats.iter_mut().zip(all.chunks_exact(4)) {
                    *float = f32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
                }
                floats
            };
            let inputs: Vec<Vec<f32>> = inputs[..1 + second].iter().map(|bytes| aligned(bytes)).collect();
            let inputs: Vec<&[u8]> = inputs.iter().map(|floats| bytes_of(floats)).collect();
            let mut want = vec![1f32; out_bytes.div_ceil(4) + SLACK / 4];
            super::super::kernel::run(&step.op, &kernel, isa, &inputs, bytes_of_mut(&mut want));
            for threads in [2, 3] {
                let team = Team::new(threads, |_| {}).unwrap();
                let mut got = vec![1f32; want.len()];
                assert!(run(&team, &step, &kernel, isa, &inputs, bytes_of_mut(&mut got)), "{:?}", step.op);
                let bits = |floats: &[f32]| floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
                assert!(bits(&got) == bits(&want), "{} threads of {}: {:?}", threads, isa.name(), step.op);
            }
        }
    }

    fn bytes_of(floats: &[f32]) -> &[u8] {
        crate::kernels::bytes(floats)
    }

    fn bytes_of_mut(floats: &mut [f32]) -> &mut [u8] {
        crate::kernels::bytes_mut(floats)
    }

    #[test]
    fn products_of_a_team_are_those_of_one_thread() {
        for (size, kernel, stride, group, in_channels, out_channels) in
            [(19, 1, 1, 1, 40, 72), (17, 3, 2, 1, 32, 40), (13, 3, 1, 4, 64, 64), (41, 5, 1, 48, 48, 48)]
        {
            let window = window(size, kernel, stride);
            let (pixels, from) = (window.out_pixels(), window.in_pixels() * in_channels);
            let conv = Conv {
                batch: 2,
                window,
                in_channels,
                out_channels,
                group,
                input_zero_point: 9,
                store: Some(Store { zero_point: 3, lo: 0, hi: 250 }),
                sum: None,
                stem: None,
                out_stride: out_channels,
                out_offset: 0,
            };
            let macs = (2 * pixels * out_channels * in_channels / group * kernel * kernel) as u64;
            let out = 2 * pixels * out_channels;
            check(StepOp::Conv(conv.clone()), macs, &weights(&conv), [&bytes(2 * from), &[]], out);
            let range = super::super::float::Range::new((0.0, 6.0));
            let Conv { batch, out_stride, .. } = conv;
            let conv = FloatConv {
                batch,
                window,
                in_channels,
                out_channels,
                group,
                range,
                stem: None,
                out_stride,
                out_offset: 0,
            };
            let len = out_channels * in_channels / group * kernel * kernel;
            let floats: Vec<f32> = bytes(len).into_iter().map(|byte| f32::from(byte) / 256.0 - 0.5).collect();
            let constants = [
                tensor("w", &[out_channels, len / out_channels], &floats),
                tensor("b", &[out_channels], &vec![0.5f32; out_channels]),
            ];
            let op = StepOp::Float(FloatOp::Conv(conv));
            check(op, macs, &constants, [&float_bytes(2 * from), &[]], 4 * out);
        }
    }

    #[test]
    fn sums_and_tables_of_a_team_are_those_of_one_thread() {
        let len = LEAST_BYTES + 37;
        let (a, b) = (bytes(len), bytes(len + 1));
        let quant = |scale, zero_point| Quant { scale, zero_point };
        let (x, y, out) = (quant(0.1, 3), quant(0.2, 9), quant(0.25, 100));
        check(StepOp::Add { len, a: x, b: y, out, lo: 0, hi: 255 }, 0, &[], [&a, &b[1..]], len);
        let table = tensor("table", &[256], &bytes(256));
        check(StepOp::Lookup { len }, 0, &[table], [&a, &[]], len);
        let range = super::super::float::Range::new((-1.0, 1.0));
        let op = FloatOp::Binary { op: Binary::Add, pairing: Pairing::Same { len }, range };
        check(StepOp::Float(op), 0, &[], [&float_bytes(len), &float_bytes(len)], 4 * len);
    }

    #[test]
    fn small_steps_stay_on_one_thread() {
        assert!(is_worth(LEAST_MACS, 0) && is_worth(0, LEAST_BYTES));
        assert!(!is_worth(LEAST_MACS - 1, LEAST_BYTES) && !is_worth(0, LEAST_BYTES - 1));
    }

    #[test]
    fn ranges_cover_everything_once() {
        for (count, parts) in [(10, 3), (2, 4), (1, 1), (0, 2), (7, 7)] {
            let ranges = ranges(count, parts);
            assert!(ranges.len() <= parts);
            assert_eq!(ranges.iter().map(|range| range.len()).sum::<usize>(), count);
            assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
        }
    }

    #[test]
    fn parts_of_an_output_begin_with_their_rows() {
        let mut out: Vec<usize> = (0..23).collect();
        let parts = cut(&mut out, 5, ranges(4, 3));
        let starts: Vec<_> = parts.iter().map(|(range, part)| (range.start, part[0])).collect();
        assert_eq!(starts, [(0, 0), (1, 5), (2, 10)]);
        assert_eq!(parts[2].1.len(), 13, "the last part has what follows the rows");
    }

    #[test]
    fn windows_of_a_part_meet_the_same_rows() {
        let geometry = Geometry {
            height: 9,
            width: 3,
            out_height: 6,
            out_width: 1,
            kernel: [4, 1],
            stride: [2, 1],
            dilation: [1, 1],
            pad_top: 3,
            pad_left: 0,
        };
        for range in ranges(6, 6).into_iter().chain([0..3, 3..6]) {
            let (part, first) = rows_of(&geometry, &range);
            assert_eq!(part.out_height, range.len());
            for (at, oy) in range.enumerate() {
                for ky in 0..4 {
                    let row = (oy * 2 + ky).checked_sub(3).filter(|y| *y < 9);
                    let of_part = (at * 2 + ky).checked_sub(part.pad_top).filter(|y| *y < part.height);
                    assert_eq!(of_part.map(|y| y + first), row, "row {oy}, tap {ky}");
                }
            }
        }
    }
}
