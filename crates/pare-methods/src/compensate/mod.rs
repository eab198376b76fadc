//! Repairs after a fixed cut of the reader's input channels.

use crate::card::Card;
use crate::error::MethodError;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::Stats;

/// What is cut: columns of a reader.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    /// Where the reader's inputs were observed (before the cut, all columns).
    pub site: Site,
    /// The reader before the cut, `[out, in]`.
    pub reader: &'a Matrix,
    /// Its bias before the cut, `[out]`.
    pub bias: Option<&'a [f32]>,
    /// The columns that stay, ascending.
    pub kept: &'a [usize],
    /// Whether the runtime or format that the model is for can carry a bias here.
    pub bias_allowed: bool,
}

/// A repaired reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Repaired {
    /// `[out, kept]`.
    pub weight: Matrix,
    /// `[out]`; none when it stayed without.
    pub bias: Option<Vec<f32>>,
    /// Facts that are not errors.
    pub info: Info,
}

/// What a repair found on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Info {
    /// Damping that was needed, relative to the mean diagonal of the Gram matrix.
    pub damping: f64,
    /// Mean squared calibration error per output, of the cut without repair.
    pub error_before: f64,
    /// The same after the repair.
    pub error_after: f64,
}

/// Repairs a cut reader.
pub trait Compensate: Send + Sync {
    /// The weight over the kept columns, and a bias, that come nearest to the whole reader on the calibration inputs.
    ///
    /// # Errors
    /// A missing statistic, sizes that disagree, a Gram matrix that no damping makes positive definite.
    fn compensate(&self, cut: &Cut<'_>, stats: &Stats) -> Result<Repaired, MethodError>;
}

/// One line of the registry.
pub struct Entry {
    /// What it is.
    pub card: Card,
    /// Builds it.
    pub build: fn() -> Box<dyn Compensate>,
}
