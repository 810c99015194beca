//! How vector tiers lay out weights: in the order in which the inner loop loads them.
//!
//! Output channels are split into blocks of a few vectors. A block holds, for each tap and each group of four
//! inputs, its vectors one after the other; a lane of a vector holds the four weights of one channel. Biases
//! and factors follow the same lanes.
//!
//! Narrowing 32-bit accumulators to bytes by x86's pack instructions works inside 128-bit segments and
//! so interleaves the channels of neighbouring vectors. [`channel_of`] assigns channels to lanes such that the
//! packed bytes come out in order, which makes the permutation free.

use super::Isa;
use super::buffer::Aligned;
use super::elementwise::per_tier;

/// Channels `first..first + channels` of a product, held in `vectors` vectors.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub first: usize,
    pub channels: usize,
    pub vectors: usize,
    /// Where its weights start.
    pub weights: usize,
    /// Where its biases and factors start.
    pub lanes: usize,
}

/// The packed weights, biases and factors of a product.
#[derive(Debug)]
pub(super) struct Panels {
    pub taps: usize,
    /// Inputs per tap, rounded up to whole steps of the tier; the added weights are 0.
    pub depth: usize,
    pub blocks: Vec<Block>,
    pub weights: Aligned<i8>,
    pub bias: Aligned<i32>,
    pub factors: Aligned<f32>,
}

/// What a vector tier asks of [`Panels::pack`].
pub(super) struct Scheme {
    /// i32 lanes of a vector.
    pub lanes: usize,
    /// Inputs of one step, a multiple of four.
    pub depth: usize,
    /// The vectors of each block, for this many vectors in all.
    pub split: fn(usize) -> Vec<usize>,
    /// Whether channels are interleaved for a byte store.
    pub interleave: bool,
}

/// The weights `[n][taps][k]` of a product with their biases and output factors.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub n: usize,
    pub taps: usize,
    pub k: usize,
    pub weights: &'a [i8],
    pub bias: &'a [i32],
    pub factors: &'a [f32],
}

impl Product<'_> {
    /// The weights of inputs `4·group..4·group + 4` at one tap of a channel; 0 beyond `k` and `n`.
    fn group(&self, n: usize, tap: usize, group: usize) -> [i8; 4] {
        let mut four = [0; 4];
        if n < self.n {
            let row = &self.weights[(n * self.taps + tap) * self.k..][..self.k];
            let part = &row[(group * 4).min(self.k)..(group * 4 + 4).min(self.k)];
            four[..part.len()].copy_from_slice(part);
        }
        four
    }

    /// Whether `f32(acc) · factor` is below 2³⁰ for every input: the vector conversions to i32 have no
    /// saturation. Only factors that saturate nearly every output can exceed it.
    pub(super) fn results_fit_i32(&self) -> bool {
        let rows = self.weights.chunks_exact(self.taps * self.k);
        rows.zip(self.bias).zip(self.factors).all(|((row, &bias), &factor)| {
            let products: u64 = row.iter().map(|w| 255 * u64::from(w.unsigned_abs())).sum();
            let largest = (products + u64::from(bias.unsigned_abs())).min(1 << 31);
            largest as f64 * f64::from(factor) < f64::from(1 << 30)
        })
    }
}

impl Panels {
    /// The first channel of some blocks, and that behind the last.
    pub(super) fn channels(&self, blocks: &std::ops::Range<usize>) -> (usize, usize) {
        let blocks = &self.blocks[blocks.clone()];
        let first = blocks.first().map_or(0, |block| block.first);
        (first, blocks.last().map_or(first, |block| block.first + block.channels))
    }

    /// Blocks, and weights with those that fill them up.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.blocks.len(), self.weights.len())
    }

    pub(super) fn pack(scheme: &Scheme, product: &Product<'_>) -> Panels {
        let Product { n, taps, k, .. } = *product;
        let groups = k.next_multiple_of(scheme.depth) / 4;
        let parts = (scheme.split)(n.div_ceil(scheme.lanes));
        let mut blocks = Vec::with_capacity(parts.len());
        let (mut first, mut weights, mut lanes) = (0, 0, 0);
        for vectors in parts {
            let channels = (n - first).min(vectors * scheme.lanes);
            blocks.push(Block { first, channels, vectors, weights, lanes });
            first += channels;
            lanes += vectors * scheme.lanes;
            weights += vectors * scheme.lanes * taps * groups * 4;
        }
        let mut panels = Panels {
            taps,
            depth: groups * 4,
            blocks,
            weights: Aligned::zeros(weights),
            bias: Aligned::zeros(lanes),
            factors: Aligned::zeros(lanes),
        };
        for block in panels.blocks.clone() {
            let channel = |vector: usize, lane: usize| {
                let at = if scheme.interleave {
                    channel_of(block.vectors, scheme.lanes, vector, lane)
                } else {
                    vector * scheme.lanes + lane
                };
                block.first + at
            };
            let mut at = block.weights;
            for (tap, group) in (0..taps).flat_map(|tap| (0..groups).map(move |group| (tap, group))) {
                for vector in 0..block.vectors {
                    let fours =
                        (0..scheme.lanes).map(|lane| product.group(channel(vector, lane), tap, group));
                    for (lane, four) in fours.enumerate() {
                        panels.weights[at + lane * 4..][..4].copy_from_slice(&four);
                    }
                    at += scheme.lanes * 4;
                }
            }
            for vector in 0..block.vectors {
                for lane in 0..scheme.lanes {
                    let n = channel(vector, lane);
                    if n < product.n {
                        let at = block.lanes + vector * scheme.lanes + lane;
                        panels.bias[at] = product.bias[n];
                        panels.factors[at] = product.factors[n];
                    }
                }
            }
        }
        panels
    }
}

