//! One FP32 step on several threads; see [`split`](super::super::split).

use super::super::split::{all_within, cut, ranges, rows_of};
use super::kernel::{FloatKernel, Indirect};
use super::{FloatConv, FloatOp, Pairing};
use crate::kernels::{self, FloatRows, Isa, Team, floats, floats_mut};

/// Runs a step between buffers on all threads of `team`, if it can be cut.
pub(in super::super) fn run_split(
    team: &Team,
    op: &FloatOp,
    kernel: &FloatKernel,
    isa: Isa,
    inputs: &[&[u8]],
    out: &mut [u8],
) -> bool {
    let threads = team.threads();
    match (op, kernel) {
        (FloatOp::Conv(conv), _) => {
            let (x, second) = (floats(inputs[0]), inputs.get(1).map(|x| floats(x)));
            run_conv(team, conv, kernel, x, second, floats_mut(out))
        }
        (FloatOp::Gemm { m, k, n, .. }, FloatKernel::Gemm(weights)) if *m >= threads => {
            let (x, second) = (floats(inputs[0]), inputs.get(1).map(|x| floats(x)));
            let parts = cut(floats_mut(out), *n, ranges(*m, threads));
            team.each(parts, |(range, out)| {
                let residual = second.map(|r| &r[range.start * n..]);
                weights.run(&x[range.start * k..], FloatRows::Strided(*k), range.len(), out, *n, residual);
            });
            true
        }
        (FloatOp::Binary { op, pairing: Pairing::Same { len }, range: bounds }, FloatKernel::Plain) => {
            let (x, y) = (floats(inputs[0]), floats(inputs[inputs.len() - 1]));
            let parts = cut(&mut floats_mut(out)[..*len], 1, ranges(*len, threads));
            team.each(parts, |(range, out)| {
                kernels::binary(isa, *op, &x[range.clone()], &y[range], bounds.bounds(), out);
            });
            true
        }
        _ => false,
    }
}

fn run_conv(
    team: &Team,
    conv: &FloatConv,
    kernel: &FloatKernel,
    x: &[f32],
    residual: Option<&[f32]>,
    out: &mut [f32],
) -> bool {
    let (stride, pixels, threads) = (conv.out_stride, conv.window.out_pixels(), team.threads());
    match kernel {
        FloatKernel::Gemm(weights) if conv.batch * pixels >= threads => {
            let parts = cut(&mut out[conv.out_offset..], stride, ranges(conv.batch * pixels, threads));
            team.each(parts, |(range, out)| {
                let (x, rows) = (&x[range.start * conv.in_channels..], FloatRows::Strided(conv.in_channels));
                let residual = residual.map(|r| &r[range.start * stride..]);
                weights.run(x, rows, range.len(), out, stride, residual);
            });
        }
        FloatKernel::Depthwise { weights, geometry } => {
            let (channels, ranges) = (conv.in_channels, ranges(geometry.out_height, threads));
            if !all_within(geometry, &ranges) {
                return false;
            }
            let (from, to) = (geometry.pixels() * channels, geometry.out_pixels() * channels);
            for image in 0..conv.batch {
                let (x, out) = (&x[image * from..], &mut out[image * to..(image + 1) * to]);
                team.each(cut(out, geometry.out_width * channels, ranges.clone()), |(range, out)| {
                    let (part, first) = rows_of(geometry, &range);
                    weights.run(&x[first * geometry.width * channels..], &part, out);
                });
            }
        }
        FloatKernel::Indirect(Indirect { groups, offsets, pad_row, in_len }) if pixels >= threads => {
            let taps = offsets.len() / pixels;
            let (group_in, group_out) = (conv.in_channels / conv.group, conv.out_channels / conv.group);
            for image in 0..conv.batch {
                let first = image * pixels * stride + conv.out_offset;
                let parts = cut(&mut out[first..], stride, ranges(pixels, threads));
                let x = &x[image * in_len..];
                team.each(parts, |(range, out)| {
                    for (g, weights) in groups.iter().enumerate() {
                        let offsets = &offsets[range.start * taps..range.end * taps];
                        let at = g * group_out;
                        let residual = residual.map(|r| &r[first + range.start * stride + at..]);
                        let rows = FloatRows::Indirect { offsets, pad_row };
                        weights.run(&x[g * group_in..], rows, range.len(), &mut out[at..], stride, residual);
                    }
                });
            }
        }
        _ => return false,
    }
    true
}
