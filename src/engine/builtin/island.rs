//! The tract operator that runs an island.
//!
//! All buffers of an island lie in one arena that belongs to the stream's state, so an inference
//! allocates nothing but the island's outputs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::infer::InferenceOp;
use tract_onnx::tract_hir::internal::{Expansion, InferenceResult, Solver, TensorProxy, expand};

use super::arena::{self, Layout};
use super::float::FloatOp;
use super::kernel::{self, Kernel};
use super::program::{Operand, Program, Step, StepOp};
use super::split;
use crate::engine::{Elements, Shown};
use crate::kernels::{Aligned, Isa, SLACK, Team, bytes_mut, floats, floats_mut};
use crate::model::graph;
use crate::model::pb::NodeProto;

thread_local! {
    /// While a stream of this thread is being profiled: the time of each step, by node of the plan.
    static PROFILE: RefCell<Option<HashMap<usize, Vec<Duration>>>> = const { RefCell::new(None) };
}

/// Runs `work` and returns, for each island by its node in the plan, the time of each of its steps.
pub(super) fn profiled<T>(work: impl FnOnce() -> T) -> (T, HashMap<usize, Vec<Duration>>) {
    PROFILE.with_borrow_mut(|p| *p = Some(HashMap::new()));
    let result = work();
    let times = PROFILE.with_borrow_mut(Option::take).unwrap_or_default();
    (result, times)
}

/// A program with its packed weights; shared by all streams.
#[derive(Debug, Clone)]
pub(super) struct Island(Arc<Prepared>);

#[derive(Debug)]
struct Prepared {
    program: Program,
    kernels: Vec<Kernel>,
    layout: Layout,
    isa: Isa,
}

impl PartialEq for Island {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Island {}

impl Island {
    pub(super) fn program(&self) -> &Program {
        &self.0.program
    }

    /// Reads the node that lowering wrote and packs its weights.
    fn parse(node: &NodeProto) -> TractResult<Island> {
        let json = graph::attribute(node, "program").context("an island without a program")?;
        let program: Program = serde_json::from_slice(&json.s)?;
        let constants = graph::attribute(node, "constants").map_or(&[][..], |a| a.tensors.as_slice());
        let isa = Isa::from_env()?;
        kernel::check(&program).map_err(|e| format_err!("{e}"))?;
        let prepared = program.steps.iter().map(|step| {
            kernel::prepare(step, constants, isa).map_err(|e| format_err!("node '{}': {e}", step.name))
        });
        let kernels = prepared.collect::<TractResult<Vec<Kernel>>>()?;
        let layout = arena::layout(&program, SLACK);
        Ok(Island(Arc::new(Prepared { program, kernels, layout, isa })))
    }
}

/// Registers the island with tract's ONNX reader.
pub(super) fn register(onnx: &mut tract_onnx::Onnx) {
    onnx.op_register.insert(super::lower::ISLAND, |_, node| {
        let op: Box<dyn InferenceOp> = expand(Island::parse(node)?);
        Ok((op, vec![]))
    });
}

impl Expansion for Island {
    fn name(&self) -> StaticName {
        "Island".into()
    }
    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.program.outputs.len())
    }
    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        _inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        for (proxy, fact) in outputs.iter().zip(self.facts()) {
            solver.equals(&proxy.datum_type, fact.datum_type)?;
            solver.equals(&proxy.shape, fact.shape.to_tvec())?;
        }
        Ok(())
    }
    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Island {
    fn facts(&self) -> impl Iterator<Item = TypedFact> + '_ {
        self.0.program.outputs.iter().map(|port| {
            let datum_type = if port.bytes { u8::datum_type() } else { f32::datum_type() };
            datum_type.fact(port.shape.as_slice())
        })
    }
}

impl Op for Island {
    fn name(&self) -> StaticName {
        "Island".into()
    }
    op_as_typed_op!();
}

impl TypedOp for Island {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.facts().collect())
    }
    as_op!();
}

impl EvalOp for Island {
    not_out_of_plan!();

    fn state(&self, _ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        Ok(Some(Box::new(Arena(Aligned::zeros(self.0.layout.len)))))
    }
}

/// The buffers of one stream.
#[derive(Debug, Clone)]
pub(super) struct Arena(Aligned<u8>);

