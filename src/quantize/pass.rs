//! An INT8 model on its way through its layers, on a fixed number of images.
//!
//! Layers run as models of their own (see `cut`). Between them tensors are kept that are no larger than what they are
//! made from, such as what a bottleneck ends in; what lies between two of these is computed anew for each layer that
//! needs it, which takes less than bringing wide tensors out of the engine and in again.

use std::collections::{BTreeSet, HashMap};

use super::cut::Cutter;
use super::threads::on_threads;
use super::{Placement, QuantizeError};
use crate::engine::builtin::Builtin;
use crate::engine::{Engine, LoadOptions, Session, Shown, Value};
use crate::model::shapes::Shapes;
use crate::model::{Model, pb};

/// No more layers with weights than this are computed anew for one of them.
const MOST_LAYERS: usize = 6;

/// The INT8 model and what it has computed.
pub(super) struct Pass<'a> {
    /// May be changed behind the tensors that were kept so far.
    pub model: Model,
    inputs: &'a [Value],
    threads: usize,
    /// For each tensor that is kept, by its FP32 name, the position among the placement's tensors of its last reader.
    kept: HashMap<String, usize>,
    /// Dequantized values of each image, by the tensor's FP32 name.
    values: HashMap<String, Vec<Value>>,
}

impl<'a> Pass<'a> {
    /// Before the first layer of `model`, on `inputs`; `shapes` are those of the FP32 tensors.
    pub(super) fn new(
        model: Model,
        placement: &Placement,
        shapes: &Shapes,
        inputs: &'a [Value],
        threads: usize,
    ) -> Pass<'a> {
        let cutter = Cutter::new(model.graph());
        let image = model.inputs().into_iter().next().map(|port| port.name);
        let elements = |tensor: &String| match shapes.get(tensor) {
            Some(shape) => Some(shape.iter().product::<usize>()),
            None if image.as_ref() == Some(tensor) => Some(inputs.first()?.shape().iter().product()),
            None => None,
        };
        let mut kept = HashMap::new();
        for (at, tensor) in placement.tensors.iter().enumerate() {
            let cut = cutter.cut(&cutter.dequantized(&tensor.name), &|t| kept.contains_key(t));
            let read = cut.inputs.iter().map(|(_, input)| elements(input)).sum::<Option<usize>>();
            let widens = elements(&tensor.name).zip(read).is_some_and(|(made, read)| made > read);
            for (_, input) in &cut.inputs {
                kept.entry(input.clone()).and_modify(|last| *last = at);
            }
            if !widens || cut.layers(model.graph()) >= MOST_LAYERS {
                kept.insert(tensor.name.clone(), at);
            }
        }
        // Layers whose results stay FP32 come at the end.
        let stored: BTreeSet<&str> = placement.tensors.iter().map(|t| t.name.as_str()).collect();
        for node in placement.nodes.iter().filter(|n| !stored.contains(n.output.as_str())) {
            for (_, input) in cutter.cut(&node.output, &|t| kept.contains_key(t)).inputs {
                kept.entry(input).and_modify(|last| *last = usize::MAX);
            }
        }
        Pass { model, inputs, threads, kept, values: HashMap::new() }
    }

    /// Goes on past `tensor`, the one at position `at`: keeps its values if they will be read, and forgets those that
    /// will not be any more.
    pub(super) fn go_past(&mut self, tensor: &str, at: usize) -> Result<(), QuantizeError> {
        if self.kept.get(tensor).is_some_and(|last| *last > at) {
            let result = Cutter::new(self.model.graph()).dequantized(tensor);
            let cut = self.cut(&result)?;
            let values = on_threads(self.inputs.len(), self.threads, || {
                let mut runner = cut.session.spawn()?;
                let (cut, result) = (&cut, &result);
                Ok(move |image: usize| {
                    let first = runner.run(&cut.inputs(image))?.into_iter().next();
                    first.ok_or_else(|| QuantizeError::MissingStatistics { tensor: result.clone() })
                })
            })?;
            self.values.insert(tensor.into(), values);
        }
        let kept = &self.kept;
        self.values.retain(|name, _| kept.get(name).is_some_and(|last| *last > at));
        Ok(())
    }

    /// What `take` makes of `tensor`, an FP32 name, as the INT8 model has it: for each image.
    pub(super) fn watch<T: Send>(
        &self,
        tensor: &str,
        take: impl Fn(&Shown<'_>) -> T + Sync,
    ) -> Result<Vec<T>, QuantizeError> {
        let result = Cutter::new(self.model.graph()).dequantized(tensor);
        let cut = self.cut(&result)?;
        on_threads(self.inputs.len(), self.threads, || {
            let mut runner = cut.session.spawn()?;
            let (cut, result, take) = (&cut, &result, &take);
            Ok(move |image: usize| {
                let mut taken = None;
                runner.watch(&cut.inputs(image), &mut |number, tensor| {
                    if number == 0 {
                        taken = Some(take(&tensor));
                    }
                })?;
                taken.ok_or_else(|| QuantizeError::MissingStatistics { tensor: result.clone() })
            })
        })
    }

    /// What makes `result`, a tensor of the INT8 model, from kept values.
    fn cut(&self, result: &str) -> Result<Loaded<'_>, QuantizeError> {
        let cut = Cutter::new(self.model.graph()).cut(result, &|tensor| self.kept.contains_key(tensor));
        let image = self.model.inputs().into_iter().next().map(|port| port.name);
        let source = |(_, tensor): &(String, String)| match self.values.get(tensor) {
            Some(values) => Ok(values.as_slice()),
            None if image.as_ref() == Some(tensor) => Ok(self.inputs),
            None => Err(QuantizeError::MissingStatistics { tensor: tensor.clone() }),
        };
        let sources: Vec<&[Value]> = cut.inputs.iter().map(source).collect::<Result<_, _>>()?;
        let shapes: HashMap<&str, &[usize]> = cut
            .inputs
            .iter()
            .zip(&sources)
            .filter_map(|((_, tensor), values)| Some((tensor.as_str(), values.first()?.shape())))
            .collect();
        let proto: &pb::ModelProto = &self.model.proto;
        let session = Builtin.load(&cut.model(proto, result, &shapes), &LoadOptions::default())?;
        Ok(Loaded { session, sources })
    }
}

/// A part of the model, ready to run.
struct Loaded<'a> {
    session: Box<dyn Session>,
    /// For each input the values of all images.
    sources: Vec<&'a [Value]>,
}

impl Loaded<'_> {
    fn inputs(&self, image: usize) -> Vec<Value> {
        self.sources.iter().map(|values| values[image].clone()).collect()
    }
}
