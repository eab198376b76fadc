//! Storages: where the numbers of a weight live. All of them compute the same function, see [`crate::weight::Weight`].

mod dense;
mod low_rank;
mod packed;
mod scaled;
mod sparse;
mod stored;
mod sum;
pub mod weight;
mod wrapped;

pub use dense::Dense;
pub use low_rank::LowRank;
pub use packed::Packed;
pub use scaled::{Code, Groups, Scaled};
pub use sparse::{Sparse, SparseMatrix};
pub use stored::{Element, Stored};
pub use sum::Sum;
pub use wrapped::Wrapped;