impl OpState for Arena {
    fn reset_lanes(&mut self, _lanes: &[LaneId]) -> TractResult<()> {
        Ok(())
    }

    fn eval(&mut self, ctx: &EvalContext, op: &dyn Op, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.run(ctx, op, inputs, None)
    }
}

/// What looks at the results of an island where they lie.
pub(super) struct Watcher<'a> {
    /// The ports that nothing but the caller reads.
    pub ports: &'a [usize],
    /// Called with the port, its elements and shape.
    pub see: &'a mut dyn FnMut(usize, Shown<'_>),
}

impl Watcher<'_> {
    /// Whether `step` only brings a buffer into the layout of a port that this watches.
    fn spares(&self, step: &Step) -> bool {
        let op = matches!(step.op, StepOp::Float(FloatOp::Export { .. }) | StepOp::Dequantize { .. });
        matches!(step.output, Operand::Port(port) if op && self.ports.contains(&port))
    }

    fn show(&mut self, step: &Step, port: usize, shape: &[usize], buffer: &[u8]) {
        let len: usize = shape.iter().product();
        let elements = match step.op {
            StepOp::Dequantize { quant, .. } => {
                let (scale, zero_point) = (quant.scale, quant.zero_point);
                Elements::U8 { values: &buffer[..len], scale, zero_point }
            }
            _ => Elements::F32(&floats(buffer)[..len]),
        };
        (self.see)(port, Shown { elements, shape, channels_last: shape.len() == 4 });
    }
}

impl Arena {
    /// One inference. Of the outputs that `watcher` was shown nothing is left but an empty tensor.
    pub(super) fn run(
        &mut self,
        ctx: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
        mut watcher: Option<Watcher<'_>>,
    ) -> TractResult<TVec<TValue>> {
        let island = op.downcast_ref::<Island>().context("an island's state met another operator")?;
        let Prepared { program, kernels, layout, isa } = &*island.0;
        let arena = &mut self.0[..];
        let spared: TVec<usize> = match &watcher {
            Some(watcher) => {
                let steps = program.steps.iter().filter(|step| watcher.spares(step));
                steps
                    .filter_map(|s| if let Operand::Port(port) = s.output { Some(port) } else { None })
                    .collect()
            }
            None => TVec::new(),
        };
        let mut outputs: TVec<Tensor> = TVec::new();
        for (port, fact) in island.facts().enumerate() {
            let shape = fact.shape.as_concrete().context("an island with symbolic shapes")?;
            let shape = if spared.contains(&port) { &[0] } else { shape };
            outputs.push(Tensor::zero_dt(fact.datum_type, shape)?);
        }
        let range = |buffer: usize| {
            let start = layout.offsets[buffer];
            start..start + program.buffers[buffer] + SLACK
        };
        for (port, buffer) in &program.loads {
            let view = inputs[*port].try_as_plain_ram()?;
            let bytes = view.as_slice::<u8>()?;
            arena[range(*buffer)][..bytes.len()].copy_from_slice(bytes);
        }
        let team = split::team();
        let mut profile = PROFILE.with_borrow(|p| p.as_ref().map(|_| Vec::with_capacity(kernels.len())));
        for (step, kernel) in program.steps.iter().zip(kernels) {
            let start = profile.is_some().then(Instant::now);
            match (step.output, &step.inputs[..]) {
                (Operand::Buffer(out), [Operand::Port(port)]) => {
                    let view = inputs[*port].try_as_plain_ram()?;
                    let team = team.as_deref().filter(|_| split::is_worth(0, program.buffers[out]));
                    kernel::enter(&step.op, *isa, team, view.as_slice::<f32>()?, &mut arena[range(out)]);
                }
                (Operand::Port(port), [Operand::Buffer(input)]) if spared.contains(&port) => {
                    if let Some(watcher) = &mut watcher {
                        watcher.show(step, port, &program.outputs[port].shape, &arena[range(*input)]);
                    }
                }
                (Operand::Port(port), [Operand::Buffer(input)]) if step.op.leaves() => {
                    let mut view = outputs[port].try_as_plain_ram_mut()?;
                    kernel::to_f32(
                        &step.op,
                        kernel,
                        *isa,
                        team.as_deref().filter(|_| split::is_worth(step.macs, 0)),
                        &arena[range(*input)],
                        view.as_slice_mut::<f32>()?,
                    );
                }
                (Operand::Buffer(out), sources) => {
                    let sources = sources
                        .iter()
                        .filter_map(|o| if let Operand::Buffer(b) = o { Some(range(*b)) } else { None });
                    let sources = sources.collect::<TVec<_>>();
                    run_step(step, kernel, *isa, team.as_deref(), arena, &sources, range(out))?;
                }
                (Operand::Port(port), sources) => {
                    let sources = sources
                        .iter()
                        .filter_map(|o| if let Operand::Buffer(b) = o { arena.get(range(*b)) } else { None });
                    let sources = sources.collect::<TVec<_>>();
                    if sources.is_empty() {
                        bail!("step '{}' connects ports", step.name);
                    }
                    let mut view = outputs[port].try_as_plain_ram_mut()?;
                    let out = bytes_mut(view.as_slice_mut::<f32>()?);
                    run_or_split(step, kernel, *isa, team.as_deref(), &sources, out);
                }
            }
            if let (Some(profile), Some(start)) = (profile.as_mut(), start) {
                profile.push(start.elapsed());
            }
        }
        for (buffer, port) in &program.stores {
            let mut view = outputs[*port].try_as_plain_ram_mut()?;
            let bytes = view.as_slice_mut::<u8>()?;
            let len = bytes.len();
            bytes.copy_from_slice(&arena[range(*buffer)][..len]);
        }
        if let Some(times) = profile {
            PROFILE.with_borrow_mut(|p| p.as_mut().map(|p| p.insert(ctx.node_id, times)));
        }
        Ok(outputs.into_iter().map(|t| t.into_tvalue()).collect())
    }
}

