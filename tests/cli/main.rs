//! The command line from outside: exit codes, messages, and what is left on disk. Everything here runs
//! the binary on files of `fixtures/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bad_datasets;
mod bad_models;
mod cache;
mod commands;
mod datasets;
mod detached;
mod determinism;
mod engines;
mod escapes;
mod faults;
mod journey;
mod kills;
mod memory;
mod methods;
#[path = "../support/model.rs"]
mod model;
mod not_finite;
mod output;
mod packages;
mod projects;
mod queue;
mod runs;
mod shards;
mod slurm;
mod slurm_words;
mod stopping;
mod support;
mod turns;
mod usage;
