//! Products and sums of two quantized tensors where one may be repeated along an axis: the gates of
//! squeeze-and-excitation blocks, per-channel offsets, maps that weigh pixels.
//!
//! Plain functions compiled once per tier, as in [`elementwise`](super::elementwise).

use super::elementwise::per_tier;
use super::scalar::{clamp, to_i32};
use super::types::AddParams;
use super::{Isa, span};

/// Which elements meet: element `(row, column)` of the result is made from the elements
/// `row · step[0] + column · step[1]` of each operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result, which are consecutive.
    pub columns: usize,
    /// Steps of the first operand from row to row, and from column to column: 0 (repeated) or 1.
    pub a: [usize; 2],
    /// Steps of the second operand.
    pub b: [usize; 2],
}

impl Grid {
    /// The elements that an operand with these steps must have.
    fn extent(&self, [row, column]: [usize; 2]) -> usize {
        assert!(column <= 1, "columns are {column} apart");
        if self.columns == 0 { 0 } else { span(self.rows, row, (self.columns - 1) * column + 1) }
    }
}

/// The constants of a quantized product; see [`multiply`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MulParams {
    /// Zero point of the first operand.
    pub a_zero_point: u8,
    /// Zero point of the second operand.
    pub b_zero_point: u8,
    /// Scales of both operands, multiplied, ÷ scale of the product.
    pub ratio: f32,
    /// Zero point of the product.
    pub zero_point: u8,
    /// Smallest output.
    pub lo: u8,
    /// Largest output.
    pub hi: u8,
}

impl MulParams {
    /// The constants for `product = a · b` with `(scale, zero point)` of each, clamped to `lo..=hi`.
    pub fn new(a: (f32, u8), b: (f32, u8), product: (f32, u8), lo: u8, hi: u8) -> MulParams {
        let ratio = a.0 * b.0 / product.0;
        MulParams { a_zero_point: a.1, b_zero_point: b.1, ratio, zero_point: product.1, lo, hi }
    }
}

/// Multiplies two quantized tensors: `y = clamp(rne(f32((a − za)(b − zb)) · ratio + zero_point), lo, hi)`, with
/// one rounding for each float operation, which is what ONNX Runtime's `QLinearMul` computes.
///
/// # Panics
/// A slice is shorter than `grid` asks for, a column step is above 1, the ratio is not finite or is negative,
/// or `lo > hi`.
pub fn multiply(isa: Isa, a: &[u8], b: &[u8], grid: &Grid, params: &MulParams, out: &mut [u8]) {
    let MulParams { ratio, lo, hi, .. } = *params;
    assert!(ratio.is_finite() && ratio >= 0.0 && lo <= hi, "{params:?}");
    let (a, b) = (&a[..grid.extent(grid.a)], &b[..grid.extent(grid.b)]);
    let out = &mut out[..span(grid.rows, grid.columns, grid.columns)];
    per_tier!(isa, multiply_rows(a: &[u8], b: &[u8], grid: &Grid, params: &MulParams, out: &mut [u8]));
}

#[inline(always)]
fn multiply_rows(a: &[u8], b: &[u8], grid: &Grid, params: &MulParams, out: &mut [u8]) {
    let MulParams { a_zero_point, b_zero_point, ratio, zero_point, lo, hi } = *params;
    let (za, zb, zero) = (i32::from(a_zero_point), i32::from(b_zero_point), f32::from(zero_point));
    let (lo, hi) = (f32::from(lo), f32::from(hi));
    each(a, b, grid, out, |a, b| {
        let product = (i32::from(a) - za) * (i32::from(b) - zb);
        to_i32(clamp((product as f32 * ratio + zero).round_ties_even(), lo, hi)) as u8
    });
}

/// As [`add`](super::add), where elements meet as `grid` says.
///
/// # Panics
/// As [`multiply`].
pub fn add_broadcast(isa: Isa, a: &[u8], b: &[u8], grid: &Grid, params: &AddParams, out: &mut [u8]) {
    params.assert_valid();
    let (a, b) = (&a[..grid.extent(grid.a)], &b[..grid.extent(grid.b)]);
    let out = &mut out[..span(grid.rows, grid.columns, grid.columns)];
    per_tier!(isa, add_rows(a: &[u8], b: &[u8], grid: &Grid, params: &AddParams, out: &mut [u8]));
}

#[inline(always)]
fn add_rows(a: &[u8], b: &[u8], grid: &Grid, params: &AddParams, out: &mut [u8]) {
    let AddParams { a_ratio, b_ratio, constant, lo, hi } = *params;
    let (lo, hi) = (f32::from(lo), f32::from(hi));
    each(a, b, grid, out, |a, b| {
        let sum = f32::from(a).mul_add(a_ratio, f32::from(b).mul_add(b_ratio, constant));
        to_i32(clamp(sum.round_ties_even(), lo, hi)) as u8
    });
}

/// One loop for each combination of column steps, so that each is vectorized on its own.
#[inline(always)]
fn each(a: &[u8], b: &[u8], grid: &Grid, out: &mut [u8], of: impl Fn(u8, u8) -> u8) {
    let Grid { rows, columns, a: [a_row, a_column], b: [b_row, b_column] } = *grid;
    if columns == 0 {
        return;
    }
    for row in 0..rows {
        let (a, b) = (&a[row * a_row..], &b[row * b_row..]);
        let out = &mut out[row * columns..][..columns];
        match (a_column, b_column) {
            (1, 1) => {
                for ((y, &a), &b) in out.iter_mut().zip(&a[..columns]).zip(&b[..columns]) {
                    *y = of(a, b);
                }
            }
            (1, _) => {
                let b = b[0];
                out.iter_mut().zip(&a[..columns]).for_each(|(y, &a)| *y = of(a, b));
            }
            (_, 1) => {
                let a = a[0];
                out.iter_mut().zip(&b[..columns]).for_each(|(y, &b)| *y = of(a, b));
            }
            _ => out.fill(of(a[0], b[0])),
        }
    }
}
