//! Feature merging: keep the units that no other unit is like.
//!
//! Source     Chen et al. 2023, Going Beyond Neural Network Feature Similarity: The Network Feature Complexity and Its Interpretation Using Category Theory (iterative feature merging), arXiv:2310.06756
//! Formula    v_u = what writes unit u joined with what reads it; the two nearest groups merge, again and again, each standing at the mean
//!            of its members; S_u = the largest distance merged by the time that the group of u goes into another, as a share of the
//!            largest distance of two units; 1 for the unit that stands for all in the end; 0 for all where no two differ
//! Shapes     v: rows of every writer and columns of the reader; S [units]
//! Needs      no statistic
//! Parameters none
//! Cost       n^2 * weights per unit for the distances, n^2 to n^3 for the merging; 16 * n^2 bytes
//! Departs    the source merges below a threshold of that share: S_u is the threshold at which u is not needed any more, and nothing is
//!            merged (the rewrite merge-features does that). Of two groups the one with fewer members goes, of equal ones that whose unit
//!            is shorter, then the later; the unit of a group is the one that never went
//! Errors     Shape, Params (site); Numeric for weights that are not finite; Unsupported for single weights and parts
//! Exactness  1e-6 against goldens/score/feature_merging (a distance is a difference of larger numbers)

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::error::MethodError;
use crate::nearest_pairs::{NearestPairs, Pair};
use crate::view::View;
use pare_model::stats::Stats;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "feature-merging",
        about: "keeps the units that no other unit is like, by the distance at which they would be merged",
        source: "Going Beyond Neural Network Feature Similarity (iterative feature merging), arXiv:2310.06756",
        formula: "v_u = what writes unit u joined with what reads it; the two nearest groups merge, again and again, \
            each standing at the mean of its members; S_u = the largest distance merged by the time that the group \
            of u goes into another, as a share of the largest distance of two units; 1 for the unit that stands for \
            all in the end; 0 for all where no two differ",
        needs: &[],
        parameters: &[],
        grains: &[Grain::Channel, Grain::Group],
        cost: "n^2 * weights per unit; 16 * n^2 bytes",
        departs: "a rank among units instead of a threshold; nothing is merged",
        exactness: 1e-6,
    },
    positional: false,
    build: |_| Box::new(FeatureMerging),
};

/// The share of the largest distance at which a unit would be merged into another.
#[derive(Clone, Copy, Debug)]
pub struct FeatureMerging;

impl Score for FeatureMerging {
    fn score(&self, view: &View<'_>, _: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "only channels and groups are features")?;
        let (mut pairs, lengths) = NearestPairs::of_units(view)?;
        let (largest, mut reached) = (pairs.largest(), 0.0_f64);
        if largest == 0.0 {
            return Ok(vec![0.0; view.units]);
        }
        let mut scores = vec![1.0; view.units];
        // Which unit stands for the group at a place.
        let mut standing: Vec<usize> = (0..view.units).collect();
        while let Some(Pair { first, second, square, sizes }) = pairs.merge() {
            let [a, b] = [standing[first], standing[second]];
            let first_stays = sizes[0].total_cmp(&sizes[1]).then(lengths[a].total_cmp(&lengths[b])).is_ge();
            let (stays, goes) = if first_stays { (a, b) } else { (b, a) };
            standing[first] = stays;
            reached = reached.max(square);
            scores[goes] = (reached / largest).sqrt();
        }
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
        // Units 1, 6, 2, 3, 5 on a line, 5 apart at most. 1 and 2 meet first, the shorter goes: 1 at distance 1. Then 6 and 5: 5 goes at 1.
        // 3 and the group of 1 and 2 at 1.5 are 1.5 apart, the single one goes; groups of three and two are 3.5 apart.
        let reader = Matrix::from_vec(1, 5, vec![1.0, 6.0, 2.0, 3.0, 5.0]);
        let site = Site::new(0, Point::FfnOut);
        let view =
            View { grain: Grain::Channel, site, projection: None, units: 5, reader: Some(&reader), writers: &[] };
        let scores = FeatureMerging.score(&view, &Stats::new(1)).unwrap();
        for (score, by_hand) in scores.iter().zip([0.2, 0.7, 1.0, 0.3, 0.2]) {
            assert!((score - by_hand).abs() < 1e-12, "{scores:?}");
        }
        // A copy goes at once.
        let reader = Matrix::from_vec(1, 3, vec![2.0, 4.0, 2.0]);
        let copies = View { units: 3, reader: Some(&reader), ..view };
        assert_eq!(FeatureMerging.score(&copies, &Stats::new(1)).unwrap(), [1.0, 1.0, 0.0]);
    }
}