fn run_or_split(
    step: &Step,
    kernel: &Kernel,
    isa: Isa,
    team: Option<&Team>,
    inputs: &[&[u8]],
    out: &mut [u8],
) {
    if !team.is_some_and(|team| split::run(team, step, kernel, isa, inputs, out)) {
        kernel::run(&step.op, kernel, isa, inputs, out);
    }
}

fn run_step(
    step: &Step,
    kernel: &Kernel,
    isa: Isa,
    team: Option<&Team>,
    arena: &mut [u8],
    sources: &[Range<usize>],
    out: Range<usize>,
) -> TractResult<()> {
    if let (StepOp::Concat { pixels, channels, in_place, .. }, Kernel::Tables(tables)) = (&step.op, kernel) {
        let total: usize = channels.iter().sum();
        let mut first = 0;
        for (slot, source) in sources.iter().enumerate() {
            if !in_place[slot] {
                let [x, to] = arena.get_disjoint_mut([source.clone(), out.clone()])?;
                let table = tables[slot].as_deref();
                crate::kernels::copy_channels(isa, x, *pixels, channels[slot], table, to, total, first);
            }
            first += channels[slot];
        }
        return Ok(());
    }
    if let StepOp::Float(FloatOp::Concat { pixels, channels, in_place }) = &step.op {
        let total: usize = channels.iter().sum();
        let mut first = 0;
        for (slot, source) in sources.iter().enumerate() {
            if !in_place[slot] {
                let [x, to] = arena.get_disjoint_mut([source.clone(), out.clone()])?;
                let (x, to) = (floats(x), floats_mut(to));
                crate::kernels::copy_channels_f32(x, *pixels, channels[slot], to, total, first);
            }
            first += channels[slot];
        }
        return Ok(());
    }
    // Inputs may be one buffer; none shares bytes with the output.
    let (low, rest) = arena.split_at_mut(out.start);
    let (to, high) = rest.split_at_mut(out.len());
    let source = |range: &Range<usize>| match range.end <= out.start {
        true => low.get(range.clone()),
        false => range.start.checked_sub(out.end).and_then(|start| high.get(start..range.end - out.end)),
    };
    let inputs: Option<TVec<&[u8]>> = sources.iter().map(source).collect();
    match inputs {
        Some(inputs) if !inputs.is_empty() => run_or_split(step, kernel, isa, team, &inputs, to),
        Some(_) => bail!("step '{}' reads nothing", step.name),
        None => bail!("step '{}' reads what it writes", step.name),
    }
    Ok(())
}
