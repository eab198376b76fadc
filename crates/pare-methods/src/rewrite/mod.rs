//! Rewrites: the whole model in other numbers, its function kept.

mod off_grid;

pub use off_grid::off_grid;
