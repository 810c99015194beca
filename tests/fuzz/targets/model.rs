//! See `entries::model`.
#![no_main]

#[path = "../entries.rs"]
#[allow(dead_code)]
mod entries;

libfuzzer_sys::fuzz_target!(init: entries::quiet(), |bytes: &[u8]| entries::model(bytes));
