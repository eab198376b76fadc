//! Outlier: blocks with more outliers keep more.
//!
//! Source     Yin et al. 2023, Outlier Weighed Layerwise Sparsity (OWL), arXiv:2310.05175
//! Formula    o_b = share of all scores of block b with |s| > factor * mean of |s| over the block; for each row r of the block
//!            keep_r = t + 2 * reach * (o_b - min o) / (max o - min o), within floor_r / n_r..=1, with the t at which the kept cost is
//!            keep * whole cost
//! Shapes     n_r scores s in row r; one quota per row, the same share in every row of a block
//! Needs      no statistic beside the scores (the paper's are those of Wanda)
//! Parameters factor: how far above the mean an outlier lies, default 5, more than 0; reach: half the spread of the shares,
//!            default 0.08, range 0..=1
//! Cost       O(n log n) for n units in all
//! Departs    the mean of the shares is weighted with the cost of the rows and met exactly, not before their limits are applied;
//!            equal ratios give equal shares, where the source divides by zero
//! Errors     Params for keep outside 0..=1 or below the floors, parameters out of range, a cost of 0; Row for scores not finite
//! Exactness  0: counts

use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::MethodError;
use crate::quotas::{self, Budget};
use std::collections::{BTreeMap, BTreeSet};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "outlier",
        about: "keeps more of blocks with more outliers among their scores",
        source: "Outlier Weighed Layerwise Sparsity (OWL), arXiv:2310.05175",
        formula: "o_b = share of all scores of block b with |s| > factor * mean of |s| over the block; for each row \
            r of the block keep_r = t + 2 * reach * (o_b - min o) / (max o - min o), within floor_r / n_r..=1, with \
            the t at which the kept cost is keep * whole cost",
        needs: &[],
        parameters: &["factor", "reach"],
        grains: &[],
        cost: "n log n operations for n units in all",
        departs: "the cost-weighted mean of the shares is met exactly; equal ratios give equal shares",
        exactness: 0.0,
    },
    measures: false,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        let (factor, reach) = (settings.factor.unwrap_or(5.0), settings.reach.unwrap_or(0.08));
        if !(factor > 0.0 && factor.is_finite()) {
            return Err(MethodError::Params { key: "factor", why: format!("{factor}, expected more than 0") });
        }
        if !(0.0..=1.0).contains(&reach) {
            return Err(MethodError::Params { key: "reach", why: format!("{reach}, expected 0..=1") });
        }
        Ok(Box::new(Outlier { factor, reach }))
    },
};

/// Blocks with more outliers keep more.
#[derive(Clone, Copy, Debug)]
pub struct Outlier {
    /// How many times the mean an outlier is, more than 0.
    pub factor: f64,
    /// Half the spread of the shares, 0..=1.
    pub reach: f64,
}

impl Outlier {
    /// The share of outliers among the scores of the rows of a block; 0 without units.
    fn ratio<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> f64 {
        let mut sizes: Vec<f64> = rows.flat_map(|row| &row.scores).map(|score| score.abs()).collect();
        // In one order, so that the sum does not depend on the order of the units.
        sizes.sort_unstable_by(f64::total_cmp);
        let Some(&largest) = sizes.last().filter(|&&largest| largest > 0.0) else { return 0.0 };
        // Scaled, so that no sum overflows.
        let mean = sizes.iter().map(|size| size / largest).sum::<f64>() / sizes.len() as f64;
        let outliers = sizes.iter().filter(|&&size| size / largest > self.factor * mean).count();
        outliers as f64 / sizes.len() as f64
    }
}

impl Allocate for Outlier {
    fn allocate(&self, keep: f64, rows: &[Row], _: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        let budget = Budget::new(keep, rows, &quotas::floors(rows))?;
        let blocks: BTreeSet<usize> = rows.iter().map(|row| row.block).collect();
        let of = |block: usize| self.ratio(rows.iter().filter(|row| row.block == block));
        let of_blocks: BTreeMap<usize, f64> = blocks.into_iter().map(|block| (block, of(block))).collect();
        let ratios: Vec<f64> = rows.iter().map(|row| of_blocks[&row.block]).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let spread = ratios.iter().copied().fold(0.0, f64::max) - least;
        let above = |row: usize| if spread > 0.0 { 2.0 * self.reach * (ratios[row] - least) / spread } else { 0.0 };
        Ok(quotas::shared(rows, budget, [-3.0, 2.0], |row, t| above(row) + t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocate::Unmeasured;

    fn row(block: usize, outliers: usize, unit_cost: u64) -> Row {
        let scores = (0..100).map(|unit| if unit < outliers { 1000.0 } else { 1.0 }).collect();
        Row { name: "row".into(), block, scores, unit_cost, floor: 0 }
    }

    fn quotas(keep: f64, rows: &[Row]) -> Vec<usize> {
        Outlier { factor: 5.0, reach: 0.05 }.allocate(keep, rows, &mut Unmeasured).unwrap()
    }

    #[test]
    fn by_hand() {
        // Ratios 0, 0.02, 0.08: shares 0, 0.025, 0.1 above the least, less their mean of 0.0417: 45.8, 48.3 and 55.8 units.
        let rows = [row(0, 0, 1), row(1, 2, 1), row(2, 8, 1)];
        assert_eq!(quotas(0.5, &rows), [46, 48, 56]);
        // The last row counts twice: the mean is 0.225 / 4, so 44.4, 46.9 and 54.4.
        let rows = [row(0, 0, 1), row(1, 2, 1), row(2, 8, 2)];
        assert_eq!(quotas(0.5, &rows), [45, 47, 54]);
    }

    #[test]
    fn the_rows_of_a_block_keep_the_same_share_by_hand() {
        // Of 200 scores 8 and 2 are outliers: ratios 0.04 and 0.01, shares 0.1 and 0 above the least.
        let rows = [row(0, 8, 1), row(0, 0, 1), row(1, 1, 1), row(1, 1, 1)];
        assert_eq!(quotas(0.5, &rows), [55, 55, 45, 45]);
        // One mean for the whole block: next to scores of 1000 those of 1 are none, however they stand out among their own.
        let small = Row { scores: (0..100).map(|unit| if unit < 9 { 0.1 } else { 0.001 }).collect(), ..row(1, 0, 1) };
        let outlier = Outlier { factor: 5.0, reach: 0.05 };
        assert_eq!(outlier.ratio([&small].into_iter()), 0.09);
        assert_eq!(outlier.ratio([&small, &row(1, 0, 1)].into_iter()), 0.0);
    }

    #[test]
    fn equal_rows_keep_the_same_and_full_rows_give_to_the_others() {
        assert_eq!(quotas(0.5, &[row(0, 3, 1), row(1, 3, 1), row(2, 3, 1)]), [50, 50, 50]);
        // 0.96 + 0.05 would be more than all; the others get what is over.
        assert_eq!(quotas(0.96, &[row(0, 0, 1), row(1, 8, 1)]), [92, 100]);
        assert_eq!(quotas(0.5, &[]), [0; 0]);
    }

    #[test]
    fn a_row_of_one_size_or_of_nothing_has_no_outliers() {
        let outlier = Outlier { factor: 5.0, reach: 0.08 };
        let ratio = |scores: &[f64]| outlier.ratio([&Row { scores: scores.to_vec(), ..row(0, 0, 1) }].into_iter());
        assert_eq!((ratio(&[]), ratio(&[0.0; 3]), ratio(&[7.0; 3])), (0.0, 0.0, 0.0));
        assert_eq!(ratio(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1e308]), 0.1);
    }
}
