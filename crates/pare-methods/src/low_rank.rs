//! Two thin matrices for one.

use crate::error::{MethodError, NumericCause};
use crate::linalg;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::storage::{Dense, LowRank};
use std::sync::Arc;

/// The rank that is asked for, or the largest whose factors are at most the share `keep` of the matrix, and at least 1.
///
/// # Errors
/// `Params` for a rank that the matrix cannot have.
pub(crate) fn rank(asked: Option<usize>, keep: f64, [out, width]: [usize; 2]) -> Result<usize, MethodError> {
    let most = out.min(width);
    if let Some(rank) = asked {
        if rank == 0 || rank > most {
            let why = format!("{rank} of a [{out}, {width}] matrix, expected 1..={most}");
            return Err(MethodError::Params { key: "rank", why });
        }
        return Ok(rank);
    }
    let fits = keep * (out as f64 * width as f64) / (out + width).max(1) as f64;
    // The share of a product of small counts can fall just short of a whole number.
    Ok(((fits + 1e-9).floor() as usize).clamp(1, most.max(1)))
}

/// `A` `[out, R]` and `B` `[R, in]` with `A B diag(scale)` nearest to `W diag(scale)`; the singular values are shared evenly.
///
/// Cost: about `20 out in min(out, in)` operations, `24 out in` bytes.
///
/// # Errors
/// `Numeric` when the decomposition does not converge.
pub(crate) fn truncate(site: Site, weight: &Matrix, scale: &[f64], rank: usize) -> Result<[Matrix; 2], MethodError> {
    let [out, width] = weight.shape();
    let rows = weight.data().chunks_exact(width.max(1));
    let scaled: Vec<f64> = rows.flat_map(|row| row.iter().zip(scale).map(|(&w, s)| f64::from(w) * s)).collect();
    let cause = NumericCause::NoDecomposition { what: "singular values" };
    let svd = linalg::svd(&scaled, out, width).ok_or(MethodError::Numeric { site, cause })?;
    let (mut a, mut b) = (Matrix::zeros(out, rank), Matrix::zeros(rank, width));
    for (r, value) in svd.values.iter().take(rank).enumerate() {
        let root = value.max(0.0).sqrt();
        for (o, left) in svd.left[r * out..(r + 1) * out].iter().enumerate() {
            a.row_mut(o)[r] = (left * root) as f32;
        }
        let right = svd.right[r * width..(r + 1) * width].iter().zip(scale);
        b.row_mut(r).iter_mut().zip(right).for_each(|(to, (right, scale))| *to = (right * root / scale) as f32);
    }
    Ok([a, b])
}

/// The factors as a storage.
///
/// # Panics
/// When their ranks differ: a programmer's mistake.
#[track_caller]
pub(crate) fn stored([a, b]: [Matrix; 2]) -> LowRank {
    LowRank::new(Arc::new(Dense(a)), Arc::new(Dense(b))).expect("factors of one rank")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_rank_that_fits() {
        let rank = |asked, keep| rank(asked, keep, [6, 3]);
        assert_eq!([0.0, 0.5, 1.0].map(|keep| rank(None, keep).unwrap()), [1, 1, 2], "9 numbers a rank, of 18");
        assert_eq!(super::rank(None, 0.3, [20, 20]).unwrap(), 3, "120 of 400");
        assert_eq!(rank(Some(3), 0.1), Ok(3));
        let message = rank(Some(4), 1.0).unwrap_err().to_string();
        assert_eq!(message, "parameter rank: 4 of a [6, 3] matrix, expected 1..=3");
        assert!(rank(Some(0), 1.0).is_err());
    }
}
