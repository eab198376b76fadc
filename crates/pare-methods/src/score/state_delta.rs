//! State delta: keep parts that add much to the residual stream, compared with what is there.
//!
//! Source     after Luo et al. 2026, Delta Attention Residuals, arXiv:2605.18855, which routes over what parts add (deltas), since the
//!            states themselves are all alike; the ratio itself is folklore
//! Formula    S = mean over tokens of ||x after - x before|| / ||x before||
//! Shapes     x before and after the part [T, C]; S one number
//! Needs      Stat::DeltaRatio, one number at AttentionPart, FfnPart or BlockPart
//! Parameters none
//! Cost       O(1) after calibration
//! Departs    the source changes and tunes the architecture; only its observation is used. A token whose state is zero counts as 0
//! Errors     MissingStat, Shape, Params (site); Numeric for a ratio that is none; Unsupported for other grains
//! Exactness  1e-12 against goldens/score/state_delta
//!
//! Block influence sees the angle alone: a part that doubles the state without turning it has influence 0 and a state delta of 1.

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::MethodError;
use crate::view::View;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "state-delta",
        about: "keeps parts and blocks that add much, compared with the state they add it to",
        source: "folklore: the relative size of a part's output, after Delta Attention Residuals, arXiv:2605.18855",
        formula: "S = mean over tokens of ||x after - x before|| / ||x before||",
        needs: &[Stat::DeltaRatio],
        parameters: &[],
        grains: &[Grain::Attention, Grain::Ffn, Grain::Block],
        cost: "one operation per part",
        departs: "the source changes the architecture and tunes it; only its observation is used",
        exactness: 1e-12,
    },
    positional: false,
    build: |_| Box::new(StateDelta),
};

/// Relative size of what a part adds.
#[derive(Clone, Copy, Debug)]
pub struct StateDelta;

impl Score for StateDelta {
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "only parts and blocks have a residual before and after")?;
        Ok(check::stat(stats, view.site, Stat::DeltaRatio, 1)?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::{Point, Site};

    #[test]
    fn by_hand() {
        let site = Site::new(4, Point::AttentionPart);
        let view = View { grain: Grain::Attention, site, projection: None, units: 1, reader: None, writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::DeltaRatio, vec![0.25]);
        assert_eq!(StateDelta.score(&view, &stats).unwrap(), [0.25]);
        stats.insert(site, Stat::DeltaRatio, vec![-0.25]);
        let message = StateDelta.score(&view, &stats).unwrap_err().to_string();
        assert_eq!(message, "block 4 attention part: delta ratio: value 0 is -0.25, expected no negative number");
    }
}
