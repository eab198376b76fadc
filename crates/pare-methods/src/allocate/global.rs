//! Global: one ranking over all rows, each row's scores standardised first.
//!
//! Source     An et al. 2023, Fluctuation-based Adaptive Structured Pruning for Large Language Models (FLAP), arXiv:2312.11983
//! Formula    z = (s - mean_r) / std_r; units leave from the lowest z up until the kept cost is nearest to keep * whole cost
//! Shapes     n_r scores in row r; one quota per row
//! Needs      no statistic beside the scores
//! Parameters none
//! Cost       O(n log n) for n units in all; 8 * n bytes
//! Departs    cost = true parameters of a unit (the authors count a head as 512 / 3 channels); floors; attention scores are not squared, and
//!            units are standardised as they are scored, where the authors standardise columns and average over a head: see `ranking`
//! Errors     Params for keep outside 0..=1 or below the floors, a floor above n_r, a cost of 0; Row for scores not finite
//! Exactness  0: counts

use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::MethodError;
use crate::quotas::{self, Budget};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "global",
        about: "ranks the units of all rows together, by scores standardised per row",
        source: "Fluctuation-based Adaptive Structured Pruning for Large Language Models, arXiv:2312.11983",
        formula: "z = (s - mean_r) / std_r; units leave from the lowest z up until the kept cost is nearest to keep \
            * whole cost",
        needs: &[],
        parameters: &[],
        grains: &[],
        cost: "n log n operations and 8 * n bytes for n units in all",
        departs: "a unit costs its true parameters; floors; units are standardised, not their columns",
        exactness: 0.0,
    },
    measures: false,
    build: |_, _| Ok(Box::new(Global)),
};

/// Ranks the units of all rows together. A row of equal scores has the standardised score 0 throughout.
///
/// Of units with equal standardised score the one leaves first whose row has lost the smaller share, then the one of the
/// later row: equal rows lose evenly.
#[derive(Clone, Copy, Debug)]
pub struct Global;

impl Allocate for Global {
    fn allocate(&self, keep: f64, rows: &[Row], _: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        let floors = quotas::floors(rows);
        let budget = Budget::new(keep, rows, &floors)?;
        quotas::ranked(rows, &floors, budget, |_, sorted| standardise(sorted))
    }
}

/// `(s - mean) / std` over a row, ascending, so that the sums do not depend on the order of the units.
fn standardise(sorted: &mut [f64]) {
    let (Some(&low), Some(&high)) = (sorted.first(), sorted.last()) else { return };
    if low == high {
        sorted.fill(0.0);
        return;
    }
    // Scaled to the largest magnitude, so that no square overflows.
    let scale = low.abs().max(high.abs());
    let count = sorted.len() as f64;
    let mean = sorted.iter().map(|s| s / scale).sum::<f64>() / count;
    let variance = sorted.iter().map(|s| (s / scale - mean).powi(2)).sum::<f64>() / count;
    let deviation = variance.sqrt();
    for score in sorted {
        // Adding zero turns -0.0 into 0.0.
        *score = if deviation > 0.0 { (*score / scale - mean) / deviation + 0.0 } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocate::Unmeasured;

    fn row(scores: &[f64], unit_cost: u64, floor: usize) -> Row {
        Row { name: "row".into(), block: 0, scores: scores.to_vec(), unit_cost, floor }
    }

    #[test]
    fn standardises_by_hand() {
        let mut scores = [1.0, 3.0];
        standardise(&mut scores);
        assert!((scores[0] + 1.0).abs() < 1e-15 && (scores[1] - 1.0).abs() < 1e-15, "{scores:?}");
        let mut equal = [0.1; 3];
        standardise(&mut equal);
        assert_eq!(equal, [0.0; 3]);
        let mut extreme = [-1e308, 1e308];
        standardise(&mut extreme);
        assert_eq!(extreme, [-1.0, 1.0]);
    }

    #[test]
    fn ranks_across_rows_by_hand() {
        // z of the first: -1.5, -0.5, 0.5, 1.5 over sqrt(1.25); of the second, times 100: -1, 0, 0, 1 over sqrt(0.5).
        let rows = [row(&[4.0, 1.0, 3.0, 2.0], 1, 0), row(&[100.0, 200.0, 200.0, 300.0], 1, 0)];
        // Ascending: -1.414 (second), -1.342 (first), -0.447 (first), then the zeros of the second.
        let quotas = |keep| Global.allocate(keep, &rows, &mut Unmeasured).unwrap();
        assert_eq!(quotas(1.0), [4, 4]);
        assert_eq!(quotas(7.0 / 8.0), [4, 3]);
        assert_eq!(quotas(6.0 / 8.0), [3, 3]);
        assert_eq!(quotas(5.0 / 8.0), [2, 3]);
        assert_eq!(quotas(3.0 / 8.0), [2, 1]);
        assert_eq!(quotas(0.0), [0, 0]);
    }

    #[test]
    fn counts_cost_and_stops_nearest() {
        // z of the dear: -sqrt(3), then thrice 1 / sqrt(3); of the cheap: -1.34, -0.45, 0.45, 1.34. Whole cost 24.
        let rows = [row(&[0.0, 5.0, 5.0, 5.0], 5, 0), row(&[1.0, 2.0, 3.0, 4.0], 1, 0)];
        let quotas = |kept: f64| Global.allocate(kept / 24.0, &rows, &mut Unmeasured).unwrap();
        assert_eq!(quotas(19.0), [3, 4]);
        assert_eq!(quotas(21.0), [3, 4], "19 is nearer than 24");
        assert_eq!(quotas(22.0), [4, 4], "24 is nearer than 19");
        assert_eq!(quotas(21.5), [4, 4], "of equally near the larger");
        assert_eq!(quotas(18.0), [3, 3]);
        // Next are the cheap 0.45, then the three dear ones.
        assert_eq!(quotas(11.0), [2, 1]);
    }

    #[test]
    fn floors_hold_and_others_give_instead() {
        let rows = [row(&[0.0, 0.0, 9.0], 1, 2), row(&[5.0, 6.0, 7.0], 1, 0)];
        assert_eq!(Global.allocate(0.5, &rows, &mut Unmeasured).unwrap(), [2, 1]);
        assert_eq!(Global.allocate(2.0 / 6.0, &rows, &mut Unmeasured).unwrap(), [2, 0]);
        let message = Global.allocate(0.1, &rows, &mut Unmeasured).unwrap_err().to_string();
        assert_eq!(message, "parameter keep: 0.1 of 6 parameters is 0.6, but the floors keep 2");
    }

    #[test]
    fn equal_rows_lose_evenly() {
        let rows = vec![row(&[7.0; 4], 1, 1); 3];
        assert_eq!(Global.allocate(0.75, &rows, &mut Unmeasured).unwrap(), [3, 3, 3]);
        assert_eq!(Global.allocate(8.0 / 12.0, &rows, &mut Unmeasured).unwrap(), [3, 3, 2]);
        assert_eq!(Global.allocate(0.5, &[], &mut Unmeasured).unwrap(), [0; 0]);
        assert_eq!(Global.allocate(0.5, &[row(&[], 1, 0)], &mut Unmeasured).unwrap(), [0]);
    }
}
