//! Dynamic: every row's damage is measured at a few quotas, and the best of all combinations is found by dynamic programming.
//!
//! Source     Xu et al. 2023, Efficient Joint Optimization of Layer-Adaptive Weight Pruning in Deep Neural Networks, arXiv:2308.10438
//! Formula    minimise the sum over rows of D_r(q_r) with the sum of unit cost * q_r at most keep * whole cost, where D_r(q) is the
//!            divergence when row r keeps q units and all others are whole
//! Shapes     one quota per row, one of its levels: keep + i * (1 - keep) / u for u = (levels - 1) / 2 rounded down and
//!            i = u, u - 1, .. (levels of them), and the whole number below keep
//! Needs      a measure: rows * (levels - 1) + 2 of them at most, one more per row where the floors are above keep
//! Parameters levels: how many quotas of a row are looked at, default 5, range 3..=33
//! Cost       the measures; the choice is O(rows * levels * 10,000)
//! Departs    the divergence of the predictions for the squared error of the outputs; a whole row costs no measure; what the levels
//!            leave of the budget is spent unit by unit on lines between them; the damage of rows only nearly adds up, so the
//!            choice is measured beside the uniform one and the better stays
//! Errors     Params for keep outside 0..=1 or below the floors, levels out of range, a cost of 0; Row for scores and divergences that
//!            are not finite; what the measure refuses
//! Exactness  0: counts

use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::MethodError;
use crate::levels::{Level, choose};
use crate::quotas::{self, Budget, Remembered};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "dynamic",
        about: "measures the damage of every row at a few quotas and finds the best combination",
        source: "Efficient Joint Optimization of Layer-Adaptive Weight Pruning in Deep Neural Networks, arXiv:2308.10438",
        formula: "minimise the sum over rows of D_r(q_r) with the sum of unit cost * q_r at most keep * whole cost, \
            where D_r(q) is the divergence when row r keeps q units and all others are whole",
        needs: &[],
        parameters: &["levels"],
        grains: &[],
        cost: "rows * (levels - 1) + 2 measures; rows * levels * 10,000 operations",
        departs: "divergence for squared error; units between the levels; the better of it and the uniform choice stays",
        exactness: 0.0,
    },
    measures: true,
    build: |settings, _| {
        settings.only(ENTRY.card.parameters)?;
        Ok(Box::new(Dynamic { levels: levels(settings.levels)? }))
    },
};

/// The number of levels, 5 unless it is set.
pub(super) fn levels(set: Option<usize>) -> Result<usize, MethodError> {
    let levels = set.unwrap_or(5);
    if (3..=33).contains(&levels) {
        return Ok(levels);
    }
    Err(MethodError::Params { key: "levels", why: format!("{levels}, expected 3..=33") })
}

/// Measures every row alone and chooses among all combinations.
#[derive(Clone, Copy, Debug)]
pub struct Dynamic {
    /// How many quotas of a row are looked at, 3..=33.
    pub levels: usize,
}

/// What a row loses at some of its quotas, ascending.
struct Curve {
    quotas: Vec<usize>,
    losses: Vec<f64>,
}

impl Curve {
    /// What one more unit than `quota` is worth, on the line between the levels around it.
    fn worth(&self, quota: usize) -> f64 {
        let upper = self.quotas.partition_point(|&level| level <= quota).clamp(1, self.quotas.len().max(2) - 1);
        match (self.quotas.get(upper), self.losses.get(upper)) {
            (Some(&to), Some(loss)) => (self.losses[upper - 1] - loss) / (to - self.quotas[upper - 1]) as f64,
            _ => 0.0,
        }
    }
}

impl Dynamic {
    /// The distance between two levels, as a share.
    pub(super) fn step(&self, keep: f64) -> f64 {
        (1.0 - keep) / ((self.levels - 1) / 2) as f64
    }

    /// The quotas of a row that are looked at, ascending; its floor too when `low`.
    fn grid(&self, keep: f64, row: &Row, low: bool) -> Vec<usize> {
        let units = row.scores.len() as f64;
        let above = ((self.levels - 1) / 2) as f64;
        let share = |level: usize| keep + (above - level as f64) * self.step(keep);
        let mut quotas: Vec<usize> = (0..self.levels).map(|level| (share(level) * units).round() as usize).collect();
        quotas.extend([row.scores.len(), (keep * units) as usize]);
        quotas.extend(low.then_some(row.floor));
        quotas.iter_mut().for_each(|quota| *quota = (*quota).clamp(row.floor, row.scores.len()));
        quotas.sort_unstable();
        quotas.dedup();
        quotas
    }
}

