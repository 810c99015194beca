//! From matched steps to island nodes: levels, buffers, and the layouts that save a copy.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::float::FloatOp;
use super::super::program::{Operand, OutputPort, Program, Stem, Step, StepOp, Sum, Window, stem_pixel};
use super::qdq::Qdq;
use super::{Draft, Fate, ISLAND, float};
use crate::kernels::{Attention, ByteAttention, ByteProducts};
use crate::model::pb::attribute_proto::AttributeType;
use crate::model::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Rebuilds the graph with `fates[i]` applied to node `i`, and `imports` before the first.
pub(super) fn build(qdq: &Qdq, fates: Vec<Fate>, imports: Vec<Draft>) -> GraphProto {
    let mut levels = Levels::default();
    let mut islands: BTreeMap<usize, Vec<Draft>> = BTreeMap::new();
    let mut kept: BTreeMap<usize, Vec<NodeProto>> = BTreeMap::new();
    for draft in imports {
        islands.entry(levels.of_draft(&draft)).or_default().push(draft);
    }
    for (node, fate) in qdq.graph.node.iter().zip(fates) {
        if fate.kept {
            kept.entry(levels.of_kept(node)).or_default().push(node.clone());
        }
        for draft in fate.drafts {
            islands.entry(levels.of_draft(&draft)).or_default().push(draft);
        }
    }
    let wanted = wanted_outside(qdq, &islands, &kept);
    let last = islands.keys().chain(kept.keys()).max().copied().unwrap_or(0);
    let mut node = Vec::new();
    for level in 0..=last {
        if let Some(drafts) = islands.remove(&level) {
            node.push(Island::new(qdq, drafts, &wanted, level).into_node(level));
        }
        node.extend(kept.remove(&level).unwrap_or_default());
    }
    let read: HashSet<&str> = node.iter().flat_map(|n| &n.input).map(String::as_str).collect();
    let initializer =
        qdq.graph.initializer.iter().filter(|t| read.contains(t.name.as_str())).cloned().collect();
    let mut graph = qdq.graph.clone();
    graph.initializer = initializer;
    graph.value_info.clear();
    graph.node = node;
    graph
}

/// The number of islands behind each tensor. An FP32 result of tract's has the level of the last
/// island before it; a step over such results starts the next one.
#[derive(Default)]
struct Levels {
    of_tensor: HashMap<String, usize>,
}

impl Levels {
    fn of(&self, name: &str) -> usize {
        self.of_tensor.get(name).copied().unwrap_or(0)
    }

    fn of_kept(&mut self, node: &NodeProto) -> usize {
        let level = node.input.iter().map(|i| self.of(i)).max().unwrap_or(0);
        self.of_tensor.extend(node.output.iter().map(|o| (o.clone(), level)));
        level
    }

    fn of_draft(&mut self, draft: &Draft) -> usize {
        let enters = usize::from(draft.op.enters());
        let level = draft.inputs.iter().map(|i| self.of(i) + enters).max().unwrap_or(0);
        self.of_tensor.insert(draft.output.clone(), level);
        level
    }
}

/// For each tensor, the levels of islands that read it; `usize::MAX` stands for FP32 readers and
/// the outputs of the graph.
type Wanted = HashMap<String, HashSet<usize>>;

fn wanted_outside(
    qdq: &Qdq,
    islands: &BTreeMap<usize, Vec<Draft>>,
    kept: &BTreeMap<usize, Vec<NodeProto>>,
) -> Wanted {
    let mut wanted = Wanted::new();
    for (level, drafts) in islands {
        for input in drafts.iter().flat_map(|d| &d.inputs) {
            wanted.entry(input.clone()).or_default().insert(*level);
        }
    }
    let floats =
        kept.values().flatten().flat_map(|n| &n.input).chain(qdq.graph.output.iter().map(|o| &o.name));
    for name in floats {
        wanted.entry(name.clone()).or_default().insert(usize::MAX);
    }
    wanted
}

