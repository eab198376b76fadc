//! Singular values of a matrix whose columns are scaled by how strong their inputs are.
//!
//! Source     Yuan et al. 2023, "ASVD: Activation-aware Singular Value Decomposition for Compressing Large Language Models",
//!            arXiv:2312.05821
//! Formula    W diag(a) = U diag(s) V^T; A = U_R diag(s_R)^1/2, B = diag(s_R)^1/2 V_R^T diag(a)^-1; a_j = sqrt(E x_j^2)
//! Shapes     W [out, in]; a [in]; A [out, R]; B [R, in]
//! Needs      Stat::MeanSquare [in]; the calibration error is told where Stat::Gram was observed
//! Parameters rank: R, range 1..=min(out, in); unset: the largest with R (out + in) <= keep * out * in, at least 1
//! Cost       9 n^3 + 2 out * in * n operations with n = min(out, in), by the eigenvectors of the smaller side; 24 out * in bytes
//! Departs    scales by the root of the mean square, not by a power (1/2) of the mean magnitude or a Cholesky factor of the moments; they
//!            are at least 1e-3 of the largest; a keep of 1 without a rank leaves the matrix as it is
//! Errors     MissingStat, Shape; Params: a rank that the matrix cannot have; Numeric: not finite, no convergence
//! Exactness  1e-5 against goldens/encode/activation_svd (factors are rounded to f32)

use super::{Encode, Encoded, Entry, Info, Task};
use crate::card::Card;
use crate::check;
use crate::distortion;
use crate::error::MethodError;
use crate::low_rank;
use crate::select::Compare;
use pare_kernels::pool::Pool;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "activation-svd",
        about: "keeps the directions of a matrix that are strongest on its inputs, as two thin ones",
        source: "ASVD: Activation-aware Singular Value Decomposition for Compressing Large Language Models, arXiv:2312.05821",
        formula: "W diag(a) = U diag(s) V^T; A = U_R diag(s_R)^1/2, B = diag(s_R)^1/2 V_R^T diag(a)^-1; a_j = sqrt(E \
            x_j^2)",
        needs: &[Stat::MeanSquare],
        parameters: &["rank"],
        grains: &[],
        cost: "9 n^3 + 2 out * in * n operations with n = min(out, in); 24 out * in bytes",
        departs: "scales by the root of the mean square, at least 1e-3 of the largest",
        exactness: 1e-5,
    },
    removes: true,
    composes: true,
    build: |settings| {
        settings.only(ENTRY.card.parameters)?;
        Ok(Box::new(ActivationSvd { rank: settings.rank }))
    },
};

/// The smallest scale, relative to the largest.
const FLOOR: f64 = 1e-3;

/// Keeps the directions that are strongest on the inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ActivationSvd {
    /// How many; none: as many as `keep` pays for.
    pub rank: Option<usize>,
}

impl Encode for ActivationSvd {
    fn is_single_threaded(&self) -> bool {
        true
    }

    fn fits(&self, shape: [usize; 2], keep: f64, _: Compare) -> Result<(), MethodError> {
        low_rank::fits(self.rank, keep, shape)
    }

    fn encode(&self, task: &Task<'_>, stats: &Stats, _: &Pool) -> Result<Encoded, MethodError> {
        task.check()?;
        let squares = check::stat(stats, task.site, Stat::MeanSquare, task.weight.cols())?;
        let largest = squares.iter().copied().fold(0.0, f64::max).sqrt();
        // Where nothing was seen, all inputs are alike.
        let relative = |square: &f64| if largest > 0.0 { (square.sqrt() / largest).max(FLOOR) } else { 1.0 };
        let scale: Vec<f64> = squares.iter().map(relative).collect();
        let (weight, after) = low_rank::encoded(task.site, task.weight, &scale, self.rank, task.keep)?;
        let error = distortion::if_observed(stats, task.site, task.weight, &after)?;
        Ok(Encoded { weight, info: Info { error, ..Info::default() } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::Compare;
    use pare_model::matrix::Matrix;
    use pare_model::site::{Point, Site};
    use pare_model::weight::Linear;

    #[test]
    fn a_strong_input_counts_for_more_by_hand() {
        // Scaled by 1 and 1/10, the weight 3 of a strong input outweighs the 4 of a weak one.
        let site = Site::new(0, Point::FfnIn);
        let weight = Matrix::from_vec(2, 2, vec![3.0, 0.0, 0.0, 4.0]);
        let task = Task { site, weight: &weight, keep: 0.5, compare: Compare::Row };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::MeanSquare, vec![2.0, 0.02]);
        stats.insert(site, Stat::Gram, vec![2.0, 0.0, 0.0, 0.02]);
        let encoded = ActivationSvd { rank: Some(1) }.encode(&task, &stats, &Pool::new(1)).unwrap();
        let values = Linear::new(encoded.weight).to_matrix();
        for (got, want) in values.data().iter().zip([3.0, 0.0, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{values:?}");
        }
        assert!((encoded.info.error.unwrap() - 0.16).abs() < 1e-6, "16 * 0.02 over 2 outputs");
    }
}
