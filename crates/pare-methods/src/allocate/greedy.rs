//! Greedy: what hurts least when it leaves, measured on top of what has left already, leaves first.
//!
//! Source     Song et al. 2024, SLEB: Streamlining LLMs through Redundancy Verification and Elimination of Transformer Blocks, arXiv:2402.09025
//! Formula    repeat: of all rows that can give units, the one gives whose divergence rises least per cost, until the kept cost is
//!            nearest to keep * whole cost
//! Shapes     one quota per row; a block of the source is a row of one unit
//! Needs      a measure: at most rows * (rounds + 1), where a round takes `block` units from one row
//! Parameters block: units that leave together, default a sixteenth of the row and at least 1, range 1..
//! Cost       the measures: for parts and blocks, rows * units that leave; for n equal rows of many units, 16 * n^2 * (1 - keep)
//! Departs    the divergence for the perplexity; per cost, since rows differ; units of a row leave in the order of their scores
//! Errors     Params for keep outside 0..=1 or below the floors, a block of 0, a cost of 0; Row for scores and divergences that are not
//!            finite; what the measure refuses
//! Exactness  0: counts
//!
//! Of equal rises the row gives first that has lost the smaller share, then the later one.

use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::MethodError;
use crate::quotas::{self, Budget, Remembered};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "greedy",
        about: "takes away what hurts least, measured on top of what has left already",
        source: "SLEB: Streamlining LLMs through Redundancy Verification and Elimination of Transformer Blocks, arXiv:2402.09025",
        formula: "repeat: of all rows that can give units, the one gives whose divergence rises least per cost, \
            until the kept cost is nearest to keep * whole cost",
        needs: &[],
        parameters: &["block"],
        grains: &[],
        cost: "rows * rounds measures; a round takes block units from one row",
        departs: "divergence for perplexity; per cost; units of a row leave in the order of their scores",
        exactness: 0.0,
    },
    measures: true,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        if settings.block == Some(0) {
            return Err(MethodError::Params { key: "block", why: "0, expected at least 1".into() });
        }
        Ok(Box::new(Greedy { block: settings.block }))
    },
};

/// Takes away what hurts least, again and again.
#[derive(Clone, Copy, Debug)]
pub struct Greedy {
    /// Units that leave together, at least 1; none: a sixteenth of the row, at least 1.
    pub block: Option<usize>,
}

impl Greedy {
    /// How many units a row gives next, when `over` is the cost that is still too much: as many as bring the cost nearer.
    fn gives(&self, row: &Row, quota: usize, over: f64) -> usize {
        let block = self.block.unwrap_or(row.scores.len() / 16).max(1).min(quota - row.floor);
        // Of two equally near the larger model stays.
        let nearest = (over / row.unit_cost as f64 + 0.5).ceil() - 1.0;
        block.min(nearest.max(0.0) as usize)
    }
}

impl Allocate for Greedy {
    fn allocate(&self, keep: f64, rows: &[Row], measure: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        let budget = Budget::new(keep, rows, &quotas::floors(rows))?;
        let mut measure = Remembered::new(measure);
        let mut quotas = quotas::whole(rows);
        let mut now = 0.0;
        loop {
            let over = quotas::cost(rows, quotas.iter().copied()) as f64 - budget.target;
            // (rise per cost, lost share, row, divergence, units)
            let mut best: Option<(f64, f64, usize, f64, usize)> = None;
            for (index, row) in rows.iter().enumerate() {
                let units = self.gives(row, quotas[index], over);
                if units == 0 {
                    continue;
                }
                let mut less = quotas.clone();
                less[index] -= units;
                let found = measure.divergence(&less)?;
                let per_cost = (found - now) / (units as f64 * row.unit_cost as f64);
                let lost = 1.0 - quotas[index] as f64 / row.scores.len() as f64;
                if best.is_none_or(|(least, share, ..)| per_cost.total_cmp(&least).then(lost.total_cmp(&share)).is_le())
                {
                    best = Some((per_cost, lost, index, found, units));
                }
            }
            let Some((_, _, index, found, units)) = best else { return Ok(quotas) };
            quotas[index] -= units;
            now = found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(units: usize, unit_cost: u64, floor: usize) -> Row {
        Row { name: "row".into(), block: 0, scores: vec![0.0; units], unit_cost, floor }
    }

    /// Parts: `self.0[r]` when `r` has left alone; 5 more when both neighbours of a pair have.
    struct Parts(Vec<f64>, usize);

    impl QuotaLoss for Parts {
        fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
            self.1 += 1;
            let gone = |row: usize| quotas[row] == 0;
            let alone: f64 = (0..quotas.len()).filter(|&row| gone(row)).map(|row| self.0[row]).sum();
            let pairs = (1..quotas.len()).filter(|&row| gone(row - 1) && gone(row)).count();
            Ok(alone + 5.0 * pairs as f64)
        }
    }

    #[test]
    fn parts_leave_in_the_order_of_their_damage_on_top_of_the_others() {
        // Alone 1, 2 and 3 hurt least, but neighbours are dear: 1 leaves, then 3 (3.0), not 2 (2.0 + 5).
        let rows = vec![row(1, 7, 0); 5];
        let mut parts = Parts(vec![9.0, 1.0, 2.0, 3.0, 4.0], 0);
        let quotas = Greedy { block: None }.allocate(0.6, &rows, &mut parts).unwrap();
        assert_eq!(quotas, [1, 0, 1, 0, 1]);
        assert_eq!(parts.1, 5 + 4);
    }

    #[test]
    fn blocks_of_units_and_the_last_one_only_as_far_as_the_target() {
        struct Lines;
        impl QuotaLoss for Lines {
            fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
                Ok((32 - quotas[0]) as f64 + 3.0 * (32 - quotas[1]) as f64)
            }
        }
        let rows = [row(32, 2, 20), row(32, 2, 0)];
        // 45 of 64 units: 19 leave; the first gives 12 in blocks of 5 and 2, down to its floor, the second the other 7.
        let quotas = Greedy { block: Some(5) }.allocate(45.0 / 64.0, &rows, &mut Lines).unwrap();
        assert_eq!(quotas, [20, 25]);
        // Half a unit too much stays.
        let quotas = Greedy { block: None }.allocate(60.5 / 64.0, &rows, &mut Lines).unwrap();
        assert_eq!(quotas, [29, 32]);
    }
}
