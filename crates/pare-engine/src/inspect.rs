//! Where the redundancy is: influence of each part, idle channels, spread of the KV groups.

mod measures;

pub use crate::shrink::curve::{LEVELS, curve};

use crate::Error;
use crate::candidates::Candidates;
use crate::figures::BlockRedundancy;
use crate::observe::Needs;
use crate::progress::Work;
use crate::residual::ResidualStream;
use measures::RedundancyMeasures;
use pare_methods::card::Grain;
use pare_methods::score;
use pare_model::model::Model;
use pare_model::site::{Point, Site};
use pare_model::stats::{Stat, Stats};

/// Share of the summed score that counts as idle.
const IDLE: f64 = 0.05;
/// Tokens that Gram matrices are summed over: more would cost much and say little.
const GRAM_TOKENS: usize = 4096;

/// Signs of redundancy in every block of `model` on `calibration` text.
///
/// One forward pass of the text; correlations and directions are those of its first 4096 tokens (whole sequences, at least one).
/// Block by block: the memory holds the stream of all tokens and the statistics of one block.
///
/// # Errors
/// Activations that are not finite; the user stops it.
pub fn inspect(model: &Model, calibration: &[Vec<u32>], work: Work<'_>) -> Result<Vec<BlockRedundancy>, Error> {
    let wanda = score::find("wanda")?;
    let score = (wanda.build)(0);
    let (detailed, rest) = calibration.split_at(sequences_within(calibration, GRAM_TOKENS));
    let mut detailed = ResidualStream::embed(model, detailed);
    let mut rest = (!rest.is_empty()).then(|| ResidualStream::embed(model, rest));
    let mut found = Vec::new();
    work.progress.begin("observing", model.blocks.len() as u64);
    for (index, block) in model.blocks.iter().enumerate() {
        let mut needs: Needs = [Point::AttentionPart, Point::FfnPart, Point::BlockPart]
            .map(|point| (Site::new(index, point), Stat::Cosine))
            .into();
        for point in [Point::AttentionOut, Point::FfnOut] {
            needs.extend(wanda.card.needs.iter().map(|&stat| (Site::new(index, point), stat)));
        }
        let all = &needs | &measures::needs(index, block);
        let fine = detailed.observe_and_advance(index, block, &all, work)?;
        let coarse = rest.as_mut().map(|rest| rest.observe_and_advance(index, block, &needs, work)).transpose()?;
        let stats = mean_of(&needs, &fine, coarse.as_ref());
        let influence =
            |point| stats.get(Site::new(index, point), Stat::Cosine).map_or(0.0, |cosine: &[f64]| 1.0 - cosine[0]);
        let scores = |grain| -> Result<Vec<f64>, Error> {
            match Candidates::of_block(grain, index, block).first() {
                Some(group) => group.score(score.as_ref(), block, &stats),
                None => Ok(Vec::new()),
            }
        };
        let measured: RedundancyMeasures = measures::measure(index, block, &fine, work)?;
        found.push(BlockRedundancy {
            attention_influence: influence(Point::AttentionPart),
            ffn_influence: influence(Point::FfnPart),
            block_influence: influence(Point::BlockPart),
            idle_channels: idle_share(scores(Grain::Channel)?),
            group_spread: spread(&scores(Grain::Group)?),
            effective_rank: measured.effective_rank,
            nuclear_norm: measured.nuclear_norm,
            head_correlation: measured.head_correlation,
            channel_correlation: measured.channel_correlation,
            mergeable_channels: measured.mergeable_channels,
            energy_entropy: measured.energy_entropy,
            effective_channels: measured.effective_channels,
        });
        work.progress.advance(1, "");
    }
    work.progress.end();
    Ok(found)
}

/// How many of the first `sequences` have at most `tokens` together; at least one.
pub(crate) fn sequences_within(sequences: &[Vec<u32>], tokens: usize) -> usize {
    let mut sum = 0;
    let within = sequences.iter().take_while(|sequence| {
        sum += sequence.len();
        sum <= tokens
    });
    within.count().max(1).min(sequences.len())
}

/// The statistics `needs` over the tokens of both, each mean weighted by its tokens.
fn mean_of(needs: &Needs, first: &Stats, second: Option<&Stats>) -> Stats {
    let tokens = first.tokens() + second.map_or(0, Stats::tokens);
    let share = first.tokens() as f64 / tokens.max(1) as f64;
    let mut stats = Stats::new(tokens);
    for &(site, stat) in needs {
        let Some(values) = first.get(site, stat) else { continue };
        let values = match second.and_then(|second| second.get(site, stat)) {
            Some(others) => values.iter().zip(others).map(|(a, b)| share * a + (1.0 - share) * b).collect(),
            None => values.to_vec(),
        };
        stats.insert(site, stat, values);
    }
    stats
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
    fn means_are_weighted_by_tokens() {
        let site = Site::new(0, Point::FfnOut);
        let stats = |tokens, values: [f64; 2]| {
            let mut stats = Stats::new(tokens);
            stats.insert(site, Stat::Mean, values.to_vec());
            stats
        };
        let needs = Needs::from([(site, Stat::Mean), (site, Stat::Gram)]);
        let (first, second) = (stats(1, [8.0, 4.0]), stats(3, [0.0, 8.0]));
        let mean = mean_of(&needs, &first, Some(&second));
        assert_eq!((mean.tokens(), mean.get(site, Stat::Mean).unwrap()), (4, &[2.0, 7.0][..]));
        let alone = mean_of(&needs, &first, None);
        assert_eq!((alone.tokens(), alone.get(site, Stat::Mean).unwrap()), (1, &[8.0, 4.0][..]));
        assert!(alone.get(site, Stat::Gram).is_none());
    }

    #[test]
    fn whole_sequences_within_a_number_of_tokens() {
        let sequences = [vec![0; 3], vec![0; 3], vec![0; 1]];
        assert_eq!([2, 3, 5, 6, 7, 9].map(|tokens| sequences_within(&sequences, tokens)), [1, 1, 1, 2, 3, 3]);
        assert_eq!(sequences_within(&[], 5), 0);
    }

    #[test]
    fn idle_channels_by_hand() {
        // 1 + 2 = 3 of 100 is within 5 %; adding 3 gives 6.
        assert_eq!(idle_share(vec![44.0, 3.0, 1.0, 50.0, 2.0]), 0.4);
        assert_eq!(idle_share(Vec::new()), 0.0);
    }
}
