//! Singular values: of a matrix, its strongest directions.
//!
//! Source     folklore: the truncated decomposition of Eckart and Young 1936, the baseline of everything of low rank
//! Formula    W = U diag(s) V^T; A = U_R diag(s_R)^1/2, B = diag(s_R)^1/2 V_R^T; the least of ||W - A B||
//! Shapes     W [out, in]; A [out, R]; B [R, in]
//! Needs      nothing; the calibration error is told where Stat::Gram was observed
//! Parameters rank: R, range 1..=min(out, in); unset: the largest with R (out + in) <= keep * out * in, at least 1
//! Cost       9 n^3 + 2 out * in * n operations with n = min(out, in), by the eigenvectors of the smaller side; 24 out * in bytes
//! Departs    nothing; a keep of 1 without a rank leaves the matrix as it is
//! Errors     Params: a rank that the matrix cannot have; Numeric: not finite, no convergence
//! Exactness  1e-5 against goldens/encode/svd (factors are rounded to f32)

use super::{Encode, Encoded, Entry, Info, Task};
use crate::card::Card;
use crate::distortion;
use crate::error::MethodError;
use crate::low_rank;
use crate::select::Compare;
use pare_kernels::pool::Pool;
use pare_model::stats::Stats;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "svd",
        about: "keeps the strongest directions of a matrix, as two thin ones",
        source: "folklore: truncated singular value decomposition (Eckart and Young 1936)",
        formula: "W = U diag(s) V^T; A = U_R diag(s_R)^1/2, B = diag(s_R)^1/2 V_R^T; the least of ||W - A B||",
        needs: &[],
        parameters: &["rank"],
        grains: &[],
        cost: "9 n^3 + 2 out * in * n operations with n = min(out, in); 24 out * in bytes",
        departs: "nothing",
        exactness: 1e-5,
    },
    removes: true,
    composes: true,
    build: |settings| {
        settings.only(ENTRY.card.parameters)?;
        Ok(Box::new(Svd { rank: settings.rank }))
    },
};

/// Keeps the strongest directions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Svd {
    /// How many; none: as many as `keep` pays for.
    pub rank: Option<usize>,
}

impl Encode for Svd {
    fn is_single_threaded(&self) -> bool {
        true
    }

    fn fits(&self, shape: [usize; 2], keep: f64, _: Compare) -> Result<(), MethodError> {
        low_rank::fits(self.rank, keep, shape)
    }

    fn encode(&self, task: &Task<'_>, stats: &Stats, _: &Pool) -> Result<Encoded, MethodError> {
        task.check()?;
        let scale = vec![1.0; task.weight.cols()];
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
    fn the_stronger_of_two_directions_by_hand() {
        // Along (3, 4) / 5 with value 10, and across it with value 1, read by the axes.
        let weight = Matrix::from_vec(2, 2, vec![6.0, -0.8, 8.0, 0.6]);
        let task = Task { site: Site::new(0, Point::FfnIn), weight: &weight, keep: 0.5, compare: Compare::Row };
        let encoded = Svd { rank: Some(1) }.encode(&task, &Stats::new(0), &Pool::new(1)).unwrap();
        let values = Linear::new(encoded.weight).to_matrix();
        for (got, want) in values.data().iter().zip([6.0, 0.0, 8.0, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{values:?}");
        }
        assert_eq!(encoded.info, Info::default());
    }
}
