//! A tract plan behind the [`Session`] trait.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;
use tract_onnx::tract_core;

use super::island::{self, Arena, Island, Watcher};
use super::layers::Layers;
use super::lower::{self, Unfused};
use super::split;
use crate::engine::{Begin, EngineError, Layer, LoadOptions, Runner, Session, Shown, TensorInfo, Value};
use crate::kernels::Team;
use crate::model::qoperator;
use crate::model::shapes::{self, Shapes};
use crate::model::simplify::simplify;
use crate::model::{Model, ModelError, pb};

const ENGINE: &str = "builtin";

pub(super) struct BuiltinSession {
    plan: Arc<TypedSimplePlan>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    layers: Layers,
    watched: Arc<Watched>,
}

/// By node of the plan the outputs of an island that only the caller reads: the number of each, by port.
type Watched = HashMap<usize, Vec<(usize, usize)>>;

impl BuiltinSession {
    pub(super) fn load(model: &Model, options: &LoadOptions) -> Result<BuiltinSession, EngineError> {
        // Asked for here, so that a wrong CALIB8_ISA is an error whatever the model holds.
        crate::kernels::Isa::from_env()?;
        crate::kernels::keep_freed_memory();
        let shapes = shapes::input_shapes(model, options.batch)?;
        let refused = |e: TractError| EngineError::Load {
            engine: ENGINE,
            model: model.path.display().to_string(),
            what: format!("{e:#}"),
        };
        let Prepared { proto, shapes: of_tensors, .. } = lowered(model, options)?;
        let typed = shapes::guarded(|| optimized(model, &proto, &shapes)).map_err(refused)?;
        let named = |name: &str, shape: &[usize]| TensorInfo { name: name.into(), shape: shape.to_vec() };
        let inputs = model.inputs().iter().zip(&shapes).map(|(p, s)| named(&p.name, s)).collect();
        let mut outputs = Vec::new();
        let names = proto.graph.iter().flat_map(|g| &g.output).map(|o| o.name.clone());
        for (outlet, name) in typed.output_outlets().map_err(refused)?.to_vec().into_iter().zip(names) {
            let fact = typed.outlet_fact(outlet).map_err(refused)?;
            let shape = fact.shape.as_concrete().ok_or_else(|| EngineError::Load {
                engine: ENGINE,
                model: model.path.display().to_string(),
                what: format!("output '{name}' has the symbolic shape {:?}", fact.shape),
            })?;
            outputs.push(named(&name, shape));
        }
        let plan = typed.into_runnable().map_err(refused)?;
        let layers = Layers::new(&plan, &proto, &of_tensors);
        let watched = Arc::new(watched(plan.model()).map_err(refused)?);
        Ok(BuiltinSession { plan, inputs, outputs, layers, watched })
    }
}

fn watched(plan: &TypedModel) -> TractResult<Watched> {
    let mut watched = Watched::new();
    let outlets = plan.output_outlets()?;
    for (number, outlet) in outlets.iter().enumerate() {
        let node = plan.node(outlet.node);
        let alone = node.outputs[outlet.slot].successors.is_empty();
        if alone && node.op.is::<Island>() && outlets.iter().filter(|o| *o == outlet).count() == 1 {
            watched.entry(outlet.node).or_default().push((outlet.slot, number));
        }
    }
    Ok(watched)
}

/// The plan's model: `proto`, which was made of `model`, with its inputs fixed to `shapes`.
fn optimized(model: &Model, proto: &pb::ModelProto, shapes: &[Vec<usize>]) -> TractResult<TypedModel> {
    let mut onnx = onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    island::register(&mut onnx);
    let mut inference = onnx.model_for_proto_model(proto)?;
    for (i, shape) in shapes.iter().enumerate() {
        inference.set_input_fact(i, f32::fact(shape.as_slice()).into())?;
    }
    model.measure(&mut inference);
    inference.into_optimized()
}

/// A model on its way to tract.
pub(super) struct Prepared {
    /// The graph that tract is given.
    proto: pb::ModelProto,
    /// Shapes of the model's tensors.
    shapes: Shapes,
    /// What of a quantized model stays FP32.
    pub unfused: Vec<Unfused>,
}

