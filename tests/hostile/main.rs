//! Files of others that are damaged or made to do harm: whatever they hold, what reads them comes back with a
//! result or an error, within a limit of memory.
//!
//! `damage` tries many small changes of good files, from fixed seeds; `CALIB8_HOSTILE=20000` tries more of them.
//! `models` and `images` hold the cases that people have thought of. What is done with the bytes is in
//! `tests/fuzz/entries.rs`, which the fuzz targets share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod branches;
mod constants;
mod damage;
#[path = "../fuzz/entries.rs"]
mod entries;
mod images;
mod limits;
#[path = "../support/model.rs"]
mod model;
mod models;
mod windows;
