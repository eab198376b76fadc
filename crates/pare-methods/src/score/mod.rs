//! Scores: one number per unit, higher = keep.

use crate::card::Card;
use crate::error::MethodError;
use crate::view::View;
use pare_model::stats::Stats;

/// A score. Pure: the same view and statistics give the same numbers.
pub trait Score: Send + Sync {
    /// One number per unit of `view`, higher = keep.
    ///
    /// # Errors
    /// A missing statistic, sizes that disagree, a grain that the score does not serve, a number that is not finite.
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError>;
}

/// One line of the registry.
pub struct Entry {
    /// What it is.
    pub card: Card,
    /// Builds it; `seed` is used by scores that draw.
    pub build: fn(seed: u64) -> Box<dyn Score>,
}
