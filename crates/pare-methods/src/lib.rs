//! Methods: pure functions of weights and statistics, one folder per axis, one file per idea.
//!
//! No IO, no clock, no printing, no globals. Methods of different axes never import each other.
//!
//! # Example
//!
//! Which weights of a matrix two methods would keep (`examples/score.rs`):
//!
//! ```
#![doc = include_str!("../examples/score.rs")]
//! ```

pub mod allocate;
mod basis;
pub mod card;
mod check;
pub mod compensate;
mod cut;
mod distortion;
pub mod encode;
pub mod error;
mod gather;
mod grid;
pub mod levels;
mod linalg;
mod low_rank;
pub mod merge;
pub mod metric;
mod moments;
pub mod names;
mod nearest_pairs;
mod obs;
mod quotas;
pub mod rewrite;
pub mod rounding;
mod saliency;
pub mod score;
pub mod select;
pub mod settings;
pub mod view;
mod wrapping;
