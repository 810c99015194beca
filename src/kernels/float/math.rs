//! Elementary functions by arithmetic that the compiler can vectorize, with the same roundings in every tier.

/// eˣ within 2 units in the last place; 0 below −87.3, infinite above 88.7.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, e^r by its Taylor polynomial of degree 7 (remainder below 4·10⁻⁹), scaled by
/// 2ⁿ through the exponent. ln 2 is split so that `x − n·ln 2` loses nothing (Cody and Waite, Software Manual for
/// the Elementary Functions, 1980).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Added to a number below 2²², it leaves the nearest whole number in the lowest bits.
    const SHIFT: f32 = 12_582_912.0;
    let limited = if x < -87.3 { -87.3 } else { x };
    let limited = if limited > 88.7 { 88.7 } else { limited };
    let shifted = limited.mul_add(std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, limited));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, c);
    }
    // Two halves, since 2¹²⁸ is beyond the exponent while eˣ below 88.7 is not.
    let whole = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    let half = whole >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    let y = p * power(half) * power(whole - half);
    let y = if x < -87.3 { 0.0 } else { y };
    if x > 88.7 { f32::INFINITY } else { y }
}

/// eˣ for x ≤ 0 within 4·10⁻⁷, by the same reduction with the polynomial of degree 5 whose largest error over
/// |r| ≤ ln 2 / 2 is the least; what is below −87.3 gives some number below 2·10⁻³⁸.
#[inline(always)]
pub(super) fn exp_of_negative(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    let x = if x < -87.3 { -87.3 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let mut p = 0.008_297_647_f32;
    for c in [0.041_915_43, 0.166_675_75, 0.499_988_94, 0.999_999_7, 1.000_000_1] {
        p = r.mul_add(p, c);
    }
    let whole = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    p * f32::from_bits(((whole + 127) << 23) as u32)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// (1 − e⁻²ˣ) / (1 + e⁻²ˣ) for |x| ≥ 0.25, by its Taylor series below, where that form would cancel.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let x = if x < -20.0 { -20.0 } else { x };
    let x = if x > 20.0 { 20.0 } else { x };
    let e = exp(-2.0 * x);
    let far = (1.0 - e) / (1.0 + e);
    let s = x * x;
    let mut p = 62.0 / 2835.0;
    for c in [-17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0] {
        p = s.mul_add(p, c);
    }
    if x.abs() < 0.25 { x * p } else { far }
}

/// erf x = 2/√π ∫₀ˣ e^(−t²) dt within 4·10⁻⁷: below 0.5 by its Taylor series, above as 1 − (a₁t + … + a₅t⁵)·e^(−x²) with
/// t = 1/(1 + p·|x|) (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.5 and 7.1.26).
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let (a, s) = (x.abs(), x * x);
    let mut near = -1.0 / 1320.0;
    for c in [1.0 / 216.0, -1.0 / 42.0, 0.1, -1.0 / 3.0, 1.0] {
        near = s.mul_add(near, c);
    }
    let near = x * near * std::f32::consts::FRAC_2_SQRT_PI;
    let t = 1.0 / 0.327_591_1_f32.mul_add(a, 1.0);
    let mut p = 1.061_405_4_f32;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = t.mul_add(p, c);
    }
    let far = (1.0 - p * t * exp_of_negative(-s)).copysign(x);
    if a < 0.5 { near } else { far }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn close(got: f32, want: f64, tolerance: f64) {
        assert!((f64::from(got) - want).abs() <= tolerance * want.abs().max(1e-30), "{got} is not {want}");
    }

    #[test]
    fn functions_agree_with_double_precision() {
        for i in -2000..=2000 {
            let x = i as f32 * 0.0417;
            let d = f64::from(x);
            close(exp(x), d.exp(), 3e-7);
            close(sigmoid(x), 1.0 / (1.0 + (-d).exp()), 4e-7);
            close(tanh(x), d.tanh(), 2e-6);
            if (-87.3..=0.0).contains(&x) {
                close(exp_of_negative(x), d.exp(), 4e-7);
            }
        }
    }

    #[test]
    fn the_error_function_agrees_with_its_integral() {
        // Simpson's rule over 2000 steps.
        let integral = |x: f64| {
            let (n, h) = (2000, x / 2000.0);
            let f = |i: u32| (-(h * f64::from(i)).powi(2)).exp();
            let inner: f64 = (1..n).map(|i| if i % 2 == 1 { 4.0 * f(i) } else { 2.0 * f(i) }).sum();
            (f(0) + inner + f(n)) * h / 3.0 * std::f64::consts::FRAC_2_SQRT_PI
        };
        for i in -120..=120 {
            let x = i as f32 * 0.0377;
            let got = f64::from(erf(x));
            assert!((got - integral(f64::from(x))).abs() <= 4e-7, "erf {x} = {got}");
        }
        assert_eq!((erf(0.0), erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (0.0, 1.0, -1.0));
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn ends_are_defined() {
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(200.0), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(tanh(f32::NAN).is_nan());
        assert!(exp_of_negative(f32::NAN).is_nan());
        assert!(exp_of_negative(f32::NEG_INFINITY) < 2e-38);
        assert_eq!(tanh(0.0), 0.0);
    }
}