impl Prepared {
    /// Types of the operators that are left to tract and compute something.
    pub fn in_tract(&self) -> Vec<String> {
        let shapes_only = |op: &str| {
            matches!(op, "Constant" | "Identity" | "Shape" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze")
        };
        let nodes = self.proto.graph.iter().flat_map(|graph| &graph.node).map(|node| node.op_type.as_str());
        nodes.filter(|op| *op != lower::ISLAND && !shapes_only(op)).map(str::to_owned).collect()
    }
}

/// Simplifies and lowers `model`. With extra outputs it stays as it is, since these may be tensors that
/// simplifying removes.
pub(super) fn lowered(model: &Model, options: &LoadOptions) -> Result<Prepared, EngineError> {
    let model = qoperator::as_qdq(model);
    let simplified = if options.extra_outputs.is_empty() { simplify(&model).ok() } else { None };
    let model = simplified.as_ref().map_or(&*model, |s| &s.model);
    let is_quantized = model.proto.graph.iter().flat_map(|g| &g.node).any(|n| n.op_type == "QuantizeLinear");
    let shapes = match shapes::infer(model, options.batch) {
        Err(e @ ModelError::Unholdable { .. }) => return Err(e.into()),
        // Without shapes tract may still run an FP32 graph, on its own.
        Err(_) if !is_quantized => Shapes::default(),
        shapes => shapes?,
    };
    let mut proto = model.proto.clone();
    if let Some(graph) = proto.graph.as_mut() {
        let extra = options.extra_outputs.iter();
        graph.output.extend(extra.map(|n| pb::ValueInfoProto { name: n.clone(), ..Default::default() }));
    }
    let lowered = lower::lower(&proto, &shapes);
    Ok(Prepared { proto: lowered.proto, shapes, unfused: lowered.unfused })
}

impl BuiltinSession {
    fn runner(&self, team: Option<Arc<Team>>) -> Result<BuiltinRunner, EngineError> {
        let state = self.plan.spawn().map_err(failed)?;
        let (inputs, layers, watched) = (self.inputs.clone(), self.layers.clone(), self.watched.clone());
        Ok(BuiltinRunner { state, team, inputs, layers, watched })
    }
}

impl Session for BuiltinSession {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }
    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }
    fn layers(&self) -> &[Layer] {
        &self.layers.layers
    }
    fn spawn(&self) -> Result<Box<dyn Runner>, EngineError> {
        Ok(Box::new(self.runner(None)?))
    }
    fn spawn_team(&self, threads: usize, begin: Begin) -> Result<Box<dyn Runner>, EngineError> {
        let team = Team::new(threads, move |number| begin(number)).map_err(|e| EngineError::Run {
            engine: ENGINE,
            what: format!("{threads} threads can't be had: {e}"),
        })?;
        Ok(Box::new(self.runner(Some(Arc::new(team)))?))
    }
}

struct BuiltinRunner {
    state: TypedSimpleState,
    /// The threads that compute an inference together, if it is not this one alone.
    team: Option<Arc<Team>>,
    inputs: Vec<TensorInfo>,
    layers: Layers,
    watched: Arc<Watched>,
}

impl BuiltinRunner {
    fn check(&self, inputs: &[Value]) -> Result<TVec<TValue>, EngineError> {
        for (i, info) in self.inputs.iter().enumerate() {
            let got = inputs.get(i).map_or(&[][..], |v| v.shape());
            if got != info.shape {
                let (name, got, expected) = (info.name.clone(), got.to_vec(), info.shape.clone());
                return Err(EngineError::Input { name, got, expected });
            }
        }
        Ok(inputs.iter().map(|v| v.0.clone()).collect())
    }
}

impl Runner for BuiltinRunner {
    fn run(&mut self, inputs: &[Value]) -> Result<Vec<Value>, EngineError> {
        let inputs = self.check(inputs)?;
        let outputs = split::with_team(self.team.as_ref(), || self.state.run(inputs));
        Ok(outputs.map_err(failed)?.into_iter().map(Value).collect())
    }

    fn watch(&mut self, inputs: &[Value], see: &mut dyn FnMut(usize, Shown<'_>)) -> Result<(), EngineError> {
        let inputs = self.check(inputs)?;
        let watched = self.watched.clone();
        let mut shown = HashSet::new();
        let state = &mut self.state;
        let outputs = split::with_team(self.team.as_ref(), || {
            state.run_plan_with_eval(inputs, |ctx, mut state, node, inputs| {
                let ports = watched.get(&node.id).map_or(&[][..], Vec::as_slice);
                let arena = state.as_deref_mut().and_then(|state| state.downcast_mut::<Arena>());
                let Some(arena) = arena.filter(|_| !ports.is_empty()) else {
                    return tract_core::plan::eval(ctx, state, node, inputs);
                };
                let mut see = |port: usize, tensor: Shown<'_>| {
                    for (_, number) in ports.iter().filter(|(slot, _)| *slot == port) {
                        shown.insert(*number);
                        see(*number, tensor);
                    }
                };
                let ports: Vec<usize> = ports.iter().map(|(slot, _)| *slot).collect();
                arena.run(ctx, node.op(), inputs, Some(Watcher { ports: &ports, see: &mut see }))
            })
        });
        for (number, output) in outputs.map_err(failed)?.into_iter().map(Value).enumerate() {
            if !shown.contains(&number) {
                see(number, output.shown());
            }
        }
        Ok(())
    }

