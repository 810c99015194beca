//! calib8 makes neural networks fast on CPUs: it calibrates a trained FP32 ONNX model to INT8,
//! measures how much faster it became, and shows image by image where its predictions changed.
//!
//! As a library, [`Session`] runs any ONNX file, and [`Package`] opens what `calib8 export` made; the rest is what the command `calib8` is made of.
//!
//! The rooms of the house, in the order in which data moves through them; a room may use the rooms
//! above it, never those below (`tests/house.rs` holds it):
//!
//! | room | what it knows |
//! |---|---|
//! | [`kernels`] | INT8 primitives, one file per instruction set; the only `unsafe` |
//! | [`model`] | ONNX in and out: read, check, inspect, simplify, write; no engine |
//! | [`dataset`] | images and labels to arrays; no model |
//! | [`engine`] | run a model |
//! | [`measure`] | throughput, latency, comparison and its statistics |
//! | [`report`] | the three accuracy reports and their files |
//! | [`quantize`] | observe activations, choose ranges, correct, write the INT8 model |
//! | [`project`] | files on disk: atomic writes, locks, hashes, manifests |
//! | [`run`] | one piece of work: plan, events, worker, gates |
//! | [`cli`] | the command line |
//! | [`tui`] | the workbench in the terminal; never runs a model |

pub mod cli;
pub mod dataset;
pub mod engine;
pub mod kernels;
pub mod measure;
pub mod model;
pub mod progress;
pub mod project;
pub mod quantize;
pub mod report;
pub mod run;
pub mod tui;

pub use engine::OwnedSession as Session;
pub use ndarray;
pub use run::package::Package;
