//! Scores: one number per unit, higher = keep.

mod activation;
mod block_influence;
mod feature_merging;
mod fluctuation;
mod head_contribution;
mod magnitude;
mod obs_group;
mod random;
mod state_delta;
mod wanda;

pub use activation::Activation;
pub use block_influence::BlockInfluence;
pub use feature_merging::FeatureMerging;
pub use fluctuation::Fluctuation;
pub use head_contribution::HeadContribution;
pub use magnitude::Magnitude;
pub use obs_group::ObsGroup;
pub use random::Random;
pub use state_delta::StateDelta;
pub use wanda::Wanda;

use crate::card::Card;
use crate::error::MethodError;
use crate::names;
use crate::view::View;
use pare_model::stats::Stats;

/// A score. Pure: the same view and statistics give the same numbers.
pub trait Score: Send + Sync {
    /// One number per unit of `view`, higher = keep.
    ///
    /// # Errors
    /// A missing statistic, sizes that disagree, a grain that the score does not serve, a number that is not finite.
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError>;
}

/// One line of the registry.
pub struct Entry {
    /// What it is.
    pub card: Card,
    /// Whether a unit's score depends on its place among the others, and not only on what it holds.
    pub positional: bool,
    /// Builds it; `seed` is used by scores that draw.
    pub build: fn(seed: u64) -> Box<dyn Score>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("score::Entry").field(&self.card.name).finish()
    }
}

/// Every score, by name.
pub const ENTRIES: &[Entry] = &[
    activation::ENTRY,
    block_influence::ENTRY,
    feature_merging::ENTRY,
    fluctuation::ENTRY,
    head_contribution::ENTRY,
    magnitude::ENTRY,
    obs_group::ENTRY,
    random::ENTRY,
    state_delta::ENTRY,
    wanda::ENTRY,
];

/// The score called `name`.
///
/// # Errors
/// `Unknown`, with the nearest name.
pub fn find(name: &str) -> Result<&'static Entry, MethodError> {
    ENTRIES.iter().find(|entry| entry.card.name == name).ok_or_else(|| MethodError::Unknown {
        axis: "score",
        name: name.to_owned(),
        nearest: names::nearest(name, ENTRIES.iter().map(|entry| entry.card.name)),
    })
}

/// Refuses a view whose grain the card does not list.
fn serve(card: &Card, view: &View<'_>, why: &'static str) -> Result<(), MethodError> {
    if card.grains.contains(&view.grain) {
        return view.check();
    }
    Err(MethodError::Unsupported { method: card.name, what: format!("units of {:?}", view.grain), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let message = find("wnada").unwrap_err().to_string();
        assert_eq!(message, "no score method is called \"wnada\"; did you mean \"wanda\"?");
        assert_eq!(find("block-influence").unwrap().card.name, "block-influence");
    }
}
