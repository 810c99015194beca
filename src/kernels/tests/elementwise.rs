//! Elementwise operations, layout changes and global means.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn global_means_agree(
        pixels in 1usize..60, channels in 1usize..200, zx in zero_point(), zy in zero_point(), seed: u64,
    ) {
        let x = Random(seed).bytes(pixels * channels);
        let mult = 1.3 / pixels as f32;
        let mean = |c: usize| {
            let sum = x.iter().skip(c).step_by(channels).map(|&x| i64::from(x) - i64::from(zx)).sum();
            formula(sum, mult, zy, 0, 255)
        };
        let want: Vec<u8> = (0..channels).map(mean).collect();
        for isa in Isa::available() {
            let mut got = Guarded::new(channels, UNTOUCHED);
            global_average_pool(isa, &x, pixels, channels, zx, mult, zy, &mut got);
            assert_same(isa, &got, &want);
        }
    }

    #[test]
    fn sums_agree(
        len in 0usize..300, scales in [0.001f32..2.0, 0.001f32..2.0, 0.001f32..2.0],
        zero_points in [zero_point(), zero_point(), zero_point()], (lo, hi) in range(), seed: u64,
    ) {
        let [a, b, sum] = [0, 1, 2].map(|i| (scales[i], zero_points[i]));
        let params = AddParams::new(a, b, sum, lo, hi);
        let mut random = Random(seed);
        let (x, y) = (random.bytes(len), random.bytes(len));
        let (ra, rb) = (a.0 / sum.0, b.0 / sum.0);
        let constant = f32::from(sum.1) - ra.mul_add(f32::from(a.1), rb * f32::from(b.1));
        let want: Vec<u8> = x.iter().zip(y.iter()).map(|(&x, &y)| {
            let sum = f32::from(x).mul_add(ra, f32::from(y).mul_add(rb, constant));
            f64::from(sum.round_ties_even()).clamp(f64::from(lo), f64::from(hi)) as u8
        }).collect();
        for isa in Isa::available() {
            let mut got = Guarded::new(len, UNTOUCHED);
            add(isa, &x, &y, len, &params, &mut got);
            assert_same(isa, &got, &want);
        }
    }

    #[test]
    fn products_and_sums_with_repeated_operands_agree(
        rows in 0usize..9, columns in 0usize..90, repeated in [any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()],
        scales in [0.001f32..2.0, 0.001f32..2.0, 0.001f32..2.0],
        zero_points in [zero_point(), zero_point(), zero_point()], (lo, hi) in range(), seed: u64,
    ) {
        let step = |row: bool, column: bool| [if row { 0 } else if column { 1 } else { columns }, usize::from(!column)];
        let [a, b] = [step(repeated[0], repeated[1]), step(repeated[2], repeated[3])];
        let grid = Grid { rows, columns, a, b };
        let mut random = Random(seed);
        let (x, y) = (random.bytes(rows * columns + 1), random.bytes(rows * columns + 1));
        let [(sx, zx), (sy, zy), out] = [0, 1, 2].map(|i| (scales[i], zero_points[i]));
        let (product, sum) = (MulParams::new((sx, zx), (sy, zy), out, lo, hi), AddParams::new((sx, zx), (sy, zy), out, lo, hi));
        let limited = |v: f32| f64::from(v.round_ties_even()).clamp(f64::from(lo), f64::from(hi)) as u8;
        let ratio = sx * sy / out.0;
        let elements = (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c)));
        let pairs: Vec<(u8, u8)> = elements
            .map(|(r, c)| (x[r * a[0] + c * a[1]], y[r * b[0] + c * b[1]]))
            .collect();
        let products = pairs.iter().map(|&(x, y)| {
            let exact = (i32::from(x) - i32::from(zx)) * (i32::from(y) - i32::from(zy));
            limited(exact as f32 * ratio + f32::from(out.1))
        });
        let sums = pairs.iter().map(|&(x, y)| {
            let AddParams { a_ratio, b_ratio, constant, .. } = sum;
            limited(f32::from(x).mul_add(a_ratio, f32::from(y).mul_add(b_ratio, constant)))
        });
        let (products, sums): (Vec<u8>, Vec<u8>) = (products.collect(), sums.collect());
        for isa in Isa::available() {
            let mut got = Guarded::new(rows * columns, UNTOUCHED);
            multiply(isa, &x, &y, &grid, &product, &mut got);
            assert_same(isa, &got, &products);
            add_broadcast(isa, &x, &y, &grid, &sum, &mut got);
            assert_same(isa, &got, &sums);
        }
    }

    #[test]
    fn resized_images_agree(
        (height, width, channels) in (1usize..6, 1usize..6, 1usize..70), (rows, columns) in (0usize..9, 0usize..9),
        blends: bool, ratio in prop_oneof![Just(1f32), 0.2f32..3.0], zx in zero_point(), zy in zero_point(), seed: u64,
    ) {
        let mut random = Random(seed);
        let x = random.bytes(height * width * channels);
        let mut taps = |count: usize, size: usize| -> Vec<Tap> {
            (0..count).map(|_| {
                let first = random.next() as usize % size;
                let weight = if blends { (random.next() % 256) as f32 / 256.0 } else { 0.0 };
                Tap { first, second: (first + 1).min(size - 1), weight }
            }).collect()
        };
        let (rows, columns) = (taps(rows, height), taps(columns, width));
        let at = |y: usize, column: usize, c: usize| f32::from(x[(y * width + column) * channels + c]);
        let mut want = Vec::new();
        let mut floats = Vec::new();
        for (row, column, c) in rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c)))
            .flat_map(|(r, k)| (0..channels).map(move |c| (r, k, c))) {
            let blend = |a: f32, b: f32, weight: f32| (b - a).mul_add(weight, a);
            let along = |y: usize| blend(at(y, column.first, c), at(y, column.second, c), column.weight);
            let v = blend(along(row.first), along(row.second), row.weight);
            floats.push(v.to_bits());
            let steps = f64::from(((v - f32::from(zx)) * ratio).round_ties_even()) + f64::from(zy);
            want.push(steps.clamp(0.0, 255.0) as u8);
        }
        let real: Vec<f32> = x.iter().map(|x| f32::from(*x)).collect();
        for isa in Isa::available() {
            let mut got = Guarded::new(want.len(), UNTOUCHED);
            let rescale = Rescale { from: zx, ratio, to: zy };
            resize(isa, &x, width, channels, &rows, &columns, rescale, &mut got);
            assert_same(isa, &got, &want);
            let mut got = Guarded::new(floats.len(), 0f32);
            resize_f32(isa, &real, width, channels, &rows, &columns, &mut got);
            assert_same(isa, &got.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), &floats);
        }
    }

    #[test]
    fn quantized_images_agree(
        (channels, more) in (1usize..6, 0usize..3), (height, width) in (1usize..5, 1usize..40),
        pad in [0usize..3, 0usize..3, 0usize..3, 0usize..3], zx in zero_point(), scale in 0.01f32..2.0, seed: u64,
    ) {
        let mut random = Random(seed);
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, scale * 0.5, scale * 1.5, -0.0];
        let x: Vec<f32> = (0..channels * height * width).map(|_| match random.next() {
            r if r % 8 == 0 => special[(r >> 8) as usize % special.len()],
            r => ((r >> 40) as f32 / 16_777_216.0 - 0.5) * 300.0 * scale,
        }).collect();
        let (c_stride, [top, left, bottom, right]) = (channels + more, pad);
        let row = (left + width + right) * c_stride;
        let mut want = vec![zx; (top + height + bottom) * row];
        for (i, &x) in x.iter().enumerate() {
            let (c, y, column) = (i / (height * width), i / width % height, i % width);
            let steps = f64::from((x / scale).round_ties_even()) + f64::from(zx);
            let q = if x.is_nan() { zx } else { steps.clamp(0.0, 255.0) as u8 };
            want[(top + y) * row + (left + column) * c_stride + c] = q;
        }
        for isa in Isa::available() {
            let mut got = Guarded::new(want.len(), UNTOUCHED);
            let team = (channels % 2 == 1).then(|| Team::new(3, |_| {}).unwrap());
            quantize_nchw(isa, team.as_ref(), &x, channels, height, width, scale, zx, c_stride, pad, &mut got);
            assert_same(isa, &got, &want);
        }
    }

    #[test]
    fn dequantized_images_agree(
        channels in 1usize..70, pixels in 1usize..70, zx in zero_point(), scale in 0.01f32..2.0, seed: u64,
    ) {
        let x = Random(seed).bytes(pixels * channels);
        let value = |i: usize| f32::from(i16::from(x[i % pixels * channels + i / pixels]) - i16::from(zx)) * scale;
        let want: Vec<u32> = (0..channels * pixels).map(|i| value(i).to_bits()).collect();
        for isa in Isa::available() {
            let mut got = Guarded::new(channels * pixels, f32::NAN);
            dequantize_to_nchw(isa, &x, channels, pixels, scale, zx, &mut got);
            assert_same(isa, &got.iter().map(|got| got.to_bits()).collect::<Vec<_>>(), &want);
        }
    }

    #[test]
    fn concatenated_channels_agree(
        pixels in 0usize..9, channels in 1usize..140, before in 0usize..9, after in 0usize..9,
        through_table: bool, seed: u64,
    ) {
        let mut random = Random(seed);
        let x = random.bytes(pixels * channels);
        let table: [u8; 256] = std::array::from_fn(|_| random.next() as u8);
        let stride = before + channels + after;
        let mut want = vec![UNTOUCHED; pixels * stride];
        for (i, &x) in x.iter().enumerate() {
            let y = if through_table { table[usize::from(x)] } else { x };
            want[i / channels * stride + before + i % channels] = y;
        }
        for isa in Isa::available() {
            let mut got = Guarded::new(pixels * stride, UNTOUCHED);
            let table = through_table.then_some(&table);
            copy_channels(isa, &x, pixels, channels, table, &mut got, stride, before);
            assert_same(isa, &got, &want);
        }
    }
}
