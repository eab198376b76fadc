//! Floor: one ranking of the scores as they are, and a least share of every row, so that no layer collapses.
//!
//! Source     Gupta et al. 2022, Is Complexity Required for Neural Network Pruning? (Global MP), arXiv:2209.14624
//! Formula    units leave from the lowest s / unit cost up until the kept cost is nearest to keep * whole cost; row r keeps at least
//!            max(its floor, floor * n_r rounded up)
//! Shapes     n_r scores s in row r; one quota per row
//! Needs      no statistic beside the scores
//! Parameters floor: the least share of a row that stays (the paper's Minimum Threshold), default 0.1, range 0..=1
//! Cost       O(n log n) for n units in all; 8 * n bytes
//! Departs    the threshold is a share of each row, not one count for all; a unit of many weights is ranked by its score per weight;
//!            gradual rounds: see below
//! Errors     Params for keep outside 0..=1 or below the floors, a floor outside 0..=1 or above n_r, a cost of 0; Row for scores not finite
//! Exactness  0: counts
//!
//! The paper's gradual variant removes in rounds and trains between them. Without training the scores stay, the rounds of one ranking
//! nest, and many rounds give the quotas of one. Scores that are observed anew make a difference: that is several cuts in a row.

use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::MethodError;
use crate::quotas::{self, Budget};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "floor",
        about: "ranks the units of all rows together by their scores as they are, and leaves every row a least share",
        source: "Is Complexity Required for Neural Network Pruning? A Case Study on Global Magnitude Pruning, arXiv:2209.14624",
        formula: "units leave from the lowest s / unit cost up until the kept cost is nearest to keep * whole cost; \
            row r keeps at least max(its floor, floor * n_r rounded up)",
        needs: &[],
        parameters: &["floor"],
        grains: &[],
        cost: "n log n operations and 8 * n bytes for n units in all",
        departs: "the threshold is a share of each row; units are ranked by score per weight; no training between rounds",
        exactness: 0.0,
    },
    measures: false,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        let floor = settings.floor.unwrap_or(0.1);
        if !(0.0..=1.0).contains(&floor) {
            return Err(MethodError::Params { key: "floor", why: format!("{floor}, expected 0..=1") });
        }
        Ok(Box::new(Floor { floor }))
    },
};

/// Ranks the units of all rows together and leaves every row a least share.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// The least share of a row that stays, 0..=1.
    pub floor: f64,
}

impl Allocate for Floor {
    fn allocate(&self, keep: f64, rows: &[Row], _: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        let least = |row: &Row| row.floor.max((self.floor * row.scores.len() as f64).ceil() as usize);
        let floors: Vec<usize> = rows.iter().map(least).collect();
        let budget = Budget::new(keep, rows, &floors)?;
        quotas::ranked(rows, &floors, budget, |row, sorted| {
            sorted.iter_mut().for_each(|score| *score = *score / row.unit_cost as f64 + 0.0);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocate::Unmeasured;

    fn row(scores: &[f64], unit_cost: u64) -> Row {
        Row { name: "row".into(), block: 0, scores: scores.to_vec(), unit_cost, floor: 0 }
    }

    fn quotas(floor: f64, keep: f64, rows: &[Row]) -> Vec<usize> {
        Floor { floor }.allocate(keep, rows, &mut Unmeasured).unwrap()
    }

    #[test]
    fn by_hand() {
        // The second row is ten times larger: without a floor the first collapses.
        let rows = [row(&[4.0, 1.0, 3.0, 2.0], 1), row(&[10.0, 20.0, 40.0, 30.0], 1)];
        assert_eq!(quotas(0.0, 0.5, &rows), [0, 4]);
        assert_eq!(quotas(0.25, 0.5, &rows), [1, 3]);
        assert_eq!(quotas(0.3, 0.5, &rows), [2, 2], "0.3 of 4 is rounded up");
        // Units of ten weights count a tenth: 1, 2, 4, 3 against 4, 1, 3, 2; 22 of 44 is two dear units and two cheap ones.
        let rows = [row(&[4.0, 1.0, 3.0, 2.0], 1), row(&[10.0, 20.0, 40.0, 30.0], 10)];
        assert_eq!(quotas(0.0, 0.5, &rows), [2, 2]);
    }

    #[test]
    fn a_floor_above_keep_is_refused() {
        let rows = [row(&[4.0, 1.0, 3.0, 2.0], 1)];
        let message = Floor { floor: 0.75 }.allocate(0.5, &rows, &mut Unmeasured).unwrap_err().to_string();
        assert_eq!(message, "parameter keep: 0.5 of 4 parameters is 2, but the floors keep 3");
    }
}
