//! Correlation: how much features, or heads, say the same.
//!
//! Source     after Zbontar et al. 2021, Barlow Twins: Self-Supervised Learning via Redundancy Reduction, arXiv:2103.03230
//! Formula    r_ij = C_ij / sqrt(C_ii C_jj) for features; for heads g, h: C_gh = E <y_g - mean, y_h - mean>, with y_h = W_h x_h what
//!            head h writes, which is the sum over i in g, j in h of Cov(x)_ij (W^T W)_ij
//! Shapes     features x `[n]`; W [out, n] their reader; heads of n / heads columns each
//! Needs      Stat::Mean `[n]`, Stat::Gram [n, n]
//! Parameters thresholds of |r|
//! Cost       n^2 operations for features; out * n^2 for heads
//! Departs    the source correlates two views of one picture, here one text is seen once: the diagonal says nothing, what is off it is
//!            redundancy
//! Errors     MissingStat, Shape, Params (site, heads); Numeric for numbers that are not finite
//! Exactness  1e-9 against goldens/metric/correlation

use crate::check;
use crate::error::MethodError;
use crate::linalg;
use crate::moments::Moments;
use pare_model::matrix::Matrix;
use pare_model::site::Site;
use pare_model::stats::{Stat, Stats};
use serde::Serialize;

/// How much of what is said is said twice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Features, or heads, that vary; the others are left out of all figures.
    pub varying: usize,
    /// Those that are constant, but for rounding.
    pub constant: usize,
    /// For each threshold: the share of pairs whose `|r|` is above it. 0 without pairs.
    pub above: Vec<Above>,
    /// Mean over features of the largest `|r|` with another one: 1 where everything has a copy.
    pub mean_strongest: f64,
    /// Mean of `r^2` over pairs: the redundancy term of the source.
    pub mean_square: f64,
}

/// Pairs beyond a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Above {
    /// The threshold of `|r|`.
    pub threshold: f64,
    /// Share of pairs above it.
    pub share: f64,
}

/// A variance below this share of the mean square is rounding.
const CONSTANT: f64 = 1e-10;

/// Between the `width` features at `site`.
///
/// # Errors
/// `MissingStat`, `Shape`, `Numeric`.
pub fn of_features(stats: &Stats, site: Site, width: usize, thresholds: &[f64]) -> Result<Correlation, MethodError> {
    let (covariance, squares) = moments(stats, site, width)?;
    Ok(of(&covariance, &squares, thresholds))
}

/// Between what `heads` write through `reader` `[out, n]`; the heads have equally many neighbouring columns.
///
/// # Errors
/// `Params` when the columns are not a whole number for each head; `MissingStat`, `Shape`, `Numeric`.
pub fn of_heads(
    stats: &Stats,
    site: Site,
    reader: &Matrix,
    heads: usize,
    thresholds: &[f64],
) -> Result<Correlation, MethodError> {
    let [out, width] = reader.shape();
    let each = match width.checked_div(heads) {
        Some(each) if each > 0 && each * heads == width => each,
        _ => return Err(MethodError::Params { key: "heads", why: format!("{heads} of {width} columns") }),
    };
    check::weights(site, "reader", reader)?;
    let (covariance, squares) = moments(stats, site, width)?;
    let weights: Vec<f64> = reader.data().iter().map(|&w| f64::from(w)).collect();
    let transposed: Vec<f64> = (0..width * out).map(|at| weights[(at % out) * width + at / out]).collect();
    let overlap = linalg::product(&transposed, &weights, [width, out, width]);
    let gram = check::stat(stats, site, Stat::Gram, width * width)?;
    let mut between = vec![0.0; heads * heads];
    let mut written = vec![0.0; heads];
    for (i, (row, overlap)) in covariance.chunks_exact(width).zip(overlap.chunks_exact(width)).enumerate() {
        for (j, (c, k)) in row.iter().zip(overlap).enumerate() {
            between[(i / each) * heads + j / each] += c * k;
            if i / each == j / each {
                written[i / each] += gram[i * width + j] * k;
            }
        }
    }
    // Inputs that are all constant write a constant, whatever the rounding says.
    for head in 0..heads {
        if (head * each..(head + 1) * each).all(|i| covariance[i * width + i] <= CONSTANT * squares[i]) {
            between[head * heads + head] = 0.0;
        }
    }
    check::finite(site, "correlation of heads", &between)?;
    Ok(of(&between, &written, thresholds))
}

/// The covariance `[n, n]` and the mean squares `[n]`.
fn moments(stats: &Stats, site: Site, width: usize) -> Result<(Vec<f64>, Vec<f64>), MethodError> {
    let all: Vec<usize> = (0..width).collect();
    let covariance = Moments::centred(stats, site, width)?.block(&all, &all);
    let gram = check::stat(stats, site, Stat::Gram, width * width)?;
    Ok((covariance, (0..width).map(|j| gram[j * width + j]).collect()))
}

