//! A language model as plain data, and one forward pass over it.
//!
//! This crate knows no method: it says what a model is, runs it, lets it be observed and cut.
//!
//! Dimensions keep fixed letters: B batch, T tokens, C model width, H query heads, G KV heads, D head width, F FFN width, R rank,
//! V vocabulary. Matrices are `[out, in]`, row-major.
//!
//! # Example
//!
//! The most likely tokens after a prompt (`examples/next_token.rs`):
//!
//! ```
#![doc = include_str!("../examples/next_token.rs")]
//! ```

pub mod block;
pub mod forward;
pub mod load;
pub mod matrix;
pub mod memory;
pub mod model;
pub mod plan;
pub mod rng;
pub mod rope;
pub mod sample;
pub mod site;
pub mod stats;
pub mod storage;

pub use storage::weight;
