//! Allocations: how many units each group of units keeps.

mod dynamic;
mod energy;
mod floor;
mod global;
mod greedy;
mod outlier;
mod ranking;
mod search;
mod uniform;

pub use dynamic::Dynamic;
pub use energy::Energy;
pub use floor::Floor;
pub use global::Global;
pub use greedy::Greedy;
pub use outlier::Outlier;
pub use ranking::Ranking;
pub use search::Search;
pub use uniform::Uniform;

use crate::card::Card;
use crate::error::{Built, MethodError};
use crate::names;
#[cfg(test)]
use crate::quotas::check;
pub use crate::quotas::{QuotaLoss, Row};
use crate::settings::Settings;

/// For allocations that measure nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unmeasured;

impl QuotaLoss for Unmeasured {
    fn divergence(&mut self, _: &[usize]) -> Result<f64, MethodError> {
        Err(MethodError::Stopped { why: "nothing can be measured here".into() })
    }
}

/// Decides quotas.
pub trait Allocate: Send + Sync {
    /// How many units each row keeps, `floor <= quota <= scores.len()`, so that the kept cost is `keep` of the whole cost, as
    /// near as whole units come. Only an allocation that says so measures.
    ///
    /// # Errors
    /// `Params` for a `keep` outside `0..=1` or below what the floors allow, for a floor above the number of units and for a
    /// cost of 0; `Row` for a score that is not finite.
    fn allocate(&self, keep: f64, rows: &[Row], measure: &mut dyn QuotaLoss) -> Result<Vec<usize>, MethodError>;
}

/// One line of the registry.
pub struct Entry {
    /// What it is.
    pub card: Card,
    /// Whether it measures: it is then slow, and its quotas depend on more than the scores.
    pub measures: bool,
    /// Builds it; `seed` is used by allocations that draw.
    ///
    /// # Errors
    /// A parameter that it does not read, or out of its range.
    pub build: fn(settings: &Settings, seed: u64) -> Built<dyn Allocate>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("allocate::Entry").field(&self.card.name).finish()
    }
}

/// Every allocation, by name.
pub const ENTRIES: &[Entry] = &[
    dynamic::ENTRY,
    energy::ENTRY,
    floor::ENTRY,
    global::ENTRY,
    greedy::ENTRY,
    outlier::ENTRY,
    ranking::ENTRY,
    search::ENTRY,
    uniform::ENTRY,
];

/// The allocation called `name`.
///
/// # Errors
/// `Unknown`, with the nearest name.
pub fn find(name: &str) -> Result<&'static Entry, MethodError> {
    ENTRIES.iter().find(|entry| entry.card.name == name).ok_or_else(|| MethodError::Unknown {
        axis: "allocate",
        name: name.to_owned(),
        nearest: names::nearest(name, ENTRIES.iter().map(|entry| entry.card.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scores: &[f64], floor: usize) -> Row {
        Row { name: "block 3 ffn output".into(), block: 3, scores: scores.to_vec(), unit_cost: 2, floor }
    }

    #[test]
    fn refuses_what_cannot_be_allocated() {
        let message = |keep, row| check(keep, &[row]).unwrap_err().to_string();
        assert_eq!(message(1.5, row(&[1.0], 0)), "parameter keep: 1.5, expected 0..=1");
        assert_eq!(message(f64::NAN, row(&[1.0], 0)), "parameter keep: NaN, expected 0..=1");
        assert_eq!(message(0.5, row(&[1.0], 2)), "parameter floor: block 3 ffn output: 2 of 1 units");
        assert_eq!(
            message(0.5, row(&[1.0, f64::NAN], 0)),
            "block 3 ffn output: scores: value 1 is NaN, expected a finite number"
        );
        let free = Row { unit_cost: 0, ..row(&[1.0], 0) };
        assert_eq!(message(0.5, free), "parameter unit_cost: block 3 ffn output: 0, expected at least 1");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let message = find("unifrom").unwrap_err().to_string();
        assert_eq!(message, "no allocate method is called \"unifrom\"; did you mean \"uniform\"?");
        assert_eq!(find("global").unwrap().card.name, "global");
    }
}
