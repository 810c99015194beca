//! Functions of one or two FP32 elements: plain functions over slices, compiled once per tier.

use super::super::Isa;
use super::super::elementwise::per_tier;
use super::super::scalar::clamp;
use super::math::{erf, exp, sigmoid, tanh};

/// A function of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
}

impl Binary {
    #[inline(always)]
    pub(super) fn of(self, a: f32, b: f32) -> f32 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
        }
    }
}

/// A function of one element.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Unary {
    /// Limited to `lo..=hi`: Relu, Clip.
    Clamp {
        /// Smallest result.
        lo: f32,
        /// Largest result.
        hi: f32,
    },
    /// `x` above 0, `alpha · x` below.
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `clamp(alpha · x + beta, 0, 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `x · clamp(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// `tanh x`.
    Tanh,
    /// `eˣ`.
    Exp,
    /// The error function.
    Erf,
    /// `x/2 · (1 + erf(x/√2))`.
    Gelu,
    /// `√x`.
    Sqrt,
    /// `x²`.
    Square,
}

impl Unary {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        match self {
            Unary::Clamp { lo, hi } => clamp(x, lo, hi),
            Unary::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Unary::HardSigmoid { alpha, beta } => clamp(alpha * x + beta, 0.0, 1.0),
            Unary::HardSwish => x * clamp(x * (1.0 / 6.0) + 0.5, 0.0, 1.0),
            Unary::Sigmoid => sigmoid(x),
            Unary::Tanh => tanh(x),
            Unary::Exp => exp(x),
            Unary::Erf => erf(x),
            Unary::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Unary::Sqrt => x.sqrt(),
            Unary::Square => x * x,
        }
    }
}

/// `out[i] = function(x[i])`.
///
/// # Panics
/// The slices differ in length.
pub fn unary(isa: Isa, function: Unary, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "a function of {} elements for {}", x.len(), out.len());
    per_tier!(isa, map(function: Unary, x: &[f32], out: &mut [f32]));
}

#[inline(always)]
fn map(function: Unary, x: &[f32], out: &mut [f32]) {
    // One loop for each function, so that each is vectorized on its own.
    macro_rules! each {
        ($($case:pat => $f:expr),*) => {
            match function { $($case => for (y, &x) in out.iter_mut().zip(x) { *y = $f.of(x); }),* }
        };
    }
    each!(
        Unary::Clamp { lo, hi } => Unary::Clamp { lo, hi },
        Unary::LeakyRelu { alpha } => Unary::LeakyRelu { alpha },
        Unary::HardSigmoid { alpha, beta } => Unary::HardSigmoid { alpha, beta },
        Unary::HardSwish => Unary::HardSwish,
        Unary::Sigmoid => Unary::Sigmoid,
        Unary::Tanh => Unary::Tanh,
        Unary::Exp => Unary::Exp,
        Unary::Erf => Unary::Erf,
        Unary::Gelu => Unary::Gelu,
        Unary::Sqrt => Unary::Sqrt,
        Unary::Square => Unary::Square
    );
}

/// `out[i] = clamp(a[i] op b[i], lo, hi)`.
///
/// # Panics
/// The slices differ in length.
pub fn binary(isa: Isa, op: Binary, a: &[f32], b: &[f32], range: (f32, f32), out: &mut [f32]) {
    assert!(a.len() == out.len() && b.len() == out.len(), "{} op {} for {}", a.len(), b.len(), out.len());
    per_tier!(isa, zip(op: Binary, a: &[f32], b: &[f32], range: (f32, f32), out: &mut [f32]));
}

#[inline(always)]
fn zip(op: Binary, a: &[f32], b: &[f32], (lo, hi): (f32, f32), out: &mut [f32]) {
    macro_rules! each {
        ($($case:ident)*) => {
            match op {
                $(Binary::$case => for ((y, &a), &b) in out.iter_mut().zip(a).zip(b) {
                    *y = clamp(Binary::$case.of(a, b), lo, hi);
                }),*
            }
        };
    }
    each!(Add Sub Mul Div);
}

/// `out[pixel][c] = clamp(x[pixel][c] op each[c], lo, hi)`, or `each[c] op x[pixel][c]` if `swapped`.
///
/// # Panics
/// `x` and `out` differ in length, or that is no multiple of the channels.
pub fn binary_channels(
    isa: Isa,
    op: Binary,
    x: &[f32],
    each: &[f32],
    swapped: bool,
    range: (f32, f32),
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "{} elements for {}", x.len(), out.len());
    assert!(!each.is_empty() && x.len().is_multiple_of(each.len()), "{} of {}", x.len(), each.len());
    per_tier!(isa, zip_channels(op: Binary, x: &[f32], each: &[f32], swapped: bool, range: (f32, f32), out: &mut [f32]));
}

#[inline(always)]
fn zip_channels(op: Binary, x: &[f32], each: &[f32], swapped: bool, range: (f32, f32), out: &mut [f32]) {
    for (x, out) in x.chunks_exact(each.len()).zip(out.chunks_exact_mut(each.len())) {
        match swapped {
            false => zip(op, x, each, range, out),
            true => zip(op, each, x, range, out),
        }
    }
}
