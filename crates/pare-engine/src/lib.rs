//! The engine: observe, find candidates, plan, apply, repair, verify, report; and the decode loop.
//!
//! It prints nothing: progress goes to a [`progress::Progress`], results are values.
//!
//! # Example
//!
//! A model made smaller by a recipe (`examples/shrink_tiny.rs`):
//!
//! ```
#![doc = include_str!("../examples/shrink_tiny.rs")]
//! ```

pub mod as_read;
pub mod bench;
pub mod built_in;
pub mod bundle;
pub mod cache;
pub mod candidates;
pub mod compare;
mod divergence;
mod error;
pub mod evaluate;
pub mod export;
pub mod figures;
pub mod fingerprint;
mod finite;
pub mod fit;
pub mod generate;
pub mod hub;
pub mod inspect;
mod likelihood;
pub mod merging;
pub mod observe;
#[cfg(feature = "hub")]
mod package_index;
mod parallel;
pub mod plain_bits;
pub mod probe;
pub mod progress;
pub mod prove;
pub mod recipe;
pub mod report;
pub mod residual;
pub mod rewriting;
pub mod shrink;
pub mod speed;
pub mod split;
pub mod tasks;
pub mod text;
pub mod verify;
mod wheel;
pub mod write;

/// The version that pages and records name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub use error::{Error, is_bad_file};
pub use finite::refuse_not_finite;
