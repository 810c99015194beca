//! Products of two quantized activations.

use super::*;

/// Where the elements `[head][row][column]` of a tensor lie, in any of the orders that graphs give them.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// `[row][head][column]`.
    HeadsWithin,
    /// `[row][column][head]`.
    HeadsInnermost,
    /// `[head][column][row]`.
    Transposed,
}

impl Order {
    /// Steps of heads, rows and columns.
    fn steps(self, heads: usize, rows: usize, columns: usize) -> [usize; 3] {
        match self {
            Order::HeadsWithin => [columns, heads * columns, 1],
            Order::HeadsInnermost => [1, heads * columns, heads],
            Order::Transposed => [rows * columns, 1, rows],
        }
    }
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::HeadsWithin), Just(Order::HeadsInnermost), Just(Order::Transposed)]
}

fn quant() -> impl Strategy<Value = (f32, u8)> {
    (0.002f32..0.05, zero_point())
}

#[derive(Debug, Clone)]
struct Case {
    heads: usize,
    /// Rows of queries, their length, keys, and the length of values.
    sizes: [usize; 4],
    orders: [Order; 4],
    of: [(f32, u8); 3],
    rounded: Vec<(f32, (f32, u8))>,
    shares: (f32, u8),
    out: Option<(f32, u8)>,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    // Of more than 514 inputs, whole numbers are added in parts where they are f32.
    let long = prop_oneof![4 => 1usize..70, 1 => 500usize..1100];
    let sizes = (1usize..4, 1usize..30, 1usize..70, long, 1usize..40);
    let orders = (order(), order(), order(), order());
    let shares = (0.0005f32..0.01, prop_oneof![Just(0u8), any::<u8>()]);
    let rounded = proptest::collection::vec((0.1f32..1.0, (0.02f32..0.2, zero_point())), 0..3);
    let of = (quant(), quant(), quant(), shares, proptest::option::of(quant()), rounded);
    (sizes, orders, of, any::<u64>()).prop_map(|((heads, m, k, n, d), orders, of, seed)| Case {
        heads,
        sizes: [m, k, n, d],
        orders: [orders.0, orders.1, orders.2, orders.3],
        of: [of.0, of.1, of.2],
        shares: of.3,
        out: of.4,
        rounded: of.5,
        seed,
    })
}

/// `rne(x) + zero_point` from 0 to 255.
fn to_byte(x: f32, zero_point: u8) -> u8 {
    (f64::from(x.round_ties_even()) + f64::from(zero_point)).clamp(0.0, 255.0) as u8
}

impl Case {
    /// The tensors of queries, keys and values, with slack.
    fn tensors(&self) -> [Guarded<u8>; 3] {
        let (mut random, [m, k, n, d]) = (Random(self.seed), self.sizes);
        [m * k, n * k, n * d].map(|len| random.bytes(self.heads * len + SLACK))
    }

    /// Scores of queries and keys, as `[head][row][key]`.
    fn scores(&self) -> Products {
        let [m, k, n, _] = self.sizes;
        let [q, keys] = [self.orders[0].steps(self.heads, m, k), self.orders[1].steps(self.heads, n, k)];
        Products {
            outer: vec![(self.heads, [q[0], keys[0], m * n])],
            m,
            k,
            n,
            first: [0, 0],
            a: [q[1], q[2]],
            b: [keys[2], keys[1]],
            out: [n, 1],
        }
    }

    fn values(&self) -> Products {
        let [m, _, n, d] = self.sizes;
        let [v, out] = [self.orders[2].steps(self.heads, n, d), self.orders[3].steps(self.heads, m, d)];
        Products {
            outer: vec![(self.heads, [m * n, v[0], out[0]])],
            m,
            k: n,
            n: d,
            first: [0, 0],
            a: [n, 1],
            b: [v[1], v[2]],
            out: [out[1], out[2]],
        }
    }

    /// Bytes of the result.
    fn len(&self, elements: usize) -> usize {
        elements * self.out.map_or(size_of::<f32>(), |_| 1)
    }
}

