//! Any bytes as a recipe: an error or a recipe that holds what the engine relies on, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| pare_engine::recipe::fuzz(bytes));