/// One island under construction.
struct Island {
    program: Program,
    constants: Vec<TensorProto>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    buffer_of: HashMap<String, usize>,
}

impl Island {
    fn new(qdq: &Qdq, mut drafts: Vec<Draft>, wanted: &Wanted, level: usize) -> Island {
        let is_outside =
            |name: &str| wanted.get(name).is_some_and(|levels| levels.iter().any(|l| *l != level));
        lay_out_stems(&mut drafts, &is_outside);
        let program = Program {
            steps: vec![],
            buffers: vec![],
            loads: vec![],
            stores: vec![],
            inputs: 0,
            outputs: vec![],
        };
        let mut island =
            Island { program, constants: vec![], inputs: vec![], outputs: vec![], buffer_of: HashMap::new() };
        let joined = concatenated_in_place(&mut drafts, &is_outside);
        add_in_stores(&mut drafts, &is_outside);
        for draft in drafts {
            island.push(qdq, draft, &joined, &is_outside);
        }
        island.program.inputs = island.inputs.len();
        write_to_ports(&mut island.program);
        island
    }

    fn buffer(&mut self, len: usize) -> usize {
        self.program.buffers.push(len);
        self.program.buffers.len() - 1
    }

    fn port(&mut self, name: &str) -> usize {
        if let Some(known) = self.inputs.iter().position(|i| i == name) {
            return known;
        }
        self.inputs.push(name.into());
        self.inputs.len() - 1
    }

    fn output_port(&mut self, name: &str, shape: Vec<usize>, bytes: bool) -> usize {
        self.outputs.push(name.into());
        self.program.outputs.push(OutputPort { shape, bytes });
        self.outputs.len() - 1
    }

    fn push(
        &mut self,
        qdq: &Qdq,
        draft: Draft,
        joined: &HashMap<String, (String, usize)>,
        is_outside: &dyn Fn(&str) -> bool,
    ) {
        let enters = draft.op.enters();
        let inputs: Vec<Operand> = draft
            .inputs
            .iter()
            .map(|name| {
                if enters {
                    Operand::Port(self.port(name))
                } else {
                    Operand::Buffer(self.input_buffer(qdq, name))
                }
            })
            .collect();
        let moves_nothing = match &draft.op {
            StepOp::Move { copying, .. } | StepOp::Float(FloatOp::Move { copying, .. }) => {
                copying.is_identity()
            }
            _ => false,
        };
        if let (true, [Operand::Buffer(same)]) = (moves_nothing, &inputs[..]) {
            // The same bytes under another shape: no step at all.
            self.buffer_of.insert(draft.output.clone(), *same);
            self.store_if(is_outside(&draft.output), &draft.output, *same);
            return;
        }
        let leaves = draft.op.leaves() && float::outside(&draft.output).is_none();
        let output = if leaves {
            let shape = qdq.shapes.get(&draft.output).cloned().unwrap_or_default();
            Operand::Port(self.output_port(&draft.output, shape, false))
        } else {
            let buffer = match joined.get(&draft.output) {
                Some((whole, len)) => match self.buffer_of.get(whole) {
                    Some(buffer) => *buffer,
                    None => {
                        let buffer = self.buffer(*len);
                        self.buffer_of.insert(whole.clone(), buffer);
                        buffer
                    }
                },
                None => match self.buffer_of.get(&draft.output) {
                    Some(buffer) => *buffer,
                    None => self.buffer(output_len(&draft.op)),
                },
            };
            self.buffer_of.insert(draft.output.clone(), buffer);
            self.store_if(is_outside(&draft.output), &draft.output, buffer);
            Operand::Buffer(buffer)
        };
        let constants = self.constants.len();
        self.constants.extend(draft.constants);
        let Draft { name, kind, macs, op, .. } = draft;
        self.program.steps.push(Step { name, kind, macs, inputs, output, op, constants });
    }

