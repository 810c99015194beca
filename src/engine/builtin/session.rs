//! A tract plan behind the [`Session`] trait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;
use tract_onnx::tract_core;

use crate::engine::{EngineError, Layer, LoadOptions, Precision, Runner, Session, TensorInfo, Value};
use crate::model::{Model, graph, pb, shapes};

const ENGINE: &str = "builtin";

pub(super) struct BuiltinSession {
    plan: Arc<TypedSimplePlan>,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    layers: Arc<Vec<Layer>>,
    /// For each node of the plan, the layer that its time counts for.
    layer_of_node: Arc<Vec<usize>>,
}

impl BuiltinSession {
    pub(super) fn load(model: &Model, options: &LoadOptions) -> Result<BuiltinSession, EngineError> {
        let shapes = shapes::input_shapes(model, options.batch)?;
        let refused = |e: TractError| EngineError::Load {
            engine: ENGINE,
            model: model.path.display().to_string(),
            what: format!("{e:#}"),
        };
        let proto = with_extra_outputs(&model.proto, &options.extra_outputs);
        let mut inference = onnx()
            .with_ignore_output_shapes(true)
            .with_ignore_value_info(true)
            .model_for_proto_model(&proto)
            .map_err(refused)?;
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
            outputs.push(named(&name, fact.shape.as_concrete().unwrap_or(&[])));
        }
        let layers: Vec<Layer> = typed
            .nodes()
            .iter()
            .map(|n| Layer {
                name: n.name.clone(),
                kind: n.op.name().to_string(),
                precision: Precision::Fp32,
                macs: 0,
            })
            .collect();
        let layer_of_node = Arc::new((0..layers.len()).collect());
        let plan = typed.into_runnable().map_err(refused)?;
        Ok(BuiltinSession { plan, inputs, outputs, layers: Arc::new(layers), layer_of_node })
    }
}

fn with_extra_outputs(proto: &pb::ModelProto, names: &[String]) -> pb::ModelProto {
    let mut proto = proto.clone();
    if let Some(graph) = proto.graph.as_mut() {
        graph
            .output
            .extend(names.iter().map(|n| pb::ValueInfoProto { name: n.clone(), ..Default::default() }));
    }
    let _ = graph::opset(&proto);
    proto
}

impl Session for BuiltinSession {
    fn inputs(&self) -> &[TensorInfo] {
        &self.inputs
    }
    fn outputs(&self) -> &[TensorInfo] {
        &self.outputs
    }
    fn layers(&self) -> &[Layer] {
        &self.layers
    }
    fn spawn(&self) -> Result<Box<dyn Runner>, EngineError> {
        let state = self.plan.spawn().map_err(failed)?;
        Ok(Box::new(BuiltinRunner {
            state,
            inputs: self.inputs.clone(),
            layer_of_node: self.layer_of_node.clone(),
        }))
    }
}

struct BuiltinRunner {
    state: TypedSimpleState,
    inputs: Vec<TensorInfo>,
    layer_of_node: Arc<Vec<usize>>,
}

impl BuiltinRunner {
    fn check(&self, inputs: &[Value]) -> Result<TVec<TValue>, EngineError> {
        for (i, info) in self.inputs.iter().enumerate() {
            let got = inputs.get(i).map_or(&[][..], |v| v.shape());
            if got != info.shape {
                return Err(EngineError::Input {
                    name: info.name.clone(),
                    got: got.to_vec(),
                    expected: info.shape.clone(),
                });
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
        let layer_of_node = self.layer_of_node.clone();
        let timed = |ctx: &tract_core::plan::EvalContext,
                     state: Option<&mut (dyn tract_core::ops::OpState + 'static)>,
                     node: &TypedNode,
                     inputs: TVec<TValue>| {
            let start = Instant::now();
            let result = tract_core::plan::eval(ctx, state, node, inputs);
            if let Some(time) = layer_of_node.get(node.id).and_then(|l| times.get_mut(*l)) {
                *time += start.elapsed();
            }
            result
        };
        Ok(self.state.run_plan_with_eval(inputs, timed).map_err(failed)?.into_iter().map(Value).collect())
    }
}

fn failed(e: TractError) -> EngineError {
    EngineError::Run { engine: ENGINE, what: format!("{e:#}") }
}
