//! Nuclear: how many directions a matrix, or the activations at a site, really use.
//!
//! Source     Li et al. 2024, Large Language Model Evaluation via Matrix Nuclear-Norm, arXiv:2410.10672; effective rank: Roy and Vetterli 2007
//! Formula    nuclear norm = sum of the singular values s; effective rank = exp(-sum of p ln p), p = s / sum of s; without a
//!            decomposition: the sum of the Euclidean lengths of the min(m, n) longest columns, which is at least the nuclear norm
//!            when there are at least as many rows as columns
//! Shapes     a matrix [m, n]; activations X [T, n] by their Gram matrix, with the singular values of X / sqrt(T)
//! Needs      Stat::Gram [n, n] for activations
//! Parameters none
//! Cost       about 4 * m * n * min(m, n) / 3 operations for a matrix, 4 * n^3 / 3 for a Gram matrix; the column lengths m * n
//! Departs    the source divides by the length of its input, here the tokens are averaged; the exact figures stand beside its proxy
//! Errors     MissingStat, Shape (site); Numeric for numbers that are not finite
//! Exactness  1e-9 against goldens/metric/nuclear

use crate::check;
use crate::error::MethodError;
use crate::linalg;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};
use serde::Serialize;

/// Size and spread of a spectrum. All zero for a matrix of zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Nuclear {
    /// Sum of the singular values.
    pub nuclear_norm: f64,
    /// Sum of the lengths of the longest columns, as many as there can be singular values: the proxy of the source. As large as the
    /// nuclear norm where columns are orthogonal, larger where they repeat each other.
    pub column_lengths: f64,
    /// How many equal singular values would spread as much: between 1 and the number of singular values.
    pub effective_rank: f64,
    /// The fewest singular values that hold 90 % of the sum of squares.
    pub rank_of_90_percent: usize,
}

/// Of a weight `[m, n]`; `site` is named in errors.
///
/// # Errors
/// `Numeric` for a weight that is not finite.
pub fn of_weight(site: Site, weight: &Matrix) -> Result<Nuclear, MethodError> {
    check::weights(site, "weight", weight)?;
    let [m, n] = weight.shape();
    let values: Vec<f64> = weight.data().iter().map(|&w| f64::from(w)).collect();
    let spectrum = linalg::singular_values(&values, m, n).map_err(|cause| MethodError::Numeric { site, cause })?;
    let mut squares = vec![0.0; n];
    for row in values.chunks_exact(n.max(1)) {
        squares.iter_mut().zip(row).for_each(|(sum, w)| *sum += w * w);
    }
    Ok(of(&spectrum, &squares))
}

/// Of the `width` activations at `site`, by their Gram matrix.
///
/// # Errors
/// `MissingStat`, `Shape`, and `Numeric` for a Gram matrix that is not finite.
pub fn of_activations(stats: &Stats, site: Site, width: usize) -> Result<Nuclear, MethodError> {
    let gram = check::stat(stats, site, Stat::Gram, width * width)?;
    let numeric = |cause| MethodError::Numeric { site, cause };
    let values = linalg::symmetric_eigenvalues(gram, width).map_err(numeric)?;
    // Eigenvalues below the rounding of the largest are directions that no token used.
    let least = values.last().copied().unwrap_or(0.0) * width as f64 * f64::EPSILON;
    let spectrum: Vec<f64> = values.iter().rev().map(|&value| if value > least { value.sqrt() } else { 0.0 }).collect();
    let tokens = usize::try_from(stats.tokens()).unwrap_or(usize::MAX);
    let count = width.min(tokens);
    let squares: Vec<f64> = (0..width).map(|j| gram[j * width + j]).collect();
    Ok(of(&spectrum[..count], &squares))
}

/// From singular values, descending, and the squared lengths of the columns.
fn of(spectrum: &[f64], squares: &[f64]) -> Nuclear {
    let nuclear_norm: f64 = spectrum.iter().sum();
    if nuclear_norm <= 0.0 {
        return Nuclear::default();
    }
    let mut lengths: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
    lengths.sort_unstable_by(|a, b| b.total_cmp(a));
    let shares = spectrum.iter().map(|value| value / nuclear_norm).filter(|&share| share > 0.0);
    let entropy: f64 = shares.map(|share| -share * share.ln()).sum();
    let energy: f64 = spectrum.iter().map(|value| value * value).sum();
    let mut held = 0.0;
    let below = spectrum.iter().take_while(|&&value| {
        held += value * value;
        held < 0.9 * energy
    });
    Nuclear {
        nuclear_norm,
        column_lengths: lengths.iter().take(spectrum.len()).sum(),
        effective_rank: entropy.exp(),
        rank_of_90_percent: (below.count() + 1).min(spectrum.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::Point;

    const SITE: Site = Site { block: 0, point: Point::FfnIn };

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }

    #[test]
    fn orthogonal_columns_by_hand() {
        // Singular values 3, 3 and 0 of columns of the lengths 3, 3 and 0.
        let found =
            of_weight(SITE, &Matrix::from_vec(3, 3, vec![0.0, 3.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0])).unwrap();
        near(found.nuclear_norm, 6.0);
        near(found.column_lengths, 6.0);
        near(found.effective_rank, 2.0);
        assert_eq!(found.rank_of_90_percent, 2);
        assert_eq!(of_weight(SITE, &Matrix::zeros(2, 3)).unwrap(), Nuclear::default());
    }

    #[test]
    fn repeated_columns_by_hand() {
        // Four times the same column of length 2: one singular value of 4, while the lengths add up to 8.
        let found = of_weight(SITE, &Matrix::from_vec(4, 4, vec![1.0; 16])).unwrap();
        near(found.nuclear_norm, 4.0);
        near(found.column_lengths, 8.0);
        assert!(found.effective_rank < 1.0 + 1e-9, "{found:?}");
        assert_eq!(found.rank_of_90_percent, 1);
    }

    #[test]
    fn activations_by_hand() {
        // Tokens (2, 0) and (0, 1): singular values 2 and 1 over sqrt(2).
        let mut stats = Stats::new(2);
        stats.insert(SITE, Stat::Gram, vec![2.0, 0.0, 0.0, 0.5]);
        let found = of_activations(&stats, SITE, 2).unwrap();
        near(found.nuclear_norm, 3.0 / 2.0_f64.sqrt());
        near(found.effective_rank, 3.0 / 4.0_f64.cbrt());
        assert_eq!(found.rank_of_90_percent, 2);
        // One token has one direction, however many inputs.
        let mut stats = Stats::new(1);
        stats.insert(SITE, Stat::Gram, vec![9.0, 12.0, 12.0, 16.0]);
        let found = of_activations(&stats, SITE, 2).unwrap();
        near(found.nuclear_norm, 5.0);
        near(found.effective_rank, 1.0);
        near(found.column_lengths, 4.0);
        assert_eq!(
            of_activations(&stats, SITE, 3).unwrap_err().to_string(),
            "block 0 ffn input: Gram matrix has 4, expected 9"
        );
    }
}
