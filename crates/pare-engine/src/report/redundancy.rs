//! Signs of redundancy per block: one small chart per sign, all over the same blocks.

use super::number::{MISSING, percent, significant};
use super::picture::{Number, across, max_width, numbers};
use super::text::listed;
use crate::figures::BlockRedundancy;

/// The charts and their figures.
#[derive(askama::Template)]
#[template(path = "redundancy.html")]
pub(super) struct Charts {
    pub(super) charts: Vec<Chart>,
    pub(super) max_width: usize,
    pub(super) numbers: Vec<Number>,
    pub(super) titles: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) summary: String,
    /// Value at the upper end.
    pub(super) top: String,
    pub(super) strongest: String,
    /// Blocks whose bar does not fit; empty when all do.
    pub(super) beyond: String,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) tooltip: String,
    pub(super) x: String,
    pub(super) middle: String,
    pub(super) width: String,
    pub(super) y: String,
    pub(super) height: String,
    pub(super) strong: bool,
    pub(super) beyond: bool,
}

/// Pixels above the bars, for the arrows.
const ABOVE: f64 = 16.0;
/// Height of the longest bar.
const HEIGHT: f64 = 70.0;
/// How many blocks are named as the strongest.
const NAMED: usize = 3;

/// One sign of redundancy.
pub(super) struct Sign {
    title: &'static str,
    about: &'static str,
    value: fn(&BlockRedundancy) -> f64,
    show: fn(f64) -> String,
    low_is_strong: bool,
}

fn three_digits(value: f64) -> String {
    significant(value, 3)
}

/// Influence of the whole block.
pub(super) const BLOCK: Sign = Sign {
    title: "Influence of the block",
    about: "1 minus the mean cosine between the residual stream before and after the whole block: near 0, the block \
            changes little, and dropping it is worth a try.",
    value: |block| block.block_influence,
    show: three_digits,
    low_is_strong: true,
};

/// Influence of the attention part.
pub(super) const ATTENTION: Sign = Sign {
    title: "Influence of attention",
    about: "The same for the attention part alone: near 0, it adds almost nothing to the stream.",
    value: |block| block.attention_influence,
    show: three_digits,
    low_is_strong: true,
};

/// Influence of the feed-forward part.
pub(super) const FFN: Sign = Sign {
    title: "Influence of feed-forward",
    about: "The same for the feed-forward part alone.",
    value: |block| block.ffn_influence,
    show: three_digits,
    low_is_strong: true,
};

/// Idle feed-forward channels.
pub(super) const IDLE: Sign = Sign {
    title: "Idle channels",
    about: "Share of the feed-forward channels that together carry only 5 % of the Wanda score (weight times input): \
            the more there are, the narrower the part can be made.",
    value: |block| block.idle_channels,
    show: percent,
    low_is_strong: false,
};

/// Spread over KV groups.
pub(super) const SPREAD: Sign = Sign {
    title: "Spread of KV groups",
    about: "Largest over smallest Wanda score among the KV groups of the attention: near 1, all groups do the same \
            amount of work; far above 1, one of them does little.",
    value: |block| block.group_spread,
    show: three_digits,
    low_is_strong: false,
};

/// Directions that the block reads.
pub(super) const RANK: Sign = Sign {
    title: "Directions in use",
    about: "Effective rank of what the block reads (the residual stream after its norm), as a share of the width: the \
            lower, the fewer directions carry it.",
    value: |block| block.effective_rank,
    show: percent,
    low_is_strong: true,
};

/// Nuclear norm of what the block reads.
pub(super) const NUCLEAR: Sign = Sign {
    title: "Nuclear norm",
    about: "Nuclear norm of the same activations, as a share of what it would be if all directions were used alike.",
    value: |block| block.nuclear_norm,
    show: percent,
    low_is_strong: true,
};

/// Heads that say the same.
pub(super) const HEADS: Sign = Sign {
    title: "Heads alike",
    about: "Mean over the query heads of the largest correlation of what one writes with what another one writes: 1 \
            where every head has a copy.",
    value: |block| block.head_correlation,
    show: three_digits,
    low_is_strong: false,
};

/// Channels that say the same.
pub(super) const CHANNELS: Sign = Sign {
    title: "Channels alike",
    about: "Mean over the feed-forward channels of the largest correlation with another one: 1 where every channel has \
            a copy.",
    value: |block| block.channel_correlation,
    show: three_digits,
    low_is_strong: false,
};

/// Channels that merge.
pub(super) const MERGEABLE: Sign = Sign {
    title: "Mergeable channels",
    about: "Share of the feed-forward channels (a sample of at most 512) whose weights, scaled to one length, merge \
            into others: nearer than half of the largest distance of two.",
    value: |block| block.mergeable_channels,
    show: percent,
    low_is_strong: false,
};

/// Channels that the energy is spread over.
pub(super) const EFFECTIVE: Sign = Sign {
    title: "Effective channels",
    about: "How many feed-forward channels of equal energy would be as evenly spread as what the channels write (the \
            exponential of its entropy), as a share of all: near 0, a single one writes almost everything, as in massive activations.",
    value: |block| block.effective_channels,
    show: percent,
    low_is_strong: true,
};

/// All that are drawn, in this order.
const SIGNS: [Sign; 11] = [BLOCK, ATTENTION, FFN, IDLE, EFFECTIVE, CHANNELS, MERGEABLE, SPREAD, HEADS, RANK, NUCLEAR];

