//! Search: the dynamic choice is changed at random, two rows at a time, and what measures better stays.
//!
//! Source     Li et al. 2025, Tyr-the-Pruner, arXiv:2503.09657; Sieberling et al. 2024, EvoPress, arXiv:2410.14649
//! Formula    offspring of the best so far: min(a, b) shifts for a, b uniform in 1..=4; a shift takes one step of units from a row and
//!            gives it to a row of the same unit cost. The least divergence stays
//! Shapes     one quota per row
//! Needs      a measure: those of `dynamic`, and iterations * offspring at most
//! Parameters levels: as in `dynamic`; iterations: generations, default 12, range 0..=10,000; offspring: per generation, default 8,
//!            range 1..=10,000; the seed of the recipe
//! Cost       the measures
//! Departs    seeded with the dynamic choice, not the uniform one; a step is a level of `dynamic`, halved for every quarter of the
//!            generations; every offspring is measured on all the text, not selected in rounds of more and more of it
//! Errors     Params for keep outside 0..=1 or below the floors, parameters out of range, a cost of 0; Row for scores and divergences
//!            that are not finite; what the measure refuses
//! Exactness  0: counts
//!
//! Rows of equal cost swap units, so the total stays to the parameter. A row whose unit cost no other row has keeps its quota.

use super::dynamic::{self, Dynamic};
use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::MethodError;
use crate::quotas::Remembered;
use pare_model::rng::SplitMix64;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "search",
        about: "changes the dynamic choice at random, two rows at a time, and keeps what measures better",
        source: "Tyr-the-Pruner, arXiv:2503.09657; EvoPress, arXiv:2410.14649",
        formula: "offspring of the best so far: min(a, b) shifts for a, b uniform in 1..=4; a shift takes one step \
            of units from a row and gives it to a row of the same unit cost. The least divergence stays",
        needs: &[],
        parameters: &["levels", "iterations", "offspring"],
        grains: &[],
        cost: "the measures of dynamic, and iterations * offspring more",
        departs: "starts from the dynamic choice; every offspring is measured on all the text, once",
        exactness: 0.0,
    },
    measures: true,
    build: |settings, seed| {
        settings.only(ENTRY.card.parameters)?;
        let within = |key, value: usize, least: usize| match value {
            value if (least..=10_000).contains(&value) => Ok(value),
            value => Err(MethodError::Params { key, why: format!("{value}, expected {least}..=10000") }),
        };
        let search = Search {
            levels: dynamic::levels(settings.levels)?,
            iterations: within("iterations", settings.iterations.unwrap_or(12), 0)?,
            offspring: within("offspring", settings.offspring.unwrap_or(8), 1)?,
            seed,
        };
        Ok(Box::new(search))
    },
};

/// Changes the dynamic choice at random and keeps what measures better.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// As in [`Dynamic`], 3..=33.
    pub levels: usize,
    /// Generations.
    pub iterations: usize,
    /// Changes that are tried per generation.
    pub offspring: usize,
    /// Another seed, other changes.
    pub seed: u64,
}

/// The step is halved this often, at equal distances.
const PHASES: usize = 4;

impl Allocate for Search {
    fn allocate(&self, keep: f64, rows: &[Row], measure: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        let seeding = Dynamic { levels: self.levels };
        let mut measure = Remembered::new(measure);
        let mut best = seeding.allocate(keep, rows, &mut measure)?;
        let mut rng = SplitMix64::stream(self.seed, 0);
        let mut least = None;
        for generation in 0..self.iterations {
            let step = seeding.step(keep) * 0.5_f64.powi((PHASES * generation / self.iterations) as i32);
            let parent = best.clone();
            for _ in 0..self.offspring {
                let mut child = parent.clone();
                for _ in 0..(1 + rng.below(4)).min(1 + rng.below(4)) {
                    shift(rows, &mut child, step, &mut rng);
                }
                if child == parent {
                    continue;
                }
                let before = match least {
                    Some(least) => least,
                    None => measure.divergence(&best)?,
                };
                let found = measure.divergence(&child)?;
                least = Some(before.min(found));
                if found < before {
                    best = child;
                }
            }
        }
        Ok(best)
    }
}

/// Moves a step of units from one row to another of the same unit cost; nothing where no pair can.
fn shift(rows: &[Row], quotas: &mut [usize], step: f64, rng: &mut SplitMix64) {
    let gives = |from: usize| quotas[from] > rows[from].floor;
    let takes = |from: usize, to: usize| {
        from != to && rows[from].unit_cost == rows[to].unit_cost && quotas[to] < rows[to].scores.len()
    };
    let partners = |from: usize| (0..rows.len()).filter(move |&to| takes(from, to));
    let givers: Vec<usize> = (0..rows.len()).filter(|&from| gives(from) && partners(from).next().is_some()).collect();
    if givers.is_empty() {
        return;
    }
    let from = givers[rng.below(givers.len())];
    let partners: Vec<usize> = partners(from).collect();
    let to = partners[rng.below(partners.len())];
    let units = (step * rows[from].scores.len().min(rows[to].scores.len()) as f64).round().max(1.0) as usize;
    let units = units.min(quotas[from] - rows[from].floor).min(rows[to].scores.len() - quotas[to]);
    quotas[from] -= units;
    quotas[to] += units;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(units: usize, unit_cost: u64, floor: usize) -> Row {
        Row { name: "row".into(), block: 0, scores: vec![0.0; units], unit_cost, floor }
    }

    /// Two rows that are costly together: cutting both loses 10, which no row shows alone.
    struct Pair;

    impl QuotaLoss for Pair {
        fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
            let lost = [0, 1, 2].map(|row| 1.0 - quotas[row] as f64 / 8.0);
            Ok(lost[0] + lost[1] + 1.5 * lost[2] + 10.0 * lost[0] * lost[1])
        }
    }

    #[test]
    fn finds_what_no_row_shows_alone() {
        let rows = [row(8, 1, 0), row(8, 1, 0), row(8, 1, 0)];
        let dynamic = Dynamic { levels: 5 }.allocate(0.5, &rows, &mut Pair).unwrap();
        let search = Search { levels: 5, iterations: 40, offspring: 8, seed: 1 };
        let found = search.allocate(0.5, &rows, &mut Pair).unwrap();
        // 12 units leave: 8 of one of the first two and 4 of the last lose 1.75; 4, 4 and 4 lose 4.25.
        assert!(Pair.divergence(&dynamic).unwrap() > 2.0, "{dynamic:?}");
        assert_eq!(Pair.divergence(&found).unwrap(), 1.75, "{found:?}");
        assert_eq!(search.allocate(0.5, &rows, &mut Pair).unwrap(), found);
    }

    #[test]
    fn shifts_keep_the_cost_and_the_limits() {
        let rows = [row(10, 3, 2), row(6, 3, 0), row(9, 5, 0)];
        let mut rng = SplitMix64::new(4);
        let mut quotas = vec![5, 3, 4];
        let mut moved = 0;
        for _ in 0..200 {
            let before = quotas.clone();
            shift(&rows, &mut quotas, 0.3, &mut rng);
            assert_eq!(quotas[0] + quotas[1], 8);
            assert_eq!(quotas[2], 4, "no other row has its cost");
            assert!((2..=10).contains(&quotas[0]) && quotas[1] <= 6);
            moved += usize::from(quotas != before);
        }
        assert!(moved > 150, "{moved}");
        let mut alone = vec![5];
        shift(&rows[..1], &mut alone, 0.3, &mut rng);
        assert_eq!(alone, [5]);
    }
}