    fn profile(&mut self, inputs: &[Value], times: &mut [Duration]) -> Result<Vec<Value>, EngineError> {
        let inputs = self.check(inputs)?;
        let of_node = self.layers.of_node.clone();
        let mut add = |layer: usize, time: Duration| {
            if let Some(total) = times.get_mut(layer) {
                *total += time;
            }
        };
        let (outputs, islands) = island::profiled(|| {
            let state = &mut self.state;
            split::with_team(self.team.as_ref(), || {
                state.run_plan_with_eval(inputs, |ctx, state, node, inputs| {
                    let start = Instant::now();
                    let result = tract_core::plan::eval(ctx, state, node, inputs);
                    if !node.op.is::<Island>()
                        && let Some(layer) = of_node.get(&node.id)
                    {
                        add(*layer, start.elapsed());
                    }
                    result
                })
            })
        });
        for (node, steps) in islands {
            if let Some(first) = of_node.get(&node) {
                steps.into_iter().enumerate().for_each(|(i, time)| add(first + i, time));
            }
        }
        Ok(outputs.map_err(failed)?.into_iter().map(Value).collect())
    }
}

fn failed(e: TractError) -> EngineError {
    EngineError::Run { engine: ENGINE, what: format!("{e:#}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{ArrayD, IxDyn};

    use super::*;

    /// In C order.
    fn ordered(tensor: &Shown) -> Vec<f32> {
        let values = tensor.values().into_owned();
        if !tensor.channels_last {
            return values;
        }
        let [batch, channels, height, width] = *tensor.shape else { panic!("{:?}", tensor.shape) };
        let last = ArrayD::from_shape_vec(IxDyn(&[batch, height, width, channels]), values).unwrap();
        last.permuted_axes(IxDyn(&[0, 3, 1, 2])).iter().copied().collect()
    }

    /// Watches what nodes of `op_types`, or of all if there are none, give out.
    fn watched_as_run(file: &str, op_types: &[&str]) {
        let file = format!("{}/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
        let model = Model::load(file.as_ref()).unwrap();
        let given: Vec<String> = model.outputs().into_iter().map(|port| port.name).collect();
        let index = crate::model::graph::Index::new(model.graph());
        let computed = |node: &&pb::NodeProto| {
            let is_meant = op_types.is_empty() || op_types.contains(&node.op_type.as_str());
            is_meant && index.producer(&node.input[0]).is_some()
        };
        let made = model.graph().node.iter().filter(computed).flat_map(|node| &node.output);
        let extra_outputs: Vec<String> = made.filter(|name| !given.contains(name)).cloned().collect();
        let session =
            BuiltinSession::load(&model, &LoadOptions { extra_outputs, ..LoadOptions::default() }).unwrap();
        assert!(session.watched.values().map(Vec::len).sum::<usize>() > 2, "nothing is spared");
        let shape = session.inputs()[0].shape.clone();
        let image = ArrayD::from_shape_fn(IxDyn(&shape), |at| {
            ((at[1] * 7 + at[2] * 3 + at[3] * 5) % 13) as f32 / 6.5 - 1.0
        });
        let input = [Value::from(image)];
        let mut runner = session.spawn().unwrap();
        let expected = runner.run(&input).unwrap();
        let mut seen = BTreeMap::new();
        let mut see = |number: usize, tensor: Shown<'_>| {
            assert_eq!(tensor.shape, expected[number].shape());
            assert!(seen.insert(number, ordered(&tensor)).is_none(), "{number} came twice");
        };
        runner.watch(&input, &mut see).unwrap();
        assert_eq!(seen.len(), expected.len());
        for (number, expected) in expected.iter().enumerate() {
            assert_eq!(seen[&number], expected.as_slice(), "{}", session.outputs()[number].name);
        }
        // What was watched is given out by the next run.
        let again = runner.run(&input).unwrap();
        assert!(again.iter().zip(&expected).all(|(a, b)| a.as_slice() == b.as_slice()));
    }

    #[test]
    fn whoever_watches_sees_each_output_once_as_a_run_gives_it_out() {
        watched_as_run("tiny/tiny.onnx", &[]);
        watched_as_run("golden/tiny.ort.qdq.onnx", &["DequantizeLinear"]);
    }
}