impl Sign {
    /// The blocks where the sign is strongest, and the value there as text.
    pub(super) fn strongest(&self, blocks: &[BlockRedundancy], limit: usize) -> Vec<(usize, String)> {
        let mut values: Vec<(usize, f64)> =
            blocks.iter().map(self.value).enumerate().filter(|(_, value)| value.is_finite()).collect();
        values.sort_by(|a, b| if self.low_is_strong { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) });
        values.truncate(limit);
        values.into_iter().map(|(block, value)| (block, (self.show)(value))).collect()
    }

    fn shown(&self, value: f64) -> String {
        if value.is_finite() { (self.show)(value) } else { MISSING.to_owned() }
    }

    fn chart(&self, blocks: &[BlockRedundancy]) -> Chart {
        let values: Vec<f64> = blocks.iter().map(self.value).collect();
        let top = scale(&values);
        let strong: Vec<usize> = self.strongest(blocks, NAMED.min(blocks.len() / 2)).iter().map(|one| one.0).collect();
        let pitch = 1.0 / blocks.len() as f64;
        let bars: Vec<Bar> = values
            .iter()
            .enumerate()
            .map(|(block, &value)| {
                let share = if value.is_finite() && top > 0.0 { (value / top).clamp(0.0, 1.0) } else { 0.0 };
                let left = block as f64 * pitch;
                Bar {
                    tooltip: format!("Block {block}: {}", self.shown(value)),
                    x: across(left + 0.14 * pitch),
                    middle: across(left + 0.5 * pitch),
                    width: across(0.72 * pitch),
                    y: format!("{:.2}", ABOVE + HEIGHT * (1.0 - share)),
                    height: format!("{:.2}", HEIGHT * share),
                    strong: strong.contains(&block),
                    beyond: value.is_finite() && value > top,
                }
            })
            .collect();
        let named = |block: usize| format!("block\u{a0}{block}\u{a0}({})", self.shown(values[block]));
        let beyond: Vec<String> =
            bars.iter().enumerate().filter(|(_, bar)| bar.beyond).map(|(block, _)| named(block)).collect();
        let strongest = listed(&strong.iter().map(|&block| named(block)).collect::<Vec<_>>());
        let end = if self.low_is_strong { "Least" } else { "Most" };
        let strongest = if strongest.is_empty() { strongest } else { format!("{end}: {strongest}.") };
        Chart {
            title: self.title,
            about: self.about,
            summary: format!("{} per block, scale 0 to {}. {strongest}", self.title, self.shown(top)),
            top: self.shown(top),
            strongest,
            beyond: listed(&beyond),
            bars,
        }
    }
}

/// Upper end of a chart: the largest value, or three times the median where a few blocks would flatten all others.
fn scale(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(&largest) = sorted.last() else { return 0.0 };
    let usual = 3.0 * sorted[sorted.len() / 2];
    if usual <= 0.0 {
        return largest;
    }
    sorted.into_iter().rev().find(|&value| value <= usual).unwrap_or(largest)
}

/// Draws every sign; none without blocks.
pub(super) fn draw(blocks: &[BlockRedundancy]) -> Option<Charts> {
    if blocks.is_empty() {
        return None;
    }
    let signs = &SIGNS;
    Some(Charts {
        charts: signs.iter().map(|sign| sign.chart(blocks)).collect(),
        max_width: max_width(blocks.len()),
        numbers: numbers(blocks.len()),
        titles: signs.iter().map(|sign| sign.title).collect(),
        rows: blocks
            .iter()
            .enumerate()
            .map(|(index, block)| {
                std::iter::once(index.to_string())
                    .chain(signs.iter().map(|sign| sign.shown((sign.value)(block))))
                    .collect()
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::inspected;
    use super::*;
    use askama::Template;

    #[test]
    fn one_bar_per_block_and_sign() {
        for blocks in [1, 30, 100] {
            let redundancy = vec![inspected().redundancy[0]; blocks];
            let html = draw(&redundancy).unwrap().render().unwrap();
            assert_eq!(html.matches("<title>Block ").count(), SIGNS.len() * blocks);
            assert_eq!(html.matches("<svg").count(), SIGNS.len());
        }
        assert!(draw(&[]).is_none());
    }

    #[test]
    fn a_few_large_values_do_not_flatten_the_rest() {
        let mut blocks = vec![inspected().redundancy[0]; 9];
        for (index, block) in blocks.iter_mut().enumerate() {
            block.block_influence = 0.01 * (index + 1) as f64;
        }
        blocks[0].block_influence = 0.9;
        blocks[5].block_influence = f64::NAN;
        let chart = BLOCK.chart(&blocks);
        assert_eq!((chart.top.as_str(), chart.beyond.as_str()), ("0.0900", "block\u{a0}0\u{a0}(0.900)"));
        assert_eq!((chart.bars[0].height.as_str(), chart.bars[8].height.as_str()), ("70.00", "70.00"));
        assert!(chart.bars[0].beyond && !chart.bars[8].beyond);
        assert_eq!((chart.bars[5].height.as_str(), chart.bars[5].tooltip.as_str()), ("0.00", "Block 5: –"));
        assert!(
            chart.strongest.starts_with("Least: block\u{a0}1\u{a0}(0.0200), block\u{a0}2\u{a0}(0.0300)"),
            "{}",
            chart.strongest
        );
    }

    #[test]
    fn the_strong_end_depends_on_the_sign() {
        let mut blocks = vec![inspected().redundancy[0]; 3];
        blocks[2].idle_channels = 0.9;
        blocks[1].attention_influence = 0.000_5;
        assert_eq!(IDLE.strongest(&blocks, 1), [(2, "90.0\u{a0}%".to_owned())]);
        assert_eq!(ATTENTION.strongest(&blocks, 1), [(1, "0.000500".to_owned())]);
    }
}
