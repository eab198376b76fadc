//! Energy: shares by a softmax over the energies of the rows.
//!
//! Source     after Song et al. 2025, StructPrune: Structured Global Pruning asymptotics with O(sqrt N) GPU Memory, arXiv:2510.03246,
//!            from its abstract; the authors' code has no such shares
//! Formula    E_r = mean of |s| in the row / unit cost, over the largest E; keep_r = c * exp(E_r / factor), within floor_r / n_r..=1,
//!            with the c at which the kept cost is keep * whole cost
//! Shapes     n_r scores s in row r; one quota per row
//! Needs      no statistic beside the scores
//! Parameters factor: the temperature, default 1, at least 0.01; the share of the row of the most energy is at most exp(1 / factor)
//!            times that of a row of none
//! Cost       O(n log n) for n units in all
//! Departs    that the shares are a softmax of energies is the source's; the energy, its scale and the temperature are chosen here
//! Errors     Params for keep outside 0..=1 or below the floors, a factor out of range, a cost of 0; Row for scores not finite
//! Exactness  0: counts

use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::MethodError;
use crate::quotas::{self, Budget};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "energy",
        about: "gives the rows shares by a softmax over their energies",
        source: "after StructPrune: Structured Global Pruning asymptotics with O(sqrt N) GPU Memory, arXiv:2510.03246",
        formula: "E_r = mean of |s| in the row / unit cost, over the largest E; keep_r = c * exp(E_r / factor), \
            within floor_r / n_r..=1, with the c at which the kept cost is keep * whole cost",
        needs: &[],
        parameters: &["factor"],
        grains: &[],
        cost: "n log n operations for n units in all",
        departs: "the softmax is the source's; the energy, its scale and the temperature are chosen here",
        exactness: 0.0,
    },
    measures: false,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        let factor = settings.factor.unwrap_or(1.0);
        if !(factor >= 0.01 && factor.is_finite()) {
            return Err(MethodError::Params { key: "factor", why: format!("{factor}, expected at least 0.01") });
        }
        Ok(Box::new(Energy { factor }))
    },
};

/// Shares by a softmax over the energies of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Energy {
    /// The temperature, at least 0.01.
    pub factor: f64,
}

/// The energy of each row as a share of the largest, 0 throughout when all are 0.
fn energies(rows: &[Row]) -> Vec<f64> {
    let scale = rows.iter().flat_map(|row| &row.scores).fold(0.0_f64, |largest, score| largest.max(score.abs()));
    if scale == 0.0 {
        return vec![0.0; rows.len()];
    }
    let energy = |row: &Row| {
        let mut sizes: Vec<f64> = row.scores.iter().map(|score| score.abs() / scale).collect();
        // In one order, so that the sum does not depend on the order of the units.
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.iter().sum::<f64>() / sizes.len().max(1) as f64 / row.unit_cost as f64
    };
    let mut energies: Vec<f64> = rows.iter().map(energy).collect();
    let largest = energies.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    energies.iter_mut().for_each(|energy| *energy /= largest);
    energies
}

impl Allocate for Energy {
    fn allocate(&self, keep: f64, rows: &[Row], _: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        let budget = Budget::new(keep, rows, &quotas::floors(rows))?;
        let energies = energies(rows);
        // At the lower end every share is below the rounding of any row, at the upper one every share is at least 1.
        let range = [-1.0 / self.factor - 60.0, 1.0];
        Ok(quotas::shared(rows, budget, range, |row, t| (energies[row] / self.factor + t).exp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocate::Unmeasured;

    fn row(score: f64, unit_cost: u64) -> Row {
        Row { name: "row".into(), block: 0, scores: vec![score; 100], unit_cost, floor: 0 }
    }

    fn quotas(factor: f64, keep: f64, rows: &[Row]) -> Vec<usize> {
        Energy { factor }.allocate(keep, rows, &mut Unmeasured).unwrap()
    }

    #[test]
    fn by_hand() {
        // At this temperature exp(1 / T) = 3: shares of 1 and 3, 80 units in all.
        let factor = 1.0 / 3.0_f64.ln();
        assert_eq!(quotas(factor, 0.4, &[row(0.0, 1), row(5.0, 1)]), [20, 60]);
        // The second would be at 1.2; what is over goes to the first.
        assert_eq!(quotas(factor, 0.8, &[row(0.0, 1), row(5.0, 1)]), [60, 100]);
        // Twice the score of twice the weights is the same energy.
        assert_eq!(quotas(factor, 0.5, &[row(5.0, 1), row(10.0, 2)]), [50, 50]);
        // The hotter, the nearer to uniform.
        assert_eq!(quotas(1e6, 0.4, &[row(0.0, 1), row(5.0, 1)]), [40, 40]);
    }

    #[test]
    fn rows_of_nothing_keep_the_same() {
        assert_eq!(quotas(1.0, 0.3, &[row(0.0, 1), row(0.0, 3)]), [30, 30]);
        assert_eq!(quotas(1.0, 0.3, &[row(1e308, 1), row(1e308, 1)]), [30, 30]);
        assert_eq!(quotas(0.01, 1.0, &[row(0.0, 1), row(1.0, 1)]), [100, 100]);
    }
}
