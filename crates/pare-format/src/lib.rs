//! Bytes of model files as checked views, or an error that says which file, which field, what was found and what was expected.
//!
//! No maths here, and no panic on any input.

pub mod config;
pub mod error;
pub mod map;

pub use error::{FormatError, FormatErrorKind, Result};
