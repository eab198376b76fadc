//! Fluctuation: keep units whose outputs vary, since a constant output can be folded into a bias.
//!
//! Source     An et al. 2023, Fluctuation-based Adaptive Structured Pruning for Large Language Models (FLAP), arXiv:2312.11983
//! Formula    v_j = Var(x_j) * sum over outputs i of W_ij^2 (the paper's WIFV), squared where a unit has several columns;
//!            z_j = (v_j - mean v) / std v over the columns of W, std with in - 1; S_u = mean over the unit's columns j of z_j
//! Shapes     W [out, in] the reader, x_j its input j, in = units * columns per unit; S [units]
//! Needs      Stat::Mean [in], Stat::MeanSquare [in]; Var = MeanSquare - Mean^2, at least 0
//! Parameters none
//! Cost       O(out * in), summed in f64
//! Departs    the variance divides by the tokens, not by one less; a KV group counts all its query heads; the square for attention is the
//!            authors' code's
//! Errors     MissingStat, Shape, Params (site); Numeric for numbers that are not finite; Unsupported for other grains
//! Exactness  1e-9 against goldens/score/fluctuation (a variance is a difference of larger numbers)
//!
//! Numbers of different blocks, and of heads and channels, compare as they are: the allocation `ranking` ranks them together.

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::MethodError;
use crate::view::View;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "fluctuation",
        about: "keeps units whose outputs vary, standardised over their matrix; what is constant can be folded into a bias",
        source: "Fluctuation-based Adaptive Structured Pruning for Large Language Models, arXiv:2312.11983",
        formula: "v_j = Var(x_j) * sum over outputs i of W_ij^2 (the paper's WIFV), squared where a unit has several \
            columns; z_j = (v_j - mean v) / std v over the columns of W, std with in - 1; S_u = mean over the unit's \
            columns j of z_j",
        needs: &[Stat::Mean, Stat::MeanSquare],
        parameters: &[],
        grains: &[Grain::Channel, Grain::Group],
        cost: "out * in operations; 2 * in numbers of 8 bytes",
        departs: "the variance divides by the tokens, not by one less; a KV group counts all its query heads",
        exactness: 1e-9,
    },
    positional: false,
    build: |_| Box::new(Fluctuation),
};

/// Variance of the inputs, weighted with the squares of the weights that read them.
#[derive(Clone, Copy, Debug)]
pub struct Fluctuation;

impl Score for Fluctuation {
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "only channels and groups have outputs that a bias can stand for")?;
        let reader = view.reader()?;
        check::weights(view.site, "reader", reader)?;
        let mean = check::stat(stats, view.site, Stat::Mean, reader.cols())?;
        let squares = check::stat(stats, view.site, Stat::MeanSquare, reader.cols())?;
        let mut weights = vec![0.0; reader.cols()];
        for row in 0..reader.rows() {
            for (sum, &w) in weights.iter_mut().zip(reader.row(row)) {
                *sum += f64::from(w).powi(2);
            }
        }
        let columns = view.reader_columns()?;
        let power = if columns > 1 { 2 } else { 1 };
        let mut varying: Vec<f64> = mean
            .iter()
            .zip(squares)
            .zip(&weights)
            .map(|((mean, square), weight)| ((square - mean * mean).max(0.0) * weight).powi(power))
            .collect();
        check::finite(view.site, "scores", &varying)?;
        standardise(&mut varying);
        let of_unit = |columns: &[f64]| columns.iter().sum::<f64>() / columns.len() as f64;
        Ok(varying.chunks_exact(columns).map(of_unit).collect())
    }
}

/// `(v - mean) / std`, 0 where all are equal; the sums do not depend on the order.
fn standardise(values: &mut [f64]) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let largest = sorted.last().copied().unwrap_or(0.0);
    if sorted.first() == sorted.last() {
        values.fill(0.0);
        return;
    }
    // None is negative: scaled to the largest, no square overflows.
    let count = sorted.len() as f64;
    let mean = sorted.iter().map(|v| v / largest).sum::<f64>() / count;
    let square = sorted.iter().map(|v| (v / largest - mean).powi(2)).sum::<f64>();
    let deviation = (square / (count - 1.0)).sqrt();
    for value in values {
        *value = (*value / largest - mean) / deviation;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::matrix::Matrix;
    use pare_model::site::{Point, Site};

    #[test]
    fn by_hand() {
        let site = Site::new(0, Point::AttentionOut);
        let reader = Matrix::from_vec(2, 4, vec![1.0, 2.0, 3.0, 0.0, -1.0, 0.0, 1.0, 5.0]);
        let view = View { grain: Grain::Group, site, projection: None, units: 2, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Mean, vec![1.0, 0.0, -2.0, 3.0]);
        stats.insert(site, Stat::MeanSquare, vec![3.0, 1.0, 4.5, 9.0]);
        // Variances 2, 1, 0.5, 0; squares of the columns 2, 4, 10, 25: 4, 4, 5, 0, as squares 16, 16, 25, 0, of mean 14.25 and of
        // std sqrt(324.75 / 3); 1.75 and 1.75, 10.75 and -14.25 off the mean.
        let std = (324.75_f64 / 3.0).sqrt();
        let scores = Fluctuation.score(&view, &stats).unwrap();
        assert!((scores[0] - 1.75 / std).abs() < 1e-12 && (scores[1] + 1.75 / std).abs() < 1e-12, "{scores:?}");
        // Channels are not squared: 4, 4, 5, 0 of mean 3.25 and of std sqrt(14.75 / 3).
        let site = Site::new(0, Point::FfnOut);
        let mut channels = Stats::new(1);
        channels.insert(site, Stat::Mean, vec![1.0, 0.0, -2.0, 3.0]);
        channels.insert(site, Stat::MeanSquare, vec![3.0, 1.0, 4.5, 9.0]);
        let view = View { grain: Grain::Channel, site, units: 4, ..view };
        let scores = Fluctuation.score(&view, &channels).unwrap();
        let std = (14.75_f64 / 3.0).sqrt();
        let want = [0.75, 0.75, 1.75, -3.25].map(|off| off / std);
        assert!(scores.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{scores:?}");
    }

    #[test]
    fn rounding_makes_no_variance_negative() {
        let site = Site::new(0, Point::FfnOut);
        let reader = Matrix::from_vec(1, 1, vec![1.0]);
        let view =
            View { grain: Grain::Channel, site, projection: None, units: 1, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Mean, vec![0.1]);
        stats.insert(site, Stat::MeanSquare, vec![0.1 * 0.1 - 1e-18]);
        assert_eq!(Fluctuation.score(&view, &stats).unwrap(), [0.0]);
    }
}
