//! What is left of each part, for pictures.

use pare_model::model::Model;
use pare_model::plan::{Edit, Plan};
use pare_model::site::Point;

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
