//! The engine on the real model against transformers, and on tiny models against its own promises.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod as_read;
mod biases;
mod export;
mod fingerprints;
mod forms;
mod fuzz_recipe;
mod gguf_files;
mod impossible;
mod inspecting;
mod jobs;
mod merging;
mod mixed;
mod orders;
mod proofs;
mod read_types;
mod real_model;
mod recipes;
mod rewriting;
mod shrinking;
mod side_files;
mod texts;
mod tiny;
mod written;
