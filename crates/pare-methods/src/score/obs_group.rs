//! OBS group: keep units that the others cannot stand in for, even after the best repair.
//!
//! Source     Li et al. 2025, Tyr-the-Pruner, arXiv:2503.09657; single weights: Hassibi and Stork 1992, Optimal Brain Surgeon
//! Formula    S_g = 1/2 sum over outputs o of w_og^T ([H^-1]_gg)^-1 w_og, H = Gram + d I; of a single weight w_oj^2 / (2 [H^-1]_jj)
//! Shapes     W [out, in] the reader, w_og the unit's weights in output o; H [in, in]; S [units], or [out * in] row by row
//! Needs      Stat::Gram [in, in]
//! Parameters none; d = 0.01 of the mean diagonal, as in the source
//! Cost       O(in^3 + out * in * columns per unit); 24 * in^2 bytes
//! Departs    the first-order term is left out (it vanishes for weights that already minimise the layer's error; the source keeps one,
//!            G = H W); all units are scored at once from the whole H, where the source removes 16 channels or one head at a time and
//!            updates H^-1 (its code: 16 rounds for channels, 1 for heads); an input that is always 0 is worth 0
//! Errors     MissingStat, Shape, Params (site, projection); Numeric: not finite, not positive definite at this damping; Unsupported
//! Exactness  1e-9 against goldens/score/obs_group
//!
//! Twice the score of a unit is the rise of E||W x||^2 error that remains after the kept columns are re-solved by least squares.

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::{MethodError, NumericCause};
use crate::linalg;
use crate::view::View;
use pare_model::matrix::Matrix;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "obs-group",
        about: "keeps units that the others cannot stand in for, even after the best repair",
        source: "Tyr-the-Pruner: Structural Pruning LLMs via Global Sparsity Distribution Optimization, arXiv:2503.09657",
        formula: "S_g = 1/2 sum over outputs o of w_og^T ([H^-1]_gg)^-1 w_og, H = Gram + d I; of a single weight \
            w_oj^2 / (2 [H^-1]_jj)",
        needs: &[Stat::Gram],
        parameters: &[],
        grains: &[Grain::Weight, Grain::Channel, Grain::Group],
        cost: "in^3 + out * in * columns per unit operations; 3 * in^2 numbers of 8 bytes",
        departs: "no first-order term; one round from the whole matrix, where the source removes in rounds",
        exactness: 1e-9,
    },
    positional: false,
    build: |_| Box::new(ObsGroup),
};

/// Damping relative to the mean diagonal.
const DAMPING: f64 = 0.01;

/// Error that removing a unit leaves after the best repair.
#[derive(Clone, Copy, Debug)]
pub struct ObsGroup;

impl Score for ObsGroup {
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "a part has no single input; use block-influence")?;
        let reader = view.reader()?;
        check::weights(view.site, "reader", reader)?;
        let width = reader.cols();
        let gram = check::stat(stats, view.site, Stat::Gram, width * width)?;
        let alive: Vec<bool> = (0..width).map(|j| gram[j * width + j] > 0.0).collect();
        if alive.iter().all(|alive| !alive) {
            return Ok(vec![0.0; view.units]);
        }
        let numeric = |cause| MethodError::Numeric { site: view.site, cause };
        let inverse = inverse(gram, width, DAMPING).map_err(numeric)?;
        let weight = |w: f32, j: usize| if alive[j] { f64::from(w) } else { 0.0 };
        let scores: Vec<f64> = match view.grain {
            Grain::Weight => {
                let score = |(j, &w): (usize, &f32)| weight(w, j).powi(2) / (2.0 * inverse[j * width + j]);
                (0..reader.rows()).flat_map(|row| reader.row(row).iter().enumerate().map(score)).collect()
            }
            _ => {
                let each = view.reader_columns()?;
                let units = (0..view.units).map(|unit| of_unit(reader, unit * each, each, &inverse, weight));
                units.collect::<Result<_, _>>().map_err(numeric)?
            }
        };
        check::finite(view.site, "scores", &scores)?;
        Ok(scores)
    }
}

/// The inverse of `a` with this damping and no other: a score has no place to report a larger one.
fn inverse(a: &[f64], n: usize, damping: f64) -> Result<Vec<f64>, NumericCause> {
    let (inverse, used) = linalg::inverse_spd(a, n, damping)?;
    if used > damping {
        return Err(NumericCause::NotPositiveDefinite { damping });
    }
    Ok(inverse)
}