/// From a covariance and the mean squares that its diagonal is a part of.
fn of(covariance: &[f64], squares: &[f64], thresholds: &[f64]) -> Correlation {
    let count = squares.len();
    let variance = |i: usize| covariance[i * count + i];
    let varying: Vec<usize> = (0..count).filter(|&i| variance(i) > CONSTANT * squares[i]).collect();
    let mut above = vec![0_u64; thresholds.len()];
    let mut strongest = vec![0.0_f64; varying.len()];
    let mut sum = 0.0;
    for (a, &i) in varying.iter().enumerate() {
        for (b, &j) in varying.iter().enumerate().skip(a + 1) {
            let r = (covariance[i * count + j] / (variance(i).sqrt() * variance(j).sqrt())).abs().min(1.0);
            above.iter_mut().zip(thresholds).for_each(|(above, &threshold)| *above += u64::from(r > threshold));
            strongest[a] = strongest[a].max(r);
            strongest[b] = strongest[b].max(r);
            sum += r * r;
        }
    }
    let pairs = (varying.len() * varying.len().saturating_sub(1) / 2).max(1) as f64;
    let share = |(&threshold, &above): (&f64, &u64)| Above { threshold, share: above as f64 / pairs };
    Correlation {
        varying: varying.len(),
        constant: count - varying.len(),
        above: thresholds.iter().zip(&above).map(share).collect(),
        mean_strongest: strongest.iter().sum::<f64>() / varying.len().max(1) as f64,
        mean_square: sum / pairs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::Point;

    const SITE: Site = Site { block: 0, point: Point::AttentionOut };

    /// Statistics of tokens `[T, n]`.
    fn stats<const N: usize>(tokens: &[[f64; N]]) -> Stats {
        let count = tokens.len() as f64;
        let mean = (0..N).map(|j| tokens.iter().map(|x| x[j]).sum::<f64>() / count).collect();
        let gram = (0..N * N).map(|at| tokens.iter().map(|x| x[at / N] * x[at % N]).sum::<f64>() / count).collect();
        let mut stats = Stats::new(tokens.len() as u64);
        stats.insert(SITE, Stat::Mean, mean);
        stats.insert(SITE, Stat::Gram, gram);
        stats
    }

    #[test]
    fn features_by_hand() {
        // The second is the first turned over and moved; the third goes with neither; the last is constant.
        let stats =
            stats(&[[1.0, 3.0, 1.0, 0.1], [1.0, 3.0, -1.0, 0.1], [-1.0, 5.0, 1.0, 0.1], [-1.0, 5.0, -1.0, 0.1]]);
        let found = of_features(&stats, SITE, 4, &[0.5, 1.0]).unwrap();
        assert_eq!((found.varying, found.constant), (3, 1));
        assert!((found.above[0].share - 1.0 / 3.0).abs() < 1e-12 && found.above[1].share == 0.0, "{found:?}");
        assert!((found.mean_strongest - 2.0 / 3.0).abs() < 1e-12);
        assert!((found.mean_square - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn heads_by_hand() {
        // Both heads see their own inputs; the reader turns the second head's into what the first writes, or into something else.
        let stats = stats(&[[1.0, 1.0], [-1.0, -1.0], [2.0, 2.0], [-2.0, -2.0]]);
        let heads = |reader: Vec<f32>| of_heads(&stats, SITE, &Matrix::from_vec(2, 2, reader), 2, &[0.9]).unwrap();
        assert_eq!(heads(vec![1.0, 3.0, 0.0, 0.0]).above[0].share, 1.0);
        assert_eq!(heads(vec![1.0, 0.0, 0.0, 1.0]).mean_strongest, 0.0);
        // At an angle of 45 degrees: r = cos 45.
        let r = heads(vec![1.0, 1.0, 0.0, 1.0]).mean_strongest;
        assert!((r - 0.5_f64.sqrt()).abs() < 1e-12, "{r}");
    }

    #[test]
    fn nothing_to_compare_is_no_redundancy() {
        let stats = stats(&[[1.0], [2.0]]);
        let found = of_features(&stats, SITE, 1, &[0.5]).unwrap();
        assert_eq!((found.above[0].share, found.mean_strongest, found.mean_square), (0.0, 0.0, 0.0));
        let message = of_heads(&stats, SITE, &Matrix::zeros(2, 4), 3, &[]).unwrap_err().to_string();
        assert_eq!(message, "parameter heads: 3 of 4 columns");
    }
}
