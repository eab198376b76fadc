//! Where the redundancy is: influence of each part, idle channels, spread of the KV groups.

use crate::Error;
use crate::candidates::Candidates;
use crate::observe::{Needs, observe};
use crate::progress::Work;
use crate::report::BlockRedundancy;
use pare_methods::card::Grain;
use pare_methods::score;
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::stats::Stat;

/// Share of the summed score that counts as idle.
const IDLE: f64 = 0.05;

/// Signs of redundancy in every block of `model` on `calibration` text.
///
/// # Errors
/// Activations that are not finite; the user stops it.
pub fn inspect(model: &Model, calibration: &[Vec<u32>], work: Work<'_>) -> Result<Vec<BlockRedundancy>, Error> {
    let wanda = score::ENTRIES.iter().find(|entry| entry.card.name == "wanda").ok_or(Error::Recipe)?;
    let wanda = ((wanda.build)(0), wanda.card.needs);
    let mut needs = Needs::new();
    for block in 0..model.blocks.len() {
        for point in [Point::AttentionPart, Point::FfnPart, Point::BlockPart] {
            needs.insert((Site::new(block, point), Stat::Cosine));
        }
        for point in [Point::AttentionOut, Point::FfnOut] {
            needs.extend(wanda.1.iter().map(|&stat| (Site::new(block, point), stat)));
        }
    }
    let stats = observe(model, calibration, &needs, work)?;
    let mut found = Vec::new();
    for (index, block) in model.blocks.iter().enumerate() {
        let influence =
            |point| stats.get(Site::new(index, point), Stat::Cosine).map_or(0.0, |cosine: &[f64]| 1.0 - cosine[0]);
        let scores = |grain| -> Result<Vec<f64>, Error> {
            match Candidates::of_block(grain, index, block).first() {
                Some(group) => group.score(wanda.0.as_ref(), block, &stats),
                None => Ok(Vec::new()),
            }
        };
        found.push(BlockRedundancy {
            attention_influence: influence(Point::AttentionPart),
            ffn_influence: influence(Point::FfnPart),
            block_influence: influence(Point::BlockPart),
            idle_channels: idle_share(scores(Grain::Channel)?),
            group_spread: spread(&scores(Grain::Group)?),
        });
    }
    Ok(found)
}

/// Share of units that together carry the least [`IDLE`] of the sum.
fn idle_share(mut scores: Vec<f64>) -> f64 {
    scores.sort_unstable_by(f64::total_cmp);
    let limit = IDLE * scores.iter().sum::<f64>();
    let mut sum = 0.0;
    let idle = scores
        .iter()
        .take_while(|&&score| {
            sum += score;
            sum <= limit
        })
        .count();
    idle as f64 / scores.len().max(1) as f64
}

fn spread(scores: &[f64]) -> f64 {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = scores.iter().copied().fold(f64::INFINITY, f64::min);
    if smallest > 0.0 && largest.is_finite() { largest / smallest } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_channels_by_hand() {
        // 1 + 2 = 3 of 100 is within 5 %; adding 3 gives 6.
        assert_eq!(idle_share(vec![44.0, 3.0, 1.0, 50.0, 2.0]), 0.4);
        assert_eq!(idle_share(Vec::new()), 0.0);
    }
}
