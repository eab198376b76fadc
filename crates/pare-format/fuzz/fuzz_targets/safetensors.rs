//! `cargo +nightly fuzz run safetensors -- -dict=safetensors.dict`

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pare_format::fuzz::safetensors(bytes));
