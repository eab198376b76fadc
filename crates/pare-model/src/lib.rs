//! A language model as plain data, and one forward pass over it.
//!
//! This crate knows no method: it says what a model is, runs it, lets it be observed and cut.

pub mod matrix;
pub mod site;
pub mod stats;
pub mod weight;
