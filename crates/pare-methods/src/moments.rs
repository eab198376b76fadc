//! Second moments of a reader's inputs, and the calibration error of a cut as their quadratic form.

use crate::check;
use crate::cut::Cut;
use crate::error::MethodError;
use crate::linalg;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};

/// What calibration knows of the `n` inputs of a reader, enough for the exact mean squared error of any linear change.
pub(crate) struct Moments {
    width: usize,
    /// `[n, n]`: the covariance when there is a mean, the Gram matrix otherwise.
    second: Vec<f64>,
    mean: Option<Vec<f64>>,
}

impl Moments {
    /// Mean and covariance: for repairs that may move the bias.
    pub(crate) fn centred(stats: &Stats, site: Site, width: usize) -> Result<Self, MethodError> {
        let mean = check::stat(stats, site, Stat::Mean, width)?.to_vec();
        let mut second = check::stat(stats, site, Stat::Gram, width * width)?.to_vec();
        for (i, row) in second.chunks_exact_mut(width.max(1)).enumerate() {
            for (value, other) in row.iter_mut().zip(&mean) {
                *value -= mean[i] * other;
            }
            // A constant input has no variance, whatever the rounding of the difference says.
            if row[i] < 0.0 {
                row[i] = 0.0;
            }
        }
        check::finite(site, "covariance", &second)?;
        Ok(Self { width, second, mean: Some(mean) })
    }

    /// The Gram matrix: for repairs that leave the bias alone.
    pub(crate) fn raw(stats: &Stats, site: Site, width: usize) -> Result<Self, MethodError> {
        let second = check::stat(stats, site, Stat::Gram, width * width)?.to_vec();
        Ok(Self { width, second, mean: None })
    }

    /// The mean per input; none when the moments are not centred.
    pub(crate) fn mean(&self) -> Option<&[f64]> {
        self.mean.as_deref()
    }

    /// The block of `rows` and `cols`, row by row.
    pub(crate) fn block(&self, rows: &[usize], cols: &[usize]) -> Vec<f64> {
        rows.iter().flat_map(|&row| cols.iter().map(move |&col| self.second[row * self.width + col])).collect()
    }

    /// `E ||W x + b - W' x_K - b'||^2 / out` over the calibration inputs, with `weight` W' `[out, kept]` and `bias` b'.
    ///
    /// Moments that are not centred take the bias for unchanged. An error beyond the largest number is `Numeric`.
    pub(crate) fn error(&self, cut: &Cut<'_>, weight: &Matrix, bias: Option<&[f32]>) -> Result<f64, MethodError> {
        let [out, width] = cut.reader.shape();
        // D = W - W', zero outside the columns that changed: `[out, n]`
        let mut change: Vec<f64> = cut.reader.data().iter().map(|&w| f64::from(w)).collect();
        for (row, values) in change.chunks_exact_mut(width.max(1)).enumerate() {
            for (&col, &after) in cut.kept.iter().zip(weight.row(row)) {
                values[col] -= f64::from(after);
            }
        }
        let active: Vec<usize> = (0..width).filter(|col| (0..out).any(|o| change[o * width + col] != 0.0)).collect();
        let change: Vec<f64> =
            (0..out).flat_map(|o| active.iter().map(move |col| o * width + col)).map(|at| change[at]).collect();
        let size = active.len();
        let spread = linalg::product(&change, &self.block(&active, &active), [out, size, size]);
        let mut sum = 0.0;
        for o in 0..out {
            let (row, spread) = (&change[o * size..(o + 1) * size], &spread[o * size..(o + 1) * size]);
            sum += dot(row, spread).max(0.0);
            if let Some(mean) = &self.mean {
                let at = |bias: Option<&[f32]>| bias.map_or(0.0, |bias| f64::from(bias[o]));
                let shift: f64 = row.iter().zip(&active).map(|(d, &col)| d * mean[col]).sum();
                sum += (shift + at(cut.bias) - at(bias)).powi(2);
            }
        }
        let error = sum / out.max(1) as f64;
        check::finite(cut.site, "calibration error", &[error])?;
        Ok(error)
    }
}

