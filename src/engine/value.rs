//! Tensors that go into and come out of a [`Runner`](super::Runner).

use ndarray::{ArrayD, IxDyn};
use tract_onnx::prelude::*;

use super::Shown;

/// An f32 tensor that is cheap to clone, so that an input can be kept and fed many times.
#[derive(Debug, Clone)]
pub struct Value(pub(super) TValue);

impl Value {
    /// Shape of the tensor.
    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// The elements in C order; empty if the tensor is not f32.
    pub fn as_slice(&self) -> &[f32] {
        self.0.try_as_plain_ram().and_then(|v| v.as_slice::<f32>()).unwrap_or(&[])
    }

    /// The tensor for a look.
    pub fn shown(&self) -> Shown<'_> {
        Shown::in_order(self.as_slice(), self.shape())
    }

    /// A copy as an array; empty if the tensor is not f32.
    pub fn to_array(&self) -> ArrayD<f32> {
        let view = self.0.to_plain_array_view::<f32>();
        view.map_or_else(|_| ArrayD::default(IxDyn(&[0])), |view| view.to_owned())
    }
}

impl From<ArrayD<f32>> for Value {
    fn from(array: ArrayD<f32>) -> Value {
        Value(Tensor::from(array).into_tvalue())
    }
}
