//! A figure measured several times: its least, middle and greatest value.

use serde::{Deserialize, Serialize};

/// Least, median and greatest of some measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of `values`, none of which is NaN; nothing when there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
        Some(Self { min, median, max })
    }

    /// The spread of `a[i] / b[i]`: what was measured in one round is divided by what was measured in the same round, so that a machine
    /// that changes its speed changes both. Rounds that one of them does not have are left out.
    pub fn of_ratios(a: &[f64], b: &[f64]) -> Option<Self> {
        Self::of(a.iter().zip(b).map(|(a, b)| a / b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_by_hand() {
        let of = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some(Spread { min: 3.0, median: 3.0, max: 3.0 }));
        assert_eq!(of(&[5.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 5.0 }));
        assert_eq!(of(&[4.0, 1.0, 2.0, 10.0]), Some(Spread { min: 1.0, median: 3.0, max: 10.0 }));
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The median of the ratios 2, 1/2 and 3 is 2; the ratio of the medians 4 and 4 would be 1.
        let found = Spread::of_ratios(&[4.0, 1.0, 12.0], &[2.0, 2.0, 4.0]);
        assert_eq!(found, Some(Spread { min: 0.5, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of_ratios(&[1.0], &[]), None);
    }
}
