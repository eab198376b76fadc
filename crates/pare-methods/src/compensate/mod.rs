//! Repairs: of the reader of channels that were cut, and of a matrix that was masked or put into another storage.

mod bias;
mod eora;
mod least_squares;
mod masked_least_squares;

pub use crate::cut::{Cut, Info, Repaired, Simpler};
pub use bias::Bias;
pub use eora::{Eora, Factors};
pub use least_squares::LeastSquares;
pub use masked_least_squares::MaskedLeastSquares;

use crate::card::Card;
use crate::check;
use crate::error::{Built, MethodError};
use crate::names;
use crate::settings::Settings;
use pare_model::matrix::Matrix;
use pare_model::plan::Mask;
use pare_model::site::Site;
use pare_model::stats::Stats;
use pare_model::weight::{Linear, Weight};
use std::sync::Arc;

/// Repairs a cut reader.
pub trait Compensate: Send + Sync {
    /// The weight over the kept columns, and a bias, that come nearest to the whole reader on the calibration inputs.
    ///
    /// # Errors
    /// A missing statistic, sizes that disagree, a Gram matrix that no damping makes positive definite.
    fn compensate(&self, cut: &Cut<'_>, stats: &Stats) -> Result<Repaired, MethodError>;
}

/// A matrix that was approximated: masked, or put into another storage.
#[derive(Clone, Copy, Debug)]
pub struct RefitTask<'a> {
    /// Where its inputs were observed.
    pub site: Site,
    /// The matrix before, `[out, in]`.
    pub before: &'a Matrix,
    /// The matrix after, `[out, in]`.
    pub after: &'a Arc<dyn Weight>,
    /// Which weights a mask kept, where there was one: a weight that stayed may be zero, as many are in quantised blocks. Without it the
    /// zeros of the matrix after are what was removed.
    pub mask: Option<&'a Mask>,
}

impl RefitTask<'_> {
    /// Holds both matrices to their description; returns the one after.
    ///
    /// # Errors
    /// `Shape` when they or the mask differ in size, `Numeric` for a weight that is not finite.
    pub fn check(&self) -> Result<Matrix, MethodError> {
        let (want, got) = (self.before.shape(), self.after.shape());
        let mask = self.mask.map_or(want, Mask::shape);
        for (what, want, got) in [
            ("matrix after (outputs)", want[0], got[0]),
            ("matrix after (inputs)", want[1], got[1]),
            ("mask (outputs)", want[0], mask[0]),
            ("mask (inputs)", want[1], mask[1]),
        ] {
            if want != got {
                return Err(MethodError::Shape { site: self.site, what, want, got });
            }
        }
        check::weights(self.site, "weight before", self.before)?;
        let after = Linear::new(Arc::clone(self.after)).to_matrix();
        check::weights(self.site, "weight after", &after)?;
        Ok(after)
    }
}

/// What a refitted matrix is.
#[derive(Clone, Debug)]
pub struct Refitted {
    /// The better storage.
    pub weight: Arc<dyn Weight>,
    /// Calibration errors of `RefitTask::after` and of this, and damping.
    pub info: Info,
}

/// Brings an approximated matrix nearer to what it was.
pub trait RefitMasked: Send + Sync {
    /// A weight nearer to `before` on the calibration inputs, at the cost that the method names.
    ///
    /// # Errors
    /// A missing statistic, sizes that disagree, a Gram matrix that no damping makes positive definite.
    fn refit(&self, lost: &RefitTask<'_>, stats: &Stats) -> Result<Refitted, MethodError>;

    /// Refuses what [`RefitMasked::refit`] would refuse of a matrix of this `[out, in]` for its sizes alone, before anything is observed.
    ///
    /// # Errors
    /// `Params` for a parameter that the sizes do not allow.
    fn fits(&self, shape: [usize; 2]) -> Result<(), MethodError> {
        let _ = shape;
        Ok(())
    }
}

/// What a repair repairs, and how it is built; an error is a parameter that it does not read, or out of its range.
#[derive(Clone, Copy)]
pub enum Build {
    /// The reader of removed columns.
    Columns(fn(&Settings) -> Built<dyn Compensate>),
    /// A matrix of the same shape as before.
    Matrix(fn(&Settings) -> Built<dyn RefitMasked>),
}

/// One line of the registry.
pub struct Entry {
    /// What it is.
    pub card: Card,
    /// Whether its result is made of several matrices, which only pare runs.
    pub composes: bool,
    /// Whether it repairs what zeros stand in for, and nothing else.
    pub of_zeros: bool,
    /// Whether it repairs nothing where no bias may be.
    pub needs_bias: bool,
    /// Builds it.
    pub build: Build,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("compensate::Entry").field(&self.card.name).finish()
    }
}

/// Every repair, by name.
pub const ENTRIES: &[Entry] = &[bias::ENTRY, eora::ENTRY, least_squares::ENTRY, masked_least_squares::ENTRY];

/// The repair called `name`.
///
/// # Errors
/// `Unknown`, with the nearest name.
pub fn find(name: &str) -> Result<&'static Entry, MethodError> {
    ENTRIES.iter().find(|entry| entry.card.name == name).ok_or_else(|| MethodError::Unknown {
        axis: "compensate",
        name: name.to_owned(),
        nearest: names::nearest(name, ENTRIES.iter().map(|entry| entry.card.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::Point;

    fn refusal(kept: &[usize], bias: Option<&[f32]>, weights: [f32; 4]) -> String {
        let reader = Matrix::from_vec(2, 2, weights.to_vec());
        let site = Site::new(1, Point::FfnOut);
        Cut { site, reader: &reader, bias, kept, bias_allowed: true }.check().unwrap_err().to_string()
    }

    #[test]
    fn a_cut_is_held_to_its_description() {
        let sound = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            refusal(&[1, 0], None, sound),
            "parameter kept: column 0 follows column 1, expected ascending columns"
        );
        assert_eq!(
            refusal(&[0, 0], None, sound),
            "parameter kept: column 0 follows column 0, expected ascending columns"
        );
        assert_eq!(refusal(&[0, 2], None, sound), "parameter kept: column 2 of a reader with 2 columns");
        assert_eq!(refusal(&[0], Some(&[1.0]), sound), "block 1 ffn output: bias has 1, expected 2");
        assert_eq!(
            refusal(&[0], Some(&[1.0, f32::NAN]), sound),
            "block 1 ffn output: bias: value 1 is NaN, expected a finite number"
        );
        assert_eq!(
            refusal(&[0], None, [1.0, f32::NEG_INFINITY, 3.0, 4.0]),
            "block 1 ffn output: reader: value 1 is -inf, expected a finite number"
        );
    }

    #[test]
    fn splits_the_columns() {
        let reader = Matrix::from_vec(1, 4, vec![1.0, 2.0, 3.0, 4.0]);
        let site = Site::new(0, Point::FfnOut);
        let cut = Cut { site, reader: &reader, bias: Some(&[5.0]), kept: &[1, 2], bias_allowed: false };
        assert_eq!(cut.pruned(), [0, 3]);
        assert_eq!(cut.plain().weight.data(), [2.0, 3.0]);
        assert_eq!(cut.plain().bias, Some(vec![5.0]));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let message = find("least-square").unwrap_err().to_string();
        assert_eq!(message, "no compensate method is called \"least-square\"; did you mean \"least-squares\"?");
        let message = find("obs").unwrap_err().to_string();
        assert_eq!(message, "no compensate method is called \"obs\"; `pare methods` lists them");
        assert_eq!(find("bias").unwrap().card.name, "bias");
    }
}
