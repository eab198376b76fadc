#![no_main]
//! The forward pass of a model of the shape that an arbitrary `config.json` says.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pare_model::load::fuzz_config(bytes);
});
