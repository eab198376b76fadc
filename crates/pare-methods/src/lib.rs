//! Methods: pure functions of weights and statistics, one folder per axis, one file per idea.
//!
//! No IO, no clock, no printing, no globals. Methods of different axes never import each other.

pub mod allocate;
pub mod card;
mod check;
pub mod compensate;
mod distortion;
pub mod encode;
pub mod error;
mod gather;
mod grid;
mod linalg;
mod low_rank;
pub mod metric;
mod moments;
pub mod names;
mod obs;
pub mod rewrite;
mod saliency;
pub mod score;
pub mod select;
pub mod settings;
pub mod view;
mod wrapping;
