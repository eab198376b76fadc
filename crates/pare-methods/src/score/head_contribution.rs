//! Head contribution: keep units that write much into the residual stream.
//!
//! Source     after the usage share of Su et al. 2025, SHRP: Specialized Head Routing and Pruning for Efficient Encoder Compression,
//!            arXiv:2512.20635, from its abstract; the quantity itself is folklore: the energy of a summand of the output
//! Formula    S_g = mean over tokens of ||W_g x_g||^2 = trace(W_g G_gg W_g^T), where W_g, x_g are the unit's columns and their inputs
//! Shapes     W [out, in] the reader; G [in, in] the Gram matrix of its inputs, G_gg the unit's diagonal block; S [units]
//! Needs      Stat::Gram [in, in]
//! Parameters none
//! Cost       O(out * in * columns per unit), summed in f64
//! Departs    SHRP learns a router and counts how often it picks a head; without training the share of the written energy stands for
//!            the share of the usage; a KV group counts all its query heads, with what they cancel among themselves
//! Errors     MissingStat, Shape, Params (site); Numeric for numbers that are not finite; Unsupported for other grains
//! Exactness  1e-9 against goldens/score/head_contribution

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::MethodError;
use crate::linalg;
use crate::view::View;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "head-contribution",
        about: "keeps units that write much energy into the residual stream",
        source: "folklore: the energy that a unit adds, after the usage share of SHRP: Specialized Head Routing and Pruning, arXiv:2512.20635",
        formula: "S_g = mean over tokens of ||W_g x_g||^2 = trace(W_g G_gg W_g^T), where W_g, x_g are the unit's \
            columns and their inputs",
        needs: &[Stat::Gram],
        parameters: &[],
        grains: &[Grain::Channel, Grain::Group],
        cost: "out * in * columns per unit operations; in^2 numbers of 8 bytes",
        departs: "no router is trained: the written energy stands for the usage; a KV group counts all its query heads",
        exactness: 1e-9,
    },
    positional: false,
    build: |_| Box::new(HeadContribution),
};

/// Energy that a unit writes.
#[derive(Clone, Copy, Debug)]
pub struct HeadContribution;

impl Score for HeadContribution {
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "only channels and groups write through columns of their own")?;
        let reader = view.reader()?;
        check::weights(view.site, "reader", reader)?;
        let [out, width] = reader.shape();
        let gram = check::stat(stats, view.site, Stat::Gram, width * width)?;
        let each = view.reader_columns()?;
        let score = |unit: usize| {
            let first = unit * each;
            // [out, each] and [each, each]
            let weights: Vec<f64> =
                (0..out).flat_map(|row| reader.row(row)[first..first + each].iter().map(|&w| f64::from(w))).collect();
            let block: Vec<f64> = (first..first + each)
                .flat_map(|i| gram[i * width + first..i * width + first + each].iter().copied())
                .collect();
            let spread = linalg::product(&weights, &block, [out, each, each]);
            spread.iter().zip(&weights).map(|(a, b)| a * b).sum::<f64>().max(0.0)
        };
        let scores: Vec<f64> = (0..view.units).map(score).collect();
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
        let reader = Matrix::from_vec(2, 4, vec![1.0, 1.0, 2.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        let view = View { grain: Grain::Group, site, projection: None, units: 2, reader: Some(&reader), writers: &[] };
        // One token x = (1, 2, 3, -1): the first group writes (3, 1), the second (6, -1).
        let x = [1.0, 2.0, 3.0, -1.0];
        let gram = x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect();
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Gram, gram);
        assert_eq!(HeadContribution.score(&view, &stats).unwrap(), [10.0, 37.0]);
    }

    #[test]
    fn inputs_that_cancel_write_nothing() {
        let site = Site::new(0, Point::AttentionOut);
        let reader = Matrix::from_vec(1, 2, vec![1.0, 1.0]);
        let view = View { grain: Grain::Group, site, projection: None, units: 1, reader: Some(&reader), writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Gram, vec![1.0, -1.0, -1.0, 1.0]);
        assert_eq!(HeadContribution.score(&view, &stats).unwrap(), [0.0]);
    }
}
