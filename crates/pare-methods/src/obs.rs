//! The factor of an inverse Gram matrix: what a change of one input asks of the inputs after it (Optimal Brain Surgeon).

use crate::check;
use crate::error::MethodError;
use crate::linalg::InverseFactor;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};

/// `R`, upper, with `(G + damping * mean(diag G) * I)^-1 = R^T R`, for inputs that are settled from the first to the last.
///
/// An input that was never seen (a zero on the diagonal) is on its own: it counts as one of mean size, and pulls no other.
#[derive(Debug)]
pub(crate) struct Factor {
    width: usize,
    /// `[n, n]`, row `j` holding `R_ij / R_ii` for `i < j`: what a unit of error in input `i` takes from weight `j`.
    pulls: Vec<f32>,
    /// `R_jj`, `[n]`.
    spread: Vec<f64>,
    seen: Vec<bool>,
    damping: f64,
    shift: f64,
}

impl Factor {
    /// Factorises the Gram matrix observed at `site`; the damping grows tenfold, up to 1, until that succeeds.
    ///
    /// Cost: `2 n^3 / 3` operations, at most `12 n^2` bytes beside the Gram matrix, of which `4 n^2` stay.
    pub(crate) fn new(site: Site, width: usize, stats: &Stats, damping: f64) -> Result<Self, MethodError> {
        let n = width;
        let gram = check::stat(stats, site, Stat::Gram, n * n)?;
        let seen: Vec<bool> = (0..n).map(|i| gram[i * n + i] > 0.0).collect();
        let count = seen.iter().filter(|&&seen| seen).count().max(1);
        let mean = (0..n).map(|i| gram[i * n + i]).sum::<f64>() / count as f64;
        // Nothing was seen: every input is on its own.
        let mean = if mean > 0.0 { mean } else { 1.0 };
        let diagonal = |i: usize, damping: f64| damping.mul_add(mean, if seen[i] { gram[i * n + i] } else { mean });
        let (inverse, damping) =
            InverseFactor::of(gram, n, damping, &diagonal).map_err(|cause| MethodError::Numeric { site, cause })?;
        let spread: Vec<f64> = (0..n).map(|j| inverse.diagonal(j)).collect();
        check::finite(site, "inverse of the Gram matrix", &spread)?;
        let mut pulls = vec![0.0_f32; n * n];
        for (j, row) in pulls.chunks_exact_mut(n.max(1)).enumerate() {
            for ((pull, value), spread) in row[..j].iter_mut().zip(inverse.column(j)).zip(&spread) {
                *pull = (value / spread) as f32;
            }
        }
        check::floats(site, "inverse of the Gram matrix", &pulls)?;
        Ok(Self { width, pulls, spread, seen, damping, shift: damping * mean })
    }

    /// `n`.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// `[n, n]`, row `j` holding for each input `i < j` what a unit of its error takes from weight `j`.
    pub(crate) fn pulls(&self) -> &[f32] {
        &self.pulls
    }

    /// `R_jj` per input: an error `e` in it costs `(e / R_jj)^2` once the inputs after it have given what they can.
    pub(crate) fn spread(&self) -> &[f64] {
        &self.spread
    }

    /// Whether each input was ever other than zero.
    pub(crate) fn seen(&self) -> &[bool] {
        &self.seen
    }

    /// The damping that was needed, relative to the mean diagonal.
    pub(crate) fn damping(&self) -> f64 {
        self.damping
    }

    /// What the damping added to the diagonal.
    pub(crate) fn shift(&self) -> f64 {
        self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NumericCause;
    use pare_model::site::Point;

    const SITE: Site = Site { block: 0, point: Point::FfnIn };

    fn factor(gram: &[f64], damping: f64) -> Result<Factor, MethodError> {
        let mut stats = Stats::new(1);
        stats.insert(SITE, Stat::Gram, gram.to_vec());
        Factor::new(SITE, gram.len().isqrt(), &stats, damping)
    }

    #[test]
    fn two_inputs_by_hand() {
        // G = [[5, 2], [2, 4]], G^-1 = [[4, -2], [-2, 5]] / 16 = R^T R with R = [[1/2, -1/4], [0, 1/2]].
        let factor = factor(&[5.0, 2.0, 2.0, 4.0], 0.0).unwrap();
        assert_eq!(factor.spread(), [0.5, 0.5]);
        assert_eq!(factor.pulls()[2], -0.5);
        assert_eq!((factor.damping(), factor.shift()), (0.0, 0.0));
    }

    #[test]
    fn an_input_never_seen_is_on_its_own() {
        let factor = factor(&[4.0, 0.0, 0.0, 0.0], 0.21).unwrap();
        assert_eq!(factor.seen(), [true, false]);
        assert_eq!(factor.pulls()[2], 0.0);
        assert!((factor.spread()[0] - 1.0 / 2.2).abs() < 1e-15 && factor.spread()[0] == factor.spread()[1]);
        assert!((factor.shift() - 0.84).abs() < 1e-15);
        let nothing = super::tests::factor(&[0.0], 0.01).unwrap();
        assert!(nothing.spread()[0].is_finite());
    }

    #[test]
    fn damps_until_it_is_positive_definite_and_says_how_much() {
        let factor = factor(&[1.0, 1.05, 1.05, 1.0], 0.01).unwrap();
        assert!((factor.damping() - 0.1).abs() < 1e-12);
        let error = super::tests::factor(&[1.0, 5.0, 5.0, 1.0], 0.01).unwrap_err();
        assert!(matches!(error, MethodError::Numeric { cause: NumericCause::NotPositiveDefinite { .. }, .. }));
    }
}
