#![no_main]
//! Tokenizer from arbitrary bytes: `tokenizer.json`, or the metadata of a GGUF file.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pare_format::tokenizer::fuzz(bytes));
