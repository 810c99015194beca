//! An engine session without an engine, for the tests of this room.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::engine::{Begin, EngineError, Layer, Precision, Runner, Session, TensorInfo, Value};

/// What goes wrong in every inference.
#[derive(Debug, Clone, Copy)]
pub enum Mishap {
    Error,
    Panic,
}

/// A session that does nothing and counts it. Its layers take the times it is given.
#[derive(Debug, Default)]
pub struct Fake {
    mishap: Option<Mishap>,
    layers: Vec<Layer>,
    layer_times: Vec<Duration>,
    runs: std::sync::Arc<AtomicUsize>,
    spawned: AtomicUsize,
    threads: AtomicUsize,
}

impl Fake {
    pub fn with(mishap: Mishap) -> Fake {
        Fake { mishap: Some(mishap), ..Fake::default() }
    }

    /// A model whose layers take so many microseconds each.
    pub fn with_layers(layers: &[(&str, u64)]) -> Fake {
        let layer = |(name, _): &(&str, u64)| Layer {
            name: (*name).into(),
            kind: "Conv".into(),
            precision: Precision::Fp32,
            macs: 7,
        };
        Fake {
            layers: layers.iter().map(layer).collect(),
            layer_times: layers.iter().map(|(_, time)| Duration::from_micros(*time)).collect(),
            ..Fake::default()
        }
    }

    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Threads of the stream that was spawned last.
    pub fn threads(&self) -> usize {
        self.threads.load(Ordering::SeqCst)
    }

    pub fn spawned(&self) -> usize {
        self.spawned.load(Ordering::SeqCst)
    }
}

impl Session for Fake {
    fn inputs(&self) -> &[TensorInfo] {
        &[]
    }
    fn outputs(&self) -> &[TensorInfo] {
        &[]
    }
    fn layers(&self) -> &[Layer] {
        &self.layers
    }
    fn spawn(&self) -> Result<Box<dyn Runner>, EngineError> {
        self.spawned.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(FakeRunner {
            mishap: self.mishap,
            layer_times: self.layer_times.clone(),
            runs: self.runs.clone(),
        }))
    }
    fn spawn_team(&self, threads: usize, _begin: Begin) -> Result<Box<dyn Runner>, EngineError> {
        self.threads.store(threads, Ordering::SeqCst);
        self.spawn()
    }
}

struct FakeRunner {
    mishap: Option<Mishap>,
    layer_times: Vec<Duration>,
    runs: std::sync::Arc<AtomicUsize>,
}

impl Runner for FakeRunner {
    fn run(&mut self, _inputs: &[Value]) -> Result<Vec<Value>, EngineError> {
        match self.mishap {
            Some(Mishap::Error) => {
                return Err(EngineError::Run { engine: "fake", what: "no luck".into() });
            }
            Some(Mishap::Panic) => unreachable!("the test wants it"),
            None => {}
        }
        self.runs.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }

    fn profile(&mut self, inputs: &[Value], times: &mut [Duration]) -> Result<Vec<Value>, EngineError> {
        let outputs = self.run(inputs)?;
        for (time, layer) in times.iter_mut().zip(&self.layer_times) {
            *time += *layer;
        }
        Ok(outputs)
    }
}