/// The elements of the product of the rows `a` and the columns of `b` for one head by the definition.
fn product(
    of: &Products,
    head: usize,
    [a, b]: [&[u8]; 2],
    [za, zb]: [u8; 2],
    factor: f32,
    with_rows: bool,
) -> Vec<f32> {
    let element = |row: usize, column: usize| {
        let left =
            |i: usize| i64::from(a[head * of.outer[0].1[0] + row * of.a[0] + i * of.a[1]]) - i64::from(za);
        let right = |i: usize| i64::from(b[head * of.outer[0].1[1] + i * of.b[0] + column * of.b[1]]) - 128;
        let sum: i64 = (0..of.k).map(|i| left(i) * right(i)).sum();
        let of_row: i64 = (128 - i64::from(zb)) * (0..of.k).map(left).sum::<i64>();
        let x = sum as i32 as f32 * factor;
        if with_rows && zb != 128 { x + of_row as f32 * factor } else { x }
    };
    (0..of.m).flat_map(|row| (0..of.n).map(move |column| (row, column))).map(|(r, c)| element(r, c)).collect()
}

/// Puts one head's results where they belong.
fn put(of: &Products, head: usize, x: &[f32], quant: Option<(f32, u8)>, out: &mut [u8]) {
    for (at, x) in x.iter().enumerate() {
        let to = head * of.outer[0].1[2] + at / of.n * of.out[0] + at % of.n * of.out[1];
        match quant {
            Some((_, zero_point)) => out[to] = to_byte(*x, zero_point),
            None => out[to * 4..][..4].copy_from_slice(&x.to_ne_bytes()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn products_of_two_activations_are_those_of_the_formula(case in case()) {
        let [q, keys, _] = case.tensors();
        let of = ByteProducts { products: case.scores(), of: [case.of[0], case.of[1]], out: case.out };
        let len = case.len(case.heads * case.sizes[0] * case.sizes[2]);
        let factor = case.of[0].0 * case.of[1].0 / case.out.map_or(1.0, |out| out.0);
        let mut want = vec![0; len];
        for head in 0..case.heads {
            let zero_points = [case.of[0].1, case.of[1].1];
            let x = product(&of.products, head, [&q, &keys], zero_points, factor, true);
            put(&of.products, head, &x, case.out, &mut want);
        }
        for isa in Isa::available() {
            let mut out = Guarded::new(len, UNTOUCHED);
            matmul_u8(isa, &q, &keys, &of, &mut out);
            assert_same(isa, &out, &want);
        }
    }

    #[test]
    fn attention_is_that_of_the_formula(case in case()) {
        let ([q, keys, v], [m, _, n, d]) = (case.tensors(), case.sizes);
        let attention = Attention { scores: case.scores(), scale: 0.3, values: case.values() };
        let rounded = case.rounded.clone();
        let of = ByteAttention { attention, of: case.of, rounded, shares: case.shares, out: case.out };
        let len = case.len(case.heads * m * d);
        let mut want = vec![0; len];
        for head in 0..case.heads {
            let is_rounded = !of.rounded.is_empty();
            let scale = of.attention.scale;
            let factor = case.of[0].0 * case.of[1].0 * if is_rounded { 1.0 } else { scale };
            let zero_points = [case.of[0].1, case.of[1].1];
            let mut scores =
                product(&of.attention.scores, head, [&q, &keys], zero_points, factor, is_rounded);
            for (at, (factor, (step, zero_point))) in of.rounded.iter().enumerate() {
                let step_of = step * if at + 1 == of.rounded.len() { scale } else { 1.0 };
                for x in &mut scores {
                    let byte = i32::from(to_byte(*x * (factor / step), *zero_point));
                    *x = (byte - i32::from(*zero_point)) as f32 * step_of;
                }
            }
            let mut inverse = vec![0.0; m];
            weights_of_rows(Isa::Scalar, &mut scores, n, &mut inverse);
            let (scale, zero_point) = case.shares;
            let share = |(at, x): (usize, &f32)| to_byte(x * (inverse[at / n] / scale), zero_point);
            let mut shares = vec![0; case.heads * m * n];
            shares[head * m * n..][..m * n].copy_from_slice(&scores.iter().enumerate().map(share).collect::<Vec<_>>());
            let factor = scale * case.of[2].0 / case.out.map_or(1.0, |out| out.0);
            let zero_points = [zero_point, case.of[2].1];
            let x = product(&of.attention.values, head, [&shares, &v], zero_points, factor, true);
            put(&of.attention.values, head, &x, case.out, &mut want);
        }
        for isa in Isa::available() {
            let mut out = Guarded::new(len, UNTOUCHED);
            attend_u8(isa, &q, &keys, &v, &of, &mut out);
            assert_same(isa, &out, &want);
        }
    }
}
