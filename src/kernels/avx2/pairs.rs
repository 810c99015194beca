//! Which inputs `vpmaddubsw` may sum: it saturates at 16 bits, so the weights of two inputs must fit together in
//! every channel of a block. Neighbours often don't; but among the sixteen inputs of one 128-bit load, which
//! `vpshufb` puts into any order at no cost in time, partners that fit can nearly always be found.

/// Inputs among which partners are sought.
pub(super) const GROUP: usize = 16;

/// A byte selector whose input is not used.
const NONE: u8 = 0x80;

/// Two inputs of a group whose products are summed in 16 bits; [`NONE`] stands for no input.
type Pair = [u8; 2];

/// Whether `x₀w₀ + x₁w₁` stays within i16 for every u8 `x` and each channel: the positive weights of a pair may sum
/// up to 128 (255 · 128 < 2¹⁵), the negative ones down to −128.
fn fit(a: &[i8], b: &[i8]) -> bool {
    let fits = |(&a, &b): (&i8, &i8)| {
        let (a, b) = (i16::from(a), i16::from(b));
        (a.max(0) + b.max(0) <= 128) & (a.min(0) + b.min(0) >= -128)
    };
    a.iter().zip(b).fold(true, |all, pair| all & fits(pair))
}

/// Pairs up inputs such that each pair fits: those with the fewest possible partners choose first, and among
/// partners the ones with the fewest others. What is left over stays alone. `inputs[i]` holds the weights of
/// input `i` for all channels.
pub(super) fn pair_up(inputs: &[Vec<i8>]) -> Vec<Pair> {
    let count = inputs.len();
    let natural: Vec<Pair> =
        (0..count as u8).step_by(2).map(|i| [i, if i + 1 < count as u8 { i + 1 } else { NONE }]).collect();
    let fits = |[a, b]: &Pair| *b == NONE || fit(&inputs[usize::from(*a)], &inputs[usize::from(*b)]);
    if natural.iter().all(fits) {
        return natural;
    }
    // Bit `b` of `partners[a]`: a and b fit.
    let mut partners = [0u16; GROUP];
    for (a, of_a) in inputs.iter().enumerate() {
        for (b, of_b) in inputs.iter().enumerate().skip(a + 1) {
            if fit(of_a, of_b) {
                partners[a] |= 1 << b;
                partners[b] |= 1 << a;
            }
        }
    }
    let mut left: u16 = ((1u32 << count) - 1) as u16;
    let mut pairs = Vec::with_capacity(GROUP);
    let choices = |i: usize, left: u16| (partners[i] & left).count_ones();
    let members = |set: u16| (0..GROUP).filter(move |i| set & 1 << i != 0);
    while let Some(a) = members(left).min_by_key(|&a| choices(a, left)) {
        left &= !(1 << a);
        let b = members(partners[a] & left).min_by_key(|&b| choices(b, left));
        if let Some(b) = b {
            left &= !(1 << b);
        }
        pairs.push([a as u8, b.map_or(NONE, |b| b as u8)]);
    }
    pairs
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn check(inputs: &[Vec<i8>]) -> usize {
        let pairs = pair_up(inputs);
        let mut seen: Vec<u8> = pairs.iter().flatten().copied().filter(|i| *i != NONE).collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..inputs.len() as u8), "{pairs:?}");
        for [a, b] in &pairs {
            let extremes = |i: u8, sign: i32| -> Vec<i32> {
                let weights = inputs.get(usize::from(i)).cloned().unwrap_or_else(|| vec![0; inputs[0].len()]);
                weights.iter().map(|w| 255 * (i32::from(*w) * sign).max(0) * sign).collect()
            };
            for sign in [1, -1] {
                for (x, y) in extremes(*a, sign).iter().zip(extremes(*b, sign)) {
                    assert!(i16::try_from(x + y).is_ok(), "{a} and {b} of {inputs:?}");
                }
            }
        }
        pairs.len()
    }

    #[test]
    fn pairs_never_overflow_and_hold_every_input_once() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as i8
        };
        for round in 0..300 {
            let shift = round % 4;
            let inputs: Vec<Vec<i8>> =
                (0..1 + round % GROUP).map(|_| (0..16).map(|_| random() >> shift).collect()).collect();
            check(&inputs);
        }
    }

    #[test]
    fn partners_that_fit_are_found() {
        // Neighbours don't fit, every other input does.
        let inputs: Vec<Vec<i8>> = (0..16).map(|i| vec![if i % 4 < 2 { 127 } else { -127 }; 16]).collect();
        assert_eq!(check(&inputs), 8);
        assert_eq!(check(&vec![vec![127; 16]; 16]), 16, "none fits another");
        assert_eq!(check(&vec![vec![64, -64]; 16]), 8);
        assert_eq!(check(&[vec![-128], vec![-128], vec![127]]), 2);
    }
}
