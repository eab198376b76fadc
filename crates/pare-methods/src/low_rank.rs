//! Two thin matrices for one.

use crate::check;
use crate::error::{MethodError, NumericCause, shown};
use crate::linalg;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::storage::{Dense, LowRank};
use pare_model::weight::Weight;
use std::sync::Arc;

/// The rank that is asked for, or the largest whose factors are at most the share `keep` of the matrix.
///
/// # Errors
/// `Params` for a rank that the matrix cannot have, and for a `keep` that does not pay for one direction.
pub(crate) fn rank(asked: Option<usize>, keep: f64, [out, width]: [usize; 2]) -> Result<usize, MethodError> {
    let most = out.min(width);
    if let Some(rank) = asked {
        if rank == 0 || rank > most {
            let why = format!("{rank} of a [{out}, {width}] matrix, expected 1..={most}");
            return Err(MethodError::Params { key: "rank", why });
        }
        return Ok(rank);
    }
    let (whole, one) = (out as f64 * width as f64, (out + width).max(1) as f64);
    // The share of a product of small counts can fall just short of a whole number.
    let paid = (keep * whole / one + 1e-9).floor() as usize;
    // A single row or column is no smaller as a product: it has one direction, whatever is asked.
    if paid == 0 && one < whole {
        let least = (1e4 * one / whole).ceil() / 1e4;
        let why =
            format!("{} of a [{out}, {width}] matrix, whose strongest direction alone takes {least}", shown(keep));
        return Err(MethodError::Params { key: "keep", why });
    }
    Ok(paid.clamp(1, most.max(1)))
}

/// Refuses what [`encoded`] would refuse of a matrix of this `[out, in]`.
///
/// # Errors
/// As [`rank`].
pub(crate) fn fits(asked: Option<usize>, keep: f64, shape: [usize; 2]) -> Result<(), MethodError> {
    if asked.is_none() && keep == 1.0 { Ok(()) } else { rank(asked, keep, shape).map(|_| ()) }
}

/// `A` `[out, R]` and `B` `[R, in]` with `A B diag(scale)` nearest to `W diag(scale)`, by the eigenvectors of the smaller side.
///
/// Cost: `9 n^3 + 2 out in n` operations with `n = min(out, in)`, `24 out in` bytes.
///
/// # Errors
/// `Numeric` when the decomposition does not converge.
pub(crate) fn truncate(site: Site, weight: &Matrix, scale: &[f64], rank: usize) -> Result<[Matrix; 2], MethodError> {
    let [out, width] = weight.shape();
    let plain: Vec<f64> = weight.data().iter().map(|&value| f64::from(value)).collect();
    let rows = plain.chunks_exact(width.max(1));
    let scaled: Vec<f64> = rows.flat_map(|row| row.iter().zip(scale).map(|(w, s)| w * s)).collect();
    let across = linalg::transposed(&scaled, width);
    if out <= width {
        let moments = linalg::product(&scaled, &across, [out, width, out]);
        return by_outputs(site, &plain, moments, [out, width, rank]);
    }
    let mut back = vec![0.0; width * width];
    (0..width).for_each(|i| back[i * width + i] = 1.0 / scale[i]);
    by_inputs(site, &across, &back, [out, width, rank])
}

/// `A = U_R` and `B = U_R^T W`, with U the eigenvectors of `moments` `[out, out]`, strongest first; made equally long.
///
/// # Errors
/// `Numeric` when the decomposition does not converge.
pub(crate) fn by_outputs(
    site: Site,
    weight: &[f64],
    moments: Vec<f64>,
    [out, width, rank]: [usize; 3],
) -> Result<[Matrix; 2], MethodError> {
    let (_, vectors) = eigen(site, moments, out)?;
    // Eigenvalues ascend: the last vectors are the first that matter.
    let a: Vec<f64> = vectors.chunks_exact(out).rev().take(rank).flatten().copied().collect();
    let b = linalg::product(&a, weight, [rank, out, width]);
    Ok(balanced(&a, &b, [out, width, rank]))
}

