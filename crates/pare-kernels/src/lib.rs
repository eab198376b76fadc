//! Loops over packed weights: matrix products, attention, norms. This crate knows no model.
//!
//! One law: every linear map is `y[t,o] = fold over i = 0..in, in that order, of acc = fma(x[t,i], w[o,i], acc)`, from
//! `acc = 0.0`, in f32, one rounding per step. SIMD lanes run across outputs, never across `i`, so any instruction set,
//! layout, tile, number of rows and number of threads gives the same bits.
//!
//! # Example
//!
//! Two rows times a matrix of 8-bit blocks, held to that law (`examples/multiply.rs`):
//!
//! ```
#![doc = include_str!("../examples/multiply.rs")]
//! ```

pub mod attention;
pub mod block_diagonal;
pub mod blocks;
pub mod cholesky;
mod convert;
pub mod dense;
pub mod elementwise;
pub mod gram;
pub mod int8;
pub mod isa;
pub mod machine;
mod memory;
pub mod panels;
pub mod pool;
pub mod product;
pub mod quant;
#[cfg(test)]
mod reference;
pub mod rows;
mod shared;
pub mod sparse;
pub mod tile;

pub use attention::{AttentionScratch, KvBlock};
pub use block_diagonal::BlockDiagonal;
pub use blocks::BlockType;
pub use int8::Int8Rows;
pub use isa::{Isa, Level};
pub use panels::{PanelType, Panels};
pub use pool::Pool;
pub use product::{Input, Product, multiply_together};
pub use quant::QuantPanels;
pub use rows::{RowSource, multiply_rows};
pub use shared::{Shared, each_row};
pub use sparse::{EightRows, EightRowsParts, SparseError, SparseType, SparseValues, TwoOfFour, TwoOfFourParts};
