//! Which inputs `vpmaddubsw` may sum: it saturates at 16 bits, so the weights of two inputs must fit together in
//! every channel of a block. Neighbours often don't; but among the sixteen inputs of one 128-bit load, which
//! `vpshufb` puts into any order at no cost in time, partners that fit can nearly always be found. Of inputs that
//! find none, two are put together all the same, and what is too much of one has a place of its own.

/// Inputs among which partners are sought.
pub(super) const GROUP: usize = 16;

/// A byte selector whose input is not used.
pub(super) const NONE: u8 = 0x80;

/// An input, and the weights that it is multiplied with, one for each channel: its own, or a part of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Factor {
    pub input: u8,
    pub weights: Vec<i8>,
}

/// Two inputs of a group whose products are summed in 16 bits, or one alone.
pub(super) type Pair = (Factor, Option<Factor>);

/// Largest sum of the weights of a pair of one sign: 255 · 128 < 2¹⁵.
const MOST: i16 = 128;

/// Whether `x₀w₀ + x₁w₁` stays within i16 for every u8 `x` and each channel: the positive weights of a pair may sum
/// up to 128, the negative ones down to −128.
fn fit(a: &[i8], b: &[i8]) -> bool {
    let fits = |(&a, &b): (&i8, &i8)| {
        let (a, b) = (i16::from(a), i16::from(b));
        (a.max(0) + b.max(0) <= MOST) & (a.min(0) + b.min(0) >= -MOST)
    };
    a.iter().zip(b).fold(true, |all, pair| all & fits(pair))
}

/// Pairs up inputs such that each pair fits, in as few pairs as can be found. `inputs[i]` holds the weights of input `i`
/// for all channels; the weights of all factors of an input sum up to its own.
pub(super) fn pair_up(inputs: &[Vec<i8>]) -> Vec<Pair> {
    let factors = (0u8..).zip(inputs).map(|(input, weights)| Factor { input, weights: weights.clone() });
    let factors: Vec<Factor> = factors.collect();
    if factors.chunks(2).all(|two| two.len() < 2 || fit(&two[0].weights, &two[1].weights)) {
        let natural = factors.chunks(2).map(|two| (two[0].clone(), two.get(1).cloned()));
        return natural.collect();
    }
    let whole = matched(factors);
    let (mut pairs, alone): (Vec<Pair>, Vec<Pair>) = whole.iter().cloned().partition(|pair| pair.1.is_some());
    let mut rests = Vec::new();
    for two in alone.chunks(2) {
        match two {
            [(a, _), (b, _)] => {
                let (a, rest) = make_fit(a, b);
                pairs.push((a, Some(b.clone())));
                rests.push(rest);
            }
            one => rests.extend(one.iter().map(|(factor, _)| factor.clone())),
        }
    }
    pairs.extend(matched(rests));
    if pairs.len() < whole.len() { pairs } else { whole }
}

/// `a` with weights that fit those of `b`, and what is left of it.
fn make_fit(a: &Factor, b: &Factor) -> (Factor, Factor) {
    let fitting = |(&a, &b): (&i8, &i8)| {
        let (least, most) = (-MOST - i16::from(b).min(0), MOST - i16::from(b).max(0));
        i16::from(a).clamp(least, most) as i8
    };
    let weights: Vec<i8> = a.weights.iter().zip(&b.weights).map(fitting).collect();
    let rest = a.weights.iter().zip(&weights).map(|(whole, part)| whole - part).collect();
    (Factor { input: a.input, weights }, Factor { input: a.input, weights: rest })
}

/// Pairs that fit: factors with the fewest possible partners choose first, and among partners the ones with the fewest
/// others. What is left over stays alone.
fn matched(factors: Vec<Factor>) -> Vec<Pair> {
    // Bit `b` of `partners[a]`: a and b fit.
    let mut partners = [0u16; GROUP];
    for (a, of_a) in factors.iter().enumerate() {
        for (b, of_b) in factors.iter().enumerate().skip(a + 1) {
            if fit(&of_a.weights, &of_b.weights) {
                partners[a] |= 1 << b;
                partners[b] |= 1 << a;
            }
        }
    }
    let mut left: u16 = ((1u32 << factors.len()) - 1) as u16;
    let mut pairs = Vec::with_capacity(GROUP);
    let choices = |i: usize, left: u16| (partners[i] & left).count_ones();
    let members = |set: u16| (0..GROUP).filter(move |i| set & 1 << i != 0);
    while let Some(a) = members(left).min_by_key(|&a| choices(a, left)) {
        left &= !(1 << a);
        let b = members(partners[a] & left).min_by_key(|&b| choices(b, left));
        if let Some(b) = b {
            left &= !(1 << b);
        }
        pairs.push((factors[a].clone(), b.map(|b| factors[b].clone())));
    }
    pairs
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn check(inputs: &[Vec<i8>]) -> usize {
        let pairs = pair_up(inputs);
        let channels = inputs[0].len();
        let mut sums = vec![vec![0i32; channels]; inputs.len()];
        for factor in pairs.iter().flat_map(|(a, b)| [Some(a), b.as_ref()]).flatten() {
            for (sum, w) in sums[usize::from(factor.input)].iter_mut().zip(&factor.weights) {
                *sum += i32::from(*w);
            }
        }
        let whole = inputs.iter().map(|weights| weights.iter().map(|w| i32::from(*w)).collect::<Vec<_>>());
        assert!(whole.eq(sums), "{pairs:?} of {inputs:?}");
        for (a, b) in &pairs {
            let extremes = |factor: Option<&Factor>, sign: i32| -> Vec<i32> {
                let weights = factor.map_or_else(|| vec![0; channels], |factor| factor.weights.clone());
                weights.iter().map(|w| 255 * (i32::from(*w) * sign).max(0) * sign).collect()
            };
            for sign in [1, -1] {
                for (x, y) in extremes(Some(a), sign).iter().zip(extremes(b.as_ref(), sign)) {
                    assert!(i16::try_from(x + y).is_ok(), "{a:?} and {b:?}");
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
        assert_eq!(
            check(&vec![vec![127; 16]; 16]),
            16,
            "none fits another, and what is left of one none of another"
        );
        assert_eq!(check(&vec![vec![80; 16]; 16]), 12, "80 and 48, and pairs of two times 32");
        assert_eq!(check(&vec![vec![64, -64]; 16]), 8);
        assert_eq!(check(&[vec![-128], vec![-128], vec![127]]), 2);
    }
}
