//! Numbers from outside: every weight and statistic passes here before a method reckons with it.

use crate::error::{MethodError, NumericCause};
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};

/// The `want` values of a statistic, each finite and in the statistic's range.
pub(crate) fn stat(stats: &Stats, site: Site, stat: Stat, want: usize) -> Result<&[f64], MethodError> {
    let what = name(stat);
    let values = stats.get(site, stat).ok_or(MethodError::MissingStat { stat, site })?;
    if values.len() != want {
        return Err(MethodError::Shape { site, what, want, got: values.len() });
    }
    finite(site, what, values)?;
    let wrong = |index: usize, range| {
        let cause = NumericCause::OutOfRange { what, index, value: values[index], range };
        Err(MethodError::Numeric { site, cause })
    };
    match stat {
        Stat::MeanAbs | Stat::MeanSquare | Stat::DeltaRatio => match values.iter().position(|&value| value < 0.0) {
            Some(index) => wrong(index, "no negative number"),
            None => Ok(values),
        },
        Stat::Gram => {
            let width = want.isqrt();
            match (0..width).map(|i| i * width + i).find(|&index| values[index] < 0.0) {
                Some(index) => wrong(index, "no negative number on the diagonal"),
                None => Ok(values),
            }
        }
        // A mean of cosines may pass 1 by its rounding, not by more.
        Stat::Cosine => match values.iter().position(|&value| value.abs() > 1.0 + 1e-6) {
            Some(index) => wrong(index, "-1..=1"),
            None => Ok(values),
        },
        _ => Ok(values),
    }
}

/// Refuses NaN and infinities in `values`.
pub(crate) fn finite(site: Site, what: &'static str, values: &[f64]) -> Result<(), MethodError> {
    match not_finite(what, values.iter().copied()) {
        Some(cause) => Err(MethodError::Numeric { site, cause }),
        None => Ok(()),
    }
}

/// Refuses NaN and infinities in a matrix.
pub(crate) fn weights(site: Site, what: &'static str, matrix: &Matrix) -> Result<(), MethodError> {
    floats(site, what, matrix.data())
}

/// Refuses NaN and infinities in single-precision `values`.
pub(crate) fn floats(site: Site, what: &'static str, values: &[f32]) -> Result<(), MethodError> {
    match not_finite(what, values.iter().map(|&value| f64::from(value))) {
        Some(cause) => Err(MethodError::Numeric { site, cause }),
        None => Ok(()),
    }
}

/// The first value that is NaN or infinite.
pub(crate) fn not_finite(what: &'static str, values: impl IntoIterator<Item = f64>) -> Option<NumericCause> {
    let (index, value) = values.into_iter().enumerate().find(|(_, value)| !value.is_finite())?;
    Some(NumericCause::NotFinite { what, index, value })
}

fn name(stat: Stat) -> &'static str {
    match stat {
        Stat::Mean => "mean",
        Stat::MeanAbs => "mean of magnitudes",
        Stat::MeanSquare => "mean of squares",
        Stat::Gram => "Gram matrix",
        Stat::Cosine => "cosine",
        Stat::DeltaRatio => "delta ratio",
        _ => "statistic",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::Point;

    const SITE: Site = Site { block: 2, point: Point::FfnOut };

    fn refusal(kind: Stat, values: &[f64], want: usize) -> String {
        let mut stats = Stats::new(1);
        stats.insert(SITE, kind, values.to_vec());
        stat(&stats, SITE, kind, want).unwrap_err().to_string()
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        assert_eq!(
            stat(&Stats::new(1), SITE, Stat::Mean, 1).unwrap_err(),
            MethodError::MissingStat { stat: Stat::Mean, site: SITE }
        );
        assert_eq!(refusal(Stat::Mean, &[1.0], 2), "block 2 ffn output: mean has 1, expected 2");
        assert_eq!(
            refusal(Stat::Mean, &[1.0, f64::NAN], 2),
            "block 2 ffn output: mean: value 1 is NaN, expected a finite number"
        );
        assert_eq!(
            refusal(Stat::MeanSquare, &[0.0, -1.0], 2),
            "block 2 ffn output: mean of squares: value 1 is -1, expected no negative number"
        );
        assert_eq!(
            refusal(Stat::Gram, &[1.0, -0.5, -0.5, -2.0], 4),
            "block 2 ffn output: Gram matrix: value 3 is -2, expected no negative number on the diagonal"
        );
        assert_eq!(refusal(Stat::Cosine, &[1.5], 1), "block 2 ffn output: cosine: value 0 is 1.5, expected -1..=1");
    }

    #[test]
    fn lets_sound_numbers_pass() {
        let mut stats = Stats::new(1);
        stats.insert(SITE, Stat::Gram, vec![1.0, -0.5, -0.5, 0.0]);
        stats.insert(SITE, Stat::Mean, vec![-1.0]);
        stats.insert(SITE, Stat::Cosine, vec![1.0 + 1e-9]);
        assert!(stat(&stats, SITE, Stat::Gram, 4).is_ok());
        assert!(stat(&stats, SITE, Stat::Mean, 1).is_ok());
        assert!(stat(&stats, SITE, Stat::Cosine, 1).is_ok());
        assert!(weights(SITE, "reader", &Matrix::from_vec(1, 2, vec![0.0, -1.0])).is_ok());
    }

    #[test]
    fn names_the_weight_that_is_not_finite() {
        let matrix = Matrix::from_vec(2, 2, vec![0.0, 1.0, f32::INFINITY, 1.0]);
        assert_eq!(
            weights(SITE, "reader", &matrix).unwrap_err().to_string(),
            "block 2 ffn output: reader: value 2 is inf, expected a finite number"
        );
    }
}
