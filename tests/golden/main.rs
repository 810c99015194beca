//! Numbers of other programs, stored in `fixtures/golden/`: onnxruntime's outputs and Pillow's pixels.
//! The built-in engine and the preprocessing must give the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod engine;
mod preprocess;
mod stored;
