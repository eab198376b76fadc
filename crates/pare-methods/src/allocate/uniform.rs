//! Uniform: every row keeps the same share.
//!
//! Source     folklore: the baseline that every allocation is measured against
//! Formula    quota_r = round(keep * n_r), halves away from zero
//! Shapes     n_r units in row r; one quota per row
//! Needs      no statistic; the scores are checked, not used
//! Parameters none
//! Cost       O(rows) beside the check of the scores
//! Departs    nothing
//! Errors     Params for keep outside 0..=1, a quota below its row's floor, a floor above n_r, a cost of 0; Row for scores not finite
//! Exactness  0: counts

use super::{Allocate, Entry, QuotaLoss, Row};
use crate::card::Card;
use crate::error::{MethodError, shown};
use crate::quotas::check;

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "uniform",
        about: "keeps the same share of every row",
        source: "folklore: the baseline that every allocation is measured against",
        formula: "quota_r = round(keep * n_r), halves away from zero",
        needs: &[],
        parameters: &[],
        grains: &[],
        cost: "rows operations",
        departs: "nothing",
        exactness: 0.0,
    },
    measures: false,
    build: |_, _| Ok(Box::new(Uniform)),
};

/// Keeps the same share of every row; rows of equal size keep the same number.
#[derive(Clone, Copy, Debug)]
pub struct Uniform;

impl Allocate for Uniform {
    fn allocate(&self, keep: f64, rows: &[Row], _: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError> {
        check(keep, rows)?;
        let quota = |row: &Row| {
            let units = row.scores.len();
            let quota = (keep * units as f64).round() as usize;
            if quota < row.floor {
                return row.wrong(
                    "keep",
                    format_args!("{} of {units} units is {quota}, but at least {} must stay", shown(keep), row.floor),
                );
            }
            Ok(quota)
        };
        rows.iter().map(quota).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocate::Unmeasured;

    fn row(units: usize, floor: usize) -> Row {
        Row { name: format!("row of {units}"), block: 0, scores: vec![0.0; units], unit_cost: 1, floor }
    }

    #[test]
    fn by_hand() {
        let rows = [row(4, 1), row(5, 1), row(4, 0), row(0, 0), row(3, 0)];
        // 2, 2.5, 2, 0, 1.5
        assert_eq!(Uniform.allocate(0.5, &rows, &mut Unmeasured).unwrap(), [2, 3, 2, 0, 2]);
        assert_eq!(Uniform.allocate(1.0, &rows, &mut Unmeasured).unwrap(), [4, 5, 4, 0, 3]);
        assert_eq!(Uniform.allocate(0.5, &[], &mut Unmeasured).unwrap(), [0; 0]);
    }

    #[test]
    fn a_quota_below_the_floor_is_refused() {
        let message = Uniform.allocate(0.1, &[row(4, 0), row(3, 1)], &mut Unmeasured).unwrap_err().to_string();
        assert_eq!(message, "parameter keep: row of 3: 0.1 of 3 units is 0, but at least 1 must stay");
    }
}
