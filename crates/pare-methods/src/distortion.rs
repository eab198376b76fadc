//! What a changed matrix loses on the calibration inputs.

use crate::check;
use crate::error::MethodError;
use crate::linalg;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};

/// Rows that are looked at together, so that memory stays small beside the matrix.
const BAND: usize = 256;

/// `E (W x - W' x)^2` of each output, with `W` and `W'` `[out, in]` and the Gram matrix `[in, in]`.
pub(crate) fn per_row(gram: &[f64], before: &Matrix, after: &Matrix) -> Vec<f64> {
    let [out, width] = before.shape();
    let mut errors = Vec::with_capacity(out);
    for first in (0..out).step_by(BAND) {
        let rows = first..out.min(first + BAND);
        let band = |matrix: &Matrix| -> Vec<f64> {
            matrix.data()[rows.start * width..rows.end * width].iter().map(|&value| f64::from(value)).collect()
        };
        let mut lost = band(before);
        lost.iter_mut().zip(band(after)).for_each(|(before, after)| *before -= after);
        let spread = linalg::product(&lost, gram, [rows.len(), width, width]);
        let rows = lost.chunks_exact(width.max(1)).zip(spread.chunks_exact(width.max(1)));
        // A quadratic form of a Gram matrix is never negative, whatever its rounding says.
        errors.extend(rows.map(|(row, spread)| row.iter().zip(spread).map(|(a, b)| a * b).sum::<f64>().max(0.0)));
    }
    errors.resize(out, 0.0);
    errors
}

/// The mean of the errors of all outputs.
pub(crate) fn mean(errors: &[f64]) -> f64 {
    errors.iter().sum::<f64>() / errors.len().max(1) as f64
}

/// The mean squared error per output, when a Gram matrix was observed.
pub(crate) fn if_observed(
    stats: &Stats,
    site: Site,
    before: &Matrix,
    after: &Matrix,
) -> Result<Option<f64>, MethodError> {
    if stats.get(site, Stat::Gram).is_none() {
        return Ok(None);
    }
    let gram = check::stat(stats, site, Stat::Gram, before.cols() * before.cols())?;
    let error = mean(&per_row(gram, before, after));
    check::finite(site, "calibration error", &[error])?;
    Ok(Some(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::Point;

    #[test]
    fn a_quadratic_form_by_hand() {
        let before = Matrix::from_vec(2, 2, vec![1.0, 2.0, 3.0, 4.0]);
        let after = Matrix::from_vec(2, 2, vec![0.0, 2.0, 2.0, 6.0]);
        // (1, 0) and (1, -2) with [[5, 2], [2, 4]]: 5, and 5 - 8 + 16.
        let errors = per_row(&[5.0, 2.0, 2.0, 4.0], &before, &after);
        assert_eq!(errors, [5.0, 13.0]);
        assert_eq!(mean(&errors), 9.0);
        let site = Site::new(0, Point::FfnIn);
        let mut stats = Stats::new(1);
        assert_eq!(if_observed(&stats, site, &before, &after), Ok(None));
        stats.insert(site, Stat::Gram, vec![5.0, 2.0, 2.0, 4.0]);
        assert_eq!(if_observed(&stats, site, &before, &after), Ok(Some(9.0)));
    }
}
