//! The engine: observe, find candidates, plan, apply, repair, verify, report; and the decode loop.
//!
//! It prints nothing: progress goes to a [`progress::Progress`], results are values.

pub mod candidates;
mod error;
pub mod evaluate;
pub mod generate;
pub mod observe;
pub mod probe;
pub mod progress;
pub mod recipe;
pub mod shrink;

pub use error::Error;
