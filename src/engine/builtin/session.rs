//! A tract plan behind the [`Session`] trait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;
use tract_onnx::tract_core;

use super::island::{self, Island};
use super::lower::{self, Unfused};
use super::program::StepOp;
use crate::engine::{EngineError, Layer, LoadOptions, Precision, Runner, Session, TensorInfo, Value};
use crate::model::{Model, pb, shapes};

const ENGINE: &str = "builtin";

pub(super) struct BuiltinSession {
    plan: Arc<TypedSimplePlan>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    layers: Layers,
}

impl BuiltinSession {
    pub(super) fn load(model: &Model, options: &LoadOptions) -> Result<BuiltinSession, EngineError> {
        // Asked for here, so that a wrong CALIB8_ISA is an error whatever the model holds.
        crate::kernels::Isa::from_env()?;
        let shapes = shapes::input_shapes(model, options.batch)?;
        let refused = |e: TractError| EngineError::Load {
            engine: ENGINE,
            model: model.path.display().to_string(),
            what: format!("{e:#}"),
        };
        let (proto, _) = lowered(model, options)?;
        let mut onnx = onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        island::register(&mut onnx);
        let mut inference = onnx.model_for_proto_model(&proto).map_err(refused)?;
        for (i, shape) in shapes.iter().enumerate() {
            inference.set_input_fact(i, f32::fact(shape.as_slice()).into()).map_err(refused)?;
        }
        let typed = inference.into_optimized().map_err(refused)?;
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
        let layers = Layers::new(&plan, &proto);
        Ok(BuiltinSession { plan, inputs, outputs, layers })
    }
}

/// The graph that tract is given, and what of a quantized model stays FP32.
pub(super) fn lowered(
    model: &Model,
    options: &LoadOptions,
) -> Result<(pb::ModelProto, Vec<Unfused>), EngineError> {
    let mut proto = model.proto.clone();
    if let Some(graph) = proto.graph.as_mut() {
        let extra = options.extra_outputs.iter();
        graph.output.extend(extra.map(|n| pb::ValueInfoProto { name: n.clone(), ..Default::default() }));
        if !lower::is_quantized(graph) {
            return Ok((proto, Vec::new()));
        }
    }
    let shapes = shapes::infer(model, options.batch)?;
    let lowered = lower::lower(&proto, &shapes);
    Ok((lowered.proto, lowered.unfused))
}

/// The layers of a plan, and where the time of each of its nodes goes.
#[derive(Clone)]
struct Layers {
    layers: Arc<Vec<Layer>>,
    /// By node of the plan: its layer, or the first of its layers if it is an island.
    of_node: Arc<HashMap<usize, usize>>,
}

impl Layers {
    fn new(plan: &TypedSimplePlan, proto: &pb::ModelProto) -> Layers {
        let origins: HashMap<&str, &str> = proto
            .graph
            .iter()
            .flat_map(|g| &g.node)
            .filter(|n| !n.name.is_empty())
            .map(|n| (n.name.as_str(), n.op_type.as_str()))
            .collect();
        let mut layers: Vec<Layer> = Vec::new();
        let mut of_node = HashMap::new();
        for id in plan.order_without_consts() {
            let node = &plan.model().nodes()[*id];
            if let Some(island) = node.op.downcast_ref::<Island>() {
                of_node.insert(*id, layers.len());
                layers.extend(island.program().steps.iter().map(|step| Layer {
                    name: step.name.clone(),
                    kind: step.kind.clone(),
                    precision: match step.op {
                        StepOp::Quantize { .. } | StepOp::Dequantize { .. } => Precision::Border,
                        _ => Precision::Int8,
                    },
                    macs: step.macs,
                }));
                continue;
            }
            if node.op.name() == "Source" {
                continue;
            }
            let (name, kind) = origin(&node.name, &origins).unwrap_or((&node.name, ""));
            let kind = if kind.is_empty() { node.op.name().to_string() } else { kind.to_string() };
            let known = layers.iter().position(|l| l.name == name && l.precision == Precision::Fp32);
            let layer = known.unwrap_or_else(|| {
                layers.push(Layer { name: name.to_string(), kind, precision: Precision::Fp32, macs: 0 });
                layers.len() - 1
            });
            of_node.insert(*id, layer);
        }
        Layers { layers: Arc::new(layers), of_node: Arc::new(of_node) }
    }
}

/// The ONNX node that a node of tract's plan was made from: tract appends `.part` to its name, once
/// or more.
fn origin<'a>(name: &'a str, origins: &HashMap<&'a str, &'a str>) -> Option<(&'a str, &'a str)> {
    let mut prefix = name;
    loop {
        if let Some((name, kind)) = origins.get_key_value(prefix) {
            return Some((name, kind));
        }
        prefix = &prefix[..prefix.rfind('.')?];
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
        let state = self.plan.spawn().map_err(failed)?;
        Ok(Box::new(BuiltinRunner { state, inputs: self.inputs.clone(), layers: self.layers.clone() }))
    }
}

struct BuiltinRunner {
    state: TypedSimpleState,
    inputs: Vec<TensorInfo>,
    layers: Layers,
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
        Ok(self.state.run(inputs).map_err(failed)?.into_iter().map(Value).collect())
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
            self.state.run_plan_with_eval(inputs, |ctx, state, node, inputs| {
                let start = Instant::now();
                let result = tract_core::plan::eval(ctx, state, node, inputs);
                if !node.op.is::<Island>()
                    && let Some(layer) = of_node.get(&node.id)
                {
                    add(*layer, start.elapsed());
                }
                result
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
