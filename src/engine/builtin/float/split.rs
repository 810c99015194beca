//! One FP32 step on several threads; see [`split`](super::super::split).

use super::super::split::{all_within, cut, ranges, rows_of};
use super::kernel::{self, FloatKernel};
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
        (FloatOp::Gemm { m, k, n, .. }, FloatKernel::Gemm(weights)) => {
            let (x, second) = (floats(inputs[0]), inputs.get(1).map(|x| floats(x)));
            weights.run(Some(team), x, FloatRows::Strided(*k), *m, floats_mut(out), *n, second);
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
    let threads = team.threads();
    match kernel {
        FloatKernel::Gemm(_) | FloatKernel::Indirect(_) => {
            kernel::run_conv(Some(team), conv, kernel, x, residual, out);
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
        _ => return false,
    }
    true
}