    /// The buffer of a tensor; one made by an earlier island is loaded from a port.
    fn input_buffer(&mut self, qdq: &Qdq, name: &str) -> usize {
        if let Some(buffer) = self.buffer_of.get(name) {
            return *buffer;
        }
        let elements = |name: &str| qdq.shapes.get(name).map_or(0, |s| s.iter().product::<usize>());
        let len =
            float::outside(name).map_or_else(|| elements(name), |name| elements(name) * size_of::<f32>());
        let buffer = self.buffer(len);
        let port = self.port(name);
        self.program.loads.push((port, buffer));
        self.buffer_of.insert(name.into(), buffer);
        buffer
    }

    fn store_if(&mut self, outside: bool, name: &str, buffer: usize) {
        if outside {
            let len = self.program.buffers[buffer];
            let port = self.output_port(name, vec![len], true);
            self.program.stores.push((buffer, port));
        }
    }

    fn into_node(self, level: usize) -> NodeProto {
        let json = serde_json::to_vec(&self.program).unwrap_or_default();
        let program = AttributeProto {
            name: "program".into(),
            s: json,
            r#type: AttributeType::String as i32,
            ..Default::default()
        };
        let constants = AttributeProto {
            name: "constants".into(),
            tensors: self.constants,
            r#type: AttributeType::Tensors as i32,
            ..Default::default()
        };
        let names = |v: &[String]| -> Vec<String> { v.to_vec() };
        NodeProto {
            op_type: ISLAND.into(),
            name: format!("island_{level}"),
            input: names(&self.inputs),
            output: names(&self.outputs),
            attribute: vec![program, constants],
            ..Default::default()
        }
    }
}

/// Results that stay in the first-level caches are added faster by a step of their own.
const LEAST_SUM_BYTES: usize = 128 * 1024;

/// Lets convolutions whose results are only added to something add it themselves, where the sum was: the other operand
/// exists by then.
fn add_in_stores(drafts: &mut Vec<Draft>, is_outside: &dyn Fn(&str) -> bool) {
    let mut at = 0;
    while at < drafts.len() {
        at += 1;
        let StepOp::Add { len, a, b, out, lo, hi } = drafts[at - 1].op else { continue };
        if len < LEAST_SUM_BYTES {
            continue;
        }
        let [first, second] = &drafts[at - 1].inputs[..] else { continue };
        let of_sum = [first.clone(), second.clone()];
        let convolution = |side: usize| {
            let tensor = &of_sum[side];
            let is_alone = drafts.iter().flat_map(|d| &d.inputs).filter(|i| *i == tensor).count() == 1;
            let position = drafts[..at - 1].iter().position(|d| d.output == *tensor)?;
            let fits = match &drafts[position].op {
                StepOp::Conv(conv) => {
                    conv.store.is_some()
                        && conv.sum.is_none()
                        && !conv.is_depthwise()
                        && conv.out_stride == conv.out_channels
                }
                _ => false,
            };
            (is_alone && fits && !is_outside(tensor)).then_some((position, side))
        };
        // The later of two: what it reads is still in the cache.
        let Some((position, side)) = [0, 1].into_iter().filter_map(convolution).max() else { continue };
        let sum = drafts.remove(at - 1);
        let mut draft = drafts.remove(position);
        if let StepOp::Conv(conv) = &mut draft.op {
            conv.sum = Some(Sum { a, b, out, lo, hi, residual_first: side == 1 });
        }
        draft.inputs.push(of_sum[1 - side].clone());
        draft.output = sum.output;
        drafts.insert(at - 2, draft);
        at -= 1;
    }
}