impl Panels {
    /// Replaces the weights over `k` inputs, laid out for f32 stores, by the bytes `b` less 128, `steps` from one channel to
    /// the next and from one input to the next, one of which is 1; biases take the zero point of the input out, and all
    /// channels get `factor`.
    pub(super) fn fill(
        &mut self,
        isa: Isa,
        k: usize,
        b: &[u8],
        steps: [usize; 2],
        input_zero_point: u8,
        factor: f32,
    ) {
        let panels = self;
        if steps[1] == 1 {
            let step = steps[0];
            per_tier!(isa, fill_rows(panels: &mut Panels, k: usize, b: &[u8], step: usize));
        } else {
            let step = steps[1];
            per_tier!(isa, fill_columns(panels: &mut Panels, k: usize, b: &[u8], step: usize));
        }
        let zero_point = -i32::from(input_zero_point);
        panels.bias.iter_mut().for_each(|bias| *bias = bias.wrapping_mul(zero_point));
        panels.factors.fill(factor);
    }

    /// i32 lanes of a vector.
    fn lanes(&self) -> usize {
        self.bias.len() / self.blocks.iter().map(|block| block.vectors).sum::<usize>().max(1)
    }
}

/// Four bytes less 128.
#[inline(always)]
fn signed(four: [u8; 4]) -> [i8; 4] {
    four.map(|byte| (byte ^ 0x80) as i8)
}

/// Weights whose inputs are consecutive, `step` from one channel to the next; biases become the sums of weights.
#[inline(always)]
fn fill_rows(panels: &mut Panels, k: usize, b: &[u8], step: usize) {
    let lanes = panels.lanes();
    let Panels { blocks, weights, bias, .. } = panels;
    for block in blocks.iter() {
        let next = block.vectors * lanes * 4;
        for channel in 0..block.channels {
            let row = &b[(block.first + channel) * step..][..k];
            let (fours, rest) = row.as_chunks::<4>();
            let weights = &mut weights[block.weights + channel * 4..];
            let groups = weights.chunks_mut(next);
            for (to, four) in groups.zip(fours) {
                to[..4].copy_from_slice(&signed(*four));
            }
            if !rest.is_empty() {
                let to = &mut weights[fours.len() * next..];
                to.iter_mut().zip(rest).for_each(|(to, byte)| *to = (byte ^ 0x80) as i8);
            }
            let sum: i32 = row.iter().map(|byte| i32::from(*byte)).sum();
            bias[block.lanes + channel] = sum - 128 * k as i32;
        }
    }
}

/// Weights whose channels are consecutive, `step` from one input to the next; biases become the sums of weights.
#[inline(always)]
fn fill_columns(panels: &mut Panels, k: usize, b: &[u8], step: usize) {
    let lanes = panels.lanes();
    let Panels { blocks, weights, bias, .. } = panels;
    for block in blocks.iter() {
        let next = block.vectors * lanes * 4;
        let sums = &mut bias[block.lanes..][..block.channels];
        sums.fill(-128 * k as i32);
        for (group, to) in weights[block.weights..].chunks_mut(next).take(k.div_ceil(4)).enumerate() {
            let (to, _) = to.as_chunks_mut::<4>();
            let rows = 4.min(k - 4 * group);
            let row = |i: usize| &b[(4 * group + i) * step + block.first..][..block.channels];
            if rows == 4 {
                let [first, second, third, fourth] = [row(0), row(1), row(2), row(3)];
                for (c, (to, sum)) in to.iter_mut().zip(sums.iter_mut()).enumerate() {
                    let four = [first[c], second[c], third[c], fourth[c]];
                    *to = signed(four);
                    *sum += four.iter().map(|byte| i32::from(*byte)).sum::<i32>();
                }
            } else {
                for i in 0..rows {
                    for ((to, byte), sum) in to.iter_mut().zip(row(i)).zip(sums.iter_mut()) {
                        to[i] = (byte ^ 0x80) as i8;
                        *sum += i32::from(*byte);
                    }
                }
            }
        }
    }
}

/// Writes two weights as i16 in native byte order.
pub(super) fn put_i16(to: &mut [i8], pair: [i8; 2]) {
    for (to, w) in to.chunks_exact_mut(2).zip(pair) {
        to.copy_from_slice(&i16::from(w).to_ne_bytes().map(|byte| byte as i8));
    }
}

/// The channel within a block that lane `lane` of vector `vector` accumulates, such that saturating packs of
/// 4 vectors, of the first 2 of 3, or of 2 give bytes in channel order. A vector on its own stays in order.
pub(super) fn channel_of(vectors: usize, lanes: usize, vector: usize, lane: usize) -> usize {
    let packed = match vectors {
        4 => 4,
        2 | 3 if vector < 2 => 2,
        _ => return vector * lanes + lane,
    };
    4 * packed * (lane / 4) + 4 * vector + lane % 4
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_of_a_block_has_its_own_channel() {
        for (vectors, lanes) in [(1, 16), (2, 16), (3, 16), (4, 16), (1, 8), (2, 8)] {
            let mut channels: Vec<_> = (0..vectors)
                .flat_map(|vector| (0..lanes).map(move |lane| channel_of(vectors, lanes, vector, lane)))
                .collect();
            channels.sort_unstable();
            assert!(channels.iter().copied().eq(0..vectors * lanes), "{vectors} x {lanes}");
        }
    }
}
