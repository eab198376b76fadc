//! One layer by least squares: what both models give on average, from aligned inputs.

use super::super::Joint;
use crate::error::NumericCause;
use crate::linalg;
use pare_model::matrix::Matrix;
use pare_model::storage::Dense;
use pare_model::weight::Linear;
use std::sync::Arc;

/// A feature of the merged model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Feature {
    /// The mean of one of the first model and one of the second.
    Both(usize, usize),
    /// One of the first model.
    First(usize),
    /// One of the second.
    Second(usize),
}

impl Feature {
    /// What it is made of: share and index in each model.
    fn shares(self) -> ((f64, Option<usize>), (f64, Option<usize>)) {
        match self {
            Self::Both(first, second) => ((0.5, Some(first)), (0.5, Some(second))),
            Self::First(first) => ((1.0, Some(first)), (0.0, None)),
            Self::Second(second) => ((0.0, None), (1.0, Some(second))),
        }
    }
}

/// The aligned inputs z of a layer, and the differences d = x - P y of those that are merged, as moments.
pub(super) struct Aligned {
    features: Vec<Feature>,
    /// `E z z^T`, `[n, n]`.
    gram: Vec<f64>,
    /// `E d z^T`, `[k, n]`.
    cross: Vec<f64>,
    /// `E d d^T`, `[k, k]`.
    spread: Vec<f64>,
}

/// A layer that was solved.
pub(super) struct Solved {
    pub(super) linear: Linear,
    /// Damping that was needed; none when the aligned average is a solution.
    pub(super) damping: Option<f64>,
    /// Mean squared error per output of the aligned average.
    pub(super) error_before: f64,
    /// The same of the solution.
    pub(super) error_after: f64,
}

impl Aligned {
    pub(super) fn new(joint: &Joint, features: Vec<Feature>) -> Self {
        let n = joint.width();
        let parts = |feature: &Feature| {
            let ((of_first, first), (of_second, second)) = feature.shares();
            let first = first.map(|index| (of_first, index));
            [first, second.map(|index| (of_second, n + index))]
        };
        let difference = |feature: &Feature| match *feature {
            Feature::Both(first, second) => Some([Some((1.0, first)), Some((-1.0, n + second))]),
            _ => None,
        };
        let inputs: Vec<_> = features.iter().map(parts).collect();
        let differences: Vec<_> = features.iter().filter_map(difference).collect();
        Self {
            gram: moments(joint, &inputs, &inputs),
            cross: moments(joint, &differences, &inputs),
            spread: moments(joint, &differences, &differences),
            features,
        }
    }

    /// The layer from these inputs to `outputs` in the place of `first` and `second`.
    pub(super) fn fit(
        &self,
        first: &Linear,
        second: &Linear,
        outputs: &[Feature],
        damping: f64,
    ) -> Result<Solved, NumericCause> {
        let (n, rows) = (self.features.len(), outputs.len());
        let k = self.spread.len().isqrt();
        let (a, b) = (first.to_matrix(), second.to_matrix());
        let mut average = Vec::with_capacity(rows * n);
        let mut slopes = Vec::with_capacity(rows * k);
        for output in outputs {
            let (of_first, of_second) = output.shares();
            let weight = |(share, row): (f64, Option<usize>), matrix: &Matrix, col: Option<usize>| {
                row.zip(col).map_or(0.0, |(row, col)| share * f64::from(matrix.row(row)[col]))
            };
            for feature in &self.features {
                let ((_, i), (_, j)) = feature.shares();
                let (from_a, from_b) = (weight(of_first, &a, i), weight(of_second, &b, j));
                average.push(from_a + from_b);
                if matches!(feature, Feature::Both(..)) {
                    slopes.push(0.5 * (from_a - from_b));
                }
            }
        }
        let mut solved = Solved { linear: first.clone(), damping: None, error_before: 0.0, error_after: 0.0 };
        // What the average misses is slopes times differences: with equal weights or equal inputs, nothing.
        let missed = linalg::product(&slopes, &self.cross, [rows, k, n]);
        if rows > 0 {
            let spread = linalg::product(&slopes, &self.spread, [rows, k, k]);
            solved.error_before = dot(&slopes, &spread).max(0.0) / rows as f64;
            solved.error_after = solved.error_before;
        }
        if missed.iter().any(|&value| value != 0.0) {
            let mut change = missed.clone();
            let damping = linalg::solve_spd(&self.gram, n, &mut change, damping)?;
            solved.damping = Some(damping);
            average.iter_mut().zip(&change).for_each(|(weight, change)| *weight += change);
            // Its own product with the Gram matrix is what was missed, less the damping.
            let ridge = damping * (0..n).map(|i| self.gram[i * n + i]).sum::<f64>() / n as f64;
            let gain = dot(&change, &missed) + ridge * dot(&change, &change);
            solved.error_after = (solved.error_before - gain / rows as f64).max(0.0);
        }
        if let Some(index) = average.iter().position(|value| !(*value as f32).is_finite()) {
            return Err(NumericCause::NotFinite { what: "merged weight", index, value: average[index] });
        }
        let bias = first.bias.as_ref().zip(second.bias.as_ref()).map(|(first, second)| {
            let of =
                |(share, row): (f64, Option<usize>), bias: &[f32]| row.map_or(0.0, |row| share * f64::from(bias[row]));
            let mixed = outputs.iter().map(|output| {
                let (of_first, of_second) = output.shares();
                (of(of_first, first) + of(of_second, second)) as f32
            });
            mixed.collect()
        });
        let weight = Matrix::from_vec(rows, n, average.into_iter().map(|value| value as f32).collect());
        solved.linear = Linear { weight: Arc::new(Dense(weight)), bias };
        Ok(solved)
    }
}

/// A sum of activations of both models: shares and indices.
type Mixture = [Option<(f64, usize)>; 2];

/// `E u v^T` for mixtures `u` of `rows` and `v` of `cols`.
fn moments(joint: &Joint, rows: &[Mixture], cols: &[Mixture]) -> Vec<f64> {
    let mut moments = Vec::with_capacity(rows.len() * cols.len());
    let mut mixed = vec![0.0; 2 * joint.width()];
    for row in rows {
        mixed.fill(0.0);
        for &(share, i) in row.iter().flatten() {
            mixed.iter_mut().zip(joint.row(i)).for_each(|(sum, value)| *sum += share * value);
        }
        moments.extend(cols.iter().map(|col| col.iter().flatten().map(|&(share, j)| share * mixed[j]).sum::<f64>()));
    }
    moments
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
