//! Ranking: one ranking of all units by their scores as they are.
//!
//! Source     An et al. 2023, Fluctuation-based Adaptive Structured Pruning for Large Language Models (FLAP), arXiv:2312.11983, whose
//!            scores are standardised; He et al. 2024, What Matters in Transformers? (LLM-Drop), arXiv:2406.15786, for parts
//! Formula    units leave from the lowest s up until the kept cost is nearest to keep * whole cost
//! Shapes     n_r scores s in row r; one quota per row
//! Needs      no statistic beside the scores, which must compare over all rows
//! Parameters none
//! Cost       O(n log n) for n units in all; 8 * n bytes
//! Departs    cost = true parameters of a unit, where FLAP counts a head as 512 / 3 channels and LLM-Drop counts parts; floors
//! Errors     Params for keep outside 0..=1 or below the floors, a floor above n_r, a cost of 0; Row for scores not finite
//! Exactness  0: counts

use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::MethodError;
use crate::quotas::{self, Budget};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "ranking",
        about: "ranks the units of all rows together, by their scores as they are",
        source: "Fluctuation-based Adaptive Structured Pruning for Large Language Models, arXiv:2312.11983; What Matters in Transformers?, arXiv:2406.15786",
        formula: "units leave from the lowest s up until the kept cost is nearest to keep * whole cost",
        needs: &[],
        parameters: &[],
        grains: &[],
        cost: "n log n operations and 8 * n bytes for n units in all",
        departs: "a unit costs its true parameters; floors",
        exactness: 0.0,
    },
    measures: false,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        Ok(Box::new(Ranking))
    },
};

/// Ranks the units of all rows together. Of equal scores the one leaves first whose row has lost the smaller share, then the one of the
/// later row.
#[derive(Clone, Copy, Debug)]
pub struct Ranking;

impl Allocate for Ranking {
    fn allocate(&self, keep: f64, rows: &[Row], _: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        let floors = quotas::floors(rows);
        let budget = Budget::new(keep, rows, &floors)?;
        // Adding zero turns -0.0 into 0.0.
        quotas::ranked(rows, &floors, budget, |_, sorted| sorted.iter_mut().for_each(|score| *score += 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocate::Unmeasured;

    #[test]
    fn by_hand() {
        let row = |scores: &[f64], unit_cost, floor| Row {
            name: "row".into(),
            block: 0,
            scores: scores.to_vec(),
            unit_cost,
            floor,
        };
        let quotas = |keep, rows: &[Row]| Ranking.allocate(keep, rows, &mut Unmeasured).unwrap();
        // 1 and 2 are the lowest of all, whatever a unit costs: 12 + 10 * 4 less 2 * 3 and less 10.
        let rows = [row(&[4.0, 1.0, 2.0, 6.0], 3, 0), row(&[5.0, 3.0, 7.0, 8.0], 10, 0)];
        assert_eq!(quotas(46.0 / 52.0, &rows), [2, 4]);
        assert_eq!(quotas(36.0 / 52.0, &rows), [2, 3]);
        // What may not leave is passed over.
        let rows = [row(&[4.0, 1.0, 2.0, 6.0], 3, 3), row(&[5.0, 3.0, 7.0, 8.0], 10, 0)];
        assert_eq!(quotas(39.0 / 52.0, &rows), [3, 3]);
    }
}