/// `A = X^T V_R` and `B = V_R^T Y`, with `seen` X `[in, out]`, V the eigenvectors of `X X^T` and `back` Y `[in, in]`; made equally
/// long.
///
/// # Errors
/// `Numeric` when the decomposition does not converge.
pub(crate) fn by_inputs(
    site: Site,
    seen: &[f64],
    back: &[f64],
    [out, width, rank]: [usize; 3],
) -> Result<[Matrix; 2], MethodError> {
    let moments = linalg::product(seen, &linalg::transposed(seen, out), [width, out, width]);
    let (_, vectors) = eigen(site, moments, width)?;
    let chosen: Vec<f64> = vectors.chunks_exact(width).rev().take(rank).flatten().copied().collect();
    let a = linalg::product(&chosen, seen, [rank, width, out]);
    let b = linalg::product(&chosen, back, [rank, width, width]);
    Ok(balanced(&a, &b, [out, width, rank]))
}

/// Eigenvalues of a matrix that is symmetric up to its rounding, smallest first, and their vectors one after the other.
///
/// # Errors
/// `Numeric` when the decomposition does not converge.
pub(crate) fn eigen(site: Site, mut matrix: Vec<f64>, n: usize) -> Result<(Vec<f64>, Vec<f64>), MethodError> {
    for i in 0..n {
        for j in 0..i {
            matrix[j * n + i] = matrix[i * n + j];
        }
    }
    let cause = NumericCause::NoDecomposition { what: "eigenvectors" };
    linalg::symmetric_eigen(&matrix, n).ok_or(MethodError::Numeric { site, cause })
}

/// `A` `[out, R]` and `B` `[R, in]` from the columns of A and the rows of B, each pair made equally long.
fn balanced(a: &[f64], b: &[f64], [out, width, rank]: [usize; 3]) -> [Matrix; 2] {
    let length = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let (mut left, mut right) = (Matrix::zeros(out, rank), Matrix::zeros(rank, width));
    for (r, (a, b)) in a.chunks_exact(out).zip(b.chunks_exact(width)).enumerate() {
        if length(a) * length(b) > 0.0 {
            let scale = (length(b) / length(a)).sqrt();
            (0..out).for_each(|o| left.row_mut(o)[r] = (a[o] * scale) as f32);
            right.row_mut(r).iter_mut().zip(b).for_each(|(to, value)| *to = (value / scale) as f32);
        }
    }
    [left, right]
}

/// `A B`, as nearly as f32 goes: storages decode a product row by row, which is far slower.
pub(crate) fn product([a, b]: &[Matrix; 2]) -> Matrix {
    let ([out, rank], width) = (a.shape(), b.cols());
    Matrix::from_vec(out, width, linalg::product_f32(a.data(), b.data(), [out, rank, width]))
}

/// `weight` of low rank, as a storage and as a matrix; as it is when no rank is asked for and `keep` is 1.
///
/// # Errors
/// As [`rank`] and [`truncate`].
pub(crate) fn encoded(
    site: Site,
    weight: &Matrix,
    scale: &[f64],
    asked: Option<usize>,
    keep: f64,
) -> Result<(Arc<dyn Weight>, Matrix), MethodError> {
    if asked.is_none() && keep == 1.0 {
        return Ok((Arc::new(Dense(weight.clone())), weight.clone()));
    }
    let factors = truncate(site, weight, scale, rank(asked, keep, weight.shape())?)?;
    let product = product(&factors);
    check::weights(site, "weight of low rank", &product)?;
    let [a, b] = factors.map(|factor| Arc::new(Dense(factor)) as Arc<dyn Weight>);
    Ok((Arc::new(LowRank::new(a, b).expect("factors of one rank")), product))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_rank_that_fits() {
        let rank = |asked, keep| rank(asked, keep, [6, 3]);
        assert_eq!([0.5, 0.99, 1.0].map(|keep| rank(None, keep).unwrap()), [1, 1, 2], "9 numbers a rank, of 18");
        let message = rank(None, 0.45).unwrap_err().to_string();
        assert_eq!(message, "parameter keep: 0.45 of a [6, 3] matrix, whose strongest direction alone takes 0.5");
        assert_eq!(super::rank(None, 0.1, [5, 1]), Ok(1));
        assert_eq!(super::rank(None, 0.3, [20, 20]).unwrap(), 3, "120 of 400");
        assert_eq!(rank(Some(3), 0.1), Ok(3));
        let message = rank(Some(4), 1.0).unwrap_err().to_string();
        assert_eq!(message, "parameter rank: 4 of a [6, 3] matrix, expected 1..=3");
        assert!(rank(Some(0), 1.0).is_err());
    }
}
