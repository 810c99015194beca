//! Weights in the order in which the products of this tier walk over them.

use super::super::buffer::Aligned;
use super::super::layout::{Product, channel_of};
use super::LANES;
use super::pairs::{GROUP, NONE, pair_up};

/// Four inputs of one tap, in the order in which they are paired.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Step {
    /// First of the sixteen inputs from which the four are selected.
    pub at: u32,
    /// Which of these; no input where the highest bit is set.
    pub select: [u8; 4],
}

/// The weights of a step's inputs, one for each channel; none where there is no input.
type Line = [Vec<i8>; 4];

/// Channels `first..first + channels` of a product, in `vectors` vectors.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub first: usize,
    pub channels: usize,
    pub vectors: usize,
    /// Where its steps start, `counts[tap]` of them for each tap.
    pub steps: usize,
    pub counts: Vec<u32>,
    /// Where its weights start: `[step][vector][lane][4]`.
    pub weights: usize,
    /// Where its biases and factors start.
    pub lanes: usize,
}

/// The packed weights, biases and factors of a product.
#[derive(Debug)]
pub(in super::super) struct Panels {
    pub(super) taps: usize,
    pub(super) k: usize,
    pub(super) blocks: Vec<Block>,
    pub(super) steps: Vec<Step>,
    pub(super) weights: Aligned<i8>,
    pub(super) bias: Aligned<i32>,
    pub(super) factors: Aligned<f32>,
}

/// Vectors of a block.
const VECTORS: usize = 2;

impl Panels {
    /// The first channel of some blocks, and that behind the last.
    pub(in super::super) fn channels(&self, blocks: &std::ops::Range<usize>) -> (usize, usize) {
        let blocks = &self.blocks[blocks.clone()];
        let first = blocks.first().map_or(0, |block| block.first);
        (first, blocks.last().map_or(first, |block| block.first + block.channels))
    }

    /// Blocks, and weights with those that fill them up.
    pub(in super::super) fn size(&self) -> (usize, usize) {
        (self.blocks.len(), self.weights.len())
    }

    /// `interleave`: channels lie in lanes as a byte store wants them.
    pub(in super::super) fn pack(product: &Product<'_>, interleave: bool) -> Panels {
        let Product { n, taps, k, .. } = *product;
        let mut panels = Panels {
            taps,
            k,
            blocks: vec![],
            steps: vec![],
            weights: Aligned::zeros(0),
            bias: Aligned::zeros(n.next_multiple_of(LANES)),
            factors: Aligned::zeros(n.next_multiple_of(LANES)),
        };
        let (mut first, mut weights) = (0, 0);
        let mut lines = vec![];
        while first < n {
            let vectors = (n - first).div_ceil(LANES).min(VECTORS);
            let channels = (n - first).min(vectors * LANES);
            let steps = panels.steps.len();
            let counts =
                (0..taps).map(|tap| panels.add_steps(product, first..first + channels, tap, &mut lines));
            let counts: Vec<u32> = counts.collect();
            panels.blocks.push(Block { first, channels, vectors, steps, counts, weights, lanes: first });
            weights += (panels.steps.len() - steps) * vectors * LANES * 4;
            first += channels;
        }
        panels.weights = Aligned::zeros(weights);
        for block in panels.blocks.clone() {
            panels.fill(product, &block, &lines, interleave);
        }
        panels
    }

    /// Appends the steps of one tap for a block's channels, and to `lines` their weights; returns how many they are.
    fn add_steps(
        &mut self,
        product: &Product<'_>,
        channels: std::ops::Range<usize>,
        tap: usize,
        lines: &mut Vec<Line>,
    ) -> u32 {
        let Product { taps, k, weights, .. } = *product;
        let before = self.steps.len();
        for at in (0..k).step_by(GROUP) {
            let inputs: Vec<Vec<i8>> = (at..(at + GROUP).min(k))
                .map(|input| channels.clone().map(|n| weights[(n * taps + tap) * k + input]).collect())
                .collect();
            for two in pair_up(&inputs).chunks(2) {
                let mut step = Step { at: at as u32, select: [NONE; 4] };
                let mut line = Line::default();
                let factors = two.iter().zip([0, 2]);
                let factors = factors.flat_map(|((a, b), at)| [(at, Some(a)), (at + 1, b.as_ref())]);
                for (at, factor) in factors.filter_map(|(at, factor)| Some((at, factor?))) {
                    step.select[at] = factor.input;
                    line[at].clone_from(&factor.weights);
                }
                self.steps.push(step);
                lines.push(line);
            }
        }
        (self.steps.len() - before) as u32
    }

    fn fill(&mut self, product: &Product<'_>, block: &Block, lines: &[Line], interleave: bool) {
        let n = product.n;
        let lanes = block.vectors * LANES;
        let channel = |lane: usize| {
            let in_block =
                if interleave { channel_of(block.vectors, LANES, lane / LANES, lane % LANES) } else { lane };
            block.first + in_block
        };
        for lane in (0..lanes).filter(|lane| channel(*lane) < n) {
            self.bias[block.lanes + lane] = product.bias[channel(lane)];
            self.factors[block.lanes + lane] = product.factors[channel(lane)];
        }
        let steps = block.counts.iter().map(|count| *count as usize).sum();
        let packed = self.weights[block.weights..].chunks_exact_mut(lanes * 4);
        for (line, packed) in lines[block.steps..].iter().take(steps).zip(packed) {
            for (lane, four) in packed.chunks_exact_mut(4).enumerate() {
                for (w, weights) in four.iter_mut().zip(line) {
                    *w = weights.get(channel(lane) - block.first).copied().unwrap_or(0);
                }
            }
        }
    }
}