/// Mean squared calibration error per output of `after` in the place of `before`; none when no Gram matrix was observed.
pub(crate) fn change(stats: &Stats, site: Site, before: &Matrix, after: &Matrix) -> Result<Option<f64>, MethodError> {
    if stats.get(site, Stat::Gram).is_none() {
        return Ok(None);
    }
    let kept: Vec<usize> = (0..before.cols()).collect();
    let cut = Cut { site, reader: before, bias: None, kept: &kept, bias_allowed: false };
    Moments::raw(stats, site, before.cols())?.error(&cut, after, None).map(Some)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::Point;

    const SITE: Site = Site { block: 0, point: Point::FfnOut };

    /// Two tokens, x = (1, 2) and (3, -1).
    fn stats() -> Stats {
        let mut stats = Stats::new(2);
        stats.insert(SITE, Stat::Mean, vec![2.0, 0.5]);
        stats.insert(SITE, Stat::Gram, vec![5.0, -0.5, -0.5, 2.5]);
        stats
    }

    #[test]
    fn covariance_by_hand() {
        let moments = Moments::centred(&stats(), SITE, 2).unwrap();
        assert_eq!(moments.block(&[0, 1], &[0, 1]), [1.0, -1.5, -1.5, 2.25]);
        assert_eq!(moments.mean(), Some([2.0, 0.5].as_slice()));
        assert_eq!(moments.block(&[1], &[0]), [-1.5]);
    }

    #[test]
    fn error_by_hand() {
        // W = [2, 1] gives 4 and 5. Kept: column 0 with weight 1.5 and bias 1 gives 2.5 and 5.5: errors 1.5 and -0.5.
        let reader = Matrix::from_vec(1, 2, vec![2.0, 1.0]);
        let cut = Cut { site: SITE, reader: &reader, bias: None, kept: &[0], bias_allowed: true };
        let weight = Matrix::from_vec(1, 1, vec![1.5]);
        let moments = Moments::centred(&stats(), SITE, 2).unwrap();
        assert_eq!(moments.error(&cut, &weight, Some(&[1.0])).unwrap(), (1.5_f64.powi(2) + 0.5_f64.powi(2)) / 2.0);
        // Without the bias: 1.5 and 4.5 against 4 and 5.
        let raw = Moments::raw(&stats(), SITE, 2).unwrap();
        assert_eq!(raw.error(&cut, &weight, None).unwrap(), (2.5_f64.powi(2) + 0.5_f64.powi(2)) / 2.0);
        assert_eq!(moments.error(&cut, &weight, None).unwrap(), (2.5_f64.powi(2) + 0.5_f64.powi(2)) / 2.0);
    }

    #[test]
    fn numbers_beyond_the_largest_are_refused() {
        let mut stats = stats();
        let reader = Matrix::from_vec(1, 2, vec![3e38, 1.0]);
        let cut = Cut { site: SITE, reader: &reader, bias: None, kept: &[1], bias_allowed: true };
        stats.insert(SITE, Stat::Gram, vec![1e300, 0.0, 0.0, 1.0]);
        let moments = Moments::centred(&stats, SITE, 2).unwrap();
        let message = moments.error(&cut, &cut.plain().weight, None).unwrap_err().to_string();
        assert_eq!(message, "block 0 ffn output: calibration error: value 0 is inf, expected a finite number");
        stats.insert(SITE, Stat::Mean, vec![1e200, 1e200]);
        let message = Moments::centred(&stats, SITE, 2).err().unwrap().to_string();
        assert_eq!(message, "block 0 ffn output: covariance: value 1 is -inf, expected a finite number");
    }

    #[test]
    fn a_constant_input_has_no_variance() {
        let mut stats = Stats::new(3);
        stats.insert(SITE, Stat::Mean, vec![0.1]);
        stats.insert(SITE, Stat::Gram, vec![0.1 * 0.1 - 1e-18]);
        assert_eq!(Moments::centred(&stats, SITE, 1).unwrap().block(&[0], &[0]), [0.0]);
    }
}
