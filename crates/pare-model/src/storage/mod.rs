//! Storages: where the numbers of a weight live. All of them compute the same function, see [`crate::weight::Weight`].

mod dense;
mod packed;
mod stored;

pub use dense::Dense;
pub use packed::Packed;
pub use stored::{Element, Stored};
