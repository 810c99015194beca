//! From matched steps to island nodes: levels, buffers, and the layouts that save a copy.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::program::{Conv, Operand, OutputPort, Program, Stem, Step, StepOp};
use super::qdq::Qdq;
use super::{Draft, Fate, ISLAND};
use crate::model::pb::attribute_proto::AttributeType;
use crate::model::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Rebuilds the graph with `fates[i]` applied to node `i`.
pub(super) fn build(qdq: &Qdq, fates: Vec<Fate>) -> GraphProto {
    let levels = levels(qdq, &fates);
    let mut islands: BTreeMap<usize, Vec<Draft>> = BTreeMap::new();
    let mut kept: BTreeMap<usize, Vec<NodeProto>> = BTreeMap::new();
    let nodes = qdq.graph.node.iter().zip(fates).zip(&levels.of_node);
    for ((node, fate), level) in nodes {
        match fate {
            Fate::Gone => {}
            Fate::Kept => kept.entry(*level).or_default().push(node.clone()),
            Fate::Step(draft) => islands.entry(*level).or_default().push(*draft),
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

struct Levels {
    of_node: Vec<usize>,
}

/// The number of islands behind each node. An FP32 result has the level of the last island before
/// it; a step over FP32 inputs starts the next one.
fn levels(qdq: &Qdq, fates: &[Fate]) -> Levels {
    let mut of_tensor: HashMap<&str, usize> = HashMap::new();
    let mut of_node = Vec::with_capacity(fates.len());
    for (node, fate) in qdq.graph.node.iter().zip(fates) {
        let of = |name: &str| of_tensor.get(name).copied().unwrap_or(0);
        let level = match fate {
            Fate::Gone => 0,
            Fate::Kept => node.input.iter().map(|i| of(i)).max().unwrap_or(0),
            Fate::Step(draft) => {
                let enters = matches!(draft.op, StepOp::Quantize { .. });
                draft.inputs.iter().map(|i| of(i) + usize::from(enters)).max().unwrap_or(0)
            }
        };
        match fate {
            Fate::Gone => {}
            Fate::Kept => of_tensor.extend(node.output.iter().map(|o| (o.as_str(), level))),
            Fate::Step(_) => {
                // A step writes what its last node wrote: the node at this position.
                of_tensor.extend(node.output.iter().map(|o| (o.as_str(), level)));
            }
        }
        of_node.push(level);
    }
    Levels { of_node }
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
        for draft in drafts {
            island.push(qdq, draft, &joined, &is_outside);
        }
        island.program.inputs = island.inputs.len();
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
        let enters = matches!(draft.op, StepOp::Quantize { .. });
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
        if let (StepOp::ToChannelsFirst { pixels: 1, .. }, [Operand::Buffer(same)]) = (&draft.op, &inputs[..])
        {
            // The same bytes under another shape: no step at all.
            self.buffer_of.insert(draft.output.clone(), *same);
            self.store_if(is_outside(&draft.output), &draft.output, *same);
            return;
        }
        let leaves = draft.op.leaves();
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

    /// The buffer of a u8 tensor; one made by an earlier island is loaded from a port.
    fn input_buffer(&mut self, qdq: &Qdq, name: &str) -> usize {
        if let Some(buffer) = self.buffer_of.get(name) {
            return *buffer;
        }
        let len = qdq.shapes.get(name).map_or(0, |s| s.iter().product());
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
            name: format!("int8_island_{level}"),
            input: names(&self.inputs),
            output: names(&self.outputs),
            attribute: vec![program, constants],
            ..Default::default()
        }
    }
}

/// Bytes that a step writes.
fn output_len(op: &StepOp) -> usize {
    match op {
        StepOp::Quantize { batch, channels, height, width, stem: None, .. } => {
            batch * channels * height * width
        }
        StepOp::Quantize { batch, height, width, stem: Some(stem), .. } => {
            let [top, left, bottom, right] = stem.pad;
            batch * (height + top + bottom) * (width + left + right) * 4
        }
        StepOp::Conv(conv) => conv.batch * conv.window.out_pixels() * conv.out_stride,
        StepOp::Gemm { m, n, .. } => m * n,
        StepOp::Add { len, .. } | StepOp::Lookup { len } => *len,
        StepOp::MaxPool { batch, channels, window } | StepOp::AveragePool { batch, channels, window, .. } => {
            batch * channels * window.out_pixels()
        }
        StepOp::GlobalAveragePool { batch, channels, .. } => batch * channels,
        StepOp::Concat { pixels, channels, .. } => pixels * channels.iter().sum::<usize>(),
        StepOp::ToChannelsFirst { batch, channels, pixels }
        | StepOp::Dequantize { batch, channels, pixels, .. } => batch * channels * pixels,
    }
}

/// Gives images of at most 4 channels that only one ordinary convolution reads the layout of
/// [`Stem`].
fn lay_out_stems(drafts: &mut [Draft], is_outside: &dyn Fn(&str) -> bool) {
    for producer in 0..drafts.len() {
        let StepOp::Quantize { channels: 1..=4, height: 2.., .. } = drafts[producer].op else { continue };
        let name = drafts[producer].output.clone();
        let readers: Vec<usize> = (0..drafts.len()).filter(|d| drafts[*d].inputs.contains(&name)).collect();
        let [reader] = readers[..] else { continue };
        let StepOp::Conv(conv) = &drafts[reader].op else { continue };
        if is_outside(&name) || conv.group != 1 || conv.window.dilation[1] != 1 || conv.window.is_pointwise()
        {
            continue;
        }
        let stem = Some(stem_of(conv));
        if let StepOp::Conv(conv) = &mut drafts[reader].op {
            conv.stem = stem;
        }
        if let StepOp::Quantize { stem: of_image, .. } = &mut drafts[producer].op {
            *of_image = stem;
        }
    }
}

fn stem_of(conv: &Conv) -> Stem {
    let window = conv.window;
    let reach = |axis: usize, out: usize| {
        (out - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1
    };
    let bottom = reach(0, window.out_height).saturating_sub(window.in_height + window.pad_top);
    let right = reach(1, window.out_width).saturating_sub(window.in_width + window.pad_left);
    Stem { pad: [window.pad_top, window.pad_left, bottom, right] }
}

/// Lets convolutions write straight into the concatenation that alone reads them, where scales
/// agree. Returns for each such tensor the concatenation's output and its length in bytes.
fn concatenated_in_place(
    drafts: &mut [Draft],
    is_outside: &dyn Fn(&str) -> bool,
) -> HashMap<String, (String, usize)> {
    let mut joined = HashMap::new();
    for at in 0..drafts.len() {
        let StepOp::Concat { pixels, channels, quants, out, .. } = drafts[at].op.clone() else { continue };
        let whole = drafts[at].output.clone();
        let total: usize = channels.iter().sum();
        let inputs = drafts[at].inputs.clone();
        let mut in_place = vec![false; inputs.len()];
        for (slot, input) in inputs.iter().enumerate() {
            let uses = drafts.iter().flat_map(|d| &d.inputs).filter(|i| *i == input).count();
            let Some(producer) = drafts[..at].iter().position(|d| d.output == *input) else { continue };
            let StepOp::Conv(conv) = &mut drafts[producer].op else { continue };
            if uses != 1
                || is_outside(input)
                || quants[slot] != out
                || conv.is_depthwise()
                || conv.out_stride != conv.out_channels
            {
                continue;
            }
            conv.out_stride = total;
            conv.out_offset = channels[..slot].iter().sum();
            in_place[slot] = true;
            joined.insert(input.clone(), (whole.clone(), pixels * total));
        }
        if let StepOp::Concat { in_place: marks, .. } = &mut drafts[at].op {
            *marks = in_place;
        }
    }
    joined
}
