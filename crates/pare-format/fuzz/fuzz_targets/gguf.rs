#![no_main]
//! GGUF header from arbitrary bytes.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pare_format::gguf::fuzz(bytes));
