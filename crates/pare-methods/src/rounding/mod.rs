//! Codes for the rows of a matrix in a block format, chosen together so that the error on the inputs is small.
//!
//! With the inputs' second moments `H`, the error of a row `w` written as `q` is `(w - q) H (w - q)`. Rows are independent: any number of
//! threads may share them, and each row has the same bits whoever computes it.

mod hessian;
mod row;
mod target;

pub use hessian::HessianFactor;
pub use row::{Rounder, RoundingOptions};
pub use target::correct_drift;
