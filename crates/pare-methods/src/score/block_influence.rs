//! Block influence: keep parts that turn the residual stream.
//!
//! Source     Men et al. 2024, ShortGPT, arXiv:2403.03853 (blocks); He et al. 2024, What Matters in Transformers? (LLM-Drop), arXiv:2406.15786 (parts)
//! Formula    S = 1 - mean over tokens of cos(x before, x after)
//! Shapes     x before and after the part [T, C]; S one number
//! Needs      Stat::Cosine, one number at AttentionPart, FfnPart or BlockPart
//! Parameters none
//! Cost       O(1) after calibration
//! Departs    nothing
//! Errors     MissingStat, Shape, Params (site); Numeric for a cosine that is none; Unsupported for other grains
//! Exactness  1e-12 against goldens/score/block_influence

use super::{Entry, Score, serve};
use crate::card::{Card, Grain};
use crate::check;
use crate::error::MethodError;
use crate::view::View;
use pare_model::stats::{Stat, Stats};

/// See the head of this file.
pub(super) const ENTRY: Entry = Entry {
    card: Card {
        name: "block-influence",
        about: "keeps parts and blocks that turn the residual stream",
        source: "ShortGPT, arXiv:2403.03853; What Matters in Transformers?, arXiv:2406.15786",
        formula: "S = 1 - mean over tokens of cos(x before, x after)",
        needs: &[Stat::Cosine],
        parameters: &[],
        grains: &[Grain::Attention, Grain::Ffn, Grain::Block],
        cost: "one operation per part",
        departs: "nothing",
        exactness: 1e-12,
    },
    positional: false,
    build: |_| Box::new(BlockInfluence),
};

/// One minus the mean cosine of the residual before and after a part.
#[derive(Clone, Copy, Debug)]
pub struct BlockInfluence;

impl Score for BlockInfluence {
    fn score(&self, view: &View<'_>, stats: &Stats) -> Result<Vec<f64>, MethodError> {
        serve(&ENTRY.card, view, "only parts and blocks have a residual before and after")?;
        let cosine = check::stat(stats, view.site, Stat::Cosine, 1)?;
        Ok(vec![1.0 - cosine[0].clamp(-1.0, 1.0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pare_model::site::{Point, Site};

    #[test]
    fn by_hand() {
        let site = Site::new(4, Point::FfnPart);
        let view = View { grain: Grain::Ffn, site, projection: None, units: 1, reader: None, writers: &[] };
        let mut stats = Stats::new(1);
        stats.insert(site, Stat::Cosine, vec![0.75]);
        assert_eq!(BlockInfluence.score(&view, &stats).unwrap(), [0.25]);
        stats.insert(site, Stat::Cosine, vec![1.0 + 1e-12]);
        assert_eq!(BlockInfluence.score(&view, &stats).unwrap(), [0.0]);
    }
}
