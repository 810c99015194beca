//! calib8 as a library: a model file, ready to run.

use std::path::Path;
use std::sync::Arc;

use ndarray::ArrayD;

use super::{EngineError, EngineName, Libraries, LoadOptions, Runner, TensorInfo, Value};
use crate::model::Model;

/// An ONNX model, loaded and ready to run on one thread.
///
/// Any ONNX file will do: an INT8 model that calib8, ONNX Runtime or NNCF made runs on the INT8 kernels, an FP32
/// model on the FP32 kernels and in tract. To run several streams at a time, make one
/// [`stream`](Session::stream) for each thread: they share the weights.
///
/// ```
/// use calib8::Session;
/// use calib8::ndarray::ArrayD;
///
/// let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tiny/tiny.onnx");
/// let mut session = Session::load(file)?;
/// assert_eq!(session.inputs()[0].shape, [1, 3, 16, 16]);
///
/// let image = ArrayD::<f32>::zeros(vec![1, 3, 16, 16]);
/// let scores = &session.run(&[image])?[0];
/// let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class);
/// assert!(best.is_some_and(|class| class < scores.len()));
/// # Ok::<(), calib8::engine::EngineError>(())
/// ```
pub struct Session {
    shared: Arc<dyn super::Session>,
    runner: Box<dyn Runner>,
}

impl Session {
    /// Reads `file` and loads it into the built-in engine; a symbolic batch becomes 1.
    ///
    /// # Errors
    /// The file can't be read, is no valid ONNX, or holds what the engine can't run; the message says which node.
    pub fn load(file: impl AsRef<Path>) -> Result<Session, EngineError> {
        Session::load_with(file, EngineName::Builtin, &Libraries::default(), &LoadOptions::default())
    }

    /// As [`Session::load`], on any engine and for any batch.
    ///
    /// # Errors
    /// As [`Session::load`], and where the engine can't be found or is too old.
    pub fn load_with(
        file: impl AsRef<Path>,
        engine: EngineName,
        libraries: &Libraries,
        options: &LoadOptions,
    ) -> Result<Session, EngineError> {
        let model = Model::load(file.as_ref())?;
        let shared: Arc<dyn super::Session> = engine.open(libraries)?.load(&model, options)?.into();
        let runner = shared.spawn()?;
        Ok(Session { shared, runner })
    }

    /// Name and shape of each input, in the order that [`Session::run`] takes them.
    pub fn inputs(&self) -> &[TensorInfo] {
        self.shared.inputs()
    }

    /// Name and shape of each output, in the order that [`Session::run`] gives them.
    pub fn outputs(&self) -> &[TensorInfo] {
        self.shared.outputs()
    }

    /// One inference: an array for each input, with the shapes of [`Session::inputs`].
    ///
    /// # Errors
    /// An array is missing or has another shape, or the engine failed.
    pub fn run(&mut self, inputs: &[ArrayD<f32>]) -> Result<Vec<ArrayD<f32>>, EngineError> {
        let inputs: Vec<Value> =
            inputs.iter().map(|array| Value::from(array.as_standard_layout().into_owned())).collect();
        Ok(self.runner.run(&inputs)?.iter().map(Value::to_array).collect())
    }

    /// Another stream of the same model, to be used on another thread. Weights are shared.
    ///
    /// # Errors
    /// Memory can't be had.
    pub fn stream(&self) -> Result<Session, EngineError> {
        Ok(Session { shared: self.shared.clone(), runner: self.shared.spawn()? })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("inputs", &self.inputs()).field("outputs", &self.outputs()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tiny/tiny.onnx");

    #[test]
    fn streams_give_the_same_on_their_threads() {
        let mut session = Session::load(TINY).unwrap();
        let mut stream = session.stream().unwrap();
        let image = ArrayD::from_elem(session.inputs()[0].shape.as_slice(), 0.5);
        let image_too = image.clone();
        let there = std::thread::spawn(move || stream.run(&[image_too]).unwrap()).join().unwrap();
        assert_eq!(session.run(&[image]).unwrap(), there);
    }

    #[test]
    fn a_wrong_shape_is_an_error_that_names_the_input() {
        let mut session = Session::load(TINY).unwrap();
        let name = session.inputs()[0].name.clone();
        let said = session.run(&[ArrayD::zeros(vec![1, 3, 4, 4])]).unwrap_err().to_string();
        assert!(said.contains(&name) && said.contains("[1, 3, 4, 4]"), "{said}");
        assert!(session.run(&[]).is_err());
        assert!(Session::load("/nowhere.onnx").is_err());
    }

    /// ndarray keeps the strides of whatever an array was made from.
    #[test]
    fn arrays_that_are_not_in_c_order_are_read_as_their_indices_say() {
        let mut session = Session::load(TINY).unwrap();
        let image =
            ArrayD::from_shape_fn(vec![1, 3, 16, 16], |at| (at[1] * 7 + at[2] * 3 + at[3]) as f32 / 64.0);
        let turned = image.clone().permuted_axes(vec![0, 1, 3, 2]).as_standard_layout().to_owned();
        let back = turned.permuted_axes(vec![0, 1, 3, 2]);
        assert!(!back.is_standard_layout() && back == image);
        assert_eq!(session.run(&[back]).unwrap(), session.run(&[image]).unwrap());
    }
}
