//! tract's analysis of a graph, with a look at what a node makes before it is made.
//!
//! tract computes what depends on constants only while it looks for shapes, and whatever comes of it: a file of a
//! kilobyte can ask for more than any machine has, by a shape, by the outer product of two vectors, or by forty
//! tensors of a gigabyte. Shapes follow from rules that compute nothing, so each operator is wrapped in a
//! [`Measured`], which asks these rules first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tract_onnx::ops::logic::If;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::optim::CONST_FOLD_MEM_BUDGET;
use tract_onnx::tract_hir::infer::{Factoid, InferenceOp};
use tract_onnx::tract_hir::internal::{InferenceModelPatch, InferenceNode};
use tract_onnx::tract_hir::ops::scan::InferenceScan;

use super::sizes::{self, Excess, TooMuch};
use super::windows::{self, Window};

/// What tract says of the inputs, the outputs and the observed tensors of a node.
type Inferred = (TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>);

/// Makes the analysis of `model` fail, before anything is computed, where one tensor takes more than
/// [`sizes::MOST_BYTES`], where those that constants alone determine take more than `room` bytes together, or where a
/// window breaks a limit of [`windows`]. The error has a [`TooMuch`] in its chain.
pub(crate) fn measure(model: &mut InferenceModel, room: u64) {
    wrap(model, &Arc::new(Account { room, taken: AtomicU64::new(0), windows: AtomicU64::new(0) }));
}

/// What constants make in the whole graph, its branches and loops included.
#[derive(Debug)]
struct Account {
    room: u64,
    taken: AtomicU64,
    /// Bytes of all windows.
    windows: AtomicU64,
}

/// What is known of the outputs of one node; shared by the copies that tract makes of an operator.
#[derive(Debug, Default)]
struct Made {
    /// Whether they depend on constants only.
    constant: AtomicBool,
    /// Bytes of them in the account.
    counted: AtomicU64,
    /// Bytes of the window in the account.
    window: AtomicU64,
}

/// An operator that is not computed where that would take too much.
#[derive(Debug, Clone)]
struct Measured {
    inner: Box<dyn InferenceOp>,
    node: String,
    window: Window,
    inputs: Vec<Arc<Made>>,
    made: Arc<Made>,
    account: Arc<Account>,
}

fn wrap(model: &mut InferenceModel, account: &Arc<Account>) {
    let made: Vec<Arc<Made>> = model
        .nodes
        .iter()
        .map(|node| Arc::new(Made { constant: node.op_is::<Const>().into(), ..Made::default() }))
        .collect();
    for (node, own) in model.nodes.iter_mut().zip(&made) {
        if node.op_is::<Const>() || InferenceModel::is_source(&node.op) {
            continue;
        }
        if let Some(branches) = node.op_as_mut::<If>() {
            wrap(&mut branches.then_body, account);
            wrap(&mut branches.else_body, account);
        }
        if let Some(scan) = node.op_as_mut::<InferenceScan>() {
            wrap(&mut scan.body, account);
        }
        node.op = Box::new(Measured {
            window: Window::of(node.op.as_ref()),
            inner: node.op.clone(),
            node: node.name.clone(),
            inputs: node.inputs.iter().map(|from| made[from.node].clone()).collect(),
            made: own.clone(),
            account: account.clone(),
        });
    }
}

impl Measured {
    /// Whether `outputs` can be held.
    fn check(&self, inputs: &[InferenceFact], outputs: &[InferenceFact]) -> TractResult<()> {
        let known = |(made, fact): (&Arc<Made>, &InferenceFact)| {
            made.constant.load(Ordering::Relaxed) || fact.value.is_concrete()
        };
        // A node without inputs that is no constant draws random numbers.
        let constant = !inputs.is_empty() && self.inputs.iter().zip(inputs).all(known);
        let mut all = 0u64;
        for fact in outputs {
            let (bytes, shape) = (bytes(fact), shape(fact).unwrap_or_default());
            if bytes > sizes::MOST_BYTES {
                return Err(self.too_much(shape, bytes, Excess::Tensor));
            }
            all += bytes;
            if constant {
                let before = self.made.counted.fetch_max(all, Ordering::Relaxed);
                let more = all.saturating_sub(before);
                let taken = self.account.taken.fetch_add(more, Ordering::Relaxed) + more;
                if taken > self.account.room {
                    return Err(self.too_much(shape, taken, Excess::Constants { room: self.account.room }));
                }
            }
        }
        self.made.constant.fetch_or(constant, Ordering::Relaxed);
        self.check_window(inputs, outputs, constant)
    }