impl Allocate for Dynamic {
    fn allocate(&self, keep: f64, rows: &[Row], measure: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        let budget = Budget::new(keep, rows, &quotas::floors(rows))?;
        if keep == 1.0 {
            return Ok(quotas::whole(rows));
        }
        // Half a unit too many is as near as half a unit too few, and saves a sum that should be whole from its rounding.
        let limit = (budget.target + 0.5 * budget.cheapest as f64) as u64;
        let grids = |low: bool| rows.iter().map(|row| self.grid(keep, row, low)).collect::<Vec<_>>();
        let mut all = grids(false);
        if quotas::cost(rows, all.iter().map(|grid| grid[0])) > u128::from(limit) {
            all = grids(true);
        }
        let mut measure = Remembered::new(measure);
        let mut curves = Vec::with_capacity(rows.len());
        for (index, grid) in all.into_iter().enumerate() {
            let mut losses = Vec::with_capacity(grid.len());
            for &quota in &grid {
                let mut alone = quotas::whole(rows);
                losses.push(if quota == alone[index] {
                    0.0
                } else {
                    alone[index] = quota;
                    measure.divergence(&alone)?
                });
            }
            curves.push(Curve { quotas: grid, losses });
        }
        let levels = |(curve, row): (&Curve, &Row)| {
            let level =
                |(&quota, &loss): (&usize, &f64)| Level { cost: row.unit_cost.saturating_mul(quota as u64), loss };
            curve.quotas.iter().zip(&curve.losses).map(level).collect::<Vec<_>>()
        };
        let options: Vec<Vec<Level>> = curves.iter().zip(rows).map(levels).collect();
        let mut quotas: Vec<usize> = match choose(&options, limit) {
            Some(chosen) => chosen.iter().zip(&curves).map(|(&level, curve)| curve.quotas[level]).collect(),
            // Only the floors themselves, half a unit beyond the target, are left.
            None => quotas::floors(rows),
        };
        quotas::settle(rows, &mut quotas, budget, |row, quota| curves[row].worth(quota) / rows[row].unit_cost as f64);
        let uniform = quotas::shared(rows, budget, [0.0, 1.0], |_, t| t);
        if quotas != uniform && measure.divergence(&uniform)? < measure.divergence(&quotas)? {
            return Ok(uniform);
        }
        Ok(quotas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(units: usize, unit_cost: u64, floor: usize) -> Row {
        Row { name: "row".into(), block: 0, scores: vec![0.0; units], unit_cost, floor }
    }

    /// Row `r` loses `self.0[r]` per unit that leaves; what two rows lose together costs `self.1` more.
    struct Lines(Vec<f64>, f64, usize);

    impl QuotaLoss for Lines {
        fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
            self.2 += 1;
            let lost = |(quota, per): (&usize, &f64)| (10 - quota) as f64 * per;
            let together = quotas.iter().filter(|&&quota| quota < 10).count() > 1;
            Ok(quotas.iter().zip(&self.0).map(lost).sum::<f64>() + if together { self.1 } else { 0.0 })
        }
    }

    #[test]
    fn levels_by_hand() {
        let five = Dynamic { levels: 5 };
        assert_eq!(five.grid(0.5, &row(20, 1, 0), false), [0, 5, 10, 15, 20]);
        assert_eq!(five.grid(0.8, &row(10, 1, 7), false), [7, 8, 9, 10]);
        assert_eq!(five.grid(0.8, &row(10, 1, 1), true), [1, 6, 7, 8, 9, 10]);
        // A part leaves or stays, whatever the shares.
        assert_eq!(five.grid(0.9, &row(1, 1, 0), false), [0, 1]);
        assert_eq!(Dynamic { levels: 4 }.grid(0.5, &row(10, 1, 0), false), [0, 5, 10]);
    }

    #[test]
    fn the_cheap_row_gives_and_the_rest_of_the_budget_goes_unit_by_unit() {
        let rows = [row(10, 1, 0), row(10, 1, 0)];
        let mut lines = Lines(vec![1.0, 3.0], 0.0, 0);
        assert_eq!(Dynamic { levels: 5 }.allocate(0.5, &rows, &mut lines).unwrap(), [0, 10]);
        // Four quotas below the whole of each row, the choice and the uniform one; of these [0, 10] was measured before.
        assert_eq!(lines.2, 4 + 4 + 1);
        // Levels 10, 8.5, 7, 5.5, 4 hold 4 + 10 of 14: exact. At 0.65 there are 13, of levels 10, 8, 7 (6.5), 5 (4.75), 3.
        assert_eq!(Dynamic { levels: 5 }.allocate(0.7, &rows, &mut lines).unwrap(), [4, 10]);
        assert_eq!(Dynamic { levels: 5 }.allocate(0.65, &rows, &mut lines).unwrap(), [3, 10]);
    }

    #[test]
    fn what_measures_worse_than_uniform_is_not_taken() {
        // Alone the second row loses a little more; but all rows are cut in the uniform choice too, so it wins only by this penalty.
        struct Unlike;
        impl QuotaLoss for Unlike {
            fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
                let alone = quotas.iter().filter(|&&quota| quota < 10).count() < 2;
                Ok(match quotas {
                    [5, 5] => 0.5,
                    _ if alone && quotas[0] < 10 => 0.1 * (10 - quotas[0]) as f64,
                    _ => 0.2 * (10 - quotas[1]) as f64 + 0.1,
                })
            }
        }
        let rows = [row(10, 1, 0), row(10, 1, 0)];
        assert_eq!(Dynamic { levels: 5 }.allocate(0.5, &rows, &mut Unlike).unwrap(), [5, 5]);
    }

    #[test]
    fn floors_above_keep_leave_less_to_the_others() {
        let rows = [row(10, 1, 9), row(10, 1, 0)];
        let mut lines = Lines(vec![1.0, 1.0], 0.0, 0);
        assert_eq!(Dynamic { levels: 3 }.allocate(0.6, &rows, &mut lines).unwrap().iter().sum::<usize>(), 12);
    }
}