/// Lets the steps before exports that change nothing write to the ports themselves.
fn write_to_ports(program: &mut Program) {
    let exported = |step: &Step| match (&step.op, &step.inputs[..]) {
        (StepOp::Float(FloatOp::Export { channels, pixels, .. }), [Operand::Buffer(buffer)])
            if *channels == 1 || *pixels == 1 =>
        {
            Some(*buffer)
        }
        _ => None,
    };
    let mut at = 0;
    while at < program.steps.len() {
        at += 1;
        let Some(buffer) = exported(&program.steps[at - 1]) else { continue };
        let operand = Operand::Buffer(buffer);
        let readers = program.steps.iter().filter(|step| step.inputs.contains(&operand)).count();
        let mut writers = program.steps.iter_mut().filter(|step| step.output == operand);
        let (Some(writer), None) = (writers.next(), writers.next()) else { continue };
        // What joins buffers, or begins with a port, runs otherwise; a convolution may write into a concatenation.
        let fits = match &writer.op {
            StepOp::Float(FloatOp::Concat { .. } | FloatOp::Import { .. }) => false,
            StepOp::Float(FloatOp::Conv(conv)) => conv.out_stride == conv.out_channels,
            StepOp::Float(_) => true,
            _ => false,
        };
        let is_stored = program.stores.iter().any(|(stored, _)| *stored == buffer);
        if fits && readers == 1 && !is_stored {
            at -= 1;
            // Found above; the borrow of the writer has to end before the export goes.
            let port = program.steps[at].output;
            if let Some(writer) = program.steps.iter_mut().find(|step| step.output == operand) {
                writer.output = port;
            }
            program.steps.remove(at);
            program.buffers[buffer] = 0;
        }
    }
}

/// Bytes that a step writes.
fn output_len(op: &StepOp) -> usize {
    let element = if op.leaves() { size_of::<f32>() } else { 1 };
    let elements = match op {
        StepOp::Float(op) => return op.output_bytes(),
        StepOp::Quantize { batch, channels, height, width, stem: None, .. } => {
            batch * channels * height * width
        }
        StepOp::Quantize { batch, channels, height, width, stem: Some(stem), .. } => {
            let [top, left, bottom, right] = stem.pad;
            batch * (height + top + bottom) * (width + left + right) * stem_pixel(*channels)
        }
        StepOp::Conv(conv) => {
            let element = if conv.store.is_some() { 1 } else { size_of::<f32>() };
            conv.batch * conv.window.out_pixels() * conv.out_stride * element
        }
        StepOp::Gemm { m, n, .. } => m * n,
        StepOp::MatMul(ByteProducts { products, out, .. })
        | StepOp::Attention(ByteAttention { attention: Attention { values: products, .. }, out, .. }) => {
            products.count() * products.m * products.n * out.map_or(size_of::<f32>(), |_| 1)
        }
        StepOp::Add { len, .. } | StepOp::Lookup { len } => *len,
        StepOp::Pairs { pairing, .. } => pairing.len(),
        StepOp::MaxPool { batch, channels, window } | StepOp::AveragePool { batch, channels, window, .. } => {
            batch * channels * window.out_pixels()
        }
        StepOp::GlobalAveragePool { batch, channels, .. } => batch * channels,
        StepOp::Concat { pixels, channels, .. } => pixels * channels.iter().sum::<usize>(),
        StepOp::Move { copying, .. } => copying.len,
        StepOp::Resize { scaling, .. } => scaling.batch * scaling.out_len(),
        StepOp::Dequantize { batch, channels, pixels, .. } => batch * channels * pixels,
    };
    elements * element
}

