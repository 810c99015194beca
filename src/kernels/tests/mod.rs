//! Every tier gives the bytes of the scalar tier, and the scalar tier those of the formula, for random shapes. What they
//! read and write ends where memory ends ([`Guarded`]).

use proptest::prelude::*;

use super::*;

mod activations;
mod elementwise;
mod float;
mod guarded;
mod products;
mod windows;

use guarded::Guarded;

/// What outputs hold before an operation: what it must not touch is still there afterwards.
const UNTOUCHED: u8 = 0xA5;

fn zero_point() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(1), Just(127), Just(128), Just(255), any::<u8>()]
}

fn range() -> impl Strategy<Value = (u8, u8)> {
    prop_oneof![Just((0, 255)), (any::<u8>(), any::<u8>()).prop_map(|(a, b)| (a.min(b), a.max(b)))]
}

/// Bytes of a kind: evenly spread, only the extremes, or small.
#[derive(Debug, Clone, Copy)]
enum Spread {
    Even,
    Extreme,
    Small,
}

fn spread() -> impl Strategy<Value = Spread> {
    prop_oneof![Just(Spread::Even), Just(Spread::Extreme), Just(Spread::Small)]
}

/// A reproducible source of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn bytes(&mut self, len: usize) -> Guarded<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn weights(&mut self, len: usize, spread: Spread) -> Vec<i8> {
        let weight = |random: u64| match spread {
            Spread::Even => random as i8,
            Spread::Extreme => [-128, 127][(random & 1) as usize],
            Spread::Small => (random % 65) as i8 - 32,
        };
        (0..len).map(|_| weight(self.next())).collect()
    }

    fn bias(&mut self, len: usize) -> Vec<i32> {
        (0..len).map(|_| (self.next() as i32) >> (self.next() % 32)).collect()
    }

    /// Factors from far too small to saturating, most of them such that sums of `terms` products fit.
    fn factors(&mut self, len: usize, terms: usize, extreme: bool) -> Vec<f32> {
        let usual = 1.0 / (64.0 * (terms as f32).sqrt());
        let factor = |random: u64| match random % 16 {
            _ if !extreme => usual * (1.0 + (random >> 8 & 0xFF) as f32 / 64.0),
            0 => 0.0,
            1 => f32::MAX,
            2 => f32::MIN_POSITIVE,
            3 => 0.5,
            4 => 1e6,
            _ => usual,
        };
        (0..len).map(|_| factor(self.next())).collect()
    }
}

/// The definition, apart from the code under test: exact sums, one rounding per float operation.
fn formula(acc: i64, mult: f32, zero_point: u8, lo: u8, hi: u8) -> u8 {
    let rounded = f64::from((acc as i32 as f32 * mult).round_ties_even());
    (rounded + f64::from(zero_point)).clamp(f64::from(lo), f64::from(hi)) as u8
}

fn assert_same<T: PartialEq + std::fmt::Debug>(isa: Isa, got: &[T], want: &[T]) {
    let differs = got.iter().zip(want).position(|(got, want)| got != want);
    if let Some(i) = differs {
        panic!("{}: element {i} is {:?}, must be {:?}", isa.name(), got[i], want[i]);
    }
    assert_eq!(got.len(), want.len());
}