fn of_unit(
    reader: &Matrix,
    first: usize,
    each: usize,
    inverse: &[f64],
    weight: impl Fn(f32, usize) -> f64,
) -> Result<f64, NumericCause> {
    let [out, width] = reader.shape();
    // One right-hand side of `each` numbers per output.
    let weights: Vec<f64> = (0..out)
        .flat_map(|row| reader.row(row)[first..first + each].iter().enumerate())
        .map(|(at, &w)| weight(w, first + at))
        .collect();
    let mut solved = weights.clone();
    if each == 1 {
        solved.iter_mut().for_each(|w| *w /= inverse[first * width + first]);
    } else {
        let block: Vec<f64> = (first..first + each)
            .flat_map(|i| inverse[i * width + first..i * width + first + each].iter().copied())
            .collect();
        // A block of an inverse of a damped matrix needs no damping of its own; this one is below its rounding.
        let used = linalg::solve_spd(&block, each, &mut solved, 1e-15)?;
        if used > 1e-12 {
            return Err(NumericCause::NotPositiveDefinite { damping: DAMPING });
        }
    }
    Ok(0.5 * weights.iter().zip(&solved).map(|(a, b)| a * b).sum::<f64>().max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::{Point, Projection, Site};

    /// Damped by 0.01 of its mean diagonal 2: [[2.02, 1], [1, 2.02]] has the determinant 3.0804.
    const GRAM: [f64; 4] = [2.0, 1.0, 1.0, 2.0];

    fn close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{got:?} {want:?}");
    }

    #[test]
    fn channels_and_weights_by_hand() {
        // [H^-1]_jj = 2.02 / 3.0804, so a squared weight counts 3.0804 / (2 * 2.02).
        let factor = 3.0804 / 4.04;
        let reader = Matrix::from_vec(2, 2, vec![1.0, 2.0, 3.0, 0.0]);
        let site = Site::new(0, Point::FfnOut);
        let view =
            View { grain: Grain::Channel, site, projection: None, units: 2, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Gram, GRAM.to_vec());
        close(&ObsGroup.score(&view, &stats).unwrap(), &[10.0 * factor, 4.0 * factor]);
        let view = View { grain: Grain::Weight, projection: Some(Projection::Down), units: 4, ..view };
        close(&ObsGroup.score(&view, &stats).unwrap(), &[factor, 4.0 * factor, 9.0 * factor, 0.0]);
    }

    #[test]
    fn a_group_of_all_inputs_loses_the_whole_output() {
        // The block is the whole inverse: the score is 1/2 w^T H w = (2.02 + 8.08 + 4) / 2 for w = (1, 2).
        let reader = Matrix::from_vec(1, 2, vec![1.0, 2.0]);
        let site = Site::new(0, Point::AttentionOut);
        let view = View { grain: Grain::Group, site, projection: None, units: 1, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Gram, GRAM.to_vec());
        close(&ObsGroup.score(&view, &stats).unwrap(), &[7.05]);
    }

    #[test]
    fn an_input_that_is_always_zero_is_worth_nothing() {
        let reader = Matrix::from_vec(1, 2, vec![5.0, 1.0]);
        let site = Site::new(0, Point::FfnOut);
        let view =
            View { grain: Grain::Channel, site, projection: None, units: 2, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Gram, vec![0.0, 0.0, 0.0, 2.0]);
        close(&ObsGroup.score(&view, &stats).unwrap(), &[0.0, 1.005]);
    }

    #[test]
    fn a_matrix_that_is_no_gram_matrix_is_refused_and_not_damped_further() {
        let reader = Matrix::from_vec(1, 2, vec![5.0, 1.0]);
        let site = Site::new(0, Point::FfnOut);
        let view =
            View { grain: Grain::Channel, site, projection: None, units: 2, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Gram, vec![1.0, 1.05, 1.05, 1.0]);
        let message = ObsGroup.score(&view, &stats).unwrap_err().to_string();
        let want = "the Gram matrix is not positive definite even with damping 1e-2 of its mean diagonal";
        assert_eq!(message, format!("block 0 ffn output: {want}"));
    }
}