/// Gives images of at most 4 channels that only one ordinary convolution reads the layout of
/// [`Stem`].
fn lay_out_stems(drafts: &mut [Draft], is_outside: &dyn Fn(&str) -> bool) {
    for producer in 0..drafts.len() {
        if !matches!(
            drafts[producer].op,
            StepOp::Quantize { channels: 1..=4, height: 2.., .. }
                | StepOp::Float(FloatOp::Import { channels: 1..=4, height: 2.., .. })
        ) {
            continue;
        }
        let name = drafts[producer].output.clone();
        let readers: Vec<usize> = (0..drafts.len()).filter(|d| drafts[*d].inputs.contains(&name)).collect();
        let [reader] = readers[..] else { continue };
        let (window, group, of_conv) = match &mut drafts[reader].op {
            StepOp::Conv(conv) => (conv.window, conv.group, &mut conv.stem),
            StepOp::Float(FloatOp::Conv(conv)) => (conv.window, conv.group, &mut conv.stem),
            _ => continue,
        };
        if is_outside(&name) || group != 1 || window.dilation[1] != 1 || window.is_pointwise() {
            continue;
        }
        let Some(stem) = stem_of(&window).map(Some) else { continue };
        *of_conv = stem;
        match &mut drafts[producer].op {
            StepOp::Quantize { stem: of_image, .. }
            | StepOp::Float(FloatOp::Import { stem: of_image, .. }) => {
                *of_image = stem;
            }
            _ => {}
        }
    }
}

/// Pixels of a stem's borders that are always held: of a small image they are more than the image.
const BORDERS: usize = 1 << 14;

/// The image with what windows see around it; `None` where that is mostly borders.
fn stem_of(window: &Window) -> Option<Stem> {
    let reach = |axis: usize, out: usize| {
        (out - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1
    };
    let bottom = reach(0, window.out_height).saturating_sub(window.in_height + window.pad_top);
    let right = reach(1, window.out_width).saturating_sub(window.in_width + window.pad_left);
    let (rows, columns) =
        (window.pad_top + window.in_height + bottom, window.pad_left + window.in_width + right);
    let holdable = rows.saturating_mul(columns) <= 4 * window.in_pixels() + BORDERS;
    holdable.then_some(Stem { pad: [window.pad_top, window.pad_left, bottom, right] })
}

/// Lets convolutions write straight into the concatenation that alone reads them, where the two have
/// one format. Returns for each such tensor the concatenation's output and its length in bytes.
fn concatenated_in_place(
    drafts: &mut [Draft],
    is_outside: &dyn Fn(&str) -> bool,
) -> HashMap<String, (String, usize)> {
    let mut joined = HashMap::new();
    for at in 0..drafts.len() {
        let (channels, fits): (Vec<usize>, Vec<bool>) = match &drafts[at].op {
            StepOp::Concat { channels, quants, out, .. } => {
                (channels.clone(), quants.iter().map(|q| q == out).collect())
            }
            StepOp::Float(FloatOp::Concat { channels, .. }) => (channels.clone(), vec![true; channels.len()]),
            _ => continue,
        };
        let (whole, len) = (drafts[at].output.clone(), output_len(&drafts[at].op));
        let total: usize = channels.iter().sum();
        let inputs = drafts[at].inputs.clone();
        let mut marks = vec![false; inputs.len()];
        for (slot, input) in inputs.iter().enumerate() {
            let uses = drafts.iter().flat_map(|d| &d.inputs).filter(|i| *i == input).count();
            let Some(producer) = drafts[..at].iter().position(|d| d.output == *input) else { continue };
            // A residual has the layout of the result, which is no longer that of its own buffer.
            let alone = uses == 1 && !is_outside(input) && drafts[producer].inputs.len() == 1;
            let (stride, offset) = match &mut drafts[producer].op {
                StepOp::Conv(conv) if !conv.is_depthwise() => (&mut conv.out_stride, &mut conv.out_offset),
                StepOp::Float(FloatOp::Conv(conv)) if !conv.is_depthwise() => {
                    (&mut conv.out_stride, &mut conv.out_offset)
                }
                _ => continue,
            };
            if !alone || !fits[slot] || *stride != channels[slot] {
                continue;
            }
            *stride = total;
            *offset = channels[..slot].iter().sum();
            marks[slot] = true;
            joined.insert(input.clone(), (whole.clone(), len));
        }
        if let StepOp::Concat { in_place, .. } | StepOp::Float(FloatOp::Concat { in_place, .. }) =
            &mut drafts[at].op
        {
            *in_place = marks;
        }
    }
    joined
}
