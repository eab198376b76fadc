//! Bytes of model files as checked views, or an error that says which file, which field, what was found and what was expected.
//!
//! No maths here, and no panic on any input.
//!
//! # Example
//!
//! What the header of a GGUF file says (`examples/list_tensors.rs`):
//!
//! ```
#![doc = include_str!("../examples/list_tensors.rs")]
//! ```

pub mod chat;
pub mod config;
pub mod directory;
pub mod error;
pub mod fuzz;
pub mod gguf;
pub mod imatrix;
pub mod json;
pub mod limits;
pub mod map;
mod quote;
pub mod safetensors;
mod sniff;
pub mod tokenizer;
pub mod write;

pub use error::{FormatError, FormatErrorKind, Result};
