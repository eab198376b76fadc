//! Activation: keep units that speak loudly.
//!
//! Source     Muralidharan et al. 2024, Compact Language Models via Pruning and Knowledge Distillation (Minitron), arXiv:2407.14679
//! Formula    S_u = mean over the unit's columns j of mean over tokens of |x_j|
//! Shapes     x_j input j of the reader, in = units * columns per unit; S [units]
//! Needs      Stat::MeanAbs [in]
//! Parameters none
//! Cost       O(in)
//! Departs    tokens are averaged with the mean, not with an L2 norm over the batch; a KV group counts all its query heads
//! Errors     MissingStat, Shape, Params (site); Numeric for numbers that are not finite; Unsupported for other grains
//! Exactness  1e-12 against goldens/score/activation

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::MethodError;
use crate::view::View;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "activation",
        about: "keeps units whose activations are large on the mean",
        source: "Compact Language Models via Pruning and Knowledge Distillation, arXiv:2407.14679",
        formula: "S_u = mean over the unit's columns j of mean over tokens of |x_j|",
        needs: &[Stat::MeanAbs],
        parameters: &[],
        grains: &[Grain::Channel, Grain::Group],
        cost: "in operations; in numbers of 8 bytes",
        departs: "the mean over tokens, not an L2 norm over the batch; a KV group counts all its query heads",
        exactness: 1e-12,
    },
    positional: false,
    build: |_| Box::new(Activation),
};

/// Mean magnitude of a unit's activations.
#[derive(Clone, Copy, Debug)]
pub struct Activation;

impl Score for Activation {
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "only channels and groups have activations of their own")?;
        let each = view.reader_columns()?;
        let magnitudes = check::stat(stats, view.site, Stat::MeanAbs, view.units * each)?;
        let scores: Vec<f64> =
            magnitudes.chunks_exact(each).map(|columns| columns.iter().sum::<f64>() / each as f64).collect();
        check::finite(view.site, "scores", &scores)?;
        Ok(scores)
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
        let reader = Matrix::zeros(3, 4);
        let view = View { grain: Grain::Group, site, projection: None, units: 2, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::MeanAbs, vec![1.0, 2.0, 0.0, 5.0]);
        assert_eq!(Activation.score(&view, &stats).unwrap(), [1.5, 2.5]);
    }

    #[test]
    fn a_mean_beyond_the_largest_number_is_refused() {
        let site = Site::new(0, Point::AttentionOut);
        let reader = Matrix::zeros(3, 2);
        let view = View { grain: Grain::Group, site, projection: None, units: 1, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::MeanAbs, vec![f64::MAX, f64::MAX]);
        let message = Activation.score(&view, &stats).unwrap_err().to_string();
        assert_eq!(message, "block 0 attention output: scores: value 0 is inf, expected a finite number");
    }
}
