//! What allocations share: the cost that may stay, and the way from wishes to whole units.

use crate::check::not_finite;
use crate::error::{MethodError, shown};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::binary_heap::{BinaryHeap, PeekMut};

/// The scores of one view, and what its units cost.
///
/// Parts and blocks have one unit per view: there a row holds the units of all blocks, so that they are ranked together.
#[derive(Clone, Debug)]
pub struct Row {
    /// A name for messages, as in `block 3 ffn output`.
    pub name: String,
    /// Index of the block that its units belong to; of units of all blocks, 0.
    pub block: usize,
    /// One number per unit, higher = keep.
    pub scores: Vec<f64>,
    /// Cost of one unit, in parameters, at least 1.
    pub unit_cost: u64,
    /// The fewest units that must stay.
    pub floor: usize,
}

impl Row {
    pub(crate) fn wrong<T>(&self, key: &'static str, why: std::fmt::Arguments<'_>) -> Result<T, MethodError> {
        Err(MethodError::Params { key, why: format!("{}: {why}", self.name) })
    }
}

/// What every allocation asks of its input.
pub(crate) fn check(keep: f64, rows: &[Row]) -> Result<(), MethodError> {
    if !(0.0..=1.0).contains(&keep) {
        return Err(MethodError::Params { key: "keep", why: format!("{keep}, expected 0..=1") });
    }
    for row in rows {
        if row.floor > row.scores.len() {
            return row.wrong("floor", format_args!("{} of {} units", row.floor, row.scores.len()));
        }
        if row.unit_cost == 0 {
            return row.wrong("unit_cost", format_args!("0, expected at least 1"));
        }
        if let Some(cause) = not_finite("scores", row.scores.iter().copied()) {
            return Err(MethodError::Row { row: row.name.clone(), cause });
        }
    }
    Ok(())
}

/// How much a choice of quotas changes the model's answers, for allocations that measure.
pub trait QuotaLoss {
    /// Mean divergence of the cut and repaired model from the whole one on calibration text, in nats per token, when row `r` keeps
    /// `quotas[r]` units: those with the highest scores.
    ///
    /// # Errors
    /// `Stopped` when the user stops it, or when nothing can be measured.
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError>;
}

/// The cost of all rows whole, and what `keep` leaves of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Of all units.
    pub(crate) whole: u128,
    /// Of the units that may stay.
    pub(crate) target: f64,
    /// The least cost of a unit of any row.
    pub(crate) cheapest: u64,
}

impl Budget {
    /// Checks everything that an allocation asks of its input; `floors` are at least those of the rows.
    pub(crate) fn new(keep: f64, rows: &[Row], floors: &[usize]) -> Result<Self, MethodError> {
        check(keep, rows)?;
        let whole = cost(rows, rows.iter().map(|row| row.scores.len()));
        let least = cost(rows, floors.iter().copied());
        let cheapest = rows.iter().map(|row| row.unit_cost).min().unwrap_or(0);
        let target = keep * whole as f64;
        if target + 0.5 * (cheapest as f64) < least as f64 {
            let (keep, target) = (shown(keep), shown(target));
            let why = format!("{keep} of {whole} parameters is {target}, but the floors keep {least}");
            return Err(MethodError::Params { key: "keep", why });
        }
        Ok(Self { whole, target, cheapest })
    }
}

/// The floors of the rows.
pub(crate) fn floors(rows: &[Row]) -> Vec<usize> {
    rows.iter().map(|row| row.floor).collect()
}

/// All units of all rows.
pub(crate) fn whole(rows: &[Row]) -> Vec<usize> {
    rows.iter().map(|row| row.scores.len()).collect()
}

/// What `quotas` keep costs.
pub(crate) fn cost(rows: &[Row], quotas: impl IntoIterator<Item = usize>) -> u128 {
    rows.iter().zip(quotas).map(|(row, quota)| u128::from(row.unit_cost) * quota as u128).sum()
}

/// The `place`-th unit that a row of `units` would lose.
#[derive(Clone, Copy)]
struct Leaving {
    key: f64,
    row: usize,
    place: usize,
    units: usize,
}

/// A heap gives the largest first: that is what leaves first.
impl Ord for Leaving {
    fn cmp(&self, other: &Self) -> Ordering {
        let share = |one: &Self, other: &Self| one.place as u128 * other.units as u128;
        let order = other.key.total_cmp(&self.key);
        let order = order.then_with(|| share(other, self).cmp(&share(self, other)));
        order.then_with(|| (self.row, other.place).cmp(&(other.row, self.place)))
    }
}

