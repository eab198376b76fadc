//! Bytes of model files as checked views, or an error that says which file, which field, what was found and what was expected.
//!
//! No maths here, and no panic on any input.

pub mod chat;
pub mod error;
pub mod gguf;
pub mod tokenizer;

pub use error::{FormatError, FormatErrorKind, Result};