    /// Whether its window can be held, and gone through.
    fn check_window(
        &self,
        inputs: &[InferenceFact],
        outputs: &[InferenceFact],
        constant: bool,
    ) -> TractResult<()> {
        let made = outputs.first().and_then(shape).unwrap_or_default();
        let cost = self.window.cost(&made, |input| shape(inputs.get(input)?));
        let before = self.made.window.fetch_max(cost.bytes, Ordering::Relaxed);
        let more = cost.bytes.saturating_sub(before);
        let bytes = self.account.windows.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if bytes > windows::MOST_BYTES {
            return Err(self.too_much(made, bytes, Excess::Windows));
        }
        let most = windows::most_work(constant);
        if cost.products > most {
            return Err(self.too_much(made, 0, Excess::Work { products: cost.products, most }));
        }
        Ok(())
    }

    fn too_much(&self, shape: Vec<usize>, bytes: u64, excess: Excess) -> TractError {
        let op_type = self.inner.as_op().name().into_owned();
        TractError::new(TooMuch { node: self.node.clone(), op_type, shape, bytes, excess })
    }
}

/// The shape, where all of it is known.
fn shape(fact: &InferenceFact) -> Option<Vec<usize>> {
    let dims = fact.shape.concretize()?;
    dims.iter().map(|dim| dim.to_usize().ok()).collect()
}

/// Bytes that a tensor takes, 0 where its shape is not known; those of the widest type where its type is not.
fn bytes(fact: &InferenceFact) -> u64 {
    let size = fact.datum_type.concretize().map_or(size_of::<f64>(), |of| of.size_of()) as u64;
    shape(fact).map_or(0, |shape| shape.iter().fold(size, |bytes, side| bytes.saturating_mul(*side as u64)))
}

/// Whether tract would compute `outputs` of these inputs only to drop them, as they are too large to be kept as
/// constants. Where no rule gives the shape it depends on values: at most an index into each input for each of its
/// elements (`NonZero`).
fn is_dropped(inputs: &[InferenceFact], outputs: &[InferenceFact]) -> bool {
    let given: u64 = inputs.iter().map(bytes).fold(0, u64::saturating_add);
    let indices = |fact: &InferenceFact| {
        let shape = shape(fact).unwrap_or_default();
        let index = size_of::<i64>().saturating_mul(shape.len()) as u64;
        shape.iter().fold(index, |bytes, side| bytes.saturating_mul(*side as u64))
    };
    let at_most = |fact: &InferenceFact| match shape(fact) {
        Some(_) => bytes(fact),
        None => inputs.iter().map(indices).fold(0, u64::saturating_add),
    };
    outputs.iter().map(at_most).fold(0, u64::saturating_add) > given.max(CONST_FOLD_MEM_BUDGET)
}

impl InferenceOp for Measured {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Inferred> {
        let inferred = self.infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
        if is_dropped(&inferred.0, &inferred.1) {
            return Ok(inferred);
        }
        self.inner.infer(inputs, outputs, observed)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<Inferred> {
        let inferred = self.inner.infer_facts(inputs, outputs, observed)?;
        self.check(&inferred.0, &inferred.1)?;
        Ok(inferred)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.inner.observe_outlets(model, node)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.inner.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.inner.nboutputs()
    }

    // Whoever asks what the operator is gets what is inside.
    fn as_op(&self) -> &dyn Op {
        self.inner.as_op()
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.inner.as_op_mut()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        self.inner.to_typed(source, node, target, mapping)
    }
}

impl Op for Measured {
    fn name(&self) -> StaticName {
        self.inner.as_op().name()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        self.inner.as_op().as_typed()
    }
}

impl EvalOp for Measured {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.inner.eval(context, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.inner.eval_out_of_plan(inputs)
    }

    fn state(&self, context: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.inner.state(context)
    }
}

impl PartialEq for Measured {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.made, &other.made)
    }
}
impl Eq for Measured {}
