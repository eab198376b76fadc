#![no_main]
//! The forward pass of a GGUF model from arbitrary bytes.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pare_model::load::fuzz_gguf(bytes);
});