impl PartialOrd for Leaving {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Leaving {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Leaving {}

/// One ranking of the units of all rows: they leave from the lowest key up until the kept cost is nearest to the target.
///
/// `keys` turns the ascending scores of a row into keys that are ascending too. Of equal keys the one leaves first whose row
/// has lost the smaller share, then the one of the later row: equal rows lose evenly.
pub(crate) fn ranked(
    rows: &[Row],
    floors: &[usize],
    budget: Budget,
    keys: impl Fn(&Row, &mut [f64]),
) -> Result<Vec<usize>, MethodError> {
    // A row's units leave in the order of its keys: only the next one of each row is compared with those of the others.
    let sorted: Vec<Vec<f64>> = rows
        .iter()
        .zip(floors)
        .map(|(row, &floor)| {
            let mut sorted = row.scores.clone();
            sorted.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
            keys(row, &mut sorted);
            sorted.truncate(row.scores.len() - floor);
            sorted
        })
        .collect();
    let next = |row: usize, place: usize| {
        let key = *sorted[row].get(place)?;
        Some(Leaving { key, row, place, units: rows[row].scores.len() })
    };
    let mut first: BinaryHeap<Leaving> = (0..rows.len()).filter_map(|row| next(row, 0)).collect();
    let mut quotas = whole(rows);
    let mut kept = budget.whole;
    while let Some(mut leaving) = first.peek_mut() {
        let Leaving { row, place, .. } = *leaving;
        let rest = kept - u128::from(rows[row].unit_cost);
        // Of two prefixes equally near the larger model stays.
        if (rest as f64 - budget.target).abs() >= (kept as f64 - budget.target).abs() {
            break;
        }
        kept = rest;
        quotas[row] -= 1;
        match next(row, place + 1) {
            Some(after) => *leaving = after,
            None => drop(PeekMut::pop(leaving)),
        }
    }
    Ok(quotas)
}

/// Quotas whose shares are `share(row, t)`, kept within the floor and 1, for the `t` at which the target is met; `share` does not
/// fall with `t`, is at most 0 at the lower end of `range` and at least 1 at the upper one.
pub(crate) fn shared(rows: &[Row], budget: Budget, range: [f64; 2], share: impl Fn(usize, f64) -> f64) -> Vec<usize> {
    let units = |index: usize, t: f64| {
        let row = &rows[index];
        (share(index, t) * row.scores.len() as f64).clamp(row.floor as f64, row.scores.len() as f64)
    };
    let kept = |t: f64| rows.iter().enumerate().map(|(r, row)| row.unit_cost as f64 * units(r, t)).sum::<f64>();
    let [mut low, mut high] = range;
    // A double has no more halves than this.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if kept(middle) < budget.target { low = middle } else { high = middle }
    }
    let wishes: Vec<f64> = (0..rows.len()).map(|index| units(index, high)).collect();
    let mut quotas: Vec<usize> = wishes.iter().map(|&wish| wish as usize).collect();
    settle(rows, &mut quotas, budget, |index, quota| wishes[index] - quota as f64);
    quotas
}

/// Adds or takes single units until none brings the kept cost nearer to the target.
///
/// `worth(row, quota)` says how much a row that keeps `quota` units wants one more: it is the highest that gets one, the lowest
/// that loses one. As long as whole units fit, only those move; the last one is the one that comes nearest.
pub(crate) fn settle(rows: &[Row], quotas: &mut [usize], budget: Budget, worth: impl Fn(usize, usize) -> f64) {
    loop {
        let off = budget.target - cost(rows, quotas.iter().copied()) as f64;
        let (adding, off) = (off > 0.0, off.abs());
        let movable = |index: &usize| {
            let (row, quota) = (&rows[*index], quotas[*index]);
            if adding { quota < row.scores.len() } else { quota > row.floor }
        };
        // Of equal worth the first row gets and the last row loses.
        let better = |a: &usize, b: &usize| match adding {
            true => worth(*a, quotas[*a]).total_cmp(&worth(*b, quotas[*b])).then(b.cmp(a)),
            false => worth(*b, quotas[*b] - 1).total_cmp(&worth(*a, quotas[*a] - 1)).then(a.cmp(b)),
        };
        let price = |index: usize| rows[index].unit_cost as f64;
        let fitting = (0..rows.len()).filter(movable).filter(|&index| price(index) <= off).max_by(better);
        let last = || {
            let nearer = (0..rows.len()).filter(movable).filter(|&index| (price(index) - off).abs() < off);
            nearer.max_by(|a, b| (price(*b) - off).abs().total_cmp(&(price(*a) - off).abs()).then(better(a, b)))
        };
        match (fitting.or_else(last), adding) {
            (None, _) => return,
            (Some(index), true) => quotas[index] += 1,
            (Some(index), false) => quotas[index] -= 1,
        }
    }
}

/// A measure that is asked for the same quotas only once, and whose numbers are finite.
pub(crate) struct Remembered<'a> {
    measure: &'a mut dyn QuotaLoss,
    seen: BTreeMap<Vec<usize>, f64>,
}

