//! Allocations: how many units each group of units keeps.

use crate::card::Card;
use crate::error::MethodError;

/// The scores of one view, and what its units cost.
#[derive(Clone, Debug)]
pub struct Row {
    /// A name for messages, as in `block 3 ffn output`.
    pub name: String,
    /// One number per unit, higher = keep.
    pub scores: Vec<f64>,
    /// Cost of one unit, in parameters.
    pub unit_cost: u64,
    /// The fewest units that must stay.
    pub floor: usize,
}

/// Decides quotas.
pub trait Allocate: Send + Sync {
    /// How many units each row keeps, `floor <= quota <= scores.len()`, so that the kept cost is `keep` of the whole cost.
    ///
    /// # Errors
    /// A `keep` outside `0..=1` or below what the floors allow; a score that is not finite.
    fn allocate(&self, keep: f64, rows: &[Row]) -> Result<Vec<usize>, MethodError>;
}

/// One line of the registry.
pub struct Entry {
    /// What it is.
    pub card: Card,
    /// Builds it.
    pub build: fn() -> Box<dyn Allocate>,
}
