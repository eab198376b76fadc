//! Loops over packed weights. This crate knows no model.

pub mod pool;