impl<'a> Remembered<'a> {
    /// Remembers nothing yet.
    pub(crate) fn new(measure: &'a mut dyn QuotaLoss) -> Self {
        Self { measure, seen: BTreeMap::new() }
    }
}

impl QuotaLoss for Remembered<'_> {
    fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
        if let Some(&seen) = self.seen.get(quotas) {
            return Ok(seen);
        }
        let found = self.measure.divergence(quotas)?;
        if let Some(cause) = not_finite("divergence", [found]) {
            return Err(MethodError::Row { row: "measured quotas".into(), cause });
        }
        self.seen.insert(quotas.to_vec(), found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(units: usize, unit_cost: u64, floor: usize) -> Row {
        Row { name: "row".into(), block: 0, scores: vec![0.0; units], unit_cost, floor }
    }

    fn budget(keep: f64, rows: &[Row]) -> Budget {
        Budget::new(keep, rows, &floors(rows)).unwrap()
    }

    #[test]
    fn shares_are_shifted_until_the_target_is_met() {
        // Wishes 0.2 and 0.6 of 10 units each; 10 of 20 may stay: 0.1 more for each.
        let rows = [row(10, 1, 0), row(10, 1, 0)];
        let wish = |index: usize, t: f64| [0.2, 0.6][index] + t;
        assert_eq!(shared(&rows, budget(0.5, &rows), [-2.0, 2.0], wish), [3, 7]);
        // At 0.85 the second is full at 1 and the first gets the rest.
        assert_eq!(shared(&rows, budget(0.85, &rows), [-2.0, 2.0], wish), [7, 10]);
        // Units of the second cost 9: 90 + 10 whole, 50 stay.
        let rows = [row(10, 1, 0), row(10, 9, 2)];
        assert_eq!(shared(&rows, budget(0.5, &rows), [-2.0, 2.0], |_, t| t), [5, 5]);
        assert_eq!(shared(&rows, budget(0.18, &rows), [-2.0, 2.0], wish), [0, 2], "the floor holds");
    }

    #[test]
    fn the_last_unit_is_the_one_that_comes_nearest() {
        let rows = [row(9, 5, 0), row(9, 3, 0)];
        // 36 of 72: one unit of 5 and one of 3 are kept, 28 are missing.
        let mut quotas = [1, 1];
        settle(&rows, &mut quotas, budget(0.5, &rows), |index, _| if index == 0 { 1.0 } else { 0.0 });
        // Five times 5 fit, then once 3: 36 exactly.
        assert_eq!(quotas, [6, 2]);
        let mut quotas = [9, 9];
        settle(&rows, &mut quotas, budget(0.5, &rows), |index, _| if index == 0 { 1.0 } else { 0.0 });
        // The second row gives all of its 27; 9 are too much: 5 fit, and 5 more are nearer than 4 off.
        assert_eq!(quotas, [7, 0]);
    }

    #[test]
    fn a_measure_is_asked_once() {
        struct Count(usize);
        impl QuotaLoss for Count {
            fn divergence(&mut self, quotas: &[usize]) -> Result<f64, MethodError> {
                self.0 += 1;
                Ok(if quotas == [0] { f64::NAN } else { self.0 as f64 })
            }
        }
        let mut count = Count(0);
        let mut remembered = Remembered::new(&mut count);
        assert_eq!(remembered.divergence(&[3]), Ok(1.0));
        assert_eq!(remembered.divergence(&[2]), Ok(2.0));
        assert_eq!(remembered.divergence(&[3]), Ok(1.0));
        let message = remembered.divergence(&[0]).unwrap_err().to_string();
        assert_eq!(message, "measured quotas: divergence: value 0 is NaN, expected a finite number");
        assert_eq!(count.0, 3);
    }
}
