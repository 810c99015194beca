//! See `entries::run_file`.
#![no_main]

#[path = "../entries.rs"]
#[allow(dead_code)]
mod entries;

libfuzzer_sys::fuzz_target!(init: entries::quiet(), |bytes: &[u8]| entries::run_file(bytes));
