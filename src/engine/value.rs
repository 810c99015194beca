//! Tensors that go into and come out of a [`Runner`](super::Runner).

use ndarray::{ArrayD, ArrayViewD};
use tract_onnx::prelude::*;

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

    /// The tensor as an array.
    pub fn view(&self) -> ArrayViewD<'_, f32> {
        let shape = if self.as_slice().is_empty() { &[0][..] } else { self.shape() };
        ArrayViewD::from_shape(shape, self.as_slice()).unwrap_or_else(|_| {
            ArrayViewD::from_shape(ndarray::IxDyn(&[0]), &[]).unwrap_or_else(|_| unreachable!())
        })
    }
}

impl From<ArrayD<f32>> for Value {
    fn from(array: ArrayD<f32>) -> Value {
        Value(Tensor::from(array).into_tvalue())
    }
}
