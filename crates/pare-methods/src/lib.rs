//! Methods: pure functions of weights and statistics, one folder per axis, one file per idea.
//!
//! No IO, no clock, no printing, no globals. Methods of different axes never import each other.

pub mod allocate;
mod basis;
pub mod card;
mod check;
pub mod compensate;
pub mod encode;
pub mod error;
mod linalg;
pub mod metric;
mod moments;
pub mod names;
pub mod rewrite;
pub mod score;
pub mod select;
pub mod settings;
pub mod view;
