//! The program as people use it: arguments in, exit code, text and files out.
//!
//! Tests of messages and files use tiny random models and take milliseconds; those named `real_*` use the built-in model from the cache.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod catalogue;
#[cfg(feature = "hub")]
mod certificates;
mod compare;
mod compare_models;
mod documents;
mod export;
mod figures;
mod files;
mod fit;
mod generate;
mod imatrix;
mod instructions;
mod interrupt;
mod merge;
mod model;
mod program;
mod refused_models;
mod refused_requests;
mod shrink;
mod table;
mod tasks;
mod terminal;
mod words;
