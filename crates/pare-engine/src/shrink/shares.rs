//! What is left: of each part, for pictures, and how many weights.

use super::block::{Done, mask_of};
use pare_model::block::Block;
use pare_model::model::Model;
use pare_model::plan::{Edit, Plan};
use pare_model::site::Point;
use pare_model::weight::{Composed, Weight};

/// What share of each part of each block is left: `(attention, ffn)`, in stored numbers, by the numbering of `base`, the model that the
/// plan speaks of. Where it has as many blocks as `before`, what made it smaller counts too.
pub fn kept_shares(before: &Model, base: &Model, plan: &Plan) -> Vec<(f64, f64)> {
    let mut shares = cut_shares(base, plan);
    if before.blocks.len() == base.blocks.len() {
        let ratio = |whole: u64, left: u64| if whole == 0 { 1.0 } else { (left as f64 / whole as f64).min(1.0) };
        for ((share, before), base) in shares.iter_mut().zip(&before.blocks).zip(&base.blocks) {
            share.0 *= ratio(before.attention_parameters(), base.attention_parameters());
            share.1 *= ratio(before.ffn_parameters(), base.ffn_parameters());
        }
    }
    shares
}

/// How many numbers the projections of a block hold, zeros among them.
pub(super) fn numbers(block: &Block) -> u64 {
    block.linears().map(|(_, linear)| numbers_of(linear.weight.as_ref())).sum()
}

fn numbers_of(weight: &dyn Weight) -> u64 {
    match weight.composed() {
        Some(Composed::LowRank(low)) => numbers_of(low.factors().0.as_ref()) + numbers_of(low.factors().1.as_ref()),
        Some(Composed::Sum(sum)) => sum.terms().iter().map(|term| numbers_of(term.as_ref())).sum(),
        Some(Composed::Wrapped(wrapped)) => {
            let diagonals =
                wrapped.diagonals().map(|diagonal| (diagonal.count() * diagonal.size() * diagonal.size()) as u64);
            diagonals[0] + numbers_of(wrapped.core().as_ref()) + diagonals[1]
        }
        None => weight.shape().map(|size| size as u64).iter().product(),
    }
}

/// How many of the numbers of a finished block stayed. What left is what masks and encodings say: a zero may also be a weight that stayed
/// and was rounded to nothing.
pub(super) fn kept_numbers(done: &Done) -> u64 {
    let left = |projection| {
        let masks = done.edits.iter().filter_map(|edit| mask_of(edit, projection));
        let masked = masks.map(|mask| mask.shape().map(|size| size as u64).iter().product::<u64>() - mask.count());
        let encoded = done.encoded.iter().filter(|encoded| encoded.projection == projection);
        // What is zero already is removed once more.
        masked.chain(encoded.map(|encoded| encoded.info.removed)).max().unwrap_or(0)
    };
    let removed: u64 = done.block.linears().map(|(projection, _)| left(projection)).sum();
    numbers(&done.block).saturating_sub(removed)
}

fn cut_shares(before: &Model, plan: &Plan) -> Vec<(f64, f64)> {
    let mut shares = vec![(1.0, 1.0); before.blocks.len()];
    for edit in &plan.edits {
        let block = &before.blocks[edit.block()];
        let share = &mut shares[edit.block()];
        match edit {
            Edit::KeepChannels { channels, .. } => {
                share.1 = channels.len() as f64 / block.ffn.as_ref().map_or(1, |ffn| ffn.width()) as f64;
            }
            Edit::KeepGroups { groups, .. } => {
                share.0 = groups.len() as f64 / block.attention().map_or(1, |part| part.groups) as f64;
            }
            Edit::DropAttention { .. } => share.0 = 0.0,
            Edit::DropFfn { .. } => share.1 = 0.0,
            Edit::DropBlock { .. } => *share = (0.0, 0.0),
            Edit::Mask { projection, mask, .. } => {
                let [rows, cols] = mask.shape();
                let removed = (rows * cols) as f64 - mask.count() as f64;
                let part = projection.input();
                let of_attention = matches!(part, Point::AttentionIn | Point::AttentionOut);
                let whole = if of_attention { block.attention_parameters() } else { block.ffn_parameters() };
                let share = if of_attention { &mut share.0 } else { &mut share.1 };
                *share -= removed / whole.max(1) as f64;
            }
        }
    }
    shares
}
